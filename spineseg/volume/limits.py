"""Limits for images, checked on the header before any voxel is read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import GeometryError, InputError
from spineseg.volume.compressed import MAX_DEFLATE_RATIO
from spineseg.volume.grid import axes_of

MIN_EDGE_MM, MAX_EDGE_MM = 0.05, 30.0
"""Range of the voxel edge: ex vivo scans of the cord go down to 0.05 mm, and 30 mm is longer than two vertebrae."""

MAX_FIELD_MM = 2500.0
"""Largest field of view along one axis: longer than any person."""

MAX_WIDTH_MM = 1000.0
"""Largest field of view from left to right and from back to front: wider than any bore. The methods resample these
axes finely, so a larger field would need too much memory."""

MAX_SHEAR_DEG = 5.0
"""Largest deviation of the angle between two voxel axes from 90 degrees. It makes areas 0.4 % too large; no scanner
exceeds it."""

MAX_OFFSET_MM = 1e6
"""Largest distance of the first voxel from the origin of the world: beyond it float32, the number type of headers, has
steps of 0.06 mm."""

MAX_ENTRY = 1e12
"""Largest entry of an affine: beyond it, and with NaN, the checks below could not be computed."""

MAX_VOXELS = 1 << 28
"""Most voxels of one volume, 645 along each edge: 1 GiB as float32. A whole spine at 0.5 mm has 40 million."""

MAX_BYTES = 4 << 30
"""Most bytes of all volumes as stored: fMRI of the brain at 2 mm with 1200 volumes has 1.9 GiB."""

SAMPLED_MM, MAX_SAMPLED = 0.5, 1 << 30
"""Finest pixel to which the methods resample slices, and most pixels of all resampled slices together (4 GiB)."""

SMALL_BYTES, MAX_IMAGE_RATIO = 128 << 20, 200
"""An image of more bytes than the first number contains much noise, so it does not compress to a 200th; masks do."""

MICRON_EDGE, METRE_EDGE = 50.0, 0.05
"""Voxel edges that show that the unit of the header is right: above the first in a file in micron, below the second in
a file in metres, because an edge of that length cannot be in mm."""


def check_claim(path: Path, shape: tuple[int, ...], item_bytes: int, offset: int, *, is_mask: bool) -> int:
    """Return the number of bytes that a file must hold according to its header.

    Parameters
    ----------
    path : Path
        The file, for messages.
    shape : tuple of int
        Voxels along each axis.
    item_bytes : int
        Bytes per voxel.
    offset : int
        First byte of the voxels.
    is_mask : bool
        Whether a mask is expected, which has no more than three axes.

    Raises
    ------
    InputError
        If the header describes no image, or one above the limits.
    """
    if len(shape) < 2 or min(shape) < 1:
        raise InputError(f"{path}: expected 2 to 4 dimensions, found shape {shape}; convert it again")
    extra = tuple(n for n in shape[3:] if n > 1)
    if is_mask and extra:
        raise InputError(f"{path}: expected a mask of 3 dimensions, found shape {shape}; save one volume of it")
    if any(n > 1 for n in shape[4:]):
        raise InputError(
            f"{path}: expected an image or a series of 3 or 4 dimensions, found shape {shape}; save one volume of it"
        )
    voxels = math.prod(shape[:3])
    if voxels > MAX_VOXELS:
        raise InputError(
            f"{path}: expected at most {MAX_VOXELS} voxels in a volume, found a header that claims {voxels} "
            f"({' x '.join(map(str, shape[:3]))}); crop or resample it"
        )
    size = math.prod(shape) * item_bytes
    if size > MAX_BYTES:
        raise InputError(
            f"{path}: expected at most {MAX_BYTES >> 30} GiB of voxels, found a header that claims "
            f"{size / (1 << 30):.1f} GiB (shape {shape}); split the series or average it"
        )
    if not 0 <= offset <= MAX_BYTES:
        raise InputError(f"{path}: damaged (its header says that voxels begin at byte {offset}); convert it again")
    return offset + size


def check_stored(path: Path, claimed: int, stored: int, *, is_mask: bool) -> None:
    """Refuse a compressed file that cannot hold what its header claims, before it is decompressed.

    Parameters
    ----------
    path : Path
        The file, for messages.
    claimed, stored : int, bytes
        Decompressed length according to the header, and length of the file.
    is_mask : bool
        Whether a mask is expected, which compresses far better than an image.

    Raises
    ------
    InputError
        If the file is too short.
    """
    if claimed > MAX_DEFLATE_RATIO * stored:
        raise InputError(
            f"{path}: damaged or truncated (its header claims {claimed} bytes, which no file of {stored} bytes holds); "
            "copy or convert it again"
        )
    if not is_mask and claimed > SMALL_BYTES and claimed > MAX_IMAGE_RATIO * stored:
        raise InputError(
            f"{path}: expected an image, found {claimed} bytes compressed to {stored}: nearly every voxel is the same; "
            "check the file, crop it"
        )


def affine_in_mm(affine: NDArray, unit: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Convert an affine in micron or metres to mm, if its voxels cannot be in mm.

    Parameters
    ----------
    affine : (4, 4) ndarray
    unit : str
        Unit in the header: ``micron``, ``meter``, ``mm`` or ``unknown``. Many files name another unit but are in mm.

    Returns
    -------
    affine : (4, 4) ndarray, mm
    notes : tuple of str
    """
    affine = np.asarray(affine, dtype=np.float64)
    with np.errstate(all="ignore"):
        edges = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        if unit == "micron" and edges.max() > MICRON_EDGE:
            factor = 1e-3
        elif unit == "meter" and edges.min() < METRE_EDGE:
            factor = 1e3
        else:
            return affine, ()
        converted = affine * np.array([[factor], [factor], [factor], [1.0]])
    return converted, (f"the header counts in {unit.replace('meter', 'metre')}; converted to mm",)


