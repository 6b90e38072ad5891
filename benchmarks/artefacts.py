"""Copies of labelled images with artefacts of MRI, strong ones too: what `benchmarks/status.py -kinds artefacts` tries.

Place, size and strength are drawn for each image and seed, relative to the cord and to the brightest of its
surroundings, so that bands, ghosts and steps meet the cord rather than the shoulders.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage as ndi

from spineseg.volume import Volume

AROUND_MM = 55.0
"""Thin-slice images are cut to this much around the cord in plane: the artefact then dominates, and time is saved."""

THIN_MM = 2.0
"""Below this slices are thin; such slices are acquired as a volume and do not move one by one."""


class Scene:
    """An image, its reference, and what artefacts are drawn from."""

    def __init__(self, volume: Volume, reference: np.ndarray, rng: np.random.Generator) -> None:
        self.data = volume.data.astype(np.float64)
        self.zooms = np.asarray(volume.zooms)
        self.reference = reference
        self.rng = rng
        near = ndi.binary_dilation(reference, iterations=6)
        self.top = float(np.percentile(self.data[near], 98))
        self.middle = np.argwhere(reference).mean(axis=0)[:2]
        self.n_slices = reference.shape[2]

    def offset_mm(self, axis: int) -> np.ndarray:
        """Return how far each pixel (I, J, 1) lies from the cord's middle along an axis in plane."""
        index = np.indices(self.data.shape[:2])[axis]
        return ((index - self.middle[axis]) * self.zooms[axis])[:, :, None]

    def run(self, share: float) -> np.ndarray:
        """Draw a run of slices, (K,) of bool."""
        n = max(1, round(share * self.n_slices))
        first = int(self.rng.integers(0, self.n_slices - n + 1))
        return np.isin(np.arange(self.n_slices), np.arange(first, first + n))

    def axis(self) -> int:
        """Draw an axis in plane."""
        return int(self.rng.integers(2))

    def shifted(self, mm: float, axis: int) -> np.ndarray:
        """Return the image rolled along an axis."""
        return np.roll(self.data, round(mm / self.zooms[axis]), axis)

    def stripe(self, low_mm: float, high_mm: float) -> np.ndarray:
        """Draw a band of pixels (I, J, 1) across the canal, along the cord."""
        axis, width, off = self.axis(), self.rng.uniform(low_mm, high_mm), self.rng.uniform(-6, 6)
        return np.abs(self.offset_mm(axis) - off) < width / 2


def _band(scene: Scene, bright: bool, share: float) -> np.ndarray:
    """Add or take signal in a band, in a share of the slices: flow, susceptibility, saturation."""
    there = scene.stripe(3, 9) & scene.run(share)
    changed = scene.data + scene.rng.uniform(0.5, 1.5) * scene.top if bright else 0.15 * scene.data
    return np.where(there, changed, scene.data)


def _zipper(scene: Scene) -> np.ndarray:
    noise = (scene.rng.random(scene.data.shape) < 0.5) * scene.top * scene.rng.uniform(0.8, 1.5)
    return np.where(scene.stripe(1, 3), noise, scene.data)


def _ghost(scene: Scene, low: float, high: float) -> np.ndarray:
    part, shift = scene.rng.uniform(low, high), scene.rng.uniform(5, 25)
    return scene.data * (1 - part / 2) + part * scene.shifted(shift, scene.axis())


def _fold_over(scene: Scene) -> np.ndarray:
    axis, share = scene.axis(), scene.rng.uniform(0.35, 0.65)
    length = scene.data.shape[axis] * scene.zooms[axis]
    return scene.data + scene.rng.uniform(0.4, 0.9) * scene.shifted(share * length, axis)


def _dark_slices(scene: Scene) -> np.ndarray:
    return np.where(scene.run(0.25), scene.rng.uniform(0.1, 0.4) * scene.data, scene.data)


def _dropout(scene: Scene) -> np.ndarray:
    off, width, depth = scene.rng.uniform(-8, 8, 2), scene.rng.uniform(6, 15), scene.rng.uniform(0.7, 0.97)
    distance2 = (scene.offset_mm(0) - off[0]) ** 2 + (scene.offset_mm(1) - off[1]) ** 2
    return np.where(scene.run(0.5), scene.data * (1 - depth * np.exp(-distance2 / (2 * width**2))), scene.data)


def _blur(scene: Scene) -> np.ndarray:
    axis = scene.axis()
    blurred = ndi.gaussian_filter1d(scene.data, scene.rng.uniform(1.5, 3.5) / scene.zooms[axis], axis=axis)
    return np.where(scene.run(0.4), blurred, scene.data)


