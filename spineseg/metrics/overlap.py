"""Overlap of two masks, in the volume and slice by slice.

Masks are (I, J, K) arrays, bool or numbers in [0, 1] that are cut at 0.5; NaN counts as background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.errors import GeometryError

TOGETHER = 1 << 20
"""Voxels that are cut at a time: few compared with an image, enough that calls cost little."""


@dataclass(frozen=True)
class Overlap:
    """Overlap of a mask with a reference; see `compute_overlap` for the empty cases."""

    dice: float
    jaccard: float
    precision: float
    recall: float
    volume_difference_pct: float


def check_same_shape(mask: NDArray, reference: NDArray) -> None:
    """Raise GeometryError unless two arrays are 3-D and have the same shape."""
    if mask.shape != reference.shape or mask.ndim != 3:
        raise GeometryError(
            f"the two masks have shapes {mask.shape} and {reference.shape}; "
            "expected one 3-D shape; resample one onto the other's grid"
        )


def binarise(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return the cord as bool, (I, J, K): soft values count from 0.5 up, the half-covered voxel included."""
    mask = np.asarray(mask)
    if mask.dtype == bool:
        return mask
    cord = np.zeros(mask.shape, bool)  # pages of zeros take no memory until they are written
    step = max(1, TOGETHER // max(1, mask[:1].size))
    for first in range(0, len(mask), step):
        part = mask[first : first + step] >= 0.5
        if part.any():
            cord[first : first + step] = part
    return cord


def ratio(numerator: float, denominator: float) -> float:
    """Divide; return NaN if the denominator is 0, because the share is then undefined."""
    return float(numerator) / float(denominator) if denominator else float("nan")


def compute_overlap(mask: ArrayLike, reference: ArrayLike) -> Overlap:
    """Compute Dice, Jaccard, precision, recall and volume difference of two masks.

    Shares lie in [0, 1]; `volume_difference_pct` = 100 (|mask| - |reference|) / |reference|. If both are empty, all
    values are NaN, because a missing cord is no success. If one is empty, Dice and Jaccard are 0; the precision of an
    empty mask and the recall of an empty reference are NaN.

    Raises
    ------
    GeometryError; if the shapes differ

    Examples
    --------
    >>> a = np.zeros((4, 4, 1), bool); a[:2] = True
    >>> b = np.zeros((4, 4, 1), bool); b[1:3] = True
    >>> compute_overlap(a, b).dice
    0.5
    """
    mask, reference = binarise(mask), binarise(reference)
    check_same_shape(mask, reference)
    n_mask, n_reference, n_both = (int(np.count_nonzero(part)) for part in (mask, reference, mask & reference))
    return Overlap(
        dice=ratio(2 * n_both, n_mask + n_reference),
        jaccard=ratio(n_both, n_mask + n_reference - n_both),
        precision=ratio(n_both, n_mask),
        recall=ratio(n_both, n_reference),
        volume_difference_pct=ratio(100 * (n_mask - n_reference), n_reference),
    )


def compute_dice(mask: ArrayLike, reference: ArrayLike) -> float:
    """Compute the Dice coefficient 2 |A and B| / (|A| + |B|) of two masks; NaN if both are empty, 0 if one is."""
    return compute_overlap(mask, reference).dice


def compute_slice_dice(mask: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Compute the Dice coefficient of each axial slice, (K,); NaN where both are empty, 0 where one is."""
    mask, reference = binarise(mask), binarise(reference)
    check_same_shape(mask, reference)
    total = mask.sum((0, 1)) + reference.sum((0, 1))
    both = (mask & reference).sum((0, 1))
    return np.divide(2.0 * both, total, out=np.full(total.shape, np.nan), where=total > 0)


def labelled_slices(reference: ArrayLike) -> NDArray[np.bool_]:
    """Return which axial slices a reference labels, (K,); elsewhere a mask is neither right nor wrong."""
    return np.any(binarise(reference), axis=(0, 1))
