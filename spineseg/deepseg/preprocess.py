"""Conversion between a volume and the inputs and outputs of the networks; shared by training and inference.

Coordinates are voxel indices of the canonical volume. Intensities are standardised per slice, so that
neither the scanner's units nor coil shading along the cord have an effect.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

LOCAL_RADIUS_MM = 30.0
"""Half width of the neighbourhood that sets mean and contrast for detection: larger than the canal
(20 mm), smaller than coil shading and the bright fat behind the neck."""

LOCAL_FLOOR = 0.15
"""Smallest local standard deviation, as a fraction of the slice's: prevents that air is amplified into texture."""

CLIP = 4.0
"""Standard deviations at which standardised values are clipped; vessels and fat exceed it, the cord never does."""

TAIL = 0.01
"""Fraction of a patch's darkest and of its brightest pixels that are clipped before mean and standard deviation."""


def standardise_local(image: Tensor, valid: Tensor, zoom_mm: float) -> Tensor:
    """Subtract the local mean and divide by the local standard deviation.

    Parameters
    ----------
    image : (N, 1, H, W) tensor
    valid : (N, 1, H, W) tensor, 1 inside the image, 0 in the padding
    zoom_mm : float, mm

    Returns
    -------
    (N, 1, H, W) tensor; 0 in the padding, within +-`CLIP` elsewhere. A positive scale and an offset of a slice cancel.
    """
    weight = valid.sum((2, 3), keepdim=True).clamp_min(1)
    mean = (image * valid).sum((2, 3), keepdim=True) / weight
    centred = (image - mean) * valid
    spread = (centred.square().sum((2, 3), keepdim=True) / weight).sqrt().clamp_min(1e-12)
    centred = centred / spread  # float32 squares below stay exact whatever the scanner's units
    radius = max(1, round(LOCAL_RADIUS_MM / zoom_mm))
    sums = _box_sum(torch.cat([valid, centred, centred.square()], dim=1), radius)
    count = sums[:, :1].clamp_min(1)
    local_mean, local_square = sums[:, 1:2] / count, sums[:, 2:] / count
    local_spread = (local_square - local_mean.square()).clamp_min(LOCAL_FLOOR**2).sqrt()
    return ((centred - local_mean) / local_spread).clamp(-CLIP, CLIP) * valid


def _box_sum(stack: Tensor, radius: int) -> Tensor:
    """Sum over squares of side 2 * radius + 1, by cumulative sums, so that the cost does not depend on the radius."""
    for axis in (2, 3):
        n = stack.shape[axis]
        total = F.pad(stack.double().cumsum(axis), (0, 0, 1, 0) if axis == 2 else (1, 0))
        index = torch.arange(n, device=stack.device)
        stack = total.index_select(axis, (index + radius + 1).clamp_max(n)) - total.index_select(
            axis, (index - radius).clamp_min(0)
        )
    return stack.float()


def standardise_patch(patch: Tensor) -> Tensor:
    """Scale each patch to mean 0 and standard deviation 1, computed with clipped tails.

    Parameters
    ----------
    patch : (N, 1, H, W) tensor

    Returns
    -------
    (N, 1, H, W) tensor; within +-`CLIP`; a constant patch becomes 0
    """
    flat = patch.flatten(1)
    n_tail = max(1, int(TAIL * flat.shape[1]))
    low = flat.topk(n_tail, largest=False).values.amax(1)[:, None, None, None]
    high = flat.topk(n_tail).values.amin(1)[:, None, None, None]
    cut = torch.minimum(torch.maximum(patch, low), high)
    centred = cut - cut.mean((2, 3), keepdim=True)
    scale = centred.square().mean((2, 3), keepdim=True).sqrt()
    return (centred / scale.clamp_min(1e-6 * high.abs().clamp_min(1e-20))).clamp(-CLIP, CLIP)


def to_detection_grid(data: NDArray[np.float32], zooms: NDArray, zoom_mm: float) -> Tensor:
    """Resample slices to about `zoom_mm` in plane, smoothing where pixels are merged.

    Parameters
    ----------
    data : (I, J, K) ndarray
    zoom_mm : float, mm

    Returns
    -------
    (K, 1, H, W) tensor
        H = round(I * zooms[0] / zoom_mm), at least 1; the fields of view coincide: index h of the result lies at
        (h + 0.5) * I / H - 0.5.
    """
    size = [max(1, round(n * z / zoom_mm)) for n, z in zip(data.shape[:2], zooms[:2], strict=True)]
    stack = torch.from_numpy(np.ascontiguousarray(np.moveaxis(data, 2, 0), dtype=np.float32))[:, None]
    return F.interpolate(stack, size=size, mode="bilinear", align_corners=False, antialias=True)


