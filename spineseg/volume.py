"""Images as arrays with an affine, in one orientation inside, on their own grid outside.

The canonical orientation is nibabel's ``LAS``, which the Spinal Cord Toolbox calls RPI:
axis 0 runs from right to left, axis 1 from posterior to anterior, axis 2 from inferior
to superior. Everything between `load_image` and `save_volume` is canonical.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.errors import GeometryError, InputError
from spineseg.series import average_series
from spineseg.writing import compress, write_bytes

CANONICAL_AXCODES = ("L", "A", "S")

AFFINE_TOLERANCE_MM = 1e-2
"""Largest difference of two affines' entries that still means one grid (float32 headers round)."""


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
    """The grid of a file as it lies on disk, so that a mask can be written back onto it.

    Parameters
    ----------
    shape : tuple of int
        Two or three sizes, as in the file; a series' time axis is left out.
    affine : (4, 4) ndarray, mm
    header : nibabel.Nifti1Header
        Copied into every file written on this grid, so that sform, qform and their codes stay.
    notes : tuple of str
        What had to be put right while reading, one line each.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    header: nib.Nifti1Header
    notes: tuple[str, ...] = ()

    @property
    def shape3(self) -> tuple[int, int, int]:
        """The shape with a third axis of one where the file has two."""
        return (*self.shape, 1)[:3]


def _to_canonical_transform(affine: NDArray) -> NDArray:
    """Return the nibabel orientation transform from the affine's axes to the canonical ones."""
    target = orientations.axcodes2ornt(CANONICAL_AXCODES)
    return orientations.ornt_transform(orientations.io_orientation(affine), target)


def to_canonical(data: NDArray, affine: NDArray) -> Volume:
    """Reorder and flip axes to the canonical orientation; no value is changed."""
    transform = _to_canonical_transform(affine)
    turned = orientations.apply_orientation(data, transform)
    return Volume(np.ascontiguousarray(turned), affine @ orientations.inv_ornt_aff(transform, data.shape))


def to_native(data: NDArray, grid: NativeGrid) -> NDArray:
    """Bring a canonical (I, J, K) array back to the axes and the shape of the file."""
    back = orientations.ornt_transform(
        orientations.axcodes2ornt(CANONICAL_AXCODES), orientations.io_orientation(grid.affine)
    )
    native = orientations.apply_orientation(data, back)
    if native.shape != grid.shape3:
        raise GeometryError(f"array of shape {native.shape} does not fit the image's grid {grid.shape3}")
    return native.reshape(grid.shape)


def load_image(
    path: str | Path, *, contrast: str | None = None, bval: str | Path | None = None
) -> tuple[Volume, NativeGrid]:
    """Load an image as float32 in canonical orientation; series are averaged over time.

    Parameters
    ----------
    path : str or Path
        ``.nii`` or ``.nii.gz``; other formats that nibabel reads work as well. 2-D, 3-D or 4-D.
    contrast : str, optional
        With ``"dwi"`` a series is averaged over its volumes with b > 50 s/mm².
    bval : str or Path, optional
        b-values file; by default the one that bears the image's name.

    Returns
    -------
    volume : Volume, float32
        Finite everywhere; NaN and infinity become 0, which the grid's notes say.
    grid : NativeGrid

    Raises
    ------
    InputError
        If the file is missing, not an image, truncated, without finite values, or constant.
    """
    path = Path(path)
    image, data = _read(path)
    notes: list[str] = []
    if data.ndim > 3 and int(np.prod(data.shape[3:])) > 1:
        data = average_series(data, path, contrast, bval, notes)
    data = data.reshape((*data.shape[:3], 1, 1)[:3])
    finite = np.isfinite(data)
    if not finite.any():
        raise InputError(f"{path}: expected an image, found no finite value; check how it was converted")
    if not finite.all():
        notes.append(f"{int((~finite).sum())} voxels are NaN or infinite and were read as 0")
        data = np.where(finite, data, np.float32(0))
    if data.min() == data.max():
        raise InputError(f"{path}: expected an image, found {data.flat[0]:g} in every voxel; check the file")
    grid = _grid_of(image, path, tuple(notes))
    return to_canonical(data.astype(np.float32, copy=False), grid.affine), grid


def load_mask(path: str | Path, *, like: NativeGrid | None = None) -> tuple[Volume, NativeGrid]:
    """Load a mask as float32 between 0 and 1; labels above 1 count as 1.

    Parameters
    ----------
    path : str or Path
    like : NativeGrid, optional
        The grid that the mask must share.

    Raises
    ------
    InputError
        If the file cannot be read.
    GeometryError
        If the mask lies on another grid than `like`.
    """
    path = Path(path)
    image, data = _read(path)
    data = np.nan_to_num(data.reshape((*data.shape, 1, 1)[:3] if data.ndim < 4 else data.shape[:3]))
    data = (data > 0).astype(np.float32) if data.max(initial=0) > 1 else data.clip(0, 1)
    grid = _grid_of(image, path, ())
    if like is not None:
        check_same_grid(grid, like, path)
    return to_canonical(data.astype(np.float32, copy=False), grid.affine), grid


