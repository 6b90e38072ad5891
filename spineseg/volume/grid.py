"""Arrays with their grid: canonical in memory, native on disk, and the conversion between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from spineseg.errors import GeometryError

CANONICAL_AXCODES = ("L", "A", "S")

MAX_SHIFT_VOX = 0.1
"""Largest distance between the corners of two grids, in voxels, at which they count as the same grid. Mask editors save
an image's affine rounded, which shifts the far corners by 0.001 mm and more; a tenth of a voxel never moves a voxel's
centre into another voxel."""


@dataclass(frozen=True)
class Volume:
    """A 3-D image in canonical orientation.

    Parameters
    ----------
    data : (I, J, K) ndarray
        Values; axis 0 R to L, axis 1 P to A, axis 2 I to S.
    affine : (4, 4) ndarray, mm
        Voxel index to RAS+ world coordinates.
    """

    data: NDArray
    affine: NDArray[np.float64]

    def __repr__(self) -> str:
        """Return the sizes, without the arrays."""
        return f"Volume({self.shape}, {' x '.join(f'{size:.3g}' for size in self.zooms)} mm)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        return self.data.shape

    @property
    def zooms(self) -> NDArray[np.float64]:
        """Voxel size along each axis, (3,), mm."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))


@dataclass(frozen=True)
class NativeGrid:
    """The grid of a file on disk, so that a mask can be written back onto it.

    Parameters
    ----------
    shape : tuple of int
        Two or three sizes, as in the file; a series' time axis is left out.
    affine : (4, 4) ndarray, mm
        In mm even if the header uses another unit.
    header : nibabel.Nifti1Header
        Copied into every file written on this grid, to preserve sform, qform and their codes.
    notes : tuple of str
        What had to be corrected while reading, one line each.
    forms_disagree : bool
        The file's sform and qform differ by more than a voxel: its world coordinates cannot be trusted.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    header: nib.Nifti1Header
    notes: tuple[str, ...] = ()
    forms_disagree: bool = False

    @property
    def shape3(self) -> tuple[int, int, int]:
        """Shape with three axes: a 2-D file has one voxel along the third."""
        i, j, k = (*self.shape, 1)[:3]
        return i, j, k

    @property
    def zooms(self) -> NDArray[np.float64]:
        """Voxel size along each axis in canonical orientation, (3,), mm."""
        sizes = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        along = _to_canonical_transform(self.affine)[:, 0].astype(int)
        turned = np.empty(3)
        turned[along] = sizes
        return turned


def axes_of(affine: NDArray) -> NDArray:
    """Return nibabel's orientation of an affine's axes, (3, 2): the world axis of each, and 1 or -1; not to be changed.

    The files of an image share few affines, and each is asked several times in each.
    """
    return _axes_of(np.asarray(affine, np.float64).tobytes())


@lru_cache(maxsize=64)
def _axes_of(affine: bytes) -> NDArray:
    axes = orientations.io_orientation(np.frombuffer(affine).reshape(4, 4))
    axes.flags.writeable = False
    return axes


def _to_canonical_transform(affine: NDArray) -> NDArray:
    """Return the nibabel orientation transform from the affine's axes to the canonical ones."""
    return orientations.ornt_transform(axes_of(affine), orientations.axcodes2ornt(CANONICAL_AXCODES))


def to_canonical(data: NDArray, affine: NDArray) -> Volume:
    """Reorder and flip axes to the canonical orientation; no value changes."""
    transform = _to_canonical_transform(affine)
    turned = orientations.apply_orientation(data, transform)
    return Volume(np.ascontiguousarray(turned), affine @ orientations.inv_ornt_aff(transform, data.shape))


def canonical_zeros(shape: tuple[int, int, int], affine: NDArray) -> Volume:
    """Return a canonical volume of zeros, float32, for a file of this shape and affine."""
    transform = _to_canonical_transform(affine)
    turned = np.zeros([shape[axis] for axis in np.argsort(transform[:, 0])], np.float32)
    return Volume(turned, affine @ orientations.inv_ornt_aff(transform, shape))


def native_view(data: NDArray, affine: NDArray) -> NDArray:
    """Return a view of a canonical (I, J, K) array in the axis order of a file with this affine, without a copy."""
    back = orientations.ornt_transform(orientations.axcodes2ornt(CANONICAL_AXCODES), axes_of(affine))
    return orientations.apply_orientation(data, back)


