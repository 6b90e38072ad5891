"""Raters' answers on the quality-control page: marks of masks and images, and blind preferences."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.spelling import closest
from spineseg.studyfolder.files import check_types, listed, read_record

KINDS = ("pass", "fail", "artefact")
"""Kinds of marks: the mask can be used, it cannot, or the image itself cannot. A mark can also be only a rating or a
comment."""

CHOICES = ("x", "y", "same", "both-bad")
"""Choices of a blind comparison: the first mask shown is better, the second is, neither is, or both are wrong."""

UNNAMED = "unnamed rater"
"""Rater of marks that an earlier version of the page saved, and of those whose rater gave no name."""

MEND_NAME = "mend its name, or delete the marks of an image that is gone"

MEND_MARKS = "save it again with the page's button 'Save marks'"


@dataclass(frozen=True)
class Mark:
    """Mark by one rater of one mask, or of the image where `method` is None.

    Parameters
    ----------
    image : str
        Its name in the study.
    method : str or None
    mark : {"pass", "fail", "artefact", ""}
        Empty where only a rating, a reason or slices are given.
    rating : int or None
        0 to 9, the page's digit keys.
    rater, time, reason : str
        Time in ISO 8601; without a zone it is UTC.
    slices : tuple of int
        Canonical slices that the mark is about, counted from below.
    mask_sha256 : str
        The first digits of the checksum of the mask that the rater saw; empty where the file does not have it.
    """

    image: str
    method: str | None
    mark: str
    rating: int | None = None
    rater: str = UNNAMED
    time: str = ""
    reason: str = ""
    slices: tuple[int, ...] = ()
    mask_sha256: str = ""

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Mark:
        """Read it from a file's JSON."""
        mark = cls(**(dict(content) | {"slices": listed(content.get("slices", []))}))
        check_types(mark)
        mark = replace(mark, rater=mark.rater.strip() or UNNAMED, reason=" ".join(mark.reason.split()))
        if mark.mark not in ("", *KINDS):
            raise ValueError(f"mark {mark.mark!r} of {mark.image}, expected one of {', '.join(KINDS)}")
        if mark.rating is not None and not 0 <= mark.rating <= 9:
            raise ValueError(f"rating {mark.rating} of {mark.image}, expected 0 to 9")
        if mark.mark in ("pass", "fail") and mark.method is None:
            raise ValueError(f"mark {mark.mark!r} of {mark.image} names no method")
        if not re.fullmatch("[0-9a-f]{0,64}", mark.mask_sha256):
            raise ValueError(f"mask_sha256 {mark.mask_sha256!r} of {mark.image}, expected the beginning of a checksum")
        if any(number < 0 for number in mark.slices):
            raise ValueError(f"slice {min(mark.slices)} of {mark.image}, expected slices counted from 0")
        _moment(mark.time)
        return mark

    def is_before(self, other: Mark) -> bool:
        """Whether it was given before another mark, whatever the time zones; a mark without a time is first."""
        return _moment(self.time) < _moment(other.time)

    def is_of(self, mask_sha256: str, *, corrected: bool = False) -> bool:
        """Whether the mark is about the present mask of its image and method; every reader of marks checks this.

        Parameters
        ----------
        mask_sha256 : str
            Checksum of that mask; empty if not known, and then every mark counts as about it.
        corrected : bool
            Whether a person has made that mask. A mark without a checksum is about the method's own mask, because it
            names the method.
        """
        return is_of_mask(self.mask_sha256, mask_sha256) if self.mask_sha256 else not corrected

    def words(self) -> str:
        """Say in a few words who gave the mark, and why."""
        return f"{self.mark} by {self.rater}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Preference:
    """A rater's choice between two masks of an image.

    Parameters
    ----------
    image : str
    x, y : str
        The methods, in the order shown.
    choice : {"x", "y", "same", "both-bad"}
    rater, time : str
    repeat : bool
        Whether the rater has seen the pair before.
    blind : bool
    x_sha256, y_sha256 : str
        The first digits of the checksums of the two masks.
    """

    image: str
    x: str
    y: str
    choice: str
    rater: str
    time: str = ""
    repeat: bool = False
    blind: bool = True
    x_sha256: str = ""
    y_sha256: str = ""

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Preference:
        """Read it from a file's JSON."""
        preference = cls(**content)
        check_types(preference)
        preference = replace(preference, rater=preference.rater.strip() or UNNAMED)
        if preference.choice not in CHOICES:
            raise ValueError(f"choice {preference.choice!r} for {preference.image}")
        if preference.x == preference.y:
            raise ValueError(f"{preference.image}: {preference.x} is compared with itself")
        return preference

    @property
    def answer(self) -> str:
        """The method preferred, ``same`` or ``both-bad``."""
        return {"x": self.x, "y": self.y}.get(self.choice, self.choice)


