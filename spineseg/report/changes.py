"""What people have decided about a study's images and masks, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spineseg.report.review import StudyView
from spineseg.studyfolder.corrections import find_correction
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import Stage, stage_images
from spineseg.studyfolder.tables import MetricsRow


@dataclass(frozen=True)
class PeoplesChange:
    """One image that a person has changed something about: what, in a few words, and what follows."""

    image_id: str
    kind: str  # corrected, marked, excluded
    words: str


def list_changes(view: StudyView, images: Sequence[StudyImage], metrics: Sequence[MetricsRow]) -> list[PeoplesChange]:
    """Return corrected masks, marks and exclusions, each with its reason.

    Parameters
    ----------
    view : StudyView
    images : sequence of StudyImage
        All of the study, the excluded ones too.
    metrics : sequence of MetricsRow
        Of the stage: what was measured of a corrected mask.
    """
    measured = {row.image.image_id: row.message for row in metrics} if view.stage == Stage.STUDY else {}
    found: list[PeoplesChange] = []
    corrected = set()
    for image in stage_images(images, view.stage):
        if correction := find_correction(view.folder, image):
            corrected.add(image.image_id)
            words = measured.get(image.image_id) or correction.words
            found.append(PeoplesChange(image.image_id, "corrected", words))
    shown = {image.image_id for image in stage_images(images, view.stage)}
    for mark in view.marks.marks:
        if mark.image not in shown or mark.mark == "artefact":  # which is among the exclusions
            continue
        # ratings and comments without a mark are listed too
        about = f"{mark.method}: {mark.words()}" if mark.method else mark.words()
        if mark.mark == "fail" and view.stage == Stage.STUDY and mark.method in (view.methods or (mark.method,)):
            about += "; its corrected mask counts" if mark.image in corrected else "; no number of this mask is used"
        found.append(PeoplesChange(mark.image, "marked", about))
    found += [
        PeoplesChange(image.image_id, "excluded", image.reason.removeprefix("excluded: "))
        for image in images
        if not image.included and image.reason.startswith("excluded: ")
    ]
    return found


def count_changes(changes: Sequence[PeoplesChange], n_kept: int) -> str:
    """Return one sentence for the methods of a paper: how many masks are a person's, how many images are excluded."""
    corrected, marked, excluded = (
        len({change.image_id for change in changes if change.kind == kind})
        for kind in ("corrected", "marked", "excluded")
    )
    return (
        f"{corrected} of {n_kept} masks were corrected by hand; raters marked masks of {marked} images;"
        f" people excluded {excluded} images."
    )
