"""Artefacts of echo-planar imaging of the neck: geometric distortion and signal loss that vary from slice to slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spineseg.phantom.sampling import Sample

Floats = np.ndarray

DISC_PERIOD_MM = 17.0
"""Period of bone and disc along the spine, and so of the field that distorts and darkens the slices."""

DROPPED_SHARE = 0.06
"""Share of slices with almost no signal: about one in twenty in real mean images."""


THROAT_MM = 15.0
"""Distance in front of the cord beyond which air is near."""


@dataclass(frozen=True)
class EpiParams:
    """The field of one acquisition, slice by slice; each (K,) ndarray.

    Parameters
    ----------
    to_voxel : (4, 4) ndarray; world of the person, mm, to voxels; slices along the last axis, phase along the second
    cord_vox : position of the cord along the phase axis, voxels
    shift_mm : shift of the whole slice along the phase axis
    stretch : stretch along it, mm per mm
    throat : stretch in front of the spine, mm per mm: air is near
    gain : brightness
    fluid : additional factor for the fluid: flow and inflow differ from slice to slice
    loss_angle, loss_mm, loss : signal loss on one side: its direction (rad from the right, to the front) in the cord's
        frame, the distance at which half of `loss` is reached, and the loss itself (logarithm)
    """

    to_voxel: Floats
    cord_vox: Floats
    shift_mm: Floats
    stretch: Floats
    throat: Floats
    gain: Floats
    fluid: Floats
    loss_angle: Floats
    loss_mm: Floats
    loss: Floats

    @property
    def dropped(self) -> Floats:
        """Slices (m,) with almost no signal."""
        return np.flatnonzero(self.gain < 0.35 * np.median(self.gain))


def draw_epi(rng: np.random.Generator, cord_vox: Floats, to_voxel: Floats) -> EpiParams:
    """Draw the field of an acquisition; see `EpiParams`."""
    n_slices, slice_mm = len(cord_vox), 1 / float(np.linalg.norm(to_voxel[2, :3]))
    wave = np.sin(2 * np.pi * np.arange(n_slices) * slice_mm / DISC_PERIOD_MM + rng.uniform(0, 2 * np.pi))
    normal, uniform = rng.normal, rng.uniform
    gain = np.exp(normal(0, 0.15, n_slices) + 0.12 * wave + normal(0, 0.2) * np.linspace(-1, 1, n_slices))
    dropped = rng.random(n_slices) < DROPPED_SHARE
    dropped[1:] &= ~dropped[:-1]  # single slices only: nobody keeps a mean image with a longer gap
    return EpiParams(
        to_voxel=to_voxel,
        cord_vox=cord_vox,
        shift_mm=0.5 * wave + normal(0, 0.4, n_slices),
        stretch=0.06 * wave + normal(0, 0.05, n_slices),
        throat=normal(0.1, 0.2, n_slices),
        gain=np.where(dropped, gain * uniform(0.08, 0.3, n_slices), gain),
        fluid=np.where(rng.random(n_slices) < 0.25, uniform(0.55, 0.9, n_slices), 1.0),
        loss_angle=normal(-np.pi / 2, 0.9, n_slices),  # mostly posterior, where the spinous processes are
        loss_mm=uniform(2.5, 10.0, n_slices),
        loss=uniform(0.0, 1.6, n_slices) * (0.6 + 0.4 * wave),
    )


def bend(epi: EpiParams, points: Floats) -> Floats:
    """Return the points of the body that appear at points (n, 3), mm, of the picture."""
    k, away, front = _place(epi, points)
    moved = epi.shift_mm[k] + epi.stretch[k] * away + epi.throat[k] * np.maximum(away - THROAT_MM, 0.0)
    return (points + moved[:, None] * front).astype(np.float32)


def fade(epi: EpiParams, sample: Sample, points: Floats, fluid: Floats) -> Floats:
    """Return the factor of brightness (n,) of each voxel; `fluid` is the part of it that is fluid."""
    k, away, _ = _place(epi, points)
    packed = 1 + epi.stretch[k] + epi.throat[k] * (away > THROAT_MM)  # compressed signal adds up
    towards = sample.u * np.cos(epi.loss_angle[k]) + sample.v * np.sin(epi.loss_angle[k])
    lost = epi.loss[k] / (1 + np.exp(-(towards - epi.loss_mm[k]) / 1.2))
    return np.maximum(packed, 0.2) * epi.gain[k] * np.exp(-lost) * (1 + fluid * (epi.fluid[k] - 1))


def _place(epi: EpiParams, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the slice of each point (n, 3), mm, its distance in front of the cord, and the direction of front."""
    step = np.linalg.inv(epi.to_voxel)[:3, 1]
    length = float(np.linalg.norm(step))
    voxel = points @ epi.to_voxel[1:3, :3].T + epi.to_voxel[1:3, 3]
    k = np.clip(np.rint(voxel[:, 1]), 0, len(epi.gain) - 1).astype(int)
    return k, (voxel[:, 0] - epi.cord_vox[k]) * length, step / length
