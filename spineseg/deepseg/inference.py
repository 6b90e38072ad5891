"""Run the networks on a volume: detect the cord, and compute the probability of cord in each voxel."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor, nn

from spineseg.centerline.curve import Centerline, empty_centerline
from spineseg.centerline.path import find_path, measure_lead, refine_path, smooth_path
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
"""Pixels per call of the detector: their 12 feature maps take 15 MB, which is still suited to the cache."""

DETECT_EVERY_MM = 2.0
"""Distance between the slices that are searched, if slices are thin: over 2 mm the cord moves less than a pixel of the
detector."""

HEAT_SIGMA_MM = 3.0
"""Smoothing that turns the detector's cord map into one peak at the cord's middle: half of a small cord's width."""

SMOOTHNESS = 0.05
"""Weight of the squared slope relative to heat. It can be low, because the heatmap is nearly free of false peaks. A
step of one 1.5 mm pixel per 1 mm slice has a squared slope of 2.25: with a weight of 1 the path left a cord inclined by
30 degrees for a straight line through air."""

MIN_INPUT_PX = 32
"""Size to which smaller slices are padded: below it the dilated convolutions see padding only."""


@torch.inference_mode()
def compute_heatmap(volume: Volume, network: UNet) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Compute a heatmap of the middle of the cord, for whole slices in few calls.

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
"""Right-left and anterior-posterior size of the window in the middle of a patch that is decoded first: the widest cord
is 15 mm by 11 mm, and centerlines are seldom more than 2 mm off."""

WINDOW_BORDER = 0.02
"""Probability on the window's border above which cord may lie outside the window. Such patches, and those without cord
in the window, are decoded as a whole. Of 4500 patches of 18 images, no other had a probability above 0.3 outside its
window."""


def outline_patches(model: UNet, patches: Tensor, near: Neighbours | None = None) -> Tensor:
    """Run the second network on patches (n, 1, S, S); return probabilities, 0 where they are not computed.

    The features are computed from the whole patch. They are decoded to probabilities within a window around its
    middle, where the cord lies, and elsewhere only if cord may lie outside the window. Within the window the numbers
    are the same as for the whole patch.
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

    A 3-D network gets additional slices on each side, as many as its result depends on, so that there are no seams.
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
    """Find the curve through the heatmap, and the slices in which it runs through cord.

    Parameters
    ----------
    heat : (K, H, W) ndarray
    zooms : (3,) ndarray, mm; of the detection grid
    shape : (I, J, K); of the volume; the result is in its voxels
    min_confidence : heat below which a slice counts as having no cord

    Returns
    -------
    Centerline; only slices with cord, with the heat as score; empty if there are none
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
    lead = measure_lead(heat[span], path[span], spacing, SMOOTHNESS, enough=ENOUGH_LEAD)
    return Centerline(np.column_stack([voxels, np.arange(first, last + 1)]), score[span], lead=lead)


ENOUGH_LEAD = 0.3
"""A lead of this is measured no further: below 0.1 a rival matters (`spineseg.deepseg.segment`)."""

MAX_GAP_MM = 20.0
"""Longest gap of uncertain slices that is bridged: about the height of a vertebra with its disc."""

END_MM = 2.0
"""Length added at the ends of the certain part: the outermost 1 mm slices of a slab are often corrupted, and the
second network decides better whether they show cord."""

SPOILT = 0.5
"""Share of the required heat from which the outermost slice of a slab of thicker slices is added. In an echo-planar
mean of 24 slices the lowest had 0.7, and the second network reached a Dice of 0.88 in it."""

PEAK = 1.6
"""Factor over the required heat that a cord must reach in at least one slice, so 0.4 by default. The best slice has at
least 0.54 in held-out images, 0.43 in changed copies and 0.59 in synthetic cords, and at most 0.47 in synthetic
brains."""

MIN_RUN_MM = 8.0
"""Shortest run kept besides the main one; shorter runs are vessels or noise."""


