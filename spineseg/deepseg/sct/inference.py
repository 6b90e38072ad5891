"""Run SCT's networks on a volume, with SCT's scaling of intensities.

Departures from SCT: detection runs on whole slices in place of tiles, the curve is our own, patches are sampled
from the native grid around it, and 3-D inputs overlap.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor
from torch.nn import functional as F

from spineseg.centerline.curve import Centerline
from spineseg.deepseg.inference import HEAT_SIGMA_MM, PIXELS_PER_CALL, device_of, run_network
from spineseg.deepseg.network import DETECT
from spineseg.deepseg.preprocess import extract_patches, pad_to, paste_patches, to_detection_grid
from spineseg.deepseg.sct.networks import CHUNK_SLICES, PERCENTILES, SCALE_TOP, ZOOM_MM, SctUNet
from spineseg.volume import Volume

MIN_HEAT = 0.5
"""Probability below which SCT sets pixels to 0 before it searches the curve."""

MIN_INPUT_PX = 80
"""Side of the inputs that the detection networks were trained on; smaller slices are padded."""


@torch.inference_mode()
def compute_sct_heatmap(volume: Volume, network: SctUNet) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Compute a heatmap of the middle of the cord by SCT's detection network.

    Parameters
    ----------
    network : of the stage "detect"

    Returns
    -------
    heat : (K, H, W) ndarray, 0 to 1
    zooms : (3,) ndarray, mm; as `spineseg.deepseg.inference.compute_heatmap` returns them, on the same grid

    Notes
    -----
    The percentiles are computed on the image's own voxels; SCT computes them after resampling, which changes them
    little.
    """
    config = network.config
    mean, std = config.moments
    low, high = np.percentile(volume.data, PERCENTILES)
    size = [max(1, round(n * z / DETECT.zoom_mm)) for n, z in zip(volume.shape[:2], volume.zooms[:2], strict=True)]
    pixels = np.prod(volume.shape[:2] * volume.zooms[:2]) / ZOOM_MM**2 * config.base / DETECT.channels[0]
    per_call = max(1, int(PIXELS_PER_CALL / pixels))
    parts = []
    for first in range(0, volume.shape[2], per_call):  # the whole volume at 0.5 mm may be a GB
        stack = to_detection_grid(volume.data[:, :, first : first + per_call], volume.zooms, ZOOM_MM)
        height, width = stack.shape[2:]
        image, _ = pad_to(_scale(stack, low, high), config.divisor, MIN_INPUT_PX)
        prob = run_network(network, (image - mean) / std).nan_to_num()[:, :, :height, :width]
        prob = torch.where(prob < MIN_HEAT, 0.0, prob)
        parts.append(F.interpolate(prob, size=size, mode="bilinear", align_corners=False, antialias=True))
    zooms = volume.zooms * np.array([volume.shape[0] / size[0], volume.shape[1] / size[1], 1.0])
    sigma = (0.0, *(HEAT_SIGMA_MM / zooms[:2]))
    return ndi.gaussian_filter(torch.cat(parts)[:, 0].numpy(), sigma, mode="nearest"), zooms


@torch.inference_mode()
def compute_sct_coverage(
    volume: Volume,
    centerline: Centerline,
    network: SctUNet,
    *,
    thr: float,
    batch: int = 32,
    mirror: bool = False,
) -> NDArray[np.float32]:
    """Compute the share of each voxel's area that is cord, by SCT's network and threshold.

    Parameters
    ----------
    network : of the stage "segment"
    thr : float, 0 to 1
        Probability from which a pixel of 0.5 mm is cord. SCT applies its thresholds on this grid, not on the image's
        own grid, and chose its defaults for it.
    batch : patches per call of a 2-D network; the result does not depend on it
    mirror : average over the patch and its right-left mirror image

    Returns
    -------
    (I, J, K) ndarray of float32, 0 to 1; a voxel is cord where at least half of it is
    """
    size_px = network.config.patch_px
    centres, slices = _shift_inside(centerline.points_vox[:, :2], volume, size_px), centerline.slices
    place = (volume.zooms, centres, slices, ZOOM_MM)
    patches = _extract(volume, centres, slices, size_px)
    n_empty = (volume.shape[2] - len(slices)) * size_px**2  # SCT's stack holds zeros where there is no centerline
    low, high = np.percentile(np.concatenate([patches.numpy().ravel(), np.zeros(n_empty)]), PERCENTILES)
    patches = _scale(patches, low, high)
    prob = _run_segment(network, patches, slices, batch)
    if mirror:
        prob = (prob + _run_segment(network, patches.flip(2), slices, batch).flip(2)) / 2
    cord = (prob >= thr).float() if thr > 0 else (prob > 0).float()
    return paste_patches(cord, volume.shape, *place)


