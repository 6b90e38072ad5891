"""Tiny changes of an image that should not change its mask: a method that depends on them is not precise.

A copy has noise, a rotation and a shift within the slices, and a bias field, all as small as between two scans of one
sitting. Slices stay the same, so that areas can be compared without resampling.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.volume import Volume

NOISE = 0.02
"""SD of the added noise, as a share of the image's range (0.5th to 99.5th percentile): about that of good images."""

MAX_ANGLE_DEG = 1.0
"""Largest rotation about the axis along the cord; heads rotate by more between two scans."""

SHIFT_VOX = 0.5
"""Shift along each axis of the slice: half a voxel changes most how voxels divide the cord."""

BIAS = 0.10
"""Relative change of intensity from the middle of the image to its edge along one direction, as if a coil had moved."""

SEED = 1
"""Any fixed number."""


@dataclass(frozen=True)
class Perturbation:
    """One change of an image."""

    angle_deg: float  # degrees: turn in the slice, about its middle, from axis 0 to axis 1
    shift_vox: tuple[float, float]  # (2,) tuple of float, voxels: shift along axes 0 and 1
    # (3,) tuple of float: relative change of intensity from the middle to the edge along each axis
    bias: tuple[float, float, float]
    noise_seed: tuple[int, ...]


def draw_perturbations(image_id: str, n: int) -> list[Perturbation]:
    """Draw the changes of an image; they do not depend on other images or on the order of calls."""
    digest = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big")
    drawn = []
    for number in range(n):
        rng = np.random.default_rng([SEED, digest, number])
        sign = rng.choice([-1.0, 1.0], size=3)
        direction = rng.normal(size=3)
        direction *= BIAS / np.linalg.norm(direction)
        drawn.append(
            Perturbation(
                float(sign[0] * MAX_ANGLE_DEG),
                (float(sign[1] * SHIFT_VOX), float(sign[2] * SHIFT_VOX)),
                tuple(direction.tolist()),
                (SEED, digest, number, 1),
            )
        )
    return drawn


def perturb_volume(volume: Volume, change: Perturbation) -> Volume:
    """Return the image with the change applied, on the same grid.

    Resampling uses cubic splines, which blur little. Values stay within the image's own range, so that background that
    was set to 0 stays so.
    """
    low, high = np.percentile(volume.data, [0.5, 99.5])
    matrix, offset = _motion(volume, change)
    data = ndi.affine_transform(volume.data.astype(np.float32), matrix, offset, order=3, mode="nearest")
    axes = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in volume.shape)
    places = np.meshgrid(*axes, indexing="ij", sparse=True)
    field = sum((b * x for b, x in zip(change.bias, places, strict=True)), np.zeros(()))
    noise = np.random.default_rng(change.noise_seed).standard_normal(volume.shape, dtype=np.float32)
    data = data * (1 + field.astype(np.float32)) + np.float32(NOISE * (high - low)) * noise
    return Volume(np.clip(data, volume.data.min(), volume.data.max()), volume.affine)


def map_back(mask: NDArray[np.bool_], volume: Volume, change: Perturbation) -> NDArray[np.bool_]:
    """Return a mask of the changed image, (I, J, K), on the voxels of the image before the change."""
    matrix, offset = _motion(volume, change)
    inverse = np.linalg.inv(matrix)
    back = ndi.affine_transform(mask.astype(np.float32), inverse, -inverse @ offset, order=1, mode="constant")
    return back >= 0.5


def _motion(volume: Volume, change: Perturbation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix (3, 3) and offset from voxels of the changed image to those of the image, about the slice's middle."""
    angle = np.deg2rad(change.angle_deg)
    zooms = volume.zooms[:2]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn * zooms[None, :] / zooms[:, None]  # the rotation is in mm; voxels may not be square
    middle = (np.array(volume.shape[:2]) - 1) / 2
    offset = np.zeros(3)
    offset[:2] = middle - matrix[:2, :2] @ (middle + change.shift_vox)
    return matrix, offset
