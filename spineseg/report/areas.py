"""Areas by level in the report: their means over people, the stretches of cord, and the source of the levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spineseg.levels.names import describe_stretch
from spineseg.studyfolder.csa import CsaRow
from spineseg.studyfolder.files import NOT_AVAILABLE
from spineseg.studyfolder.forms import form_of_id

WHOLE_MASK = "whole mask"
"""Name of the stretch of cord where no levels are asked for."""


@dataclass(frozen=True)
class AreaRow:
    """Mean CSA of the kept masks in one kind of image at one level, over people.

    Parameters
    ----------
    images : str
        The part of the images' names beside subject, session and run, such as ``acq-sag_T2w``. One contrast can have
        several such kinds.
    contrast, level : str
    n_people : int
    mean, sd : str
        mm².
    n_flagged : int
        Rows that are left out because of a warning.
    """

    images: str
    contrast: str
    level: str
    n_people: int
    mean: str
    sd: str
    n_flagged: int


@dataclass(frozen=True)
class LevelSource:
    """Source of an image's levels that do not come from its own labels.

    Parameters
    ----------
    image, labels : str
        Name of the image, and of the file with the labels of another image of the session.
    distance_mm : float
        Between the middles of the two cords; NaN where they could not be compared.
    is_doubted : bool
    """

    image: str
    labels: str
    distance_mm: float
    is_doubted: bool

    @property
    def distance(self) -> str:
        """Distance for texts, with its unit."""
        return f"{self.distance_mm:.1f} mm" if np.isfinite(self.distance_mm) else "not compared"


def summarise_areas(rows: Sequence[CsaRow]) -> list[AreaRow]:
    """Return mean and SD of CSA by kind of image and level, over people; rows with a warning are only counted."""
    by_level: dict[tuple[str, str, str], list[CsaRow]] = {}
    kinds = list(dict.fromkeys((form_of_id(row.image.image_id), row.image.contrast) for row in rows))

    def place(row: CsaRow) -> tuple[int, int]:  # images as in the table, levels from above
        first = row.vert_level.split(":")[0]
        kind = form_of_id(row.image.image_id), row.image.contrast
        return kinds.index(kind), int(first) if first.isdigit() else 0

    for row in sorted(rows, key=place):
        key = form_of_id(row.image.image_id), row.image.contrast, row.level or WHOLE_MASK
        by_level.setdefault(key, []).append(row)
    found = []
    for (images, contrast, level), own in by_level.items():
        values: dict[str, list[float]] = {}
        for row in own:
            if not row.flags and (area := row.values.get("csa_mm2")) is not None and np.isfinite(area):
                values.setdefault(row.image.subject, []).append(area)
        means = np.array([np.mean(areas) for areas in values.values()])
        sd = f"{means.std(ddof=1):.1f}" if len(means) > 1 else NOT_AVAILABLE
        mean = f"{means.mean():.1f}" if len(means) else NOT_AVAILABLE
        found.append(AreaRow(images, contrast, level, len(means), mean, sd, sum(bool(row.flags) for row in own)))
    return found


def describe_areas(areas: Sequence[AreaRow]) -> str:
    """Say for a paper over which stretches of cord the areas are means: C2-C3 and C2/C3 differ by about 5 %."""
    levels = list(dict.fromkeys(area.level for area in areas if area.n_people and area.level != WHOLE_MASK))
    if not levels:
        return ""
    each = [level for level in levels if describe_stretch(level) == f"the vertebral level {level}"]
    parts = [f"{level} is {describe_stretch(level)}" for level in levels if level not in each]
    if each:
        parts.insert(0, f"each of the vertebral levels {', '.join(each)}" if each[1:] else describe_stretch(each[0]))
    listed = "; ".join(parts)
    return (
        f"Cross-sectional areas are means over stretches of cord ({listed}), whose borders are planes across the line"
        " of the cord; the area of each slice was corrected for the angle between cord and slice."
    )


def list_level_sources(rows: Sequence[CsaRow]) -> list[LevelSource]:
    """Return the measured images whose levels come from labels of another image, the farthest cords first."""
    found: dict[tuple[str, str], LevelSource] = {}
    for row in rows:
        if not row.levels_from or row.levels_distance_mm == 0 or not row.n_slices:
            continue
        key = row.image.image_id, Path(row.levels_from).name
        found[key] = LevelSource(*key, row.levels_distance_mm, "doubted" in row.flags)
    return sorted(found.values(), key=lambda one: (-np.nan_to_num(one.distance_mm, nan=np.inf), one.image))


def describe_level_sources(sources: Sequence[LevelSource]) -> str:
    """Say how many images have their levels from another image, and how far apart the two cords lie."""
    if not sources:
        return ""
    one = len(sources) == 1
    text = (
        f"{len(sources)} image{'' if one else 's'} {'has its' if one else 'have their'} levels from labels of another"
        " image of the session"
    )
    distances = [source.distance_mm for source in sources if np.isfinite(source.distance_mm)]
    if distances:
        text += f"; the middles of the two cords lie {np.median(distances):.1f} mm apart"
        text += "" if len(distances) == 1 else f" in the median, {max(distances):.1f} mm at most"
    doubted = sum(source.is_doubted for source in sources)
    return f"{text}; {doubted} of them {'is' if doubted == 1 else 'are'} doubted." if doubted else f"{text}."
