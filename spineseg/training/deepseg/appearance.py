"""Random changes of a training sample's appearance: brightness, shading, ghosts, signal voids, resolution, noise.

As in `deform`, drawing and applying are separate. Input images have values of about 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from spineseg.training.deepseg.deform import normal, uniform

LUT_KNOTS = 8
"""Knots of a random intensity curve: about as many as there are tissues to distinguish."""

GROUPS = 4
"""Number of groups into which a batch is split for resampling: one call can resample to one resolution only."""


@dataclass(frozen=True)
class AppearanceRanges:
    """Limits of the random change of appearance; p_* are probabilities."""

    p_plain: float = 0.3  # brightness unchanged
    p_cord: float = 0.35  # the cord gets a separate brightness
    wild: float = 0.3  # fraction of curves that are not monotone
    bias: float = 0.4  # largest standard deviation of the log shading
    p_ghost: float = 0.1  # motion repeats the image along the phase axis
    p_void: float = 0.06  # metal, dental work or air removes the signal
    p_air: float = 0.3  # recorded air, not nothing, lies beyond the field of view
    noise: float = 0.15  # largest standard deviation, as a fraction of the range
    coarsest_mm: float = 1.3  # largest pixel of the simulated acquisition


@dataclass(frozen=True)
class Appearance:
    """A drawn change of appearance for N samples."""

    curves: Tensor  # (N, LUT_KNOTS)
    plain: Tensor  # (N, 1, 1, 1) of bool
    own: Tensor  # (N, 1, 1, 1) of bool
    level: Tensor  # (N, 1, 1, 1), brightness of a cord with a separate brightness
    gain: Tensor  # (N, 1, 1, 1), its inner contrast
    bias: Tensor  # (N, 1, 4, 4), log shading
    ghost: Tensor  # (N, 3): strength, shift as a part of the side, axis
    void: Tensor  # (N, 5): centre and half axes as parts of the side, depth
    air: Tensor  # (N, 1, 1, 1), brightness beyond the field of view; nan: nothing was recorded there
    noise: Tensor  # (N, 1, 1, 1), standard deviation

    def rows(self, index: Tensor) -> Appearance:
        """Return the drawn change of each sample in `index`, so that several slices share one."""
        return Appearance(**{name: value[index] for name, value in vars(self).items()})


def draw_appearance(n: int, ranges: AppearanceRanges, rng: Generator) -> Appearance:
    """Draw brightness, shading, ghost, void, air and noise."""
    column = (n, 1, 1, 1)

    def happens(chance: float) -> Tensor:
        return torch.rand(column, generator=rng) < chance

    ghost = torch.stack(
        [
            uniform(n, 0.1, 0.45, rng) * happens(ranges.p_ghost).flatten(),
            uniform(n, 0.1, 0.5, rng),
            torch.randint(2, (n,), generator=rng).float(),
        ],
        dim=1,
    )
    depth = uniform((n, 1), 0.5, 1.0, rng) * happens(ranges.p_void).flatten(1)
    void = torch.cat([uniform((n, 2), 0.0, 1.0, rng), uniform((n, 2), 0.05, 0.2, rng), depth], dim=1)
    dark = torch.where(happens(0.7), uniform(column, 0.0, 0.05, rng), uniform(column, 0.0, 1.0, rng))
    return Appearance(
        curves=draw_curves(n, rng, wild=ranges.wild),
        plain=happens(ranges.p_plain),
        own=happens(ranges.p_cord),
        level=torch.rand(column, generator=rng),
        gain=uniform(column, -0.8, 0.8, rng),
        bias=normal((n, 1, 4, 4), 1.0, rng) * uniform(column, 0, ranges.bias, rng),
        ghost=ghost,
        void=void,
        air=torch.where(happens(ranges.p_air), dark, torch.nan),
        noise=ranges.noise * torch.rand(column, generator=rng).square(),  # small ones more often
    )


def apply_appearance(image: Tensor, cord: Tensor, inside: Tensor, appearance: Appearance) -> tuple[Tensor, Tensor]:
    """Change the appearance of samples, except for resolution and noise.

    Parameters
    ----------
    image, cord, inside : (N, 1, S, S) tensors, 0 to 1; image, cord fraction and 1 within the field of view

    Returns
    -------
    image : (N, 1, S, S) tensor
    valid : (N, 1, S, S) tensor; 1 where something was recorded: `inside`, or everywhere if air was recorded
    """
    image = torch.where(appearance.plain, image, recolour(image.clamp(0, 1), cord, appearance))
    image = image * F.interpolate(appearance.bias, size=image.shape[2:], mode="bicubic").exp()
    image = apply_void(apply_ghost(image, appearance.ghost), appearance.void)
    recorded = ~appearance.air.isnan()
    image = torch.where(recorded & (inside < 0.5), appearance.air.nan_to_num(), image)
    return image, torch.where(recorded, torch.ones_like(inside), inside)


def draw_curves(n: int, rng: Generator, *, wild: float) -> Tensor:
    """Draw intensity curves, (N, LUT_KNOTS): half rising, half falling, bent, a fraction `wild` not monotone."""
    rising = uniform((n, LUT_KNOTS), 0.05, 1.0, rng).cumsum(1)
    rising = (rising - rising[:, :1]) / (rising[:, -1:] - rising[:, :1])
    falling = torch.rand((n, 1), generator=rng) < 0.5
    curve = torch.where(falling, 1 - rising, rising)
    jumble = torch.rand((n, LUT_KNOTS), generator=rng)
    amount = uniform((n, 1), 0.2, 1.0, rng) * (torch.rand((n, 1), generator=rng) < wild)
    return (1 - amount) * curve + amount * jumble


def apply_curves(image: Tensor, curves: Tensor) -> Tensor:
    """Map values of 0 to 1 through each sample's curve, linearly between its knots."""
    n = image.shape[0]
    place = image.clamp(0, 1).reshape(n, -1) * (LUT_KNOTS - 1)
    below = place.long().clamp_max(LUT_KNOTS - 2)
    left, right = curves.gather(1, below), curves.gather(1, below + 1)
    return (left + (right - left) * (place - below)).reshape(image.shape)


