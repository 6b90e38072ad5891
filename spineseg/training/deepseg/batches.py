"""Batches of training samples; each depends only on a seed and the step, so it can be reproduced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spineseg.deepseg.network import NEAR_MM, Neighbours, UNetConfig
from spineseg.deepseg.preprocess import standardise_local, standardise_patch
from spineseg.training.deepseg.appearance import (
    AppearanceRanges,
    apply_acquisition,
    apply_appearance,
    draw_appearance,
    draw_pixels,
)
from spineseg.training.deepseg.deform import ShapeRanges, apply_shape, draw_shape
from spineseg.training.deepseg.shards import Shard
from spineseg.training.deepseg.synthetic import paint

RUN = 8
"""Consecutive slices of a sample for the 3-D network: its reach of four to each side."""

SHAPES = {
    "segment": ShapeRanges(),
    "detect": ShapeRanges(shift_px=14.0, p_cut=0.35, p_wide=0.35, elastic_px=0.8),  # the cord lies anywhere
}
APPEARANCES = {
    "segment": AppearanceRanges(p_plain=0.2, p_cord=0.4, noise=0.2),  # wider: its edge determines the measured area
    "detect": AppearanceRanges(bias=0.8, coarsest_mm=3.0),  # whole slices: coil shading counts
}


@dataclass(frozen=True)
class Slices:
    """Raw slices, (N, 1, S, S) each, and the runs that they belong to."""

    image: Tensor
    cord: Tensor
    valid: Tensor
    run: Tensor  # (N,) of int, from 0: consecutive slices of one image share a number
    slice_mm: Tensor  # (N,), mm

    def neighbours(self) -> Neighbours:
        """Return the neighbours of each slice."""
        index = torch.arange(len(self.run))
        below, above = (index - 1).clamp_min(0), (index + 1).clamp_max(len(index) - 1)
        below = torch.where(self.run[below] == self.run, below, index)
        above = torch.where(self.run[above] == self.run, above, index)
        return Neighbours(below, above, torch.exp(-self.slice_mm / NEAR_MM))


@dataclass(frozen=True)
class Batch:
    """Input of the network and the output it should give, (N, 1, H, W) each."""

    image: Tensor
    cord: Tensor
    valid: Tensor
    near: Neighbours | None


def generator_of(seed: int, step: int) -> torch.Generator:
    """Return the random generator of one training step, so that each of its samples can be reproduced."""
    return torch.Generator().manual_seed(1_000_003 * seed + step)


def draw_slices(shards: list[Shard], n: int, painted_fraction: float, run: int, rng: torch.Generator) -> Slices:
    """Draw n slices: real ones in runs of `run`, and a fraction painted from labels, one by one."""
    painted, real = ([s for s in shards if s.painted is kind] for kind in (True, False))
    n_painted = round(n * painted_fraction) if painted and real else n * bool(painted)
    n_painted = n - (n - n_painted) // run * run if painted else 0
    picks = _draw_picks(real, (n - n_painted) // run, run, rng) + _draw_picks(painted, n_painted, 1, rng)
    shard_of = [shard for shard, index in picks for _ in index]
    places = torch.cat([index for _, index in picks]).tolist()
    pairs = list(zip(shard_of, places, strict=True))
    image, cord, valid = (
        torch.stack([getattr(s, name)[k].float() for s, k in pairs]) for name in ("image", "cord", "valid")
    )
    if n_painted:
        first = len(pairs) - n_painted
        image[first:] = paint(image[first:].to(torch.uint8), cord[first:], rng)
    run_of = torch.arange(len(picks)).repeat_interleave(torch.tensor([len(index) for _, index in picks]))
    return Slices(image, cord, valid, run_of, torch.stack([s.slice_mm[k] for s, k in pairs]).float())


def _draw_picks(pool: list[Shard], n: int, run: int, rng: torch.Generator) -> list[tuple[Shard, Tensor]]:
    """Draw n runs: a shard by its weight, then a position in it; at the end of a stack its last slice repeats."""
    if not n or not pool:
        return []
    chosen = torch.multinomial(torch.tensor([s.weight for s in pool]), n, replacement=True, generator=rng).tolist()
    picks = []
    for which, part in zip(chosen, torch.rand(n, generator=rng).tolist(), strict=True):
        shard = pool[which]
        first = int(part * len(shard.image))
        index = (first + torch.arange(run)).clamp_max(len(shard.image) - 1)
        same = shard.stack[index] == shard.stack[first]
        picks.append((shard, torch.where(same, index, index[same].max())))
    return picks


def vary_slices(slices: Slices, config: UNetConfig, rng: torch.Generator) -> Batch:
    """Vary shape and appearance, in the same way within a run, and standardise."""
    n_runs, size = int(slices.run[-1]) + 1, config.patch_px
    shape = draw_shape(n_runs, size, SHAPES[config.stage], rng).rows(slices.run)
    stack = torch.cat([slices.image, slices.cord, slices.valid], dim=1)
    moved, inside = apply_shape(stack, shape, size)
    inside = (moved[:, 2:] > 0.5).float() * inside
    cord = moved[:, 1:2].clamp(0, 1) * inside
    ranges = APPEARANCES[config.stage]
    appearance = draw_appearance(n_runs, ranges, rng).rows(slices.run)
    image, valid = apply_appearance(moved[:, :1], cord, inside, appearance)
    pixels = draw_pixels(rng, finest_mm=0.6 * config.zoom_mm, coarsest_mm=ranges.coarsest_mm)
    image = apply_acquisition(image, config.zoom_mm, pixels, appearance.noise, rng)
    near = slices.neighbours() if config.kernel == "3d" else None
    if config.stage == "segment":
        return Batch(standardise_patch(image), cord, valid, near)
    # padding counts in the loss: otherwise the network finds cord in zeros, which real images contain as well
    return Batch(standardise_local(image, valid, config.zoom_mm), cord, torch.ones_like(cord), near)


def make_batch(
    shards: list[Shard], config: UNetConfig, *, n: int, painted_fraction: float, seed: int, step: int
) -> Batch:
    """Return the batch of one training step; the same arguments give the same batch.

    Parameters
    ----------
    shards : training data
    config : the network, whose input the batch is
    n : number of slices
    painted_fraction : 0 to 1; share of slices painted from labels
    seed, step : seed of the training, and number of the step
    """
    rng = generator_of(seed, step)
    run = RUN if config.kernel == "3d" else 1
    return vary_slices(draw_slices(shards, n, painted_fraction, run, rng), config, rng)