def select_run(score: NDArray[np.float64], least: float, dz: float) -> NDArray[np.bool_]:
    """Return which slices hold cord, (K,): sure slices and short gaps between them; none without a peak.

    Runs are joined over gaps of at most `MAX_GAP_MM`. Then runs shorter than `MIN_RUN_MM` are dropped unless
    nothing else is left. Of the remaining runs, the one with the largest total score is kept, and every other run
    that is at least half as long. The result is extended by `END_MM` at each end, or by the slab's last slice
    (`SPOILT`).
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
"""Views of a slice that are averaged: pixel size in units of the network's, and whether mirrored. The network outlines
an enlarged cord more tightly; larger and smaller views cancel this effect. Six views gain 0.002 Dice in a held-out T1w
image and nothing elsewhere on average, but they make the border more stable if there are few slices."""

FEW_SLICES = 80
"""Number of slices up to which six views take no longer than two views of a full field of view of 216 slices."""

IN_TURN_MM = 1.6
"""Slice thickness up to which consecutive slices alternate between two views. Neighbours look alike, and probabilities
are averaged over 3.5 mm (`ALONG_SIGMA_MM`) anyway. This halves the work; Dice changes by 0.0005 at most on held-out
people. Slices of 1.5 mm, which affines give as 1.49999 or 1.50001, must all be on one side."""


def choose_views(n_slices: int, mirror: bool) -> tuple[tuple[float, bool], ...]:
    """Return the views that are averaged: one without `mirror`, otherwise two, or six if there are few slices."""
    if not mirror:
        return ONE_VIEW
    return SIX_VIEWS if n_slices <= FEW_SLICES else TWO_VIEWS


@torch.inference_mode()
def compute_probability(
    volume: Volume,
    centerline: Centerline,
    network: UNet,
    *,
    batch: int = 32,
    mirror: bool = True,
    pixel: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the cord's probability in every voxel near the centerline, and its uncertainty in each slice.

    Parameters
    ----------
    centerline : patches are centred on it
    network : of the stage "segment"
    batch : slices per call; the result does not depend on it
    mirror : average over several views of each slice, half of them right-left mirror images, see `choose_views`;
        of two views, consecutive thin slices have one each in turn
    pixel : pixel size of the patches, in units of the network's; below 1 the network sees the cord enlarged

    Returns
    -------
    prob : (I, J, K) ndarray of float32, 0 to 1; 0 in slices without centerline
    uncertainty : (K,) ndarray of float32, 0 to 1; see `estimate_uncertainty`; nan in slices without centerline
    """
    config, slice_mm = network.config, float(volume.zooms[2])
    centres, slices = centerline.points_vox[:, :2], centerline.slices
    views = choose_views(len(slices), mirror)
    in_turn = len(views) == 2 and slice_mm <= IN_TURN_MM and not config.reach  # 3-D: neighbours of one view
    seen = []
    for first, (view, mirrored) in enumerate(views):
        scale = pixel * view
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
    """Average two views that alternate between slices, (n, 1, S, S): half a slice plus a quarter of each neighbour.

    Both views have a weight of one half in every slice, so that nothing alternates from slice to slice.
    """
    prob = torch.empty(len(even) + len(odd), *even.shape[1:])
    prob[0::2], prob[1::2] = even, odd
    below, above = torch.cat([prob[1:2], prob[:-1]]), torch.cat([prob[1:], prob[-2:-1]])
    return prob / 2 + (below + above) / 4


def scale_patches(patches: Tensor, scale: float) -> Tensor:
    """Enlarge patches (n, 1, S, S) by `scale` about their centres; 0 outside the original patch."""
    if scale == 1:
        return patches
    grid = nn.functional.affine_grid(torch.eye(2, 3)[None] / scale, [1, *patches.shape[1:]], align_corners=False)
    return nn.functional.grid_sample(patches, grid.expand(len(patches), -1, -1, -1), align_corners=False)


def estimate_uncertainty(prob: Tensor) -> Tensor:
    """Return the expected loss of Dice in each slice if its probabilities are correct, (n,), 0 to 1.

    For a reference drawn from the probabilities, the mask of all pixels above 0.5 has a Dice coefficient of about
    2 sum(p in the mask) / (pixels of the mask + sum(p)). Probabilities averaged over mirror images are far from 0 and 1
    where the network is uncertain and where its views contradict each other. The result is 1 if no pixel is above 0.5.
    """
    mask = (prob > 0.5).float()
    expected = 2 * (prob * mask).sum((1, 2, 3)) / (mask + prob).sum((1, 2, 3)).clamp_min(1e-6)
    return 1 - expected


ALONG_SIGMA_MM = 1.5
"""Smoothing along the cord of probabilities that were computed slice by slice. It is less than the shortest change of
the cord's shape (a disc's height, 5 mm), and enough to average the noise of 1 mm slices. Held-out 1 mm images gain
0.003 Dice."""

LOGIT_LIMIT = 1e-4
"""Distance from 0 and 1 to which probabilities are clipped before they become logits; otherwise one certain slice would
outweigh all others."""


def smooth_along(prob: Tensor, dz: float) -> Tensor:
    """Smooth patches (n, 1, S, S) of consecutive slices along the cord, in logits; thick slices stay as they are."""
    sigma = ALONG_SIGMA_MM / dz
    if sigma < 0.5 or len(prob) < 3:  # the weight of neighbours would be below an eighth
        return prob
    logits = torch.logit(prob.clamp(LOGIT_LIMIT, 1 - LOGIT_LIMIT)).numpy()
    return torch.sigmoid(torch.from_numpy(ndi.gaussian_filter1d(logits, sigma, axis=0, mode="nearest")))
