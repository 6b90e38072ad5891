"""The anatomy of a synthetic person as a function of world points.

The anatomy is independent of voxels: it gives the tissue at any point in space. Every acquisition of the person
samples the same anatomy on its own grid. Partial volume is the mean over points inside a voxel
(`spineseg.phantom.sampling.sample_grid`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import binary_dilation

from spineseg.phantom.body import paint_body
from spineseg.phantom.canal import cord_area_mm2, is_cord, paint_canal
from spineseg.phantom.course import CONUS_S_MM, LEVEL_S_MM, curve_mm, to_cord_frame
from spineseg.phantom.params import AnatomyParams, Compression, Lesion, draw, draw_compression, draw_lesion
from spineseg.phantom.tissues import CORD_TISSUES, N_TISSUES, Tissue

__all__ = [
    "CORD_TISSUES",
    "LEVEL_S_MM",
    "N_TISSUES",
    "AnatomyParams",
    "Compression",
    "Lesion",
    "Tissue",
    "cord_area_mm2",
    "curve_mm",
    "draw",
    "draw_compression",
    "draw_label_slices",
    "draw_lesion",
    "is_cord_at",
    "label_frame",
    "label_points",
    "to_cord_frame",
]

CANAL_REACH_MM = 26.0  # the dural sac, with epidural fat, ends closer to the cord than this below the skull
SLICES_PER_PERSON = 4  # slices of a batch from the same person: drawing a person takes as long as a slice


def label_points(params: AnatomyParams, points_mm: np.ndarray) -> np.ndarray:
    """Return the tissue at each world point.

    Parameters
    ----------
    params : AnatomyParams
        The person.
    points_mm : (n, 3) ndarray, mm
        World points, RAS+.

    Returns
    -------
    (n,) ndarray of uint8
        Values of `Tissue`.
    """
    return label_frame(params, *to_cord_frame(params, points_mm))


def label_frame(params: AnatomyParams, u: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Like `label_points`, for points (n,) already in the cord's frame; (n,) uint8."""
    labels = np.full(u.shape, Tissue.AIR, dtype=np.uint8)
    near = np.flatnonzero((u * u + v * v < CANAL_REACH_MM**2) & (s < 100))
    part = labels[near]
    paint_canal(part, params, u[near], v[near], s[near])
    labels[near] = part
    # The canal is painted over the body, so the body is only computed where the canal left air.
    rest = np.flatnonzero(labels == Tissue.AIR)
    part = labels[rest]
    paint_body(part, params, u[rest], v[rest], s[rest])
    labels[rest] = part
    return labels


def is_cord_at(params: AnatomyParams, points_mm: np.ndarray) -> np.ndarray:
    """Return whether world points (n, 3), mm, are spinal cord; (n,) bool, False above the foramen magnum."""
    return is_cord(params, *to_cord_frame(params, points_mm))


ANYWHERE = (0.6, 0.08, 0.22, 0.1)
LUMBAR = (0.0, 0.0, 0.0, 1.0)
"""Shares of slices that are cervical, brain or brainstem, thoracic, lumbar."""


