"""Training images made from label slices: each tissue gets a random brightness, so that all contrasts are covered.

The geometry comes from `spineseg.phantom.anatomy` and from real masks of people whose images are not available.
`paint` turns a batch of label slices into images; the brightness depends only on the random generator.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Generator, Tensor
from torch.nn import functional as F

from spineseg.phantom.tissues import CORD_TISSUES, N_TISSUES, Tissue

FIRST_SURROUNDING = N_TISSUES
N_SURROUNDINGS = 8
"""Number of unnamed tissues around the canal in slices made from masks; their labels follow the phantom's tissues."""

N_LABELS = FIRST_SURROUNDING + N_SURROUNDINGS

LIKE_WHITE_MATTER = (Tissue.GREY_MATTER, Tissue.BRAINSTEM, Tissue.BRAIN_WHITE, Tissue.LESION)
"""Tissues whose brightness is close to that of white matter in every contrast: they get its value plus a small step."""

LEAST_CONTRAST = 0.12
"""Smallest difference between cord and fluid, as a fraction of the image's range."""

STEP = 0.12
"""Standard deviation of that step, as a fraction of the image's range: about the difference between grey and white
matter in T2*."""


def draw_mask_slice(
    rng: np.random.Generator,
    cord: NDArray[np.float32],
    csf: NDArray[np.float32] | None,
    grey: NDArray[np.float32] | None,
    zoom_mm: float,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Build a label slice around a real cord mask.

    Parameters
    ----------
    cord : (S, S) ndarray, 0 to 1
    csf, grey : (S, S) ndarray or None
        Real masks of fluid and grey matter, if they exist. Otherwise the canal is drawn by widening the
        cord unevenly, and there is no grey matter.
    zoom_mm : float, mm

    Returns
    -------
    labels : (S, S) ndarray of uint8
    cord_fraction : (S, S) ndarray of float32
    """
    labels = _draw_surroundings(rng, cord.shape)
    inside = cord >= 0.5
    canal = inside | (csf >= 0.5) if csf is not None else _draw_canal(rng, inside, zoom_mm)
    rim = ndi.distance_transform_edt(~canal) * zoom_mm
    labels[rim < rng.uniform(0.3, 2.0)] = Tissue.DURA if rng.random() < 0.7 else labels[0, 0]
    labels[canal] = Tissue.CSF
    labels[inside] = Tissue.WHITE_MATTER
    if grey is not None:
        labels[(grey >= 0.5) & inside] = Tissue.GREY_MATTER
    return labels, cord.astype(np.float32)


def draw_cordless_slice(rng: np.random.Generator, size_px: int, zoom_mm: float) -> NDArray[np.uint8]:
    """Build a label slice without spine: a knee, an arm, a head, a bottle, or nothing.

    The body has one to three rounded parts in air. It is filled with unnamed tissues and some bones with a dark rim,
    or uniformly.

    Returns
    -------
    (size_px, size_px) ndarray of uint8
    """
    labels = np.full((size_px, size_px), Tissue.AIR, dtype=np.uint8)
    kind, side = rng.random(), size_px * zoom_mm
    if kind < 0.1:  # air and noise
        return labels
    body = np.zeros(labels.shape, dtype=bool)
    for _ in range(rng.integers(1, 4)):
        body |= _draw_ellipse(rng, labels.shape, zoom_mm, (0.15 * side, 0.6 * side)) < 1
    if kind < 0.25:  # a bottle
        labels[body] = Tissue.CSF
        return labels
    labels[body] = _draw_surroundings(rng, labels.shape)[body]
    for _ in range(rng.integers(0, 5)):
        width = rng.uniform(8, 60)
        radius = _draw_ellipse(rng, labels.shape, zoom_mm, (width / 3, width / 2))
        labels[(radius < 1) & body] = Tissue.CORTICAL_BONE
        labels[(radius < 1 - min(0.5, rng.uniform(1, 4) * 2 / width)) & body] = Tissue.MARROW
    return labels


def _draw_ellipse(
    rng: np.random.Generator, shape: tuple[int, int], zoom_mm: float, half_mm: tuple[float, float]
) -> NDArray[np.float64]:
    """Draw an ellipse anywhere in a slice; return the distance from its centre in units of its radius."""
    rows, columns = np.indices(shape)
    centre = rng.uniform(0.1, 0.9, 2) * shape
    half, turn = rng.uniform(*half_mm, 2) / zoom_mm, rng.uniform(0, np.pi)
    along = (rows - centre[0]) * np.cos(turn) + (columns - centre[1]) * np.sin(turn)
    across = (columns - centre[1]) * np.cos(turn) - (rows - centre[0]) * np.sin(turn)
    return np.hypot(along / half[0], across / half[1])


def _draw_canal(rng: np.random.Generator, cord: NDArray[np.bool_], zoom_mm: float) -> NDArray[np.bool_]:
    """Widen the cord by 0 to 5 mm, more on some sides than on others, as fluid does around a shifted cord."""
    distance = ndi.distance_transform_edt(~cord) * zoom_mm
    rows, columns = np.indices(cord.shape)
    centre = np.argwhere(cord).mean(axis=0) if cord.any() else np.array(cord.shape) / 2
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    width = rng.uniform(0.3, 4.0)
    uneven = sum(rng.normal(0, 0.5) * np.cos(m * angle - rng.uniform(0, 2 * np.pi)) for m in (1, 2))
    return cord | (distance < width * np.clip(1 + uneven, 0, 2.2))


def _draw_surroundings(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill the slice with random smooth regions of several tissues."""
    sizes = rng.uniform(2, 12, N_SURROUNDINGS)
    fields = [ndi.gaussian_filter(rng.standard_normal(shape), s, mode="wrap") * s for s in sizes]
    return (FIRST_SURROUNDING + np.argmax(fields, axis=0)).astype(np.uint8)


def _part_from(value: Tensor, other: Tensor) -> Tensor:
    """Move values within `LEAST_CONTRAST` of `other` away from it, because an invisible edge teaches nothing."""
    gap = value - other
    sign = torch.where(other > 0.5, -1.0, 1.0)
    return torch.where(gap.abs() < LEAST_CONTRAST, other + sign * (LEAST_CONTRAST + gap.abs()), value)


def paint(labels: Tensor, cord_fraction: Tensor, rng: Generator) -> Tensor:
    """Paint label slices with random brightness and texture per tissue.

    Parameters
    ----------
    labels : (N, 1, S, S) tensor of uint8
    cord_fraction : (N, 1, S, S) tensor, 0 to 1
        Partial volume of the cord, so that its edge is placed with sub-pixel accuracy.
    rng : torch.Generator

    Returns
    -------
    (N, 1, S, S) tensor, about 0 to 1
    """
    n = labels.shape[0]
    mean = torch.rand((n, N_LABELS), generator=rng)
    step = STEP * torch.randn((n, len(LIKE_WHITE_MATTER)), generator=rng)
    mean[:, list(LIKE_WHITE_MATTER)] = mean[:, Tissue.WHITE_MATTER, None] + step
    mean[:, Tissue.CSF] = _part_from(mean[:, Tissue.CSF], mean[:, Tissue.WHITE_MATTER])
    spread = 0.12 * torch.rand((n, N_LABELS), generator=rng).square()
    in_cord = torch.isin(labels, torch.tensor(CORD_TISSUES, dtype=labels.dtype))
    # at the cord's edge both tissues are mixed by the fraction, so each needs a value on both sides of the edge
    outer = torch.where(in_cord, int(Tissue.CSF), labels)
    inner = torch.where(in_cord, labels, int(Tissue.WHITE_MATTER))
    around, cord = (mean.gather(1, x.long().flatten(1)).reshape(labels.shape) for x in (outer, inner))
    around, cord = (F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1) for x in (around, cord))
    image = torch.lerp(around, cord, cord_fraction)
    fine = torch.randn(labels.shape, generator=rng)
    coarse = torch.randn((n, 1, labels.shape[2] // 4, labels.shape[3] // 4), generator=rng)
    coarse = F.interpolate(coarse, size=labels.shape[2:], mode="bicubic")
    depth = spread.gather(1, labels.long().flatten(1)).reshape(labels.shape)
    return (image + depth * (0.5 * fine + coarse)).clamp(0, 1)
