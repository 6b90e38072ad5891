"""Notices at the end of a run: what a person must know about a study besides its result, one line each."""

from __future__ import annotations

from collections.abc import Iterable

from spineseg.spelling import name_some
from spineseg.study.configuration import StudyConfig
from spineseg.study.index import find_idle_exclusions, find_pilot_gaps, find_unlisted_people
from spineseg.study.keep import CORRECTED
from spineseg.studyfolder.corrections import (
    find_changed_masks,
    find_correction,
    find_refused,
    find_saved_again,
    find_strange_masks,
)
from spineseg.studyfolder.decisions import read_kept
from spineseg.studyfolder.frozen import describe_changes_beside
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import Stage, StudyFolder, stage_images
from spineseg.studyfolder.locks import find_lock
from spineseg.studyfolder.marks import word_fails


def list_refused(folder: StudyFolder, methods: Iterable[str] = ()) -> list[str]:
    """Return a line for each corrected mask that cannot be used, and one for each kind of save that corrects nothing.

    Empty before the images are listed.
    """
    if not folder.images.is_file():
        return []
    images = read_images(folder.images)
    included = [image for image in images if image.included]
    lines = find_refused(folder, included)
    if saved := find_saved_again(folder, included):
        lines.append(
            f"{folder.labels}: saved again without changing any voxel, so not corrected: {name_some(saved)}; a fail of"
            " such a mask still counts"
        )
    if changed := find_changed_masks(folder, included, methods):
        lines.append(
            f"{folder.root}: a method's own masks were changed, but no number uses them: {name_some(changed)}; put"
            f" corrections into {folder.relative(folder.labels)}, in place of the kept masks; to restore a method's"
            " mask, delete it and the method's file of the image's chunk in chunks/"
        )
    if strange := find_strange_masks(folder, images):
        lines.append(
            f"{folder.labels}: not used, because no image has a kept mask of this name: {name_some(strange)}; save a"
            " corrected mask under the name of the mask that it corrects"
        )
    return lines


def list_notices(folder: StudyFolder, config: StudyConfig, stage: Stage | None) -> list[str]:
    """Return what a person must know about a study, one line each.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    stage : Stage or None
        The stage that was run; None if something else was run.

    Raises
    ------
    InputError
        If a file of the study is damaged.
    """
    if not folder.images.is_file():
        return []
    images = read_images(folder.images)
    notices = (
        list_refused(folder, config.methods)
        + _marks_of_other_studies(folder, config)
        + find_idle_exclusions(config, images)
        + find_unlisted_people(config, images)
        + find_pilot_gaps(config, images)
    )
    if find_lock(folder) is not None or stage in (Stage.STUDY, Stage.ALL):
        of_stage = stage_images(images, stage or Stage.ALL)
        notices += [f"warning: {text}" for text in describe_changes_beside(folder, of_stage)]
        notices += _unclear_fails(folder, config, of_stage) + _earlier_fails(folder, config)
    return notices


def _marks_of_other_studies(folder: StudyFolder, config: StudyConfig) -> list[str]:
    """Name files of marks that were saved from no page of this study."""
    known = {path.read_text().strip() for stage in Stage if (path := folder.page_identity(stage)).is_file()}
    if not known:  # no page has been made yet
        return []
    return [
        f"warning: {file}: not saved from a page of this study (but of another study, or of deleted results);"
        " artefacts count by the images' names: check that they belong to this study"
        for file, page in zip(config.marks.files, config.marks.pages, strict=True)
        if page and page not in known
    ]


def _earlier_fails(folder: StudyFolder, config: StudyConfig) -> list[str]:
    """Name kept masks that were recomputed after a rater failed an earlier version: their numbers count."""
    table = folder.kept(Stage.STUDY)
    if not table.is_file():
        return []
    failed = config.marks.failed_masks()
    made = [row for row in read_kept(table) if row.mask and row.status != CORRECTED]
    return [
        f"warning: {row.image_id}: 'fail' is about an earlier mask by {row.method}; the mask was computed again since"
        " and counts: look at it again"
        for row in made
        if (fails := failed.get((row.image_id, row.method))) and not word_fails(fails, row.sha256)
    ]


def _unclear_fails(folder: StudyFolder, config: StudyConfig, images: Iterable[StudyImage]) -> list[str]:
    """Name corrected masks of images that were failed by a mark that does not name its mask."""
    marked = {mark.image for mark in config.marks.of_kind("fail") if not mark.mask_sha256}
    found = [image.image_id for image in images if image.image_id in marked and find_correction(folder, image)]
    return [
        f"warning: {name}: a mark 'fail' without mask_sha256 is about the method's mask, so the corrected mask counts:"
        " to fail that one, mark it on the study's page"
        for name in found
    ]
