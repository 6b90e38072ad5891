"""What a 4-D series becomes: its mean over time, diffusion over its weighted volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.writing import file_stem

B_VALUE_WEIGHTED = 50.0
"""s/mm²; above it a volume counts as diffusion weighted. Scanners write 5-50 for nominal b = 0."""


def average_series(
    data: NDArray, path: Path, contrast: str | None, bval: str | Path | None, notes: list[str]
) -> NDArray[np.float32]:
    """Average a series over time, diffusion over its weighted volumes only.

    Parameters
    ----------
    data : (I, J, K, T) ndarray
    path : Path
        The image's file; its b-values lie beside it unless `bval` names them.
    contrast : str or None
    bval : str or Path, optional
    notes : list of str
        What was averaged is added here.

    Returns
    -------
    mean : (I, J, K) ndarray of float32

    Raises
    ------
    InputError
        If `bval` is missing, or the b-values are no numbers or not as many as volumes.
    """
    data = data.reshape((*data.shape[:3], -1))
    weighted = _weighted_volumes(path, data.shape[3], bval) if contrast == "dwi" else None
    if weighted is None:
        notes.append(f"mean of {data.shape[3]} volumes")
        return data.mean(axis=3, dtype=np.float64).astype(np.float32)
    notes.append(f"mean of {int(weighted.sum())} of {data.shape[3]} volumes (b > {B_VALUE_WEIGHTED:g} s/mm²)")
    return data[..., weighted].mean(axis=3, dtype=np.float64).astype(np.float32)


def _weighted_volumes(path: Path, n_volumes: int, bval: str | Path | None) -> NDArray[np.bool_] | None:
    """Return which volumes are diffusion weighted, None where no b-values tell."""
    file = Path(bval) if bval else path.with_name(file_stem(path) + ".bval")
    if not file.is_file():
        if bval:
            raise InputError(f"{file}: no such b-values file")
        return None
    try:
        values = np.array(file.read_text().split(), dtype=float)
    except ValueError as error:
        raise InputError(f"{file}: expected b-values (numbers), found other text") from error
    if values.size != n_volumes:
        raise InputError(f"{file}: expected {n_volumes} b-values for {path.name}, found {values.size}")
    weighted = values > B_VALUE_WEIGHTED
    return weighted if weighted.any() else None
