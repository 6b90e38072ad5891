"""Names of vertebral levels and discs, and the requests that users write with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spineseg.errors import InputError

REGIONS = (("C", 1, 7), ("T", 8, 12), ("L", 20, 5), ("S", 25, 5))
"""Letter, value of the first level and number of levels of each region, as in SCT's label files."""

NOT_DISCS = {49: "pontomedullary groove", 50: "pontomedullary junction", 60: "conus medullaris"}
"""Values of a label file that mark something other than a disc or a level."""

PMJ_VALUE = 50
"""Value of the pontomedullary junction in label files."""

JUNCTION_EXTENT_MM = 20.0
"""Default length of the cord around a distance from the junction, as in SCT's -pmj-extent."""

HALF_STRETCH_MM = 10.0
"""``C2/C3`` means the cord up to this distance above and below the disc, along the cord."""

LAST_LEVEL = 29
"""S5."""


@dataclass(frozen=True)
class Request:
    """A request for levels, for stretches around discs, or for both.

    Parameters
    ----------
    text : str
        The request as the user wrote it.
    ranges : tuple of (int, int)
        First and last level of each range.
    discs : tuple of int
        Discs, by the value of the level below, around which the cord counts up to 10 mm to each side.
    points : tuple of (int, float, float)
        A disc, and the start and end of the cord that counts, in mm below the disc along the cord; negative above it.
    """

    text: str
    ranges: tuple[tuple[int, int], ...] = ()
    discs: tuple[int, ...] = ()
    points: tuple[tuple[int, float, float], ...] = ()


def level_name(value: int) -> str:
    """Return the name of a level.

    Examples
    --------
    >>> [level_name(value) for value in (2, 8, 20, 25)]
    ['C2', 'T1', 'L1', 'S1']
    """
    for letter, first, count in REGIONS:
        if first <= value < first + count:
            return f"{letter}{value - first + 1}"
    return str(value)


def disc_name(value: int) -> str:
    """Return the name of the disc above a level.

    Examples
    --------
    >>> disc_name(3), disc_name(1)
    ('C2/C3', 'top of C1')
    """
    return f"{level_name(value - 1)}/{level_name(value)}" if value > 1 else "top of C1"


def range_name(first: int, last: int) -> str:
    """Return the name of a run of levels, such as ``C3-C4``."""
    return level_name(first) if first == last else f"{level_name(first)}-{level_name(last)}"


def format_runs(values: list[int]) -> str:
    """Write increasing numbers as SCT does: a colon within runs, semicolons between them.

    Examples
    --------
    >>> format_runs([2, 3, 4, 7])
    '2:4;7'
    """
    return ";".join(f"{a}:{b}" if a < b else str(a) for a, b in find_runs(values))


def find_runs(values: list[int]) -> list[tuple[int, int]]:
    """Return the first and last number of each run of consecutive whole numbers."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def parse_request(text: str) -> Request:
    """Parse a request for levels.

    Parameters
    ----------
    text : str
        Parts separated by commas: a level (``2``, ``C2``, ``T1``, ``L1``), a range of levels (``2:4``,
        ``C2:C4``, ``C2-C4``), the stretch around a disc (``C2/C3``), or one below it (``C2/C3 5:25``, mm).

    Returns
    -------
    Request

    Raises
    ------
    InputError
        If a part is none of these.

    Examples
    --------
    >>> parse_request("2:4,T1").ranges, parse_request("C2/C3").discs
    (((2, 4), (8, 8)), (3,))
    """
    ranges, discs, points = [], [], []
    for part in text.replace(";", ",").split(","):
        if below := re.fullmatch(rf"\s*(\S+/\S+)\s+{_MM_RANGE}\s*", part):
            low, high = _read_mm(below[2], below[3], text)
            points.append((parse_request(below[1]).discs[0], low, high))
            continue
        ends = re.split(r"([:/-])", part.strip())
        if len(ends) not in (1, 3):
            raise InputError(f"levels {text!r}: expected levels such as 2:4, C2 or C2/C3, found {part.strip()!r}")
        first, last = _read_level(ends[0], text), _read_level(ends[-1], text)
        if len(ends) == 3 and ends[1] == "/":
            if last != first + 1:
                raise InputError(
                    f"levels {text!r}: expected two neighbours around a disc such as C2/C3, found {part.strip()!r}"
                )
            discs.append(last)
        elif first > last:
            raise InputError(f"levels {text!r}: expected the upper level first, found {part.strip()!r}")
        else:
            ranges.append((first, last))
    return Request(text, tuple(ranges), tuple(discs), tuple(points))


_MM_RANGE = r"(-?\d+(?:\.\d+)?):(-?\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class SliceRange:
    """A study's request for slices, numbered from below, both ends included."""

    first: int
    last: int


