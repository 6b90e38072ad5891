"""Titles and captions of the figures, for the page and for ``snakemake --report``. No plotting library is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from spineseg.measures import AREA_UNIT


class FigureWords(NamedTuple):
    """Title and caption of a figure."""

    title: str
    caption: str


FIGURE_WORDS: Mapping[str, FigureWords] = {
    "failures": FigureWords("Images by status", "Images by status, method and contrast."),
    "dice": FigureWords(
        "Overlap",
        "Dice by contrast. Boxes: quartiles, whiskers: 5th and 95th percentile, points: images where they are few."
        " Against the reference a missing mask counts as 0; two methods are compared where neither failed and one found"
        " cord.",
    ),
    "bland_altman": FigureWords(
        "Difference of CSA between methods", f"Per image, on the slices that both segmented, {AREA_UNIT}."
    ),
    "csa_along_cord": FigureWords(
        "CSA along the cord", f"Median (line) and interquartile range (band) over images, {AREA_UNIT}."
    ),
    "csa_levels": FigureWords(
        "CSA by vertebral level",
        "Every person (thin; of many the interquartile range), their mean (thick) and how many people show each level;"
        " beside it the difference of two"
        " methods at each level, its mean and limits of agreement (1.96 SD). Levels that are doubted, joined or covered"
        " by less than 0.8 are left out.",
    ),
    "csa_contrasts": FigureWords(
        "CSA in two contrasts",
        f"Mean CSA of a person in two contrasts, {AREA_UNIT}; near the line, a method sees the same cord in both."
        " Of many people the median and the quartiles are drawn.",
    ),
    "cost": FigureWords("Time and memory", "Time in seconds and peak memory in MiB, per image."),
    "sample_size": FigureWords(
        "How many people the study needs",
        "People per group to see a difference in CSA, or in its change where the study measures that, by the pilot's"
        " spread (band: 95 % interval, up to the edge where it has no end); the line marks the effect of the plan.",
    ),
}
"""Name of the figure's file to its title and caption, in the order of the report."""

BY = "_by-"
"""Part of a file's name between the figure and the column of participants.tsv by which it is split."""


def figure_title(file: str) -> str:
    """Return the title of a figure by the name of its file, without ending."""
    name, _, column = file.partition(BY)
    return f"{FIGURE_WORDS[name].title}, by {column}" if column else FIGURE_WORDS[name].title
