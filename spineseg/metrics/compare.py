"""Compare two masks of one image: method against reference, and method against method."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.metrics.distance import compute_surface_distance
from spineseg.metrics.overlap import binarise, compute_dice, compute_overlap, compute_slice_dice, labelled_slices
from spineseg.metrics.shape import SliceShape, compute_shape


def compare_with_reference(
    mask: NDArray[np.bool_],
    shape: SliceShape,
    reference: NDArray[np.bool_],
    zooms: ArrayLike,
    reference_shape: SliceShape | None = None,
) -> dict[str, float]:
    """Compare a mask with a reference inside the slices that the reference labels.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
    shape : `compute_shape` of the mask
    reference : (I, J, K) ndarray of bool
        Not empty. It may label a limited range; the mask is ignored elsewhere.
    reference_shape : `compute_shape` of the reference, if it is known already

    Returns
    -------
    dict of float
        dice, hd95_mm, assd_mm, nsd, nsd_tolerance_mm; csa_error_pct = signed error of the mean
        angle-corrected CSA over the slices where both have cord, in percent of the reference's.

    Notes
    -----
    Labelled slices are stacked, so that a reference that labels every fifth slice is compared slice by
    slice; the mask's surface between them is ignored.
    """
    labelled = np.flatnonzero(labelled_slices(reference))
    together = len(labelled) == labelled[-1] - labelled[0] + 1
    part = slice(labelled[0], labelled[-1] + 1) if together else labelled  # consecutive slices are not copied
    inside, truth = mask[:, :, part], reference[:, :, part]
    distance = compute_surface_distance(inside, truth, zooms)
    return {
        "dice": compute_dice(inside, truth),
        "hd95_mm": distance.hd95_mm,
        "assd_mm": distance.assd_mm,
        "nsd": distance.nsd,
        "nsd_tolerance_mm": distance.nsd_tolerance_mm,
        "csa_error_pct": compute_area_error(shape, reference_shape or compute_shape(reference, zooms)),
    }


def compute_area_error(shape: SliceShape, reference: SliceShape) -> float:
    """Compute the error of a mask's mean CSA over the slices in which both masks have cord, percent; NaN if none."""
    both = np.isfinite(shape.csa_mm2) & np.isfinite(reference.csa_mm2)
    if not both.any():
        return float("nan")
    return 100.0 * float(shape.csa_mm2[both].mean() / reference.csa_mm2[both].mean() - 1.0)


def compare_masks(
    mask_a: NDArray[np.bool_],
    shape_a: SliceShape,
    mask_b: NDArray[np.bool_],
    shape_b: SliceShape,
    zooms: ArrayLike,
) -> dict[str, float]:
    """Compare two masks as equals, over the whole image.

    Parameters
    ----------
    mask_a, mask_b : (I, J, K) ndarray of bool
    shape_a, shape_b : `compute_shape` of each

    Returns
    -------
    dict of float
        dice, hd_mm, hd95_mm, assd_mm, nsd, nsd_tolerance_mm; csa_difference_mm2 = mean of a - b over the
        slices where both have cord; min_slice_dice = smallest Dice over the same slices.
    """
    distance = compute_surface_distance(mask_a, mask_b, zooms)
    both = np.isfinite(shape_a.csa_mm2) & np.isfinite(shape_b.csa_mm2)
    slice_dice = compute_slice_dice(mask_a, mask_b)[both]
    slice_dice = slice_dice[np.isfinite(slice_dice)]
    difference = (shape_a.csa_mm2 - shape_b.csa_mm2)[both]
    return {
        "dice": compute_dice(mask_a, mask_b),
        "hd_mm": distance.hd_mm,
        "hd95_mm": distance.hd95_mm,
        "assd_mm": distance.assd_mm,
        "nsd": distance.nsd,
        "nsd_tolerance_mm": distance.nsd_tolerance_mm,
        "csa_difference_mm2": float(difference.mean()) if difference.size else float("nan"),
        "min_slice_dice": float(slice_dice.min()) if slice_dice.size else float("nan"),
    }


def describe_pair(
    a: ArrayLike, b: ArrayLike, zooms: ArrayLike, *, tolerance_mm: float | None = None
) -> tuple[dict[str, float], list[float]]:
    """Compute all measures of two masks of one image, for a person who compares them.

    Parameters
    ----------
    a, b : (I, J, K) array_like, bool, or partial volumes in [0, 1]
        Areas use partial volumes; overlap and distances use the masks cut at 0.5.
    tolerance_mm : mm; tolerance of the NSD

    Returns
    -------
    values : overlap, distances and mean CSA; `dice_labelled` = Dice within the slices of `b`
    slice_dice : Dice of each slice
    """
    mask_a, mask_b = binarise(a), binarise(b)
    shape_a, shape_b = compute_shape(a, zooms), compute_shape(b, zooms)
    distance = compute_surface_distance(mask_a, mask_b, zooms, tolerance_mm=tolerance_mm)
    labelled = labelled_slices(mask_b)
    values = {
        **asdict(compute_overlap(mask_a, mask_b)),
        **compare_masks(mask_a, shape_a, mask_b, shape_b, zooms),
        **asdict(distance),
        "dice_labelled": compute_dice(mask_a[:, :, labelled], mask_b[:, :, labelled]),
        "csa_a_mm2": _finite_mean(shape_a.csa_mm2),
        "csa_b_mm2": _finite_mean(shape_b.csa_mm2),
    }
    return values, compute_slice_dice(mask_a, mask_b).tolist()


def _finite_mean(values: NDArray) -> float:
    """Mean of the finite values, NaN if there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")