def _double(scene: Scene) -> np.ndarray:
    both = (scene.data + scene.shifted(scene.rng.uniform(2, 6), scene.axis())) / 2
    return np.where(scene.run(0.4), both, scene.data)


def _shading(scene: Scene) -> np.ndarray:
    slope = scene.rng.choice([-1, 1]) * scene.rng.uniform(0.03, 0.08)
    return scene.data * np.exp(slope * scene.offset_mm(scene.axis()))


def _step(scene: Scene) -> np.ndarray:
    beyond = scene.offset_mm(scene.axis()) > scene.rng.uniform(-4, 4)
    return np.where(beyond, scene.rng.uniform(1.5, 3) * scene.data, scene.data)


def _spike(scene: Scene, share: float) -> np.ndarray:
    period, angle, phase = scene.rng.uniform(6, 20), scene.rng.uniform(0, np.pi), scene.rng.uniform(0, 2 * np.pi)
    along = scene.offset_mm(0) * np.cos(angle) + scene.offset_mm(1) * np.sin(angle)
    wave = scene.rng.uniform(0.2, 1) * scene.top * np.cos(2 * np.pi * along / period + phase)
    return np.where(scene.run(share), np.abs(scene.data + wave), scene.data)


def _slice_gain(scene: Scene) -> np.ndarray:
    return scene.data * np.exp(scene.rng.normal(0, 0.4, scene.n_slices))


def _noise(scene: Scene) -> np.ndarray:
    return scene.data + scene.rng.normal(0, scene.rng.uniform(0.1, 0.3) * scene.top, scene.data.shape)


ARTEFACTS: dict[str, Callable[[Scene], np.ndarray]] = {
    "bright band": lambda scene: _band(scene, True, 1.0),
    "bright band, third": lambda scene: _band(scene, True, 0.35),
    "dark band": lambda scene: _band(scene, False, 1.0),
    "dark band, third": lambda scene: _band(scene, False, 0.35),
    "zipper": _zipper,
    "weak ghost": lambda scene: _ghost(scene, 0.15, 0.3),
    "strong ghost": lambda scene: _ghost(scene, 0.35, 0.6),
    "fold-over": _fold_over,
    "dark slices": _dark_slices,
    "drop-out": _dropout,
    "blurred slices": _blur,
    "doubled slices": _double,
    "shading": _shading,
    "step": _step,
    "spike": lambda scene: _spike(scene, 1.0),
    "spike, third": lambda scene: _spike(scene, 0.3),
    "slice gain": _slice_gain,
    "noise": _noise,
}


def make_copies(volume: Volume, reference: np.ndarray, seed: tuple[int, ...]) -> list[tuple[str, Volume, np.ndarray]]:
    """Return copies of the labelled slices of an image, one with each artefact: name, image, reference."""
    held = np.flatnonzero(reference.any(axis=(0, 1)))
    box: list[slice] = [slice(None), slice(None), slice(held[0], held[-1] + 1)]
    if volume.zooms[2] < THIN_MM:
        centre = np.argwhere(reference).mean(axis=0)
        for axis in (0, 1):
            half = AROUND_MM / volume.zooms[axis]
            box[axis] = slice(max(0, round(centre[axis] - half)), round(centre[axis] + half))
    part = Volume(np.ascontiguousarray(volume.data[tuple(box)]), volume.affine)
    truth = reference[tuple(box)]
    rng = np.random.default_rng(seed)
    copies = []
    for name, change in ARTEFACTS.items():
        data = change(Scene(part, truth, rng)).astype(np.float32)
        copies.append((name, Volume(data, part.affine), truth))
    if part.zooms[2] >= THIN_MM:
        copies.append(("moved slices", *_move_slices(part, truth, rng)))
    return copies


def _move_slices(volume: Volume, reference: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Move every slice by itself, the reference with it: motion between slices."""
    move = rng.normal(0, 1.5, (volume.shape[2], 2)) / np.asarray(volume.zooms[:2])
    data, truth = np.empty(volume.shape, np.float32), np.empty(volume.shape, bool)
    for k, shift in enumerate(move):
        data[:, :, k] = ndi.shift(volume.data[:, :, k].astype(np.float64), shift, order=1, mode="nearest")
        truth[:, :, k] = ndi.shift(reference[:, :, k].astype(np.float64), shift, order=1) > 0.5
    return Volume(data, volume.affine), truth
