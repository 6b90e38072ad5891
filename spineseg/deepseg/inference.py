"""Run the networks on a volume: where the cord is, and which voxels are cord."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor, nn

from spineseg.centerline.curve import Centerline, empty_centerline
from spineseg.centerline.path import find_path, refine_path, smooth_path
from spineseg.deepseg.network import Neighbours, UNet, neighbours_in_stack
from spineseg.deepseg.preprocess import (
    extract_patches,
    pad_to,
    paste_patches,
    standardise_local,
    standardise_patch,
    to_detection_grid,
)
from spineseg.volume import Volume

PIXELS_PER_CALL = 300_000
"""Pixels of one call of the detector: 12 feature maps of them are 15 MB, which still fits the cache's reach."""

DETECT_EVERY_MM = 2.0
"""Thin slices are searched this far apart: over 2 mm the cord moves less than a pixel of the detector."""

HEAT_SIGMA_MM = 3.0
"""Smoothing that turns the detector's cord map into one peak at the cord's middle: half of a small cord's width."""

SMOOTHNESS = 0.05
"""Weight of the squared slope against heat. The heatmap is nearly free of false peaks, and one pixel of 1.5 mm per
slice of 1 mm already costs 2.25: with 1 the path left a cord inclined by 30 degrees for a straight line through air."""

MIN_INPUT_PX = 32
"""Smaller slices are padded: below this the dilated convolutions see padding only."""


@torch.inference_mode()
def compute_heatmap(volume: Volume, network: UNet) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Compute how much each point looks like the middle of the cord, for whole slices in few calls.

    Parameters
    ----------
    network : of the stage "detect"

    Returns
    -------
    heat : (K, H, W) ndarray, 0 to 1; on the detection grid
    zooms : (3,) ndarray, mm; of that grid; index h lies at (h + 0.5) * I / H - 0.5 in the volume, w alike
    """
    config = network.config
    every = max(1, int(DETECT_EVERY_MM / volume.zooms[2]))
    looked_at = np.unique(np.append(np.arange(0, volume.shape[2], every), volume.shape[2] - 1))
    stack = to_detection_grid(volume.data[:, :, looked_at], volume.zooms, config.zoom_mm)
    height, width = stack.shape[2:]
    image, valid = pad_to(stack, config.divisor, MIN_INPUT_PX)
    per_call = max(1, PIXELS_PER_CALL // (image.shape[2] * image.shape[3]))
    parts = [
        run_network(network, standardise_local(x, v, config.zoom_mm))
        for x, v in zip(image.split(per_call), valid.split(per_call), strict=True)
    ]
    prob = interpolate_slices(torch.cat(parts)[:, 0, :height, :width].numpy(), looked_at)
    zooms = volume.zooms * np.array([volume.shape[0] / height, volume.shape[1] / width, 1.0])
    sigma = (0.0, *(HEAT_SIGMA_MM / zooms[:2]))
    return ndi.gaussian_filter(prob, sigma, mode="nearest"), zooms


def interpolate_slices(maps: NDArray[np.float32], slices: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return a map for every slice up to the last of `slices`, interpolated linearly between them."""
    if len(slices) == slices[-1] + 1:
        return maps
    place = np.interp(np.arange(slices[-1] + 1), slices, np.arange(len(slices)))
    below = place.astype(np.intp).clip(0, len(slices) - 2)
    part = (place - below).astype(np.float32)[:, None, None]
    return (1 - part) * maps[below] + part * maps[below + 1]


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's weights."""
    return next(model.parameters()).device


def run_network(model: nn.Module, image: Tensor, near: Neighbours | None = None) -> Tensor:
    """Run a network on its own device; return probabilities (N, 1, H, W) of standardised input, on the CPU."""
    device = device_of(model)
    image = image.to(device).contiguous(memory_format=torch.channels_last)
    logits = model(image) if near is None else model(image, near.to(device))
    return torch.sigmoid(logits).float().cpu()


WINDOW_MM = (20.0, 16.0)
"""Right-left and anterior-posterior size of the window in the middle of a patch that is outlined first: the widest cord
is 15 mm by 11 mm, and curves are seldom more than 2 mm off."""