def recolour(image: Tensor, cord: Tensor, appearance: Appearance) -> Tensor:
    """Change the brightness of tissues by random curves; some cords get a separate brightness.

    Such a cord may be darker or brighter than everything around it, while texture and surroundings remain real. Its
    inner contrast stays small, as between grey and white matter.
    """
    around = apply_curves(image, appearance.curves)
    weight = cord.sum((2, 3), keepdim=True).clamp_min(1e-3)
    mean = (image * cord).sum((2, 3), keepdim=True) / weight
    inner = appearance.level + appearance.gain * (image - mean).clamp(-0.3, 0.3)
    return torch.where(appearance.own, torch.lerp(around, inner, cord), around)


def apply_ghost(image: Tensor, ghost: Tensor) -> Tensor:
    """Add a weaker copy of the image, shifted along one axis and wrapped, as motion does along the phase axis."""
    n, _, height, width = image.shape
    strength, shift, axis = ghost.T[:, :, None, None, None]
    rows, columns = torch.arange(height), torch.arange(width)
    by_rows = (rows + (shift * height).long()) % height
    by_columns = (columns + (shift * width).long()) % width
    moved = torch.where(
        axis > 0.5,
        image.gather(2, by_rows.movedim(-1, -2).expand(n, 1, height, width)),
        image.gather(3, by_columns.expand(n, 1, height, width)),
    )
    return (image + strength * moved) / (1 + strength)


def apply_void(image: Tensor, void: Tensor) -> Tensor:
    """Remove the signal inside a soft ellipse with a bright rim, as metal does."""
    size = image.shape[2]
    place = (torch.arange(size) + 0.5) / size
    centre_i, centre_j, half_i, half_j, depth = void.T[:, :, None, None, None]
    radius = torch.hypot((place[:, None] - centre_i) / half_i, (place - centre_j) / half_j)
    hole = torch.sigmoid(10 * (1 - radius))
    rim = torch.exp(-20 * (radius - 1.2).square())
    return image * (1 - depth * hole) + 0.5 * depth * rim


def draw_pixels(rng: Generator, *, finest_mm: float, coarsest_mm: float) -> Tensor:
    """Draw the pixel size of each group of a batch, (GROUPS, 2) mm; in a quarter of them the axes differ."""
    pixels = torch.exp(uniform((GROUPS, 2), math.log(finest_mm), math.log(coarsest_mm), rng))
    alike = torch.rand((GROUPS, 1), generator=rng) < 0.75
    return torch.where(alike, pixels[:, :1], pixels)


def apply_acquisition(image: Tensor, zoom_mm: float, pixels: Tensor, noise: Tensor, rng: Generator) -> Tensor:
    """Simulate an acquisition with other pixels and their noise, resampled to this grid.

    Parameters
    ----------
    image : (N, 1, S, S) tensor
    zoom_mm : mm; pixel size of `image`
    pixels : (GROUPS, 2) tensor, mm; pixel size of the acquisition; a group is N / GROUPS consecutive samples
    noise : (N, 1, 1, 1) tensor; standard deviation
    rng : torch.Generator; source of the noise
    """
    size = image.shape[2]
    parts = []
    for part, sigma, pixel in zip(image.chunk(GROUPS), noise.chunk(GROUPS), pixels, strict=False):
        small = [min(size, max(8, round(size * zoom_mm / float(p)))) for p in pixel]
        if min(small) < size:
            part = F.interpolate(part, size=small, mode="bilinear", antialias=True)
        part = part + sigma * torch.randn(part.shape, generator=rng)
        if min(small) < size:
            part = F.interpolate(part, size=(size, size), mode="bilinear")
        parts.append(part)
    return torch.cat(parts)