@dataclass(frozen=True)
class Marks:
    """All marks and preferences of raters, with one mark for each rater and content of a mask.

    `pages` are the identities of the pages from which the files were saved; empty where a file does not have it.
    """

    marks: tuple[Mark, ...] = ()
    preferences: tuple[Preference, ...] = ()
    files: tuple[str, ...] = field(default=(), compare=False)
    pages: tuple[str, ...] = field(default=(), compare=False)

    def of_kind(self, kind: str) -> list[Mark]:
        """Return the marks of a kind."""
        return [mark for mark in self.marks if mark.mark == kind]

    @property
    def artefacts(self) -> dict[str, str]:
        """Images that raters marked as artefacts, with who did and why."""
        found: dict[str, list[str]] = {}
        for mark in self.of_kind("artefact"):
            found.setdefault(mark.image, []).append(mark.words())
        return {image: "; ".join(words) for image, words in found.items()}

    def failures(self, methods: Sequence[str], empty: Container[tuple[str, str]] = ()) -> frozenset[tuple[str, str]]:
        """Return the images and methods that count as failed in a comparison of methods.

        A rater who has marked only one method's mask says nothing about the others. So a fail counts only if the same
        rater has marked every method's mask of that image, except those in `empty`, where there is none to mark.
        """
        return frozenset((mark.image, str(mark.method)) for mark, counts in self._fails(methods, empty) if counts)

    def one_sided_failures(self, methods: Sequence[str], empty: Container[tuple[str, str]] = ()) -> list[Mark]:
        """Return the fails that do not count in a comparison, because their rater did not mark every method's mask."""
        return [mark for mark, counts in self._fails(methods, empty) if not counts]

    def _fails(self, methods: Sequence[str], empty: Container[tuple[str, str]]) -> list[tuple[Mark, bool]]:
        """Return the fails of compared methods, and whether their rater has marked every method's mask of the image."""
        seen: dict[tuple[str, str], set[str]] = {}
        said = [mark for mark in latest_marks(self.marks) if mark.mark in ("pass", "fail")]
        for mark in said:
            seen.setdefault((mark.image, mark.rater), set()).add(str(mark.method))
        fails = (mark for mark in said if mark.mark == "fail" and mark.method in methods)
        return [
            (mark, {m for m in methods if (mark.image, m) not in empty} <= seen[mark.image, mark.rater])
            for mark in fails
        ]

    def of_masks(self, masks: Mapping[tuple[str, str], str]) -> Marks:
        """Return the marks and preferences that are about the methods' present masks.

        Parameters
        ----------
        masks : mapping
            Image and method to the checksum of the method's mask. Marks of images and methods not in it are kept.
        """
        marks = (mark for mark in self.marks if mark.is_of(masks.get((mark.image, str(mark.method)), "")))
        preferences = (
            one
            for one in self.preferences
            if is_of_mask(one.x_sha256, masks.get((one.image, one.x), ""))
            and is_of_mask(one.y_sha256, masks.get((one.image, one.y), ""))
        )
        return replace(self, marks=tuple(marks), preferences=tuple(preferences))

    def failed_masks(self) -> dict[tuple[str, str], list[Mark]]:
        """Return the marks of each image and method that has a fail, however many methods its rater has seen.

        They may be about several masks: `word_fails` finds those about the present one.
        """
        found: dict[tuple[str, str], list[Mark]] = {(one.image, str(one.method)): [] for one in self.of_kind("fail")}
        for mark in self.marks:
            if (key := (mark.image, str(mark.method))) in found:
                found[key].append(mark)
        return found

    def check_names(self, images: Iterable[str], methods: Iterable[str], where: str) -> None:
        """Refuse a mark of an image or a method that is not in the study.

        Raises
        ------
        InputError
        """
        known, compared = set(images), list(methods)
        named = [(mark.image, mark.method) for mark in self.marks]
        named += [(one.image, method) for one in self.preferences for method in (one.x, one.y)]
        for image, method in named:
            if image not in known:
                hint = closest(image, known)
                raise InputError(f"{where}: a mark is of image {image!r}, which is not in the study{hint}; {MEND_NAME}")
            if method is not None and method not in compared:
                raise InputError(
                    f"{where}: a mark of {image} is about method {method!r}, which is not compared"
                    f"{closest(method, compared)}"
                )


def is_same_mask(a: str, b: str) -> bool:
    """Whether two checksums, or their first digits, are of one mask; an empty one differs from every known one."""
    return (a.startswith(b) or b.startswith(a)) if a and b else a == b


def is_of_mask(beginning: str, mask_sha256: str) -> bool:
    """Whether the first digits of a checksum are those of a mask; true if one of the two is not known."""
    return not beginning or not mask_sha256 or mask_sha256.startswith(beginning)