def to_native(data: NDArray, grid: NativeGrid) -> NDArray:
    """Return a canonical (I, J, K) array with the axes and the shape of the file.

    Raises
    ------
    GeometryError
        If the array does not fit the grid.
    """
    native = native_view(data, grid.affine)
    if native.shape != grid.shape3:
        raise GeometryError(f"array of shape {native.shape} does not fit the image's grid {grid.shape3}")
    return native.reshape(grid.shape)


def native_index(index: NDArray[np.intp], grid: NativeGrid) -> NDArray[np.intp]:
    """Return the index (3,) in the file of a voxel of the canonical array."""
    back = orientations.inv_ornt_aff(_to_canonical_transform(grid.affine), grid.shape3)
    return np.rint(back[:3, :3] @ index + back[:3, 3]).astype(np.intp)


def check_same_grid(grid: NativeGrid, like: NativeGrid, path: str | Path) -> None:
    """Raise GeometryError unless `grid` (of `path`) has the shape and the affine of `like`."""
    if (codes := _reordered_axes(grid, like)) is not None:
        raise GeometryError(
            f"{path}: expected the image's axes {codes[1]}, found {codes[0]}: the same voxels in another order; save it"
            " by the image's axes, without resampling"
        )
    if grid.shape3 != like.shape3:
        raise GeometryError(
            f"{path}: expected the image's grid {like.shape3}, found {grid.shape3}; resample it to the image"
        )
    check_same_affine(grid.affine, like.affine, like.shape3, path)


def _reordered_axes(grid: NativeGrid, like: NativeGrid) -> tuple[str, str] | None:
    """Return the axis codes (such as RAS) of two grids that differ only in the order and direction of their axes.

    None if they differ in another way, or not at all.
    """
    turn, turn_like = _to_canonical_transform(grid.affine), _to_canonical_transform(like.affine)
    if np.array_equal(turn, turn_like) or np.isnan([turn, turn_like]).any():
        return None
    i, j, k = (grid.shape3[axis] for axis in np.argsort(turn[:, 0]))
    affine = grid.affine @ orientations.inv_ornt_aff(turn, grid.shape3)
    affine_like = like.affine @ orientations.inv_ornt_aff(turn_like, like.shape3)
    if [i, j, k] != [like.shape3[axis] for axis in np.argsort(turn_like[:, 0])]:
        return None
    if not measure_shift(affine, affine_like, (i, j, k)) <= MAX_SHIFT_VOX:
        return None
    found, expected = ("".join(orientations.aff2axcodes(one.affine)) for one in (grid, like))
    return found, expected


def measure_shift(affine: NDArray[np.float64], like: NDArray[np.float64], shape: tuple[int, int, int]) -> float:
    """Return the largest distance along any axis between the corner voxels of two grids, in voxels."""
    corners = np.array([(i, j, k, 1) for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])
    there = np.linalg.solve(like, affine @ corners.T)
    return float(np.abs(there - corners.T).max())


def check_same_affine(
    affine: NDArray[np.float64], like: NDArray[np.float64], shape: tuple[int, int, int], path: str | Path
) -> None:
    """Raise GeometryError unless a grid of `shape` (of `path`) lies within a tenth of a voxel of another."""
    shift = measure_shift(affine, like, shape)
    if not shift <= MAX_SHIFT_VOX:
        raise GeometryError(
            f"{path}: expected the image's affine, found one that is off by up to {shift:.3g} voxels (at most"
            f" {MAX_SHIFT_VOX:g}); resample it to the image"
        )


def mask_box(mask: NDArray[np.bool_], margin: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """Return the bounding box of a nonempty mask, widened by `margin` voxels on each side within the grid."""
    box = [slice(None)] * 3
    for axis in range(3):  # the search shrinks to the box found along the axes before
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(mask[tuple(box)].any(axis=others))
        box[axis] = slice(int(found[0]), int(found[-1]) + 1)
    low, middle, high = (slice(max(0, part.start - m), part.stop + m) for part, m in zip(box, margin, strict=True))
    return low, middle, high


def crop(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """Cut a box out of a volume; the affine's origin moves with it, so world coordinates stay the same."""
    start = [s.indices(n)[0] for s, n in zip(box, volume.shape, strict=True)]
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ start
    return Volume(volume.data[box], affine)
