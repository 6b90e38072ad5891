"""Colours and line styles of the methods: told apart by colour-blind readers and in grey print."""

from __future__ import annotations

METHOD_COLORS = {"propseg": "#E69F00", "deepseg": "#56B4E9", "reference": "#F0E442"}
"""Orange, sky blue and yellow of Okabe and Ito's palette (https://jfly.uni-koeln.de/color/)."""

OTHER_COLORS = ("#D55E00", "#0072B2", "#CC79A7", "#009E73")
"""The palette's other colours, for masks of other methods. After propseg and deepseg come purple and green: the first
two are too like theirs."""

PRINT_COLORS = {"propseg": "#B97A00", "deepseg": "#2A7FB8", "reference": "#6B6B6B"}
"""The same hues, dark enough for lines on white paper (3:1 contrast at least)."""

DASHES = {"propseg": "", "deepseg": "5 2.5", "reference": "1.5 2.5"}
OTHER_DASHES = ("8 3 2 3", "3 3", "10 3", "2 2 6 2")


def color_of(name: str, number: int) -> str:
    """Return a method's colour; `number` chooses among the others for unknown names."""
    return METHOD_COLORS.get(name, OTHER_COLORS[number % len(OTHER_COLORS)])


def print_color_of(name: str, number: int) -> str:
    """Return a method's colour on white."""
    return PRINT_COLORS.get(name, OTHER_COLORS[number % len(OTHER_COLORS)])


def dash_of(name: str, number: int) -> str:
    """Return a method's line style as an SVG dash array; empty for a full line."""
    return DASHES.get(name, OTHER_DASHES[number % len(OTHER_DASHES)])


def rgb(color: str) -> tuple[int, int, int]:
    """Return ``#rrggbb`` as three numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
