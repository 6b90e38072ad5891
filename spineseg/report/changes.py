"""Collect what people have changed about a study's images and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spineseg.decision.methods_text import REFERENCE_WORDS, methods_text
from spineseg.methods.declared import MANUAL
from spineseg.report.review import ReviewImage, StageRecords, StudyView
from spineseg.spelling import count_of
from spineseg.studyfolder.corrections import REFUSED, find_correction
from spineseg.studyfolder.forms import OTHER_FORM
from spineseg.studyfolder.frozen import describe_changes_beside, find_left_pilot
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import Stage, stage_images
from spineseg.studyfolder.marks import Mark
from spineseg.studyfolder.tables import MetricsRow


@dataclass(frozen=True)
class PeoplesChange:
    """One change by a person to an image: its kind, and a description in a few words."""

    image_id: str
    kind: str  # corrected, refused (a corrected mask that cannot be used), marked, failed (by a mark), added, excluded
    words: str


def list_changes(view: StudyView, records: StageRecords, reviews: Sequence[ReviewImage]) -> list[PeoplesChange]:
    """Return corrected masks, marks and exclusions, each with its reason.

    Parameters
    ----------
    view : StudyView
    records : StageRecords
        Those of the stage; their metrics show whether a corrected mask was measured.
    reviews : sequence of ReviewImage
        The images of the stage, by which it is known whether a mark is about the present mask.
    """
    images = records.images
    is_study = view.stage == Stage.STUDY
    measured = {row.image.image_id: row for row in records.metrics} if is_study else {}
    found: list[PeoplesChange] = []
    shown = {review.image.image_id: review for review in reviews}
    for image in stage_images(images, view.stage):
        if correction := find_correction(view.folder, image):
            row = measured.get(image.image_id)
            kind = "refused" if row and REFUSED in row.message else "corrected"
            found.append(PeoplesChange(image.image_id, kind, row.message if row else correction.words))
    of_image: dict[str, list[Mark]] = {}
    for mark in view.marks.marks:  # an artefact is among the exclusions
        if mark.image in shown and mark.mark != "artefact":
            of_image.setdefault(mark.image, []).append(mark)
    for name, given in of_image.items():
        found += _changes_by_marks(shown[name], given, measured.get(name))
    known = records.lock.images if records.lock and is_study else ()
    found += [
        PeoplesChange(name, "added", "not in the study when it started")
        for name in shown
        if known and name not in known
    ]
    found += [
        PeoplesChange(image.image_id, "excluded", image.reason.removeprefix("excluded: "))
        for image in images
        if image.exclusion
    ]
    return found


def _changes_by_marks(review: ReviewImage, marks: Sequence[Mark], measured: MetricsRow | None) -> list[PeoplesChange]:
    """Return what raters said about an image's masks, with ratings and comments, each with the mask it is about."""
    current, own = review.marks_shown(marks), {result.name for result in review.methods}
    found = []
    for mark in marks:
        kind, about = "marked", mark.words()
        if mark.method:
            is_corrected = review.corrected and mark in current
            about = f"{mark.method}{', the corrected mask' if is_corrected else ''}: {about}"
        if mark in current and mark.mark == "fail" and measured is not None and mark.method == measured.method:
            kind, about = "failed", f"{about}; no number of this mask is used"
        elif mark not in current and review.marks_shown([mark]):
            about += "; what this rater said later counts"
        elif mark not in current and mark.method in own:
            about += "; of the mask before the corrected one" if review.corrected else "; of an earlier mask"
        found.append(PeoplesChange(review.image.image_id, kind, about))
    return found


def list_unseen(view: StudyView, images: Sequence[StudyImage]) -> list[str]:
    """Return the contrasts and strata that the study's decision has not seen; empty for the pilot itself."""
    if view.stage == Stage.PILOT:
        return []
    return describe_changes_beside(view.folder, stage_images(images, view.stage))


def is_manual(review: ReviewImage) -> bool:
    """Whether the mask shown is one that came with the dataset."""
    return any(result.name == MANUAL for result in review.methods)


