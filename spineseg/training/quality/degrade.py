"""Typical faults of segmentation methods, added to good masks; the prediction of quality must recognise them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.volume import mask_box

Mask = NDArray[np.bool_]
Fault = Callable[[Mask, NDArray[np.float64], np.random.Generator], Mask]


def filled_slices(mask: Mask) -> NDArray[np.intp]:
    """Return the slices with mask."""
    return np.flatnonzero(mask.any(axis=(0, 1)))


def resize(mask: Mask, zooms: NDArray, mm: float) -> Mask:
    """Move the contour outwards by `mm` (inwards if negative) in every slice, in steps finer than a pixel.

    The distance from the contour is smoothed over half a pixel; without this the contour would move by whole pixels.
    """
    signed = np.empty(mask.shape)
    half = float(zooms[:2].mean()) / 2  # distances are to the next pixel's middle, the contour runs between
    for k, part in enumerate(np.moveaxis(mask, 2, 0)):
        outside = ndi.distance_transform_edt(~part, sampling=zooms[:2])
        signed[:, :, k] = np.where(part, half - ndi.distance_transform_edt(part, sampling=zooms[:2]), outside - half)
    return (ndi.gaussian_filter(signed, (0.6, 0.6, 0)) <= mm) & mask.any(axis=(0, 1))


def truncated(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Remove slices at one end of the mask."""
    out, slices = mask.copy(), filled_slices(mask)
    n = int(np.ceil(len(slices) * rng.uniform(0.05, 0.6)))
    out[:, :, slices[:n] if rng.random() < 0.5 else slices[-n:]] = False
    return out


def leaked(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Extend the mask into the neighbouring tissue over some slices."""
    out, part = mask.copy(), _stretch(mask, rng, 0.1, 0.5)
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(3, 8)
    steps = np.arange(1.0, far, max(0.5, float(zooms[:2].min())))
    for mm in steps:
        out[:, :, part] |= _shift(mask[:, :, part], mm * np.array([np.cos(angle), np.sin(angle)]) / zooms[:2])
    return out


def shifted(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Shift the whole mask sideways."""
    angle, mm = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 4.0)
    return _shift(mask, mm * np.array([np.cos(angle), np.sin(angle)]) / zooms[:2])


def elsewhere(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Move the mask to another structure, completely or from one slice on."""
    angle, mm = rng.uniform(0, 2 * np.pi), rng.uniform(6.0, 15.0)
    moved = _shift(mask, mm * np.array([np.cos(angle), np.sin(angle)]) / zooms[:2])
    slices = filled_slices(mask)
    out = mask.copy()
    part = slices[int(len(slices) * rng.choice([0.0, rng.uniform(0.2, 0.8)])) :]
    out[:, :, part] = moved[:, :, part]
    return out


def drifting(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Let the mask leave the cord gradually towards one end."""
    slices = filled_slices(mask)
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 10.0)
    way = far * np.linspace(0, 1, len(slices)) ** 2
    out = np.zeros_like(mask)
    for k, mm in zip(slices, way if rng.random() < 0.5 else way[::-1], strict=True):
        out[:, :, [k]] = _shift(mask[:, :, [k]], mm * np.array([np.cos(angle), np.sin(angle)]) / zooms[:2])
    return out


