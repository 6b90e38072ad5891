"""Area and shape of the cord across a given line, where `compute_shape` takes the line from the mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.metrics.cord_line import CordLine, fit_cord_line
from spineseg.metrics.shape import (
    MIN_VOXELS,
    SliceShape,
    _collect,
    _determinant,
    _ellipses,
    _exact_maps,
    _product_maps,
)
from spineseg.metrics.solidity import compute_solidity


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
    zooms = np.asarray(zooms, np.float64)
    points, area, centroid = _collect(cord, zooms)
    line = fit_cord_line(centroid[:, :2] * zooms[:2] if centers_mm is None else centers_mm, float(zooms[2]))
    tangents = np.full((len(area), 3), np.nan) if line is None else line.tangents_of(len(area))
    if correction == "none":
        tangents = np.where(np.isnan(tangents), np.nan, [0.0, 0.0, 1.0])
    cos_ap = tangents[:, 2] / np.hypot(tangents[:, 0], tangents[:, 2])
    cos_rl = tangents[:, 2] / np.hypot(tangents[:, 1], tangents[:, 2])
    maps = _exact_maps(tangents) if correction == "exact" else _product_maps(cos_ap, cos_rl)
    factor = _determinant(maps)
    has_shape = np.bincount(points.k, minlength=points.n_slices) >= MIN_VOXELS
    shape = SliceShape(
        csa_mm2=area * factor,
        csa_axial_mm2=area,
        solidity=np.where(has_shape, compute_solidity(cord), np.nan),
        angle_ap_deg=np.degrees(np.arctan2(tangents[:, 0], tangents[:, 2])),
        angle_rl_deg=np.degrees(np.arctan2(tangents[:, 1], tangents[:, 2])),
        length_mm=zooms[2] / factor,
        centroid_vox=centroid,
        **_ellipses(points, area, maps * zooms[None, None, :2], has_shape),
    )
    return shape, line
