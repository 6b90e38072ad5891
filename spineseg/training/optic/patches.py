"""Random training patches: plausible variants of a scan of the same person.

Drawing the parameters (`draw_changes`) and applying them (`make_patches`) are separate, so that a patch can be
reproduced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

PATCH = 120
"""Pixels (mm) of a training patch."""

MARGIN = 24
"""Pixels at the rim of a patch on which no window is centred. Windows of 32 pixels then contain no mirrored pixels,
windows of 64 few."""

MAX_ROTATION_DEG = 25.0  # heads are tilted; a technician corrects larger angles
SCALE_SD = 0.13  # log scale: cords of children and of the lumbar region, and pixels that are not exactly 1 mm
MAX_TILT_DEG = 40.0  # cord against slice normal, in the sagittal plane: its section is longer from back to front
NEAR_MM = 24.0  # patches around the cord are centred up to this distance from it
FAR_FRACTION = 0.35  # share of patches centred anywhere in the slice: jaw, shoulders, air
CORD_VISIBLE_MM = 4.0  # a cord whose middle lies farther outside the field of view, a cord's radius, is not visible


@dataclass(frozen=True)
class LabelledSlices:
    """Prepared slices of one image and the position of the cord in each."""

    slices: NDArray[np.float32]  # (n, Y, X) of float32, 0 to 255
    centres: NDArray[np.float64]  # (n, 2) of float64: row and column of the cord's middle; NaN where a slice holds none
    # (3,) floats, 0 to 255: typical value of background, cord and fluid (NaN where unknown)
    levels: tuple[float, float, float]
    contrast: str
    subject: str


@dataclass(frozen=True)
class Changes:
    """The random changes that turn n slices into n patches; every array has n rows."""

    index: NDArray[np.intp]  # slice
    centre: NDArray[np.float64]  # (n, 2) row and column that becomes the patch's middle
    matrix: NDArray[np.float64]  # (n, 2, 2) patch to slice
    curve: NDArray[np.float64]  # (n, 2, m) nodes of the intensity curve
    bias: NDArray[np.float64]  # (n, 3) log-gain per half patch along rows, columns, and their product
    blur: NDArray[np.float64]  # (n,) pixels
    noise: NDArray[np.float64]  # (n,) 0 to 255
    crop: NDArray[np.float64]  # (n, 4) rows and columns of the slice that the field of view is cut to
    seed: int


def draw_changes(
    source: LabelledSlices, n: int, rng: np.random.Generator, *, bright_cord: bool | None = None
) -> Changes:
    """Draw n random changes for one image.

    Parameters
    ----------
    rng : np.random.Generator
    bright_cord : bool, optional
        Map intensities by random curves after which the cord is brighter (True) or darker (False) than the
        fluid. By default the image's own intensities stay, up to gain and gamma.
    """
    index = rng.integers(len(source.slices), size=n)
    shape = np.array(source.slices.shape[1:])
    anchor = source.centres[index]
    far = (rng.random(n) < FAR_FRACTION) | ~np.isfinite(anchor).all(axis=1)
    anchor = np.where(far[:, None], rng.random((n, 2)) * shape, anchor + rng.uniform(-NEAR_MM, NEAR_MM, (n, 2)))
    angle = np.radians(rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG, n))
    scale = np.exp(rng.normal(scale=SCALE_SD, size=(n, 1)) + rng.normal(scale=SCALE_SD / 2, size=(n, 2)))
    scale[:, 0] *= np.cos(np.radians(rng.uniform(0, MAX_TILT_DEG, n)))  # rows run from back to front
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(n, 2, 2)
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0)  # left and right of a neck look alike
    matrix = turn * scale[:, None, :] * np.stack([np.ones(n), mirror], axis=1)[:, None, :]
    middle = np.where(np.isfinite(source.centres[index]), source.centres[index], shape / 2)
    half = rng.uniform(12.0, 60.0, (n, 2))  # mm; 24 mm is the smallest field of view in use
    half[rng.random(n) < 0.75] = 1e3
    shift = rng.uniform(-0.6, 0.6, (n, 2)) * half
    return Changes(
        index=index,
        centre=anchor,
        matrix=matrix,
        curve=_draw_curves(source.levels, n, rng, bright_cord),
        bias=rng.normal(scale=(0.25, 0.15, 0.1), size=(n, 3)),
        blur=np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0.3, 1.1, n)),
        noise=np.where(rng.random(n) < 0.3, 0.0, rng.gamma(1.5, 4.0, n)),
        crop=np.concatenate([middle + shift - half, middle + shift + half], axis=1),
        seed=int(rng.integers(2**31)),
    )


def _draw_curves(
    levels: tuple[float, float, float], n: int, rng: np.random.Generator, bright_cord: bool | None
) -> NDArray[np.float64]:
    """Draw intensity curves through increasing nodes, (n, 2, m): first the nodes, then their values."""
    if bright_cord is None:
        nodes = np.linspace(0, 255, 9)
        gamma, gain = np.exp(rng.normal(scale=(0.25, 0.35), size=(n, 2))).T
        values = gain[:, None] * 255 * (nodes / 255) ** gamma[:, None]
        return np.stack([np.tile(nodes, (n, 1)), np.minimum(values, 255)], axis=1)
    background, cord, fluid = levels
    low, high = min(cord, fluid), max(cord, fluid)
    nodes = np.array([0.0, 0.5 * (background + low), low, high, 256.0 + high])
    dark, gap = rng.uniform(15, 110, n), rng.uniform(25, 120, n)
    darker, brighter = dark, np.minimum(dark + gap, 255)
    first, second = (darker, brighter) if bright_cord != (cord < fluid) else (brighter, darker)
    # outside the canal any brightness is possible, but air stays dark
    other, top = rng.uniform(10, 160, (2, n))
    values = np.stack([rng.uniform(0, 12, n), other, first, second, np.clip(second + top - 80, 0, 255)], axis=1)
    return np.stack([np.tile(nodes, (n, 1)), values], axis=1)


def make_patches(
    source: LabelledSlices, changes: Changes
) -> tuple[NDArray[np.float32], NDArray[np.floating], NDArray[np.bool_]]:
    """Apply changes to an image.

    Returns
    -------
    patches : (n, PATCH, PATCH) ndarray of float32, 0 to 255; beyond the field of view mirrored, as the detector sees it
    centres : (n, 2) ndarray of float
        Row and column of the cord in each patch, NaN without one; may lie outside the patch.
    inside : (n, PATCH, PATCH) ndarray of bool
        Pixels used for training: within the field of view, and not at the rim of the patch.
    """
    n, half = len(changes.index), (PATCH - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(PATCH) - half] * 2, indexing="ij")).reshape(2, -1)
    where = changes.centre[:, :, None] + changes.matrix @ grid  # (n, 2, PATCH^2) rows and columns of the slice
    size = np.array(source.slices.shape[1:], dtype=np.float64)
    low = np.maximum(0.0, changes.crop[:, :2])[:, :, None]
    high = np.minimum(size - 1, changes.crop[:, 2:])[:, :, None]
    inside = ((where >= low - 0.5) & (where <= high + 0.5)).all(axis=1)
    span = np.maximum(high - low, 1.0)
    mirrored = low + span - np.abs(np.mod(where - low, 2 * span) - span)  # reflect-101 about the field of view
    coords = np.concatenate([np.broadcast_to(changes.index[:, None, None], (n, 1, PATCH**2)), mirrored], axis=1)
    patches = ndi.map_coordinates(source.slices, coords.transpose(1, 0, 2), order=1, mode="nearest")
    patches = _change_intensities(patches.reshape(n, PATCH, PATCH), changes)
    offset = source.centres[changes.index] - changes.centre
    centres = np.linalg.solve(changes.matrix, offset[:, :, None])[:, :, 0] + half
    beyond = np.maximum(low[:, :, 0] - source.centres[changes.index], source.centres[changes.index] - high[:, :, 0])
    centres[(beyond > CORD_VISIBLE_MM).any(axis=1)] = np.nan
    inside = inside.reshape(n, PATCH, PATCH)
    rim = np.ones((PATCH, PATCH), dtype=bool)
    rim[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    return patches, centres, inside & ~rim


def _change_intensities(patches: NDArray, changes: Changes) -> NDArray[np.float32]:
    """Map intensities, then apply bias field, blur and noise."""
    rng = np.random.default_rng(changes.seed)
    ramp = np.linspace(-1, 1, PATCH)
    b = changes.bias[:, :, None, None]
    field = np.exp(b[:, 0] * ramp[:, None] + b[:, 1] * ramp + b[:, 2] * ramp[:, None] * ramp)
    out = np.empty(patches.shape, dtype=np.float32)
    for i, patch in enumerate(patches):  # each patch has its own curve and blur
        changed = np.interp(patch, *changes.curve[i]) * field[i]
        if changes.blur[i] > 0:
            changed = ndi.gaussian_filter(changed, changes.blur[i])
        if changes.noise[i] > 0:
            changed = np.hypot(
                changed + rng.normal(scale=changes.noise[i], size=patch.shape),
                rng.normal(scale=changes.noise[i], size=patch.shape),
            )
        out[i] = changed
    return np.clip(out, 0, 255)
