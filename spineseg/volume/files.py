"""Load images and masks into canonical orientation, and write masks back onto an image's grid."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.series import average_series
from spineseg.volume.grid import NativeGrid, Volume, check_same_grid, to_canonical, to_native
from spineseg.volume.masks import read_mask_values
from spineseg.volume.stored import StoredImage, open_image
from spineseg.writing import compress, write_bytes

MAX_VALUE, MIN_RANGE = 1e15, 1e-15
"""Largest value and smallest range of an image whose squares and sums stay within float32."""


def load_image(
    path: str | Path, *, contrast: str | None = None, bval: str | Path | None = None
) -> tuple[Volume, NativeGrid]:
    """Load an image as float32 in canonical orientation; series are averaged over time.

    Parameters
    ----------
    path : str or Path
        ``.nii`` or ``.nii.gz``, or another format that nibabel reads. 2-D, 3-D or 4-D.
    contrast : str, optional
        With ``"dwi"`` a series is averaged over its volumes with b > 50 s/mm².
    bval : str or Path, optional
        b-values file; by default the one that `spineseg.series.find_bval` finds.

    Returns
    -------
    volume : Volume, float32
        Finite everywhere: NaN and infinity become 0.
    grid : NativeGrid
        Its notes say what had to be corrected.

    Raises
    ------
    InputError
        If the file is missing, damaged, constant, not an image, outside the limits of `spineseg.volume.limits`, or
        has no finite value.
    """
    path = Path(path)
    if bval and not Path(bval).is_file():
        raise InputError(f"{bval}: no such b-values file")
    image = open_image(path)
    notes = list(image.notes)
    if image.n_volumes > 1:
        data = average_series(image.read_volume, image.n_volumes, path, contrast, bval, notes)
    else:
        data = image.read_volume(0)
    finite = np.isfinite(data)
    if not finite.any():
        raise InputError(f"{path}: expected an image, found no finite value; check how it was converted")
    if not finite.all():
        notes.append(f"{int((~finite).sum())} voxels are NaN or infinite and were read as 0")
        data = np.where(finite, data, np.float32(0))
    lowest, highest = float(data.min()), float(data.max())
    _check_values(path, lowest, highest)
    if (lowest, highest) == (0, 1) and ((data == 0) | (data == 1)).all():
        notes.append("holds no values but 0 and 1; is it a mask?")
    return to_canonical(data.astype(np.float32, copy=False), image.affine), _grid_of(image, tuple(notes))


def _check_values(path: Path, lowest: float, highest: float) -> None:
    """Refuse values that are all the same, or too large or too close together for arithmetic in float32."""
    if lowest == highest:
        raise InputError(f"{path}: expected an image, found {lowest:g} in every voxel; check the file")
    if max(abs(lowest), abs(highest)) > MAX_VALUE or highest - lowest < MIN_RANGE:
        raise InputError(
            f"{path}: expected values between {MIN_RANGE:g} and {MAX_VALUE:g}, found {lowest:g} to {highest:g}; "
            "check the slope of its header"
        )


def load_mask(
    path: str | Path, *, like: NativeGrid | None = None, label: int | None = None, any_positive: bool = False
) -> tuple[Volume, NativeGrid]:
    """Load a mask as float32 between 0 and 1, by the rules of `spineseg.volume.masks`.

    Parameters
    ----------
    path : str or Path
        2-D or 3-D; further axes of length one are dropped.
    like : NativeGrid, optional
        Grid that the mask must have.
    label : int, optional
        Label of the cord, if the mask has several labels.
    any_positive : bool
        For points and centerlines that people draw: every value above 0 counts, whatever its label.

    Returns
    -------
    mask : Volume, float32, 0 to 1
    grid : NativeGrid
        Its notes say what had to be corrected.

    Raises
    ------
    InputError
        If the file cannot be read, holds an image, or holds several labels and none was chosen.
    GeometryError
        If the mask lies on another grid than `like`.
    """
    path = Path(path)
    image = open_image(path, is_mask=True)
    grid = _grid_of(image, image.notes)
    if like is not None:
        check_same_grid(grid, like, path)
    values, places = image.read_filled()
    n_zero = math.prod(grid.shape3) - values.size
    values, notes = read_mask_values(values, n_zero, path, label=label, any_positive=any_positive)
    said = (f"{path.name}: {note}" for note in image.notes)  # names the file: masks are read in pairs, and with images
    return image.filled_volume(values, places), _grid_of(image, (*said, *notes))


def _grid_of(image: StoredImage, notes: tuple[str, ...]) -> NativeGrid:
    """Return the file's spatial grid."""
    return NativeGrid(image.shape[:3], image.affine, image.header, notes, image.forms_disagree)


def save_volume(path: str | Path, data: NDArray, grid: NativeGrid, dtype: type[np.generic] = np.uint8) -> str:
    """Write a canonical (I, J, K) array onto the image's own grid; an incomplete file is never visible.

    Shape, affine, sform, qform and their codes are those of the image. Equal arrays give equal bytes.

    Parameters
    ----------
    path : str or Path
        Compressed if the name ends in ``.gz``.
    data : (I, J, K) ndarray
        Canonical orientation.
    grid : NativeGrid
        Grid of the image.
    dtype : numpy type
        Number type in the file.

    Returns
    -------
    str
        SHA-256 of the file.
    """
    header = grid.header.copy()
    native = np.ascontiguousarray(to_native(data, grid)).astype(dtype)
    zooms = header["pixdim"][1:4].copy()
    header.set_data_shape(native.shape)
    header["pixdim"][1:4] = zooms  # nibabel would drop the thickness of a 2-D image, which a qform needs
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b"spineseg"
    content = nib.Nifti1Image(native, None, header).to_bytes()
    content = compress(content) if str(path).endswith(".gz") else content
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()