WINDOW_BORDER = 0.02
"""A probability above this on the window's border, or a window without cord, means that more may lie outside it. Such
patches are outlined whole. Of 4500 patches of 18 images no other had a probability above 0.3 outside its window."""


def outline_patches(model: UNet, patches: Tensor, near: Neighbours | None = None) -> Tensor:
    """Run the second network on patches (n, 1, S, S): their probabilities, 0 where there is no need to look.

    The features of a patch depend on all of it. They become probabilities within a window around its middle, where the
    cord lies, and elsewhere only for patches that show something there. Within the window the numbers are the same.
    """
    device = device_of(model)
    image = patches.to(device).contiguous(memory_format=torch.channels_last)
    features = model.encode_slices(image, None if near is None else near.to(device))
    rows, columns = (_middle(n, mm / model.config.zoom_mm) for n, mm in zip(patches.shape[2:], WINDOW_MM, strict=True))
    inner = torch.sigmoid(model.decode_features(features, (rows, columns))).float().cpu()
    if inner.shape == patches.shape:
        return inner
    prob = torch.zeros(patches.shape)
    prob[:, :, rows, columns] = inner
    border = torch.cat([inner[:, 0, [0, -1]].flatten(1), inner[:, 0, :, [0, -1]].flatten(1)], dim=1)
    more = (border.amax(1) > WINDOW_BORDER) | (inner.amax((1, 2, 3)) <= 0.5)
    if more.any():
        chosen = [f[more.to(device)].contiguous(memory_format=torch.channels_last) for f in features]
        prob[more] = torch.sigmoid(model.decode_features(chosen)).float().cpu()
    return prob