def _scale(image: Tensor, low: float, high: float) -> Tensor:
    """Scale the range from `low` to `high` to 0 to 255 and clip values outside it; a constant image becomes 0."""
    span = max(high - low, 1e-12 * max(abs(high), 1e-20))
    return ((image - low) / span).clamp(0, 1) * SCALE_TOP


def _shift_inside(centres: NDArray[np.float64], volume: Volume, size_px: int) -> NDArray[np.float64]:
    """Move the centres of patches, (n, 2) voxels, so that the patches lie inside the image if it is large enough."""
    half = size_px / 2 * ZOOM_MM / volume.zooms[:2]
    lowest, highest = half - 0.5, np.array(volume.shape[:2]) - 0.5 - half
    return np.where(lowest <= highest, centres.clip(lowest, np.maximum(lowest, highest)), centres)


def _extract(volume: Volume, centres: NDArray[np.float64], slices: NDArray, size_px: int) -> Tensor:
    """Sample patches (n, 1, S, S), with zeros outside the image as in SCT."""
    patches = extract_patches(volume.data, volume.zooms, centres, slices, ZOOM_MM, size_px)
    offset = (np.arange(size_px) - (size_px - 1) / 2) * ZOOM_MM
    rows, columns = (centres[:, axis, None] + offset / volume.zooms[axis] for axis in (0, 1))
    inside_i, inside_j = (
        torch.from_numpy((x >= -0.5) & (x < n - 0.5)) for x, n in zip((rows, columns), volume.shape[:2], strict=True)
    )
    return patches * inside_i[:, None, :, None] * inside_j[:, None, None, :]


def _run_segment(network: SctUNet, patches: Tensor, slices: NDArray, batch: int) -> Tensor:
    """Return probabilities (n, 1, S, S) of scaled patches; NaN, which SCT's networks may give, becomes 0."""
    if network.config.kernel == "2d":
        parts = [run_network(network, part) for part in patches.split(batch)]
        return torch.cat(parts).nan_to_num()
    along = torch.from_numpy(np.asarray(slices) - slices[0])
    stack = torch.zeros((int(along[-1]) + 1, *patches.shape[2:]))
    stack[along] = patches[:, 0]
    return run_chunks(network, stack)[along][:, None]


@torch.inference_mode()
def run_chunks(model: SctUNet, stack: Tensor) -> Tensor:
    """Run a 3-D network on overlapping chunks of slices and blend them.

    Chunks start every 24 slices; their weights fall linearly from the middle to the ends. Returns probabilities,
    (K, S, S) tensor.

    Parameters
    ----------
    stack : (K, S, S) tensor, 0 to 255; patches of consecutive slices; the last chunk is padded with zeros
    """
    mean, std = model.config.moments
    n_slices, step = len(stack), CHUNK_SLICES // 2
    n_chunks = 1 + max(0, -(-(n_slices - CHUNK_SLICES) // step))
    padded = F.pad(stack, (0, 0, 0, 0, 0, (n_chunks - 1) * step + CHUNK_SLICES - n_slices))
    weight = 1 - ((torch.arange(CHUNK_SLICES) + 0.5) / step - 1).abs()
    total, norm = torch.zeros_like(padded), torch.zeros(len(padded))
    for first in range(0, n_chunks * step, step):  # one chunk is already 100 MB of feature maps
        span = slice(first, first + CHUNK_SLICES)
        chunk = ((padded[span] - mean) / std).permute(1, 2, 0)[None, None].to(device_of(model))
        prob = torch.sigmoid(model(chunk)).float().cpu().nan_to_num()[0, 0].permute(2, 0, 1)
        total[span] += weight[:, None, None] * prob
        norm[span] += weight
    return (total / norm[:, None, None])[:n_slices]
