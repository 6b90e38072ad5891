"""Load label files that lie on the grid of a mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.levels.slices import find_junction
from spineseg.volume import NativeGrid, Volume, check_same_grid
from spineseg.volume.stored import open_image


def load_labels(path: str | Path, grid: NativeGrid) -> NDArray[np.float32]:
    """Load labels that lie on a mask's grid.

    Returns
    -------
    (I, J, K) ndarray of float32
        As from `read_labels`.

    Raises
    ------
    InputError
        If the file cannot be read or holds no label.
    GeometryError
        If it lies on another grid.
    """
    return read_labels(path, like=grid)[0].data


def read_labels(path: str | Path, *, like: NativeGrid | None = None) -> tuple[Volume, NativeGrid]:
    """Read labels of any number type.

    Parameters
    ----------
    path : str or Path
    like : NativeGrid, optional
        Grid that the labels must have.

    Returns
    -------
    labels : Volume, float32
        Canonical orientation, 0 where there is no label; NaN is read as 0.
    grid : NativeGrid

    Raises
    ------
    InputError
        If the file cannot be read, holds no label, or has negative or infinite values.
    GeometryError
        If it lies on another grid.
    """
    path = Path(path)
    image = open_image(path, is_mask=True)
    grid = NativeGrid(image.shape[:3], image.affine, image.header, image.notes, image.forms_disagree)
    if like is not None:
        check_same_grid(grid, like, path)
    values, places = image.read_filled()
    if n_missing := int(np.isnan(values).sum()):
        note = f"{path.name}: {n_missing} voxels are NaN and count as no label"
        grid = replace(grid, notes=(*grid.notes, note))
    values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    if not values.any():
        raise InputError(f"{path}: expected labels, found no label; check the file")
    if values.min() < 0 or np.isinf(values).any():
        wrong = values.min() if values.min() < 0 else np.inf
        raise InputError(
            f"{path}: expected labels from 1 on and 0 elsewhere, found the value {wrong:g}; is it an image?"
        )
    return image.filled_volume(values, places), grid


def load_junction(path: str | Path, grid: NativeGrid) -> NDArray[np.float64]:
    """Load the position of the pontomedullary junction, (3,), canonical voxel indices.

    Raises
    ------
    InputError
        If the file has no mark, several marks, or a mark of something else.
    """
    labels = load_labels(path, grid)
    return find_junction(labels, grid.zooms, str(path), grid) / grid.zooms
