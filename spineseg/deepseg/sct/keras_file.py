"""Read the arrays of a Keras HDF5 file, layer by layer.

Only arrays are read; layer graphs, Lambda bytecode and optimiser states in the file are ignored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import ModelError

if TYPE_CHECKING:
    from h5py import Dataset

Layers = list[dict[str, NDArray[np.float32]]]
"""Layers of one kind in the order of their numbers; each is a dictionary from name to array."""

LAYER_NAME = re.compile(r"(conv2d_transpose|conv2d|conv3d|batch_normalization)(?:_(\d+))?")

MAX_VALUES = 50_000_000
"""Largest number of values, more than 20 times the largest published network: a larger file is something else, and is
not read into memory."""


def read_keras_layers(path: Path) -> dict[str, Layers]:
    """Return the layers of a Keras file by kind, in the order of their numbers.

    Raises
    ------
    ModelError; if the file cannot be read, or holds no convolution
    """
    import h5py  # slow to import, and only these files need it

    n_values = 0
    found: dict[tuple[str, int], dict[str, NDArray[np.float32]]] = {}

    def collect(name: str, item: Dataset | h5py.Group) -> None:
        nonlocal n_values
        parts = name.split("/")
        named = LAYER_NAME.fullmatch(parts[0])
        if named and isinstance(item, h5py.Dataset):
            n_values += item.size
            if n_values > MAX_VALUES or item.dtype.kind != "f":
                raise ModelError(f"{path}: array {name} is no weights of SCT ({item.dtype}, {n_values} values)")
            arrays = found.setdefault((named[1], int(named[2] or 0)), {})
            arrays[parts[-1].split(":")[0]] = np.asarray(item[()], dtype=np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.get("model_weights", file).visititems(collect)  # follows no links to other files
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: expected Keras weights in HDF5 format ({str(error).splitlines()[0]})") from error
    layers: dict[str, Layers] = {}
    for kind, number in sorted(found):
        layers.setdefault(kind, []).append(found[kind, number])
    if not layers.keys() & {"conv2d", "conv3d"}:
        raise ModelError(f"{path}: expected layers conv2d_1, ... or conv3d_1, ..., found none")
    return layers