def with_holes(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Cut round holes, such as missed lesions."""
    out, points = mask.copy(), np.argwhere(mask)
    near = np.argwhere(np.ones(mask.shape, bool)[: int(12 / zooms[0]) + 1, : int(12 / zooms[1]) + 1, :1])
    for _ in range(rng.integers(3, 4 + max(1, len(filled_slices(mask)) // 3))):
        centre, radius = points[rng.integers(len(points))], rng.uniform(1.0, 3.5)
        offset = (near[:, :2] - near[:, :2].max(axis=0) // 2) * zooms[:2]
        disc = near[np.linalg.norm(offset, axis=1) <= radius][:, :2] - near[:, :2].max(axis=0) // 2
        for k in range(centre[2], min(mask.shape[2], centre[2] + max(1, round(6 / zooms[2])))):
            index = (disc + centre[:2]).clip(0, np.array(mask.shape[:2]) - 1)
            out[index[:, 0], index[:, 1], k] = False
    return out


def half_cord(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Keep one half of the cord over some or all slices, as if fluid and cord looked alike on the other side."""
    part = _stretch(mask, rng, 0.3, 1.0)
    out = mask.copy()
    angle = rng.uniform(0, 2 * np.pi)
    for k in part:
        points = np.argwhere(mask[:, :, k])
        away = (points - points.mean(axis=0)) * zooms[:2] @ np.array([np.cos(angle), np.sin(angle)])
        lost = points[away > rng.uniform(0.0, 0.5)]
        out[lost[:, 0], lost[:, 1], k] = False
    return out


def losing_slices(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Remove single slices."""
    out, slices = mask.copy(), filled_slices(mask)
    if len(slices) < 3:
        return out
    n = max(1, int(len(slices) * rng.uniform(0.05, 0.4)))
    out[:, :, rng.choice(slices[1:-1], min(n, len(slices) - 2), replace=False)] = False
    return out


def rough(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Change the size of the mask from slice to slice."""
    out, size = mask.copy(), rng.uniform(0.3, 1.2)
    for k in filled_slices(mask):
        out[:, :, [k]] = resize(mask[:, :, [k]], zooms, rng.normal(0, size))
    return out


def wobbling(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Shift the mask differently in each slice."""
    out, size = np.zeros_like(mask), rng.uniform(0.3, 1.5)
    for k in filled_slices(mask):
        out[:, :, [k]] = _shift(mask[:, :, [k]], rng.normal(0, size, 2) / zooms[:2])
    return out


def blobbed(mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Add separate pieces elsewhere."""
    out, slices = mask.copy(), filled_slices(mask)
    for _ in range(rng.integers(1, 5)):
        size = np.maximum(1, (rng.uniform(2, 6, 2) / zooms[:2]).astype(int))
        low = [rng.integers(0, max(1, n - s)) for n, s in zip(mask.shape[:2], size, strict=True)]
        k = rng.choice(slices)
        out[low[0] : low[0] + size[0], low[1] : low[1] + size[1], k : k + max(1, round(5 / zooms[2]))] = True
    return out


FAULTS: dict[str, Fault] = {
    "slightly off": lambda mask, zooms, rng: resize(mask, zooms, rng.uniform(-0.5, 0.5)),
    "too small": lambda mask, zooms, rng: resize(mask, zooms, -rng.uniform(0.2, 2.0)),
    "too large": lambda mask, zooms, rng: resize(mask, zooms, rng.uniform(0.2, 2.5)),
    "truncated": truncated,
    "leaked": leaked,
    "shifted": shifted,
    "elsewhere": elsewhere,
    "drifting": drifting,
    "holes": with_holes,
    "half cord": half_cord,
    "slices lost": losing_slices,
    "rough": rough,
    "wobbling": wobbling,
    "blobs": blobbed,
}


ROOM_MM = 18.0
"""Margin around a mask within which its faults may lie."""


def apply_fault(name: str, mask: Mask, zooms: NDArray, rng: np.random.Generator) -> Mask:
    """Add one of the `FAULTS` to a mask; only the part of the image around it is processed.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool; not empty

    Returns
    -------
    (I, J, K) ndarray of bool
    """
    box = mask_box(mask, (*np.ceil(ROOM_MM / zooms[:2]).astype(int).tolist(), 0))[:2]
    out = np.zeros_like(mask)
    out[box] = FAULTS[name](mask[box], zooms, rng)
    return out


def _stretch(mask: Mask, rng: np.random.Generator, least: float, most: float) -> NDArray[np.intp]:
    """Return consecutive slices that make up a random share of the mask's length."""
    slices = filled_slices(mask)
    n = max(1, round(len(slices) * rng.uniform(least, most)))
    start = rng.integers(0, len(slices) - n + 1)
    return slices[start : start + n]


def _shift(mask: Mask, voxels: NDArray) -> Mask:
    """Shift slices in plane by fractions of voxels; parts that leave the image are lost."""
    moved = ndi.shift(mask.astype(np.float32), (*voxels, 0), order=1, mode="constant", prefilter=False)
    return moved >= 0.5