def pad_to(stack: Tensor, divisor: int, least: int) -> tuple[Tensor, Tensor]:
    """Pad slices with zeros at the high ends to a multiple of `divisor`, at least `least`; also return validity."""
    height, width = stack.shape[2:]
    new = [max(least, -(-n // divisor) * divisor) for n in (height, width)]
    margin = (0, new[1] - width, 0, new[0] - height)
    return F.pad(stack, margin), F.pad(torch.ones_like(stack), margin)


def extract_patches(
    data: NDArray[np.float32], zooms: NDArray, centres: NDArray, slices: NDArray, zoom_mm: float, size_px: int
) -> Tensor:
    """Sample square patches around points of given slices, linearly.

    Parameters
    ----------
    data : (I, J, K) ndarray
    centres : (n, 2) ndarray, voxels; where the middle of each patch lies (between its two middle pixels)
    slices : (n,) ndarray of int
    zoom_mm : float, mm

    Returns
    -------
    (n, 1, size_px, size_px) tensor; axis 2 follows I, axis 3 follows J. Outside the image the border repeats.
    """
    stack = torch.from_numpy(np.ascontiguousarray(np.moveaxis(data, 2, 0)[slices], dtype=np.float32))[:, None]
    offset = (torch.arange(size_px, dtype=torch.float64) - (size_px - 1) / 2) * zoom_mm
    rows, columns = (torch.from_numpy(np.asarray(centres[:, a], float))[:, None] + offset / zooms[a] for a in (0, 1))
    grid = _sampling_grid(rows, columns, data.shape[:2])
    return F.grid_sample(stack, grid, padding_mode="border", align_corners=False)


def paste_patches(
    patches: Tensor,
    shape: tuple[int, int, int],
    zooms: NDArray,
    centres: NDArray,
    slices: NDArray,
    zoom_mm: float,
) -> NDArray[np.float32]:
    """Resample patches to the volume's grid; the inverse of `extract_patches`.

    Each voxel gets the mean of the patch over its area, so that a 1 mm voxel half in the cord gets about 0.5.

    Parameters
    ----------
    patches : (n, 1, S, S) tensor
    shape : (I, J, K)
    zooms, centres, slices, zoom_mm
        As in `extract_patches`; each slice at most once.

    Returns
    -------
    (I, J, K) ndarray of float32; 0 outside the patches
    """
    volume = np.zeros(shape, dtype=np.float32)
    if len(slices) == 0:
        return volume
    size_px = patches.shape[2]
    axes, starts = [], []
    for axis in (0, 1):
        n_voxels = min(shape[axis], int(np.ceil(size_px * zoom_mm / zooms[axis])) + 1)
        first = np.floor(centres[:, axis] - (n_voxels - 1) / 2).astype(int).clip(0, shape[axis] - n_voxels)
        n_sub = max(1, round(float(zooms[axis] / zoom_mm)))
        sub = (np.arange(n_voxels * n_sub) + 0.5) / n_sub - 0.5
        position = first[:, None] + sub - centres[:, axis, None]
        axes.append(torch.from_numpy(position * zooms[axis] / zoom_mm + (size_px - 1) / 2))
        starts.append((first, n_voxels, n_sub))
    fine = F.grid_sample(patches.float(), _sampling_grid(axes[0], axes[1], (size_px, size_px)), align_corners=False)
    (first_i, n_i, sub_i), (first_j, n_j, sub_j) = starts
    window = F.avg_pool2d(fine, (sub_i, sub_j))[:, 0].numpy()
    rows = first_i[:, None, None] + np.arange(n_i)[:, None]
    columns = first_j[:, None, None] + np.arange(n_j)
    volume[rows, columns, np.asarray(slices)[:, None, None]] = window
    return volume


def _sampling_grid(rows: Tensor, columns: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the (n, h, w, 2) grid of grid_sample (align_corners False) for index vectors (n, h) and (n, w)."""
    unit_rows, unit_columns = ((2 * x + 1) / n - 1 for x, n in zip((rows, columns), size, strict=True))
    height, width = rows.shape[1], columns.shape[1]
    grid = torch.stack(
        [unit_columns[:, None, :].expand(-1, height, -1), unit_rows[:, :, None].expand(-1, -1, width)], dim=3
    )
    return grid.float()
