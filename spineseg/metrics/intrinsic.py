"""Measures of a mask's quality from the mask alone, without a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.measures import ADULTS, PlausibleLimits
from spineseg.metrics.overlap import binarise
from spineseg.metrics.shape import SliceShape
from spineseg.metrics.tangent import smooth_line
from spineseg.volume import mask_box

MIN_COMPONENT_SHARE = 0.05
"""Share of the mask that a component needs to count for the extent of the cord. A few voxels far away are an
error of this method and must not make the mask of another method look too short."""

MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution."""

SPIKE_SD = 4.0
"""Number of robust SD beyond which a second difference is a spike: one in 16 000 in a normal distribution."""


@dataclass(frozen=True)
class IntrinsicMeasures:
    """Measures of one mask alone; see `compute_intrinsic`. NaN if a measure is not defined."""

    n_slices: int
    coverage: float
    n_gaps: int
    longest_gap_mm: float
    n_components: int
    largest_fraction: float
    csa_roughness: float
    spikes: float
    centre_roughness: float
    plausible: float


def slice_hull(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return which slices lie between the first and the last slice of a mask's larger components.

    Parameters
    ----------
    mask : (I, J, K) array_like, bool, or numbers in [0, 1] cut at 0.5

    Returns
    -------
    (K,) ndarray of bool; components below 5 % of the mask are ignored
    """
    mask = binarise(mask)
    inside = np.zeros(mask.shape[2], bool)
    labels, sizes, origin = label_components(mask)
    large = np.flatnonzero(sizes >= MIN_COMPONENT_SHARE * max(1, sizes.sum())) + 1
    found = np.flatnonzero(np.isin(labels, large).any(axis=(0, 1))) + origin
    if found.size:
        inside[found[0] : found[-1] + 1] = True
    return inside


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Label the 26-connected components within the mask's bounding box.

    Returns
    -------
    labels : (i, j, k) ndarray of int; labels in the box
    sizes : (n,) ndarray of int; voxels of labels 1 to n
    origin : slice where the box begins
    """
    from scipy import ndimage as ndi

    if not mask.any():
        return np.zeros((0, 0, 0), np.int32), np.zeros(0, np.int64), 0
    box = mask_box(mask)
    labels, n = ndi.label(mask[box], np.ones((3, 3, 3)))
    return labels, np.bincount(labels.ravel(), minlength=n + 1)[1:], box[2].start


def compute_intrinsic(
    mask: ArrayLike,
    zooms: ArrayLike,
    shape: SliceShape,
    common: NDArray[np.bool_] | None = None,
    limits: PlausibleLimits | None = ADULTS,
) -> IntrinsicMeasures:
    """Compute coverage, gaps, components, roughness and plausibility of one mask.

    Parameters
    ----------
    mask : (I, J, K) array_like, bool, or numbers in [0, 1] cut at 0.5
    shape : `compute_shape` of the same mask
    common : (K,) ndarray of bool, optional
        Slices in which some method found cord (union of the methods' slice hulls); by default the
        mask's own hull.
    limits : those of adults by default; None switches `plausible` off

    Returns
    -------
    IntrinsicMeasures
        n_slices: slices with cord. coverage: share of `common` with cord (0 for an empty mask, NaN if
        `common` is empty). n_gaps, longest_gap_mm: runs of empty slices inside the mask's own extent.
        n_components, largest_fraction: 26-connected parts, share of the largest. csa_roughness (1/mm²):
        robust SD of the second difference of ln CSA over the squared slice spacing. spikes: share of
        second differences beyond 4 robust SD. centre_roughness (mm): RMS second difference of the
        centroid's distance from its smooth line. plausible: share of the cord's slices within `limits`.
    """
    mask, zooms = binarise(mask), np.asarray(zooms, np.float64)
    filled: NDArray[np.bool_] = np.any(mask, axis=(0, 1))
    common = slice_hull(mask) if common is None else common
    _, sizes, _ = label_components(mask)
    steps = np.diff(np.flatnonzero(filled))
    gaps = (steps[steps > 1] - 1).tolist()  # slices
    roughness, spikes = _csa_roughness(np.where(filled, shape.csa_mm2, np.nan), float(zooms[2]))
    return IntrinsicMeasures(
        n_slices=int(filled.sum()),
        coverage=float(filled[common].mean()) if common.any() else float("nan"),
        n_gaps=len(gaps),
        longest_gap_mm=float(max(gaps, default=0) * zooms[2]),
        n_components=len(sizes),
        largest_fraction=float(sizes.max() / sizes.sum()) if sizes.size else float("nan"),
        csa_roughness=roughness,
        spikes=spikes,
        centre_roughness=_centre_roughness(shape.centroid_vox[:, :2] * zooms[:2], float(zooms[2])),
        plausible=_plausible_share(shape, filled, limits),
    )


def _csa_roughness(csa_mm2: NDArray, spacing_mm: float) -> tuple[float, float]:
    """Robust SD of the second difference of ln CSA (1/mm²), and the share of spikes."""
    second = np.diff(np.log(np.where(csa_mm2 > 0, csa_mm2, np.nan)), n=2) / spacing_mm**2
    second = second[np.isfinite(second)]
    if second.size < 3:  # too few for a spread
        return float("nan"), float("nan")
    deviation = np.abs(second - np.median(second))
    robust_sd = MAD_TO_SD * float(np.median(deviation))
    return robust_sd, float(np.mean(deviation > SPIKE_SD * robust_sd + 1e-12))


def _centre_roughness(centroids_mm: NDArray, spacing_mm: float) -> float:
    """Return the RMS second difference (mm) of the centroid's deviation from its smooth line."""
    known = np.isfinite(centroids_mm).all(axis=1)
    if known.sum() < 3:
        return float("nan")
    first, last = np.flatnonzero(known)[[0, -1]]
    points = centroids_mm[first : last + 1]
    line = smooth_line(points, known[first : last + 1].astype(np.float64), spacing_mm)
    second = np.diff(points - line, n=2, axis=0)
    second = second[np.isfinite(second).all(axis=1)]
    return float(np.sqrt((second**2).sum(axis=1).mean())) if second.size else float("nan")


def _plausible_share(shape: SliceShape, filled: NDArray[np.bool_], limits: PlausibleLimits | None) -> float:
    """Share of the filled slices whose area and shape are those of a cord; NaN if switched off or empty."""
    if limits is None or not filled.any():
        return float("nan")
    (low, high), (thin, thick) = limits.csa_mm2, limits.diameter_mm
    with np.errstate(invalid="ignore"):  # a slice without a shape compares as implausible
        good = (shape.csa_mm2 >= low) & (shape.csa_mm2 <= high)
        for diameter in (shape.diameter_ap_mm, shape.diameter_rl_mm):
            good &= (diameter >= thin) & (diameter <= thick)
        good &= (shape.eccentricity < limits.eccentricity) & (shape.solidity > limits.solidity)
    return float(good[filled].mean())
