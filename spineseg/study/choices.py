"""Choices that a person makes for a study: a method, the people of the pilot, an accepted change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.methods.declared import MANUAL
from spineseg.studyfolder.corrections import read_author
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.locks import KeptMethods

if TYPE_CHECKING:
    from spineseg.study.configuration import StudyConfig

USE = "use"
"""Value of the config key ``manual``: the dataset's manual masks are the study's masks of their images."""

MANUAL_KINDS = {
    "manual": "drawn by a person",
    "corrected": "corrected by a person",
    "unknown": "of unknown origin",
}
"""Kinds of references that count as manual masks, in words; a program's output, checked or not, does not."""


@dataclass(frozen=True)
class PersonsChoice:
    """A method chosen by a person, for the study or for one image."""

    method: str
    reason: str
    by: str

    def words(self, instead_of: str) -> str:
        """Say in a few words that the image is an exception, and why."""
        return f"exception: {self.method} instead of {instead_of} ({self.reason}; {self.by})"


@dataclass(frozen=True)
class AcceptChanges:
    """A change within a study that a person accepts; `to` is the token of the new state."""

    to: str
    reason: str
    by: str


@dataclass(frozen=True)
class PilotChoice:
    """The people of the pilot: everyone, those listed, or `n` drawn with `seed`.

    Parameters
    ----------
    subjects : tuple of str or None
        Without ``sub-``; None if all people are in it, or if some are drawn.
    n : int or None
    seed : int
    strata : tuple of str
        Columns of participants.tsv. At least one person with each of their values is drawn.
    """

    subjects: tuple[str, ...] | None = None
    n: int | None = None
    seed: int = 1
    strata: tuple[str, ...] = ()


def find_exceptions(config: StudyConfig, kept: KeptMethods, images: Iterable[StudyImage]) -> dict[str, PersonsChoice]:
    """Return image to choice, for the images whose kept mask is not by the study's method.

    The configuration names them. With ``manual: use``, images with a manual mask in the dataset are also among them.
    """
    found = {}
    for image in images:
        choice = config.exceptions.get(image.image_id)
        if choice is None and config.manual == USE and has_manual_mask(image):
            choice = _manual_choice(image)
        if choice is not None and choice.method != kept.of(image.contrast):
            found[image.image_id] = choice
    return found


def has_manual_mask(image: StudyImage) -> bool:
    """Whether the dataset has a mask of the image that counts as manual."""
    return image.reference_use == "truth" and image.reference_kind in MANUAL_KINDS


def _manual_choice(image: StudyImage) -> PersonsChoice:
    """Return the choice of the dataset's own mask, with its author."""
    author, date = read_author(Path(image.reference))
    by = f"{author}{f', {date}' if date else ''}" if author else "author not named"
    return PersonsChoice(MANUAL, f"the dataset's mask, {MANUAL_KINDS[image.reference_kind]}", by)
