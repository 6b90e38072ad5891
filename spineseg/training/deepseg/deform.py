"""Random changes of the shape of training samples, in batches.

Every ``draw_*`` takes a `torch.Generator` and returns tensors; every ``apply_*`` is deterministic. A sample can
therefore be reproduced, and consecutive slices of one image can be changed in the same way (`Shape.rows`). Changes of
brightness are in `spineseg.training.deepseg.appearance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

EDGE_AT = (0.15, 0.5)
"""Range of the distance from the cord's middle at which a cut field of view may end, as a fraction of the input's side:
at least 5 mm (patch) or 22 mm (whole slices), as in narrow diffusion images."""


@dataclass(frozen=True)
class ShapeRanges:
    """Limits of the random change of shape, each a standard deviation or half width."""

    rotation_deg: float = 15.0  # heads tilt
    p_turned: float = 0.4  # any rotation: images with a wrong header, or rotated for another tool
    scale: float = 0.17  # log scale: 0.85 to 1.19
    squeeze: float = 0.12  # log ratio of the axes; twice that counts as compression
    shear: float = 0.08
    elastic_px: float = 1.2
    shift_px: float = 5.0
    p_cut: float = 0.15  # the field of view ends inside the patch
    p_wide: float = 0.0  # a shift by up to half the input, so that the cord lies anywhere or nowhere


@dataclass(frozen=True)
class Shape:
    """A drawn change of shape for N samples."""

    matrix: Tensor  # (N, 2, 3), output pixels to source pixels about the centres
    elastic: Tensor  # (N, 2, 6, 6), source pixels, spread smoothly over the patch
    low: Tensor  # (N, 2), source pixels: the field of view's lower edge
    high: Tensor  # (N, 2)

    def rows(self, index: Tensor) -> Shape:
        """Return the drawn change of each sample in `index`, so that several slices share one."""
        return Shape(self.matrix[index], self.elastic[index], self.low[index], self.high[index])


def uniform(n: int | tuple[int, ...], low: float, high: float, rng: Generator) -> Tensor:
    """Draw between low and high."""
    return low + (high - low) * torch.rand(n, generator=rng)


def normal(shape: tuple[int, ...], sigma: float, rng: Generator) -> Tensor:
    """Draw around 0 with a standard deviation."""
    return sigma * torch.randn(shape, generator=rng)


def draw_shape(n: int, size_px: int, ranges: ShapeRanges, rng: Generator) -> Shape:
    """Draw rotation, scale, squeeze, shear, mirror, shift, elastic field and field of view."""
    limit = math.radians(ranges.rotation_deg)
    turned = torch.rand(n, generator=rng) < ranges.p_turned
    angle = torch.where(turned, uniform(n, -math.pi, math.pi, rng), uniform(n, -limit, limit, rng))
    scale = torch.exp(uniform(n, -ranges.scale, ranges.scale, rng))
    ratio = torch.exp(normal((n,), ranges.squeeze, rng).clamp(-0.4, 0.4))
    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    shear = normal((n,), ranges.shear, rng)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).reshape(n, 2, 2)
    stretch = torch.zeros(n, 2, 2)
    stretch[:, 0, 0] = mirror / (scale * ratio.sqrt())  # axis 0 is right-left: people are mirror images
    stretch[:, 1, 1] = ratio.sqrt() / scale
    stretch[:, 0, 1] = shear
    shift = normal((n, 2), ranges.shift_px, rng).clamp(-2 * ranges.shift_px, 2 * ranges.shift_px)
    wide = torch.rand(n, generator=rng) < ranges.p_wide
    shift = torch.where(wide[:, None], uniform((n, 2), -size_px / 2, size_px / 2, rng), shift)
    elastic = normal((n, 2, 6, 6), ranges.elastic_px, rng)
    low, high = torch.full((n, 2), -torch.inf), torch.full((n, 2), torch.inf)
    cut = torch.rand((n, 2), generator=rng) < ranges.p_cut
    side = torch.rand((n, 2), generator=rng) < 0.5
    edge = uniform((n, 2), *EDGE_AT, rng) * size_px
    low[cut & side] = -edge[cut & side]
    high[cut & ~side] = edge[cut & ~side]
    return Shape(torch.cat([rotation @ stretch, shift[:, :, None]], dim=2), elastic, low, high)


def sampling_positions(shape: Shape, size_px: int) -> Tensor:
    """Return the source position of every output pixel, (N, 2, size_px, size_px), pixels about the centre."""
    axis = torch.arange(size_px) - (size_px - 1) / 2
    base = torch.stack([*torch.meshgrid(axis, axis, indexing="ij"), torch.ones(size_px, size_px)])
    position = torch.einsum("nij,jhw->nihw", shape.matrix, base)
    return position + F.interpolate(shape.elastic, size=(size_px, size_px), mode="bicubic")


def apply_shape(stack: Tensor, shape: Shape, size_px: int) -> tuple[Tensor, Tensor]:
    """Resample samples (N, C, S, S) to (N, C, size_px, size_px); also return the field of view as 0 or 1.

    Beyond the field of view the border repeats, as `preprocess.extract_patches` does.
    """
    position = sampling_positions(shape, size_px)
    low, high = shape.low[:, :, None, None], shape.high[:, :, None, None]
    inside = ((position >= low) & (position <= high)).all(dim=1, keepdim=True)
    position = torch.minimum(torch.maximum(position, low), high)
    grid = (position * (2 / stack.shape[2])).flip(1).permute(0, 2, 3, 1)
    return F.grid_sample(stack, grid, padding_mode="border", align_corners=False), inside.float()
