"""Random changes of training samples: shape, intensity, resolution; drawn first, applied after, in batches.

Every ``draw_*`` takes a `torch.Generator` and returns plain tensors; every ``apply_*`` is deterministic.
Images enter with values of about 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

LUT_KNOTS = 8
"""Support points of a random intensity curve: as many as there are tissues to tell apart."""

GROUPS = 4
"""A batch is resampled in groups of one resolution each, since one call resamples to one size."""


@dataclass(frozen=True)
class ShapeRanges:
    """Limits of the random change of shape; one sigma or half width each."""

    rotation_deg: float = 15.0  # heads tilt; more is no axial slice
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


def _uniform(n: int | tuple[int, ...], low: float, high: float, rng: Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _normal(shape: tuple[int, ...], sigma: float, rng: Generator) -> Tensor:
    return sigma * torch.randn(shape, generator=rng)


def draw_shape(n: int, size_px: int, ranges: ShapeRanges, rng: Generator) -> Shape:
    """Draw rotation, scale, squeeze, shear, mirror, shift, elastic field and field of view."""
    limit = math.radians(ranges.rotation_deg)
    angle = _uniform(n, -limit, limit, rng)
    scale = torch.exp(_uniform(n, -ranges.scale, ranges.scale, rng))
    ratio = torch.exp(_normal((n,), ranges.squeeze, rng).clamp(-0.4, 0.4))
    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    shear = _normal((n,), ranges.shear, rng)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).reshape(n, 2, 2)
    stretch = torch.zeros(n, 2, 2)
    stretch[:, 0, 0] = mirror / (scale * ratio.sqrt())  # axis 0 is right-left: people are mirror images
    stretch[:, 1, 1] = ratio.sqrt() / scale
    stretch[:, 0, 1] = shear
    shift = _normal((n, 2), ranges.shift_px, rng).clamp(-2 * ranges.shift_px, 2 * ranges.shift_px)
    wide = torch.rand(n, generator=rng) < ranges.p_wide
    shift = torch.where(wide[:, None], _uniform((n, 2), -size_px / 2, size_px / 2, rng), shift)
    elastic = _normal((n, 2, 6, 6), ranges.elastic_px, rng)
    low, high = torch.full((n, 2), -torch.inf), torch.full((n, 2), torch.inf)
    cut = torch.rand((n, 2), generator=rng) < ranges.p_cut
    side = torch.rand((n, 2), generator=rng) < 0.5
    edge = _uniform((n, 2), 0.2, 0.5, rng) * size_px
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
    """Resample samples (N, C, S, S) to (N, C, size_px, size_px); also return where the field of view is.

    Beyond the field of view the border repeats, as `preprocess.extract_patches` does.
    """
    position = sampling_positions(shape, size_px)
    low, high = shape.low[:, :, None, None], shape.high[:, :, None, None]
    inside = ((position >= low) & (position <= high)).all(dim=1, keepdim=True)
    position = torch.minimum(torch.maximum(position, low), high)
    grid = (position * (2 / stack.shape[2])).flip(1).permute(0, 2, 3, 1)
    return F.grid_sample(stack, grid, padding_mode="border", align_corners=False), inside.float()


def draw_curves(n: int, rng: Generator, *, wild: float) -> Tensor:
    """Draw intensity curves, (N, LUT_KNOTS): half rising, half falling, bent, a fraction `wild` not monotone."""
    steps = _uniform((n, LUT_KNOTS), 0.05, 1.0, rng)
    rising = steps.cumsum(1)
    rising = (rising - rising[:, :1]) / (rising[:, -1:] - rising[:, :1])
    falling = torch.rand((n, 1), generator=rng) < 0.5
    curve = torch.where(falling, 1 - rising, rising)
    jumble = torch.rand((n, LUT_KNOTS), generator=rng)
    amount = _uniform((n, 1), 0.2, 1.0, rng) * (torch.rand((n, 1), generator=rng) < wild)
    return (1 - amount) * curve + amount * jumble


def apply_curves(image: Tensor, curves: Tensor) -> Tensor:
    """Map values of 0 to 1 through each sample's curve, linearly between its knots."""
    n = image.shape[0]
    place = image.clamp(0, 1).reshape(n, -1) * (LUT_KNOTS - 1)
    below = place.long().clamp_max(LUT_KNOTS - 2)
    left, right = curves.gather(1, below), curves.gather(1, below + 1)
    return (left + (right - left) * (place - below)).reshape(image.shape)


def draw_bias(n: int, rng: Generator, sigma: float) -> Tensor:
    """Draw log shading on a 4 x 4 grid, (N, 1, 4, 4)."""
    return _normal((n, 1, 4, 4), 1.0, rng) * _uniform((n, 1, 1, 1), 0, sigma, rng)


def apply_bias(image: Tensor, bias: Tensor) -> Tensor:
    """Multiply by the shading, smoothly spread over the image."""
    return image * F.interpolate(bias, size=image.shape[2:], mode="bicubic").exp()


def coarsen(
    image: Tensor, zoom_mm: float, rng: Generator, *, finest_mm: float, coarsest_mm: float, noise: float
) -> Tensor:
    """Simulate an acquisition at a coarser pixel, with its noise, resampled to this grid.

    Groups of the batch get one pixel size each, one axis in four groups coarser than the other.
    """
    size = image.shape[2]
    parts = []
    for part in image.chunk(GROUPS):
        pixel = torch.exp(_uniform(2, math.log(finest_mm), math.log(coarsest_mm), rng))
        if torch.rand((), generator=rng) < 0.75:
            pixel[1] = pixel[0]
        small = [min(size, max(8, round(size * zoom_mm / float(p)))) for p in pixel]
        if min(small) < size:
            part = F.interpolate(part, size=small, mode="bilinear", antialias=True)
        part = part + _noise(part, noise, rng)
        if min(small) < size:
            part = F.interpolate(part, size=(size, size), mode="bilinear")
        parts.append(part)
    return torch.cat(parts)


def _noise(image: Tensor, most: float, rng: Generator) -> Tensor:
    """Gaussian noise with a standard deviation of its own for each sample, small ones more often."""
    sigma = most * torch.rand((image.shape[0], 1, 1, 1), generator=rng).square()
    return sigma * torch.randn(image.shape, generator=rng)


def recolour(image: Tensor, cord: Tensor, rng: Generator, *, p_cord: float, wild: float) -> Tensor:
    """Give tissues other brightnesses by random curves; the cord gets a curve of its own with `p_cord`.

    With its own curve the cord may be darker or brighter than anything around it, in texture and
    surroundings that are real. Its inner contrast is kept small, as between grey and white matter.
    """
    n = image.shape[0]
    around = apply_curves(image, draw_curves(n, rng, wild=wild))
    own = torch.rand((n, 1, 1, 1), generator=rng) < p_cord
    weight = cord.sum((2, 3), keepdim=True).clamp_min(1e-3)
    mean = (image * cord).sum((2, 3), keepdim=True) / weight
    level = torch.rand((n, 1, 1, 1), generator=rng)
    gain = _uniform((n, 1, 1, 1), -0.8, 0.8, rng)
    inner = level + gain * (image - mean).clamp(-0.3, 0.3)
    return torch.where(own, torch.lerp(around, inner, cord), around)
