"""Label files on the grid of a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.levels.names import PMJ_VALUE
from spineseg.volume import NativeGrid, load_image, load_mask


def load_labels(path: str | Path, grid: NativeGrid) -> NDArray[np.float32]:
    """Load labels that lie on a mask's grid.

    Parameters
    ----------
    path : str or Path
    grid : NativeGrid
        Of the mask.

    Returns
    -------
    (I, J, K) ndarray of float32
        Canonical orientation, 0 where there is no label.

    Raises
    ------
    InputError
        If the file cannot be read or holds no label.
    GeometryError
        If it lies on another grid.
    """
    if not load_mask(path, like=grid, any_positive=True)[0].data.any():
        raise InputError(f"{path}: expected labels, found no label; check the file")
    return load_image(path)[0].data


def load_junction(path: str | Path, grid: NativeGrid) -> NDArray[np.float64]:
    """Load the voxel that marks the pontomedullary junction, (3,), canonical voxel indices.

    Raises
    ------
    InputError
        If the file marks no place, or several and none by the value 50.
    """
    labels = load_labels(path, grid)
    index = np.argwhere(labels == PMJ_VALUE)
    if not len(index):
        index = np.argwhere(labels != 0)
    if len(index) > 1:
        raise InputError(
            f"{path}: expected one voxel for the pontomedullary junction, found {len(index)}; "
            f"mark it once, with the value {PMJ_VALUE}"
        )
    return index[0].astype(np.float64)