def write_methods(
    view: StudyView, records: StageRecords, reviews: Sequence[ReviewImage], changes: Sequence[PeoplesChange]
) -> str:
    """Describe what was done as a paragraph for a paper: the comparison, then the study and what people changed.

    Parameters
    ----------
    view : StudyView
    records : StageRecords
    reviews : sequence of ReviewImage
        The images of the stage.
    changes : sequence of PeoplesChange
        As `list_changes` returns them.
    """
    compared = methods_text(records.decision.document) if records.decision else ""
    if view.stage != Stage.STUDY or not reviews:
        return compared
    people = len({review.image.subject for review in reviews})
    shown = f"{count_of(len(reviews), 'image')} of {count_of(people, 'participant')}"
    n_own = sum(not review.exception for review in reviews)
    text = f"The study segmented {shown} by {records.kept.words()}."
    if n_own < len(reviews):
        text = f"The study measured {shown}, {n_own} of them in masks by {records.kept.words()}."
    parts = [compared, text, *_accepted_sentences(records), *_mask_sentences(reviews, records, changes)]
    reasons = Counter(image.exclusion for image in records.images if image.exclusion)
    if reasons:
        listed = "; ".join(f"{n} for: {reason}" for reason, n in reasons.most_common())
        n = reasons.total()
        parts.append(f"{count_of(n, 'image')} {'was' if n == 1 else 'were'} excluded by people ({listed}).")
    if n_left := len(find_left_pilot(view.folder, stage_images(records.images, view.stage))):
        verb, them = ("was", "it") if n_left == 1 else ("were", "them")
        parts.append(f"{count_of(n_left, 'image')} of the pilot {verb} left out later; the choice rests on {them} too.")
    n_forms = len({i.reason for i in records.images if i.reason.startswith(OTHER_FORM)})  # a reason for each form used
    if n_forms:
        several = "with several forms, such as a series and its own average, one form was used"
        parts.append(f"Of {count_of(n_forms, 'acquisition')} {several}.")
    unseen = records.decision.count_unseen(r.image for r in reviews if not is_manual(r)) if records.decision else {}
    for contrast, n in unseen.items():
        parts.append(f"No image of the pilot was {contrast}, so the choice was not tested for {count_of(n, 'image')}.")
    return " ".join(part for part in parts if part)


def _accepted_sentences(records: StageRecords) -> list[str]:
    """Name the changes that were accepted within the study."""
    accepted = records.lock.accepted if records.lock else ()
    again = "all masks were computed again"
    return [f"Within the study a change was accepted ({'; '.join(a.changes)}; {a.reason}); {again}." for a in accepted]


def _mask_sentences(
    reviews: Sequence[ReviewImage], records: StageRecords, changes: Sequence[PeoplesChange]
) -> list[str]:
    """Say how many masks are not the kept method's, and how many images have none."""
    n, sentences = len(reviews), []
    without = {row.image.image_id for row in records.metrics if row.status in ("failed", "empty")}
    corrected = {change.image_id for change in changes if change.kind == "corrected"} - without
    if corrected:
        sentences.append(f"{_of(len(corrected), n)} corrected by hand and measured as corrected.")
    manual = [review for review in reviews if is_manual(review)]
    if manual:
        kinds = Counter(review.image.reference_kind for review in manual)
        listed = ", ".join(f"{count} {REFERENCE_WORDS[kind]}" for kind, count in sorted(kinds.items()))
        sentences.append(f"{_of(len(manual), n)} taken from the dataset ({listed}) in place of the computed ones.")
    others = [review for review in reviews if review.exception and not is_manual(review)]
    if others:
        sentences.append(f"{_of(len(others), n)} by another method, chosen by a person for these images.")
    marked = {change.image_id for change in changes if change.kind == "failed"} & without
    if marked:
        sentences.append(f"{count_of(len(marked), 'image')} had no numbers because a rater failed the mask.")
    if without - marked:
        sentences.append(f"{count_of(len(without - marked), 'image')} had no mask that could be measured.")
    return sentences


def _of(count: int, n: int) -> str:
    """Begin a sentence about some of the masks."""
    return f"{count} of {n} masks {'was' if count == 1 else 'were'}"


def count_changes(changes: Sequence[PeoplesChange], n_kept: int) -> str:
    """Return a sentence for a paper: how many masks people corrected or marked, and how many images they excluded."""
    corrected, marked, added, excluded = (
        len({change.image_id for change in changes if change.kind in kinds})
        for kinds in (("corrected",), ("marked", "failed"), ("added",), ("excluded",))
    )
    return (
        f"{_of(corrected, n_kept)} corrected by hand; raters marked masks of {marked} images;"
        f" people excluded {excluded} images" + (f" and added {added} since the study started." if added else ".")
    )
