"""Colours and line styles of the methods, which differ for colour-blind readers and in grey print."""

from __future__ import annotations

from spineseg.methods.registry import OWN_METHODS

REFERENCE = "reference"
"""Name of the layer that shows the reference mask."""

REFERENCE_COLOR, REFERENCE_DASH = "#F0E442", "1.5 2.5"
"""Yellow of the same palette as the methods' colours."""

OTHER_COLORS = ("#D55E00", "#0072B2", "#CC79A7", "#009E73")
"""The palette's other colours, for other methods. Next to propseg and deepseg purple and green are used, because the
first two are too similar to theirs."""

OTHER_DASHES = ("8 3 2 3", "3 3", "10 3", "2 2 6 2")


def color_of(name: str, number: int) -> str:
    """Return a method's colour; for a declared method, `number` chooses one of `OTHER_COLORS`."""
    if name == REFERENCE:
        return REFERENCE_COLOR
    return OWN_METHODS[name].color if name in OWN_METHODS else OTHER_COLORS[number % len(OTHER_COLORS)]


def print_color_of(name: str, number: int) -> str:
    """Return a method's colour on white."""
    return OWN_METHODS[name].print_color if name in OWN_METHODS else OTHER_COLORS[number % len(OTHER_COLORS)]


def dash_of(name: str, number: int) -> str:
    """Return a method's line style as an SVG dash array; empty for a solid line."""
    if name == REFERENCE:
        return REFERENCE_DASH
    return OWN_METHODS[name].dash if name in OWN_METHODS else OTHER_DASHES[number % len(OTHER_DASHES)]


def rgb(color: str) -> tuple[int, int, int]:
    """Return ``#rrggbb`` as three numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