def check_geometry(path: Path, affine: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    """Raise GeometryError unless voxels and field of view have a size that is possible in a scan of a person."""
    shape3 = (*shape, 1)[:3]
    largest = float(np.abs(affine[:3]).max())
    if not largest <= MAX_ENTRY:  # NaN too
        raise GeometryError(f"{path}: expected an affine in mm, found one with {largest:.3g} in it; convert it again")
    edges = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    text = " x ".join(f"{edge:.4g}" for edge in edges)
    if (edges <= 0).any() or np.linalg.matrix_rank(affine[:3, :3] / np.where(edges > 0, edges, 1)) < 3:
        raise GeometryError(
            f"{path}: expected voxels with a size, found an affine that is not invertible; convert it again"
        )
    if edges.min() < MIN_EDGE_MM or edges.max() > MAX_EDGE_MM:
        raise GeometryError(
            f"{path}: expected voxel edges of {MIN_EDGE_MM:g} to {MAX_EDGE_MM:g} mm, found {text} mm; "
            "check affine and units of its header"
        )
    axes = affine[:3, :3] / edges
    shear = float(np.rad2deg(np.arcsin(np.abs(axes.T @ axes - np.eye(3)).max().clip(0, 1))))
    if shear > MAX_SHEAR_DEG:
        raise GeometryError(
            f"{path}: expected voxels with right angles, found axes that miss them by {shear:.0f} degrees; "
            "resample it to a grid without shear"
        )
    if np.abs(affine[:3, 3]).max() > MAX_OFFSET_MM:
        raise GeometryError(
            f"{path}: expected an origin within {MAX_OFFSET_MM:g} mm, found {np.abs(affine[:3, 3]).max():.3g} mm; "
            "check the affine of its header"
        )
    field = edges * shape3
    in_slice = axes_of(affine)[:, 0] != 2
    if field.max() > MAX_FIELD_MM or field[in_slice].max() > MAX_WIDTH_MM:
        raise GeometryError(
            f"{path}: expected a field of view of at most {MAX_FIELD_MM:g} mm ({MAX_WIDTH_MM:g} mm across), found "
            f"{' x '.join(f'{f:.0f}' for f in field)} mm ({text} mm voxels); check affine and units of its header"
        )
    sampled = np.prod(np.where(in_slice, np.maximum(field / SAMPLED_MM, 1), shape3))
    if sampled > MAX_SAMPLED:
        raise GeometryError(
            f"{path}: expected slices that {MAX_SAMPLED >> 20} million pixels of {SAMPLED_MM:g} mm cover, found "
            f"a field of {' x '.join(f'{f:.0f}' for f in field)} mm that needs {sampled / 2**20:.0f} million; crop it"
        )