def draw_label_slices(
    rng: np.random.Generator, n: int, size_px: int, zoom_mm: float, parts: tuple[float, ...] = ANYWHERE
) -> tuple[np.ndarray, np.ndarray]:
    """Draw axial slices of tissue labels of random people, for training on images of random contrast.

    Parameters
    ----------
    rng : np.random.Generator
        The only source of chance.
    n : int
        Number of slices.
    size_px : int, pixels
        Side of the square slices.
    zoom_mm : float, mm
        Pixel size.
    parts : tuple of float
        Shares of the parts of the spine, as `ANYWHERE` and `LUMBAR`.

    Returns
    -------
    labels : (n, size_px, size_px) ndarray of uint8
        Values of `Tissue` at the pixel centres. Axis 1 runs from right to left, axis 2 from back to front, as
        in a canonical volume.
    cord_fraction : (n, size_px, size_px) ndarray of float32, 0 to 1
        Part of each pixel that is spinal cord (3 x 3 points). All zero in slices without cord: brain and
        brainstem, lumbar spine below the conus.

    Notes
    -----
    By default about 60 % of the slices are cervical, 8 % brain or brainstem, 22 % thoracic and 10 % lumbar; at least
    half of the lumbar slices hold no cord. The plane is tilted by a few degrees, rotated in plane and shifted, so
    that the cord lies anywhere in the inner part of the slice. Every tenth person has a compressed cord, every tenth
    has lesions.
    """
    labels = np.empty((n, size_px, size_px), dtype=np.uint8)
    fraction = np.zeros((n, size_px, size_px), dtype=np.float32)
    for first in range(0, n, SLICES_PER_PERSON):
        params = _draw_person(rng)
        for i in range(first, min(first + SLICES_PER_PERSON, n)):
            origin, axes = _draw_plane(rng, params, size_px * zoom_mm, parts)
            labels[i] = label_points(params, _plane_points(origin, axes, size_px, zoom_mm)).reshape(size_px, size_px)
            fraction[i] = _cord_fraction(params, labels[i], origin, axes, zoom_mm)
    return labels, fraction


def _draw_person(rng: np.random.Generator) -> AnatomyParams:
    """Draw a person; one in ten with a compressed cord, one in ten with lesions."""
    params, kind = draw(rng), rng.random()
    if kind < 0.1:
        return replace(params, compressions=(draw_compression(rng),))
    if kind < 0.2:
        return replace(params, lesions=tuple(draw_lesion(rng) for _ in range(4)))
    return params


def _draw_plane(
    rng: np.random.Generator, params: AnatomyParams, width_mm: float, parts: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the centre (3,) and the two in-plane unit vectors (2, 3) of a slice, mm."""
    low, high = [(-145, -2), (2, 95), (-380, -145), (-560, -380)][rng.choice(4, p=parts)]
    z = rng.uniform(low, high) * (params.height if high <= 0 else 1.0)
    z = max(z, CONUS_S_MM * params.height - 120)
    centre = curve_mm(params, np.array([z]))[0]
    shift = min(0.25 * width_mm, 25.0)  # the cord stays inside the slice
    centre = centre + np.array([rng.uniform(-shift, shift) * 0.6, rng.uniform(-shift, shift), 0.0])
    turn, pitch, roll = rng.normal(0, [0.12, 0.12, 0.06])
    right = np.array([np.cos(turn), np.sin(turn), roll])
    front = np.array([-np.sin(turn), np.cos(turn), pitch])
    right /= np.linalg.norm(right)
    front -= right * (front @ right)
    front /= np.linalg.norm(front)
    return centre, np.stack([-right, front])  # axis 1 of a slice runs to the left


def _plane_points(origin: np.ndarray, axes: np.ndarray, size_px: int, zoom_mm: float) -> np.ndarray:
    """World points (size_px**2, 3) of the pixel centres of a slice centred at origin."""
    step = ((np.arange(size_px) - (size_px - 1) / 2) * zoom_mm).astype(np.float32)
    plane = step[:, None, None] * axes[0].astype(np.float32) + step[None, :, None] * axes[1].astype(np.float32)
    return (plane + origin.astype(np.float32)).reshape(-1, 3)


def _cord_fraction(
    params: AnatomyParams, labels: np.ndarray, origin: np.ndarray, axes: np.ndarray, zoom_mm: float
) -> np.ndarray:
    """Cord fraction (size, size) float32 of a slice, from 3 x 3 points in each pixel near the cord."""
    size = labels.shape[0]
    near = np.flatnonzero(binary_dilation(np.isin(labels, CORD_TISSUES), np.ones((3, 3))))
    fraction = np.zeros(size * size, dtype=np.float32)
    if near.size:
        offsets = (np.arange(3) - 1) / 3 * zoom_mm
        sub = (offsets[:, None, None] * axes[0] + offsets[None, :, None] * axes[1]).reshape(1, 9, 3)
        points = _plane_points(origin, axes, size, zoom_mm)[near][:, None, :] + sub
        fraction[near] = is_cord_at(params, points.reshape(-1, 3)).reshape(-1, 9).mean(1)
    return fraction.reshape(size, size)