def _middle(n: int, width: float) -> slice:
    """Return the middle of n pixels, an even number of them."""
    half = min(n // 2, round(width / 2))
    return slice(n // 2 - half, n // 2 + half)


def run_on_stack(model: UNet, patches: Tensor, slice_mm: float, batch: int) -> Tensor:
    """Return probabilities (n, 1, S, S) of the patches of consecutive slices, `batch` slices a call.

    A 3-D network gets as many more slices to each side as its result depends on, so that no seam shows.
    """
    n, reach = len(patches), model.config.reach
    parts = []
    for first in range(0, n, batch):
        low, high = max(0, first - reach), min(n, first + batch + reach)
        near = neighbours_in_stack(high - low, slice_mm) if reach else None
        prob = outline_patches(model, patches[low:high], near)
        parts.append(prob[first - low : first - low + batch])
    return torch.cat(parts)


def trace_cord(
    heat: NDArray[np.float32], zooms: NDArray[np.float64], shape: tuple[int, int, int], min_confidence: float
) -> Centerline:
    """Find the curve through the heatmap and the slices in which it runs through cord.

    Parameters
    ----------
    heat : (K, H, W) ndarray
    zooms : (3,) ndarray, mm; of the detection grid
    shape : (I, J, K); of the volume; the result is in its voxels
    min_confidence : heat below which a slice is believed to hold no cord

    Returns
    -------
    Centerline; only the believed slices, with the heat as score; empty where there are none
    """
    spacing = float(zooms[0]), float(zooms[1]), float(zooms[2])
    path = find_path(heat, spacing, SMOOTHNESS)
    score = heat[np.arange(len(heat)), path[:, 0], path[:, 1]].astype(np.float64)
    believed = select_run(score, min_confidence, spacing[2])
    if not believed.any():
        return empty_centerline()
    first, last = np.flatnonzero(believed)[[0, -1]]
    span = slice(first, last + 1)
    points = refine_path(heat[span], path[span], spacing)
    points = smooth_path(points, spacing, weights=score[span].clip(0.05))
    scale = np.array(shape[:2]) / np.array(heat.shape[1:])
    voxels = ((points + 0.5) * scale - 0.5).clip(0, np.array(shape[:2]) - 1)
    return Centerline(np.column_stack([voxels, np.arange(first, last + 1)]), score[span])


MAX_GAP_MM = 20.0
"""Uncertain slices between certain ones are bridged up to this length, about the height of a vertebra with its disc."""

END_MM = 2.0
"""Added at the ends of the certain part: the outermost 1 mm slices of a slab are often corrupted, and the
second network judges them better."""

SPOILT = 0.5
"""A thicker slice that is the outermost of its slab is added where it has this share of the heat from which a slice is
believed: of an echo-planar mean of 24 slices the lowest had 0.7, and the second network drew it to a Dice of 0.88."""

PEAK = 1.6
"""Somewhere a cord reaches this many times the heat from which a slice is believed, so 0.4: held-out images have at
least 0.54 at their best slice, changed copies 0.43, synthetic cords 0.59, synthetic brains at most 0.47."""

MIN_RUN_MM = 8.0
"""Shorter runs beside the main one are vessels or noise."""


def select_run(score: NDArray[np.float64], least: float, dz: float) -> NDArray[np.bool_]:
    """Return which slices are believed to hold cord, (K,): sure ones and short gaps between them; none without a peak.

    Runs are joined over gaps of at most `MAX_GAP_MM`, then runs shorter than `MIN_RUN_MM` are dropped unless
    nothing else is left. Of the runs that remain the one with the largest total score counts, with every other
    that is at least half as long. What is kept grows by `END_MM` at each end, or by the slab's last slice (`SPOILT`).
    """
    sure = score >= least
    if score.max() < PEAK * least:
        return np.zeros_like(sure)
    n_gap = int(MAX_GAP_MM / dz)
    joined = ndi.binary_closing(np.pad(sure, n_gap), np.ones(2 * (n_gap // 2) + 1))[n_gap : len(sure) + n_gap] | sure
    runs, n_runs = ndi.label(joined)
    length = np.bincount(runs)[1:] * dz
    total = np.bincount(runs, score)[1:]
    kept = (length >= np.maximum(MIN_RUN_MM, length[total.argmax()] / 2)) | (np.arange(n_runs) == total.argmax())
    chosen = kept[runs - 1] & joined
    if n_end := int(END_MM / dz):
        return ndi.binary_dilation(chosen, iterations=n_end)
    if len(chosen) > 1:
        chosen[[0, -1]] |= chosen[[1, -2]] & (score[[0, -1]] >= SPOILT * least)
    return chosen


ONE_VIEW = ((1.0, False),)
TWO_VIEWS = ((0.94, False), (1.06, True))
SIX_VIEWS = tuple((scale, mirrored) for scale in (0.9, 1.0, 1.1) for mirrored in (False, True))
"""Pixel size, in units of the network's, and whether mirrored, of the views of a slice that are averaged. The larger a
cord is shown, the tighter it is drawn: larger and smaller views cancel that. Six views gain 0.002 in a held-out T1w and
nothing elsewhere in the mean, but steady the border of a cord of which few slices are there."""

FEW_SLICES = 80
"""Up to here six views take about as long as two of a full field of view of 216 slices, or less."""

IN_TURN_MM = 1.5
"""Slices up to this thick have one of two views in turn: neighbours look alike, and what they show is averaged over
3.5 mm (`ALONG_SIGMA_MM`) anyway. Half the work; Dice changes by 0.0005 at most on people held out."""


def choose_views(n_slices: int, mirror: bool) -> tuple[tuple[float, bool], ...]:
    """Return the views that are averaged: one without `mirror`, else two, or six where there are few slices."""
    if not mirror:
        return ONE_VIEW
    return SIX_VIEWS if n_slices <= FEW_SLICES else TWO_VIEWS


@torch.inference_mode()
def compute_probability(
    volume: Volume, centerline: Centerline, network: UNet, *, batch: int = 32, mirror: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the cord's probability in every voxel near the centerline, and its uncertainty in each slice.

    Parameters
    ----------
    centerline : patches are centred on it
    network : of the stage "segment"
    batch : slices of one call; the result does not depend on it
    mirror : average over several views of each slice, half of them right-left mirror images, see `choose_views`;
        of two, thin slices have one in turn

    Returns
    -------
    prob : (I, J, K) ndarray of float32, 0 to 1; 0 in slices without centerline
    uncertainty : (K,) ndarray of float32, 0 to 1; see `estimate_uncertainty`; nan in slices without centerline
    """
    config, slice_mm = network.config, float(volume.zooms[2])
    centres, slices = centerline.points_vox[:, :2], centerline.slices
    views = choose_views(len(slices), mirror)
    in_turn = len(views) == 2 and slice_mm <= IN_TURN_MM and not config.reach  # neighbours must be of one view
    seen = []
    for first, (scale, mirrored) in enumerate(views):
        part = slice(first, None, 2) if in_turn else slice(None)
        sampled = (volume.zooms, centres[part], slices[part], scale * config.zoom_mm, config.patch_px)
        patches = standardise_patch(extract_patches(volume.data, *sampled))
        patches = patches.flip(2) if mirrored else patches
        prob = run_on_stack(network, patches, slice_mm, batch)
        seen.append(scale_patches(prob.flip(2) if mirrored else prob, scale))
    prob = average_turns(*seen) if in_turn else torch.stack(seen).mean(dim=0)
    uncertainty = np.full(volume.shape[2], np.nan, dtype=np.float32)
    uncertainty[slices] = estimate_uncertainty(prob).numpy()
    place = (volume.zooms, centres, slices, config.zoom_mm)
    return paste_patches(smooth_along(prob, slice_mm), volume.shape, *place), uncertainty


def average_turns(even: Tensor, odd: Tensor) -> Tensor:
    """Average two views that consecutive slices have in turn: each slice with half of either neighbour, (n, 1, S, S).

    Both views count one half in every slice, so that nothing alternates from slice to slice.
    """
    prob = torch.empty(len(even) + len(odd), *even.shape[1:])
    prob[0::2], prob[1::2] = even, odd
    below, above = torch.cat([prob[1:2], prob[:-1]]), torch.cat([prob[1:], prob[-2:-1]])
    return prob / 2 + (below + above) / 4


def scale_patches(patches: Tensor, scale: float) -> Tensor:
    """Enlarge what patches (n, 1, S, S) show by `scale` about their centres; 0 comes in where nothing was shown."""
    if scale == 1:
        return patches
    grid = nn.functional.affine_grid(torch.eye(2, 3)[None] / scale, [1, *patches.shape[1:]], align_corners=False)
    return nn.functional.grid_sample(patches, grid.expand(len(patches), -1, -1, -1), align_corners=False)


def estimate_uncertainty(prob: Tensor) -> Tensor:
    """Return the Dice that each slice is expected to lose, were its probabilities true, (n,), 0 to 1.

    Against a truth drawn from the probabilities, the mask of all pixels above 0.5 has a Dice coefficient of about
    2 sum(p in the mask) / (pixels of the mask + sum(p)). Probabilities averaged over mirror images are far from 0 and 1
    both where the network hesitates and where it contradicts itself. 1 where no pixel is above 0.5.
    """
    mask = (prob > 0.5).float()
    expected = 2 * (prob * mask).sum((1, 2, 3)) / (mask + prob).sum((1, 2, 3)).clamp_min(1e-6)
    return 1 - expected


ALONG_SIGMA_MM = 1.5
"""Smoothing along the cord of patches that each slice gave on its own: less than the shortest change of the cord's
shape (a disc's height, 5 mm), enough to average the noise of 1 mm slices. Held-out 1 mm images gain 0.003 Dice."""

LOGIT_LIMIT = 1e-4
"""Probabilities are clipped there before they become logits; otherwise one certain slice would outvote all others."""


def smooth_along(prob: Tensor, dz: float) -> Tensor:
    """Smooth patches (n, 1, S, S) of consecutive slices along the cord, in logits; thick slices stay as they are."""
    sigma = ALONG_SIGMA_MM / dz
    if sigma < 0.5 or len(prob) < 3:  # neighbours would weigh less than an eighth
        return prob
    logits = torch.logit(prob.clamp(LOGIT_LIMIT, 1 - LOGIT_LIMIT)).numpy()
    return torch.sigmoid(torch.from_numpy(ndi.gaussian_filter1d(logits, sigma, axis=0, mode="nearest")))
