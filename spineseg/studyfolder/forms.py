"""Forms of one acquisition, such as a diffusion series and its average; a study uses one of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from spineseg.bids import acquisition_of
from spineseg.studyfolder.images import StudyImage

OTHER_FORM = "another form of an acquisition"
"""Start of the reason why an image is left out: another form of the same acquisition is used."""

OTHER_EXCLUDED = "another form of an excluded image"
"""Start of the reason why an image is excluded: people have excluded the form that would be used, so both count as one
image."""

WHY = (
    "the configuration prefers it",
    "it was in the study when that started",
    "its reference counts as truth",
    "a reference is of it",
    "it has the plainest name, as the series that was recorded",
    "it is the first by name",
)
"""Reasons to use a form, in the order in which forms are compared."""


def group_forms(images: Iterable[StudyImage]) -> list[list[StudyImage]]:
    """Return the images of each acquisition that has several forms."""
    groups: dict[tuple[str, str, str], list[StudyImage]] = {}
    for image in images:
        groups.setdefault((image.contrast, image.session, acquisition_of(image.stem)), []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def form_of(stem: str) -> str:
    """Return the part of a name beside subject, session and run.

    Examples
    --------
    >>> form_of("sub-01_ses-2_run-1_rec-average_dwi"), form_of("sub-02_dwi")
    ('rec-average_dwi', 'dwi')
    """
    return "_".join(part for part in stem.split("_") if not part.startswith(("sub-", "ses-", "run-")))


def form_of_id(image_id: str) -> str:
    """Return the same for an image's id, without the number that distinguishes two images of one name.

    Examples
    --------
    >>> form_of_id("sub-01_acq-sag_T2w-2")
    'acq-sag_T2w'
    """
    return re.sub(r"-\d+$", "", form_of(image_id))


def find_other_forms(
    images: Iterable[StudyImage], prefer: Sequence[str] = (), in_study: Collection[str] = ()
) -> dict[str, str]:
    """Return image to reason, for images whose acquisition is used in another form.

    Parameters
    ----------
    images : iterable of StudyImage
        Included images.
    prefer : sequence of str
        Entities such as ``rec-average``, the most preferred first.
    in_study : collection of str
        Images with which the study started; their form stays in use.
    """

    def rank(image: StudyImage) -> tuple[int | bool | str, ...]:
        parts = image.stem.split("_")
        return (
            next((n for n, entity in enumerate(prefer) if entity in parts), len(prefer)),
            image.image_id not in in_study,
            image.reference_use != "truth",
            not image.reference,
            len(image.stem),
            image.image_id,
        )

    found: dict[str, str] = {}
    for group in group_forms(images):
        used, *others = sorted(group, key=rank)
        for image in others:
            why = next(why for why, a, b in zip(WHY, rank(used), rank(image), strict=True) if a != b)
            found[image.image_id] = f"{OTHER_FORM}: {used.image_id} is used, because {why}"
    return found
