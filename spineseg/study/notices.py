"""What a person must know of a study beside its result, said at the end of a run; each notice is one line."""

from __future__ import annotations

from collections.abc import Iterable

from spineseg.study.configuration import StudyConfig
from spineseg.study.index import find_idle_exclusions
from spineseg.studyfolder.corrections import find_correction, find_refused
from spineseg.studyfolder.frozen import describe_changes_beside
from spineseg.studyfolder.images import StudyImage, read_images, read_included
from spineseg.studyfolder.layout import Stage, StudyFolder, stage_images
from spineseg.studyfolder.locks import find_lock


def list_refused(folder: StudyFolder) -> list[str]:
    """Return a line for each corrected mask that cannot be used; nothing before the images are listed."""
    return find_refused(folder, read_included(folder.images)) if folder.images.is_file() else []


def list_notices(folder: StudyFolder, config: StudyConfig, stage: Stage | None) -> list[str]:
    """Return what a person must know of a study.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    stage : Stage or None
        What was run; None where it was something else than a stage.

    Raises
    ------
    InputError
        If a file of the study is damaged.
    """
    if not folder.images.is_file():
        return []
    images = read_images(folder.images)
    notices = list_refused(folder) + find_idle_exclusions(config, images)
    if find_lock(folder) is not None or stage in (Stage.STUDY, Stage.ALL):
        of_stage = stage_images(images, stage or Stage.ALL)
        notices += [f"warning: {text}" for text in describe_changes_beside(folder, of_stage)]
        notices += _unclear_fails(folder, config, of_stage)
    return notices


def _unclear_fails(folder: StudyFolder, config: StudyConfig, images: Iterable[StudyImage]) -> list[str]:
    """Name corrected masks of images that were failed by a mark that does not say of which mask it is."""
    marked = {mark.image for mark in config.marks.of_kind("fail") if not mark.mask_sha256}
    found = [image.image_id for image in images if image.image_id in marked and find_correction(folder, image)]
    return [
        f"warning: {name}: a mark 'fail' without mask_sha256 is of the method's mask; the corrected mask there counts:"
        " to fail that one, mark it on the study's page"
        for name in found
    ]
