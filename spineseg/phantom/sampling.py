"""Sample a person on the grid of an acquisition, with partial volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from spineseg.phantom.anatomy import label_frame, label_points
from spineseg.phantom.canal import canal_wall
from spineseg.phantom.course import to_cord_frame
from spineseg.phantom.params import AnatomyParams

BLOCK = 1 << 16  # points handled at once: arrays of this size stay in the processor's cache
SUBVOXEL_MM = 0.35  # spacing of the points inside voxels of the canal: area errors below 0.2 mm²
MAX_SUBVOXELS = 5  # per axis; a 5 mm slice is then sampled each millimetre
# Four points of a Latin square for borders of other tissues, in voxels: each axis is sampled at four depths.
_COARSE_OFFSETS = np.array(
    [(-0.375, -0.125, 0.375), (-0.125, 0.375, -0.125), (0.125, -0.375, -0.375), (0.375, 0.125, 0.125)],
    dtype=np.float32,
)
_FIBRE_MM = np.array([1.4, 1.4, 4.5], dtype=np.float32)  # grains are long along the neck, as muscle fibres are
_N_PATCH_WAVES = 10  # enough that the sum looks random
_LATTICE = 48  # side of the periodic noise lattice: at 1.4 mm it repeats after 67 mm, too far to be noticed


@dataclass(frozen=True)
class Sample:
    """A person sampled on one grid with n voxels, in C order.

    Parameters
    ----------
    shape : tuple of int
        Grid.
    means : (n, c) ndarray of float32
        Mean of the c requested properties over each voxel.
    u, v, s : (n,) ndarray of float32, mm
        Voxel centres in the frame of the cord.
    fine, coarse : (n,) ndarray of float32
        Two noise fields of unit variance that belong to the person, at fibre size and at 8 mm.
    """

    shape: tuple[int, int, int]
    means: np.ndarray
    u: np.ndarray
    v: np.ndarray
    s: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray


def sample_grid(
    params: AnatomyParams,
    shape: tuple[int, int, int],
    affine: np.ndarray,
    table: np.ndarray,
    bend: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Sample:
    """Average properties of tissues over the voxels of a grid.

    Parameters
    ----------
    params : AnatomyParams
        The person.
    shape : tuple of int
        Grid.
    affine : (4, 4) ndarray
        Voxel index to the person's world, mm.
    table : (n_tissues, c) ndarray of float32
        c properties of each tissue: intensities, indicators.
    bend : callable, optional
        Maps points (n, 3), mm, of the picture to the points of the body that appear there; identity by default.

    Returns
    -------
    Sample
        Partial volume is resolved to `SUBVOXEL_MM` in and near the dural sac, to quarters of a voxel at the
        borders of other tissues.
    """
    see = bend or (lambda points: points)
    points = voxel_points(shape, affine)
    n = len(points)
    u, v, s = (np.empty(n, dtype=np.float32) for _ in range(3))
    labels = np.empty(n, dtype=np.uint8)
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        u[block], v[block], s[block] = to_cord_frame(params, see(points[block]))
        labels[block] = label_frame(params, u[block], v[block], s[block])
    means = table[labels]
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    near = _near_canal(params, u, v, s, zooms)
    border = _at_border(labels.reshape(shape)).ravel()
    border[near] = False
    coarse_offsets = _COARSE_OFFSETS @ affine[:3, :3].T.astype(np.float32)
    _refine(means, np.flatnonzero(border), params, points, coarse_offsets, table, see)
    _refine(means, near, params, points, _fine_offsets(affine, zooms), table, see)
    return Sample(shape, means, u, v, s, fine_texture(params, points), coarse_texture(params, points))


def voxel_points(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """World points (n, 3) float32, mm, of the voxel centres in C order."""
    m = affine.astype(np.float32)
    i, j, k = (np.arange(size, dtype=np.float32) for size in shape)
    grid = i[:, None, None, None] * m[:3, 0] + j[None, :, None, None] * m[:3, 1] + k[:, None] * m[:3, 2]
    return (grid + m[:3, 3]).reshape(-1, 3)


def _near_canal(params: AnatomyParams, u, v, s, zooms: np.ndarray) -> np.ndarray:
    """Indices of the voxels that may touch the dural sac of the spine."""
    reach = 0.6 * float(np.sort(zooms)[:2].sum()) + 0.25 * float(zooms.max())  # half a diagonal of a tilted voxel
    candidates = np.flatnonzero((np.abs(u) < 22) & (np.abs(v) < 20) & (s < 12))
    wall = canal_wall(params, u[candidates], v[candidates], s[candidates])
    return candidates[wall < reach]


def _at_border(labels: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour of another label along any axis; bool, shape of labels (3-D)."""
    border = np.zeros(labels.shape, dtype=bool)
    for axis in range(3):
        rolled = np.moveaxis(labels, axis, 0)
        target = np.moveaxis(border, axis, 0)
        step = rolled[1:] != rolled[:-1]
        target[1:] |= step
        target[:-1] |= step
    return border


def _fine_offsets(affine: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    """World offsets (m, 3) of the points inside one voxel of the canal."""
    counts = np.clip(np.ceil(zooms / SUBVOXEL_MM), 1, MAX_SUBVOXELS).astype(int)
    counts |= 1  # odd: a voxel is never exactly half cord, which would make masks at one half too large
    axes = [(np.arange(c) + 0.5) / c - 0.5 for c in counts]
    inside = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return (inside @ affine[:3, :3].T).astype(np.float32)


def _refine(means, voxels: np.ndarray, params: AnatomyParams, points, offsets: np.ndarray, table, see) -> None:
    """Replace the means of some voxels by averages over offsets (m, 3) inside each voxel."""
    for start in range(0, voxels.size, BLOCK):
        chosen = voxels[start : start + BLOCK]
        total = np.zeros((chosen.size, table.shape[1]), dtype=np.float32)
        centres = points[chosen]
        for offset in offsets:
            total += table[label_points(params, see(centres + offset))]
        means[chosen] = total / len(offsets)


def fine_texture(params: AnatomyParams, points: np.ndarray) -> np.ndarray:
    """Evaluate noise of the size of muscle fibres that is fixed in a person's body.

    Parameters
    ----------
    params : AnatomyParams
        `texture_seed` fixes the field.
    points : (n, 3) ndarray, mm
        World points.

    Returns
    -------
    (n,) ndarray of float32
        Mean 0, standard deviation about 1.
    """
    rng = np.random.default_rng(params.texture_seed)
    lattice = rng.standard_normal((_LATTICE, _LATTICE, _LATTICE), dtype=np.float32)
    where = points.T / _FIBRE_MM[:, None]
    value = map_coordinates(lattice, where, order=1, mode="grid-wrap", output=np.float32)
    return value * np.float32(1.84)  # linear interpolation leaves (2/3)**(3/2) of the standard deviation


def coarse_texture(params: AnatomyParams, points: np.ndarray) -> np.ndarray:
    """Evaluate patches of 8 mm that are fixed in a person's body; like `fine_texture`, a sum of plane waves."""
    rng = np.random.default_rng([params.texture_seed, 1])
    waves = rng.normal(0, 1 / 8.0, (_N_PATCH_WAVES, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, _N_PATCH_WAVES).astype(np.float32)
    total = np.zeros(len(points), dtype=np.float32)
    for wave, phase in zip(waves, phases, strict=True):
        total += np.cos(points @ wave + phase)
    return total * np.float32(np.sqrt(2 / _N_PATCH_WAVES))
