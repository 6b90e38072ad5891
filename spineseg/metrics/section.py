"""Area and shape of the cord across a given line, where `compute_shape` takes the line from the mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.metrics.cord_line import CordLine, fit_cord_line
from spineseg.metrics.shape import SliceShape, compute_shape


def compute_sections(
    cord: NDArray, zooms: ArrayLike, *, correction: str = "product", centers_mm: NDArray | None = None
) -> tuple[SliceShape, CordLine | None]:
    """Compute area and shape of the cord in each slice, across a line that does not stiffen at its ends.

    Parameters
    ----------
    cord : (I, J, K) ndarray, bool, or partial volumes in [0, 1]
        Canonical orientation.
    zooms : (3,) array_like, mm
    correction : {"product", "exact", "none"}
        As in `spineseg.metrics.shape.compute_shape`.
    centers_mm : (K, 2) ndarray, mm, optional
        Another line to take the angles from, such as a centerline, by slice; NaN where it has no point.

    Returns
    -------
    shape : SliceShape
        As from `compute_shape`, whose directions come from a line that goes on straight at its ends.
    line : CordLine or None
        The line that the angles come from; None for an empty mask.
    """
    lines: list[CordLine | None] = []

    def find_tangents(centroids_mm: NDArray[np.float64], spacing_mm: float) -> NDArray[np.float64]:
        line = fit_cord_line(centroids_mm if centers_mm is None else centers_mm, spacing_mm)
        lines.append(line)
        return np.full((len(centroids_mm), 3), np.nan) if line is None else line.tangents_of(len(centroids_mm))

    shape = compute_shape(cord, zooms, correction=correction, find_tangents=find_tangents)
    return shape, lines[0]
