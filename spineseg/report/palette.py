"""Colours and line styles of the methods: told apart by colour-blind readers and in grey print."""

from __future__ import annotations

from spineseg.methods.registry import OWN_METHODS

REFERENCE = "reference"
"""Name of the layer that shows the reference mask."""

REFERENCE_COLOR, REFERENCE_DASH = "#F0E442", "1.5 2.5"
"""Yellow, of the palette that the methods' colours come from too."""

OTHER_COLORS = ("#D55E00", "#0072B2", "#CC79A7", "#009E73")
"""The palette's other colours, for masks of other methods. After propseg and deepseg come purple and green: the first
two are too like theirs."""

OTHER_DASHES = ("8 3 2 3", "3 3", "10 3", "2 2 6 2")


def color_of(name: str, number: int) -> str:
    """Return a method's colour; `number` chooses among the others for methods that are not ours."""
    if name == REFERENCE:
        return REFERENCE_COLOR
    return OWN_METHODS[name].color if name in OWN_METHODS else OTHER_COLORS[number % len(OTHER_COLORS)]


def print_color_of(name: str, number: int) -> str:
    """Return a method's colour on white."""
    return OWN_METHODS[name].print_color if name in OWN_METHODS else OTHER_COLORS[number % len(OTHER_COLORS)]


def dash_of(name: str, number: int) -> str:
    """Return a method's line style as an SVG dash array; empty for a full line."""
    if name == REFERENCE:
        return REFERENCE_DASH
    return OWN_METHODS[name].dash if name in OWN_METHODS else OTHER_DASHES[number % len(OTHER_DASHES)]


def rgb(color: str) -> tuple[int, int, int]:
    """Return ``#rrggbb`` as three numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