@dataclass(frozen=True)
class JunctionRange:
    """A study's request for the cord between two distances below the pontomedullary junction, mm along the cord."""

    low_mm: float
    high_mm: float


def parse_stretch(text: str) -> Request | SliceRange | JunctionRange:
    """Parse one entry of a study's levels.

    The entry is ``slices 5:23``, ``PMJ 54:74``, ``PMJ 64``, or a text for `parse_request`.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> parse_stretch("PMJ 64"), parse_stretch("slices 5:23")
    (JunctionRange(low_mm=54.0, high_mm=74.0), SliceRange(first=5, last=23))
    """
    if match := re.fullmatch(rf"\s*pmj\s+{_MM_RANGE}\s*", text, re.IGNORECASE):
        return JunctionRange(*_read_mm(match[1], match[2], text))
    if match := re.fullmatch(r"\s*pmj\s+(\d+(?:\.\d+)?)\s*", text, re.IGNORECASE):
        return JunctionRange(float(match[1]) - JUNCTION_EXTENT_MM / 2, float(match[1]) + JUNCTION_EXTENT_MM / 2)
    if match := re.fullmatch(r"\s*slices\s+(\d+):(\d+)\s*", text, re.IGNORECASE):
        if int(match[1]) > int(match[2]):
            raise InputError(f"levels {text!r}: expected the lower slice first, found {match[1]}:{match[2]}")
        return SliceRange(int(match[1]), int(match[2]))
    return parse_request(text)


def has_more_levels(vert_level: str, asked: str) -> bool:
    """Whether a row with these levels, in SCT's numbers, holds levels that were not requested."""
    stretch = parse_stretch(asked) if asked else None
    ranges = stretch.ranges if isinstance(stretch, Request) else ()
    runs = parse_request(vert_level).ranges if vert_level else ()
    return not all(any(a <= first and last <= b for a, b in ranges) for first, last in runs)


def describe_stretch(text: str) -> str:
    """Describe an entry of a study's levels in words, for a paper.

    Examples
    --------
    >>> describe_stretch("C2-C3")
    'the vertebral levels C2 to C3'
    >>> describe_stretch("C2/C3")
    'the cord up to 10 mm above and below the disc C2/C3'
    """
    stretch = parse_stretch(text)
    if isinstance(stretch, SliceRange):
        return f"slices {stretch.first} to {stretch.last}, counted from below"
    if isinstance(stretch, JunctionRange):
        return f"the cord {stretch.low_mm:g} to {stretch.high_mm:g} mm below the pontomedullary junction"
    ranges = [f"{level_name(a)} to {level_name(b)}" if a < b else level_name(a) for a, b in stretch.ranges]
    is_one = len(ranges) == 1 and stretch.ranges[0][0] == stretch.ranges[0][1]
    parts = [f"the vertebral level{'' if is_one else 's'} {' and '.join(ranges)}"] if ranges else []
    parts += [
        f"the cord up to {HALF_STRETCH_MM:g} mm above and below the disc {disc_name(disc)}" for disc in stretch.discs
    ]
    parts += [f"the cord from {a:g} to {b:g} mm below the disc {disc_name(disc)}" for disc, a, b in stretch.points]
    return " with ".join(parts)


def _read_mm(low: str, high: str, text: str) -> tuple[float, float]:
    """Read two distances."""
    if not float(low) < float(high):
        raise InputError(f"levels {text!r}: expected the smaller distance first, found {low}:{high}")
    return float(low), float(high)


def checked_requests(texts: Sequence[str], source: str) -> tuple[str, ...]:
    """Return the texts if each is a valid request for levels; `source` begins the error message.

    Raises
    ------
    InputError
        For the first text that is not.
    """
    for text in texts:
        try:
            parse_stretch(text)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    return tuple(texts)


def _read_level(text: str, whole: str) -> int:
    """Return the value of one level, given by name or number."""
    text = text.strip().upper()
    match = re.fullmatch(r"([CTLS]?)(\d+)", text)
    if match:
        letter, number = match[1], int(match[2])
        if not letter and 1 <= number <= LAST_LEVEL:
            return number
        for name, first, count in REGIONS:
            if letter == name and 1 <= number <= count:
                return first + number - 1
    raise InputError(
        f"levels {whole!r}: expected C1-C7, T1-T12, L1-L5, S1-S5 or 1-{LAST_LEVEL}, found {text or 'nothing'!r}"
    )