def latest_marks(marks: Iterable[Mark]) -> list[Mark]:
    """Return the last mark of each rater, image and method, from marks about one mask (with or without checksum)."""
    found: dict[tuple[str, str | None, str], Mark] = {}
    for mark in marks:
        key = (mark.image, mark.method, mark.rater)
        if key not in found or not mark.is_before(found[key]):
            found[key] = mark
    return list(found.values())


def word_fails(marks: Iterable[Mark], mask_sha256: str, *, corrected: bool = False) -> str:
    """Return who has failed the present mask, and why; empty if nobody has.

    Parameters
    ----------
    marks : iterable of Mark
        Marks of the image and the method, of any mask; those of the present one are found by `Mark.is_of`.
    mask_sha256 : str
        As in `Mark.is_of`.
    corrected : bool
    """
    said = latest_marks(mark for mark in marks if mark.is_of(mask_sha256, corrected=corrected))
    return "; ".join(mark.words() for mark in said if mark.mark == "fail")


def read_marks(paths: Sequence[str | Path]) -> Marks:
    """Read the files of one or more raters and join them.

    Names that differ only in case or blanks belong to one rater. If a rater has marked the same mask twice, the later
    mark counts. Marks of the method's own mask and of a corrected one are both kept.

    Raises
    ------
    InputError
        If a file is missing, is not JSON or has other content, or if a rater has two different marks of a mask
        and one has no time, so that it is not known which is later.
    """
    marks: dict[tuple[str, str | None, str], list[Mark]] = {}
    preferences: dict[Preference, None] = {}
    pages: list[str] = []
    given = [read_record(path, _parse_marks, "marks of the quality-control page", MEND_MARKS) for path in paths]
    raters = [[mark.rater for mark in one.marks] + [p.rater for p in one.preferences] for one in given]
    spelling = _spellings(name for names in raters for name in names)
    for one in given:
        for mark in (replace(mark, rater=spelling[_folded(mark.rater)]) for mark in one.marks):
            own = marks.setdefault((mark.image, mark.method, mark.rater), [])
            same = [other for other in own if is_same_mask(other.mask_sha256, mark.mask_sha256)]
            for other in same:
                _check_order(other, mark)
            if not any(mark.is_before(other) for other in same):
                own[:] = [other for other in own if other not in same] + [mark]
        preferences |= dict.fromkeys(replace(p, rater=spelling[_folded(p.rater)]) for p in one.preferences)
        pages += one.pages
    ordered = sorted(marks, key=lambda key: (key[0], key[1] or "", key[2]))
    every = tuple(mark for key in ordered for mark in marks[key])
    return Marks(every, tuple(preferences), tuple(map(str, paths)), tuple(pages))


def _moment(time: str) -> datetime:
    """Read a time in ISO 8601, in UTC if it has no zone; an empty one is before all others."""
    if not time:
        return datetime.min.replace(tzinfo=UTC)
    try:
        found = datetime.fromisoformat(time)
    except ValueError as error:
        raise ValueError(f"time {time!r}, expected one such as 2026-11-28T08:00:00Z, or none") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _check_order(one: Mark, other: Mark) -> None:
    """Refuse two marks of one rater and mask that differ, where one has no time."""
    if one.mark != other.mark and bool(one.time) != bool(other.time):
        of = f"{one.method} of {one.image}" if one.method else one.image
        raise InputError(
            f"marks: {one.rater} has marked {of} as {one.mark or 'none'!r} and as {other.mark or 'none'!r},"
            " and one of the two has no time, so that it is not known which came later; write the time, or delete one"
        )


def _folded(rater: str) -> str:
    """Return a rater's name for comparison: case and blanks do not distinguish names."""
    return "".join(unicodedata.normalize("NFC", rater).casefold().split())


def _spellings(raters: Iterable[str]) -> dict[str, str]:
    """Return the spelling of each rater's name: the one with capitals, whatever the order of the files."""
    return {_folded(name): name for name in sorted({" ".join(name.split()) for name in raters}, reverse=True)}


def _parse_marks(content: dict[str, Any]) -> Marks:
    """Return a file's marks, in the present form or the first one (image, method, mark and checksum)."""
    given = content["marks"]
    if isinstance(given, dict):
        given = [
            {"image": image, "method": method, "mark": _first_form(one["mark"]), "mask_sha256": one.get("sha", "")}
            for image, of_methods in given.items()
            for method, one in of_methods.items()
        ]
        given = [one | {"method": None} if one["mark"] == "artefact" else one for one in given]
    return Marks(
        tuple(Mark.parse(one) for one in listed(given)),
        tuple(Preference.parse(one) for one in listed(content.get("preferences", []))),
        pages=(str(content.get("report") or ""),),
    )


def _first_form(mark: str) -> str:
    """Return a mark in the present spelling."""
    return "artefact" if mark == "artifact" else mark