def check_same_grid(grid: NativeGrid, like: NativeGrid, path: str | Path) -> None:
    """Raise GeometryError unless `grid` (of `path`) has the shape and the affine of `like`."""
    if grid.shape3 != like.shape3:
        raise GeometryError(
            f"{path}: expected the image's grid {like.shape3}, found {grid.shape3}; resample it to the image"
        )
    if not np.allclose(grid.affine, like.affine, atol=AFFINE_TOLERANCE_MM):
        gap = float(np.abs(grid.affine - like.affine).max())
        raise GeometryError(
            f"{path}: expected the image's affine, found one that differs by up to {gap:.3g}; resample it to the image"
        )


def _read(path: Path) -> tuple[nib.spatialimages.SpatialImage, NDArray[np.float32]]:
    """Read an image file and its values as float32, or say in one line why not."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected a NIfTI image, found an empty file; copy or convert it again")
    try:
        image = nib.load(path)
        if image.get_data_dtype().kind not in "iufb":
            raise InputError(
                f"{path}: expected one number per voxel, found {image.get_data_dtype()}; convert it to float"
            )
        data = np.asarray(image.dataobj, dtype=np.float32)
    except InputError:
        raise
    except nib.filebasedimages.ImageFileError as error:
        raise InputError(f"{path}: expected a NIfTI image, found another format; convert it first") from error
    except Exception as error:  # nibabel, zlib and gzip each have their own errors for damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged or truncated ({reason}); copy or convert it again") from error
    if data.ndim < 2 or data.size == 0:
        raise InputError(f"{path}: expected 2 to 4 dimensions, found shape {data.shape}")
    return image, data


def _grid_of(image: nib.spatialimages.SpatialImage, path: Path, notes: tuple[str, ...]) -> NativeGrid:
    """Describe the file's spatial grid, with a header that can be written again."""
    affine = np.asarray(image.affine, dtype=np.float64)
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not np.isfinite(affine).all() or (zooms <= 0).any() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise GeometryError(f"{path}: expected voxels with a size, found an affine that is not invertible")
    shape = image.shape[:3]
    if isinstance(image, nib.Nifti1Pair):
        header = nib.Nifti1Header.from_header(image.header)
    else:
        header = nib.Nifti1Image(np.zeros(shape, np.uint8), affine).header
    return NativeGrid(shape, affine, header, notes)


def save_volume(path: str | Path, data: NDArray, grid: NativeGrid, dtype: type[np.generic] = np.uint8) -> None:
    """Write a canonical (I, J, K) array onto the image's own grid; the file appears only when whole.

    Shape, affine, sform, qform and their codes are the image's; equal arrays give equal bytes.
    """
    header = grid.header.copy()
    header.extensions.clear()
    native = np.ascontiguousarray(to_native(data, grid)).astype(dtype)
    header.set_data_shape(native.shape)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b"spineseg"
    content = nib.Nifti1Image(native, None, header).to_bytes()
    write_bytes(path, compress(content) if str(path).endswith(".gz") else content)


def crop(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """Cut a box out; the affine's origin moves with it, so world coordinates stay."""
    start = [s.indices(n)[0] for s, n in zip(box, volume.shape, strict=True)]
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ start
    return Volume(volume.data[box], affine)


def resample_in_plane(volume: Volume, zoom_mm: float, *, order: int = 1) -> Volume:
    """Resample axes 0 and 1 to square pixels of `zoom_mm`; slices stay as they are.

    The centres of the old and the new field of view coincide, and the affine says so,
    so nothing is shifted by half a voxel. Outside values repeat the border.
    """
    zooms, old = volume.zooms[:2], np.array(volume.shape[:2])
    new = np.maximum(1, np.round(old * zooms / zoom_mm)).astype(int)
    step = zoom_mm / zooms
    first = (old - 1) / 2 - step * (new - 1) / 2
    data = ndi.affine_transform(
        volume.data,
        [*step, 1.0],
        offset=[*first, 0.0],
        output_shape=(*new, volume.shape[2]),
        order=order,
        mode="nearest",
    )
    affine = volume.affine.copy()
    affine[:3, :2] *= step
    affine[:3, 3] += volume.affine[:3, :2] @ first
    return Volume(data, affine)


def resample_like(
    volume: Volume, shape: tuple[int, int, int], affine: NDArray, *, order: int = 1, outside: float = 0.0
) -> NDArray:
    """Sample a volume on another grid through both affines; `outside` fills what it does not cover."""
    matrix = np.linalg.inv(volume.affine) @ affine
    return ndi.affine_transform(
        volume.data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=shape,
        order=order,
        mode="constant",
        cval=outside,
    )
