"""Changes that the decision of a started study does not know: new contrasts, replaced images, and a new decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spineseg.file_digests import FileDigests
from spineseg.spelling import name_some
from spineseg.studyfolder.decisions import Decision, find_decision, study_methods
from spineseg.studyfolder.images import StudyImage, read_included
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.locks import find_lock


def describe_changes_beside(folder: StudyFolder, images: Sequence[StudyImage]) -> list[str]:
    """Return a line for each change that the study's decision does not know.

    Parameters
    ----------
    folder : StudyFolder
    images : sequence of StudyImage
        The included images of the stage.

    Raises
    ------
    InputError
        If a file of the study is damaged.
    """
    decision = find_decision(folder.decision)
    if decision is None:
        return []
    kept, lines = study_methods(folder), []
    for contrast, n in decision.count_unseen(images).items():
        which = "1 image is" if n == 1 else f"{n} images are"
        method = kept.of(contrast)
        lines.append(f"{which} {contrast}, as no image of the pilot was: {method} is not tested on such images")
    if replaced := find_replaced_pilot(folder):
        named = name_some(replaced)
        lines.append(f"replaced since the study started, so its decision does not rest on the present images: {named}")
    if left := find_left_pilot(folder, images):
        lines.append(f"left the study since it started, though its decision rests on it: {name_some(left)}")
    if (preview := find_decision(folder.preview)) is not None:
        lines += [f"a new decision (preview/decision.md): {text}" for text in compare_decisions(decision, preview)]
    return lines


def find_left_pilot(folder: StudyFolder, images: Iterable[StudyImage]) -> list[str]:
    """Return the images that were in the pilot when the study started and are no longer in `images`."""
    lock, there = find_lock(folder), {image.image_id for image in images}
    return sorted(image for image in lock.pilot if image not in there) if lock else []


def compare_decisions(held: Decision, new: Decision) -> list[str]:
    """Say how a new decision differs from the one that a study is held to: the kept method, then the evidence.

    Parameters
    ----------
    held, new : Decision
    """
    found = []
    before, after = ([one.kept.words(), one.verdict] for one in (held, new))
    if before != after:
        found.append(f"it would keep {after[0]} ({after[1]}), not {before[0]} ({before[1]})")
    for name, words in (("n_participants", "participants"), ("n_images", "images")):
        if held.document[name] != new.document[name]:
            found.append(f"{new.document[name]} {words} in place of {held.document[name]}")
    for method in new.document["failures"]:
        counts = [one.document["failures"].get(method) for one in (held, new)]
        shown = [f"{c['n_failed']} of {c['n_images']}" if c else "none" for c in counts]
        if shown[0] != shown[1]:
            found.append(f"{method} failed on {shown[1]} images in place of {shown[0]}")
    return found


def digest_pilot(folder: StudyFolder, images: Iterable[StudyImage]) -> dict[str, str]:
    """Return the checksum of each pilot image's content, with its b-values."""
    digests = FileDigests(folder.file_digests)
    return {
        image.image_id: digests.digest_all([path for path in (image.path, image.bval) if path])
        for image in images
        if image.pilot
    }


def find_replaced_pilot(folder: StudyFolder) -> list[str]:
    """Return the images of the pilot whose content has changed since the study started.

    Raises
    ------
    InputError
        If the lock or the table of images is damaged.
    """
    lock = find_lock(folder)
    if lock is None or not folder.images.is_file():
        return []
    now = digest_pilot(folder, read_included(folder.images))
    return [image for image, digest in now.items() if image in lock.pilot and lock.pilot[image] != digest]
