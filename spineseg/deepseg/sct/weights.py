"""Read the weights that SCT published for deepseg_sc, as Keras HDF5 or ONNX, into torch networks.

The architecture is inferred from the layers and the shapes of their arrays. Both formats give the same layers, named as
in Keras.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spineseg.deepseg.network import UNet, to_channels_last
from spineseg.deepseg.sct.keras_file import Layers, read_keras_layers
from spineseg.deepseg.sct.networks import SEGMENT_3D_MOMENTS, SctConfig, SctUNet, fold_sct_norm
from spineseg.deepseg.sct.onnx_file import read_onnx_layers
from spineseg.deepseg.weights import Models, load_own_models
from spineseg.errors import ModelError

FILE_NAME = re.compile(r"(t1|t2|t2s|dwi)_(ctr|sc|sc_3D)\.(h5|onnx)")
KINDS = {"ctr": ("detect", "2d"), "sc": ("segment", "2d"), "sc_3D": ("segment", "3d")}
"""Ending of a file's name to stage and kernel."""

NORM_ARRAYS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
"""Names of the arrays of a batch norm in Keras, and in torch."""

MAX_BASE, MAX_DEPTH = 64, 4
"""Limits of the first layer's feature maps and of the poolings. The published networks have at most 32 and 3; a damaged
file must not cause gigabytes to be allocated."""


READERS = {".h5": read_keras_layers, ".onnx": read_onnx_layers}
"""Reader by file extension; in a folder with both formats, the first is used."""


def is_sct_weights(path: Path) -> bool:
    """Return whether `path` is a file in one of SCT's formats, or a folder with such files and none of ours."""
    endings = {file.suffix.lower() for file in (path.iterdir() if path.is_dir() else [path])}
    return bool(endings & READERS.keys()) and ".safetensors" not in endings


def load_sct_model(path: str | Path, contrast: str) -> SctUNet:
    """Build a network of SCT from a Keras HDF5 or ONNX file.

    Returns SctUNet: ready for inference, batch norm not folded.

    Parameters
    ----------
    path : str or Path
        ``<contrast>_ctr``, ``<contrast>_sc``, ``<contrast>_sc_3D``, ``.h5`` or ``.onnx``, or any other name.
    contrast : {"t1", "t2", "t2s", "dwi"}; determines the constants if the file's name does not

    Raises
    ------
    ModelError; if the file is missing, damaged, or its layers are none of the three networks
    """
    path = Path(path)
    named = FILE_NAME.fullmatch(path.name)
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    layers = READERS.get(path.suffix.lower(), read_keras_layers)(path)
    config = infer_config(layers, named[1] if named else contrast, path)
    if named and KINDS[named[2]] != _kind(config):
        expected, found = (f"{kernel} network to {stage}" for stage, kernel in (KINDS[named[2]], _kind(config)))
        raise ModelError(f"{path}: by its name a {expected}, by its layers a {found}; give it the right name")
    model = SctUNet(config)
    model.load_state_dict(_to_state(layers, model, path), strict=False)  # batches counted in training are not stored
    return model.eval()


def infer_config(layers: dict[str, Layers], contrast: str, path: Path) -> SctConfig:
    """Return the architecture to which the layers belong.

    Each pooling has two convolutions before it and two on the way back, and the last convolution is the head. The
    remaining ones lie in the middle.

    Raises
    ------
    ModelError; if the numbers of layers fit none of SCT's networks
    """
    n_norm = len(layers.get("batch_normalization", []))
    if "conv3d" in layers:
        n_conv = len(layers["conv3d"])
        depth = (n_conv - 3) // 4
        config = SctConfig("segment", "3d", contrast, _n_out(layers["conv3d"][0]), depth, n_conv - 4 * depth - 1)
        if contrast not in SEGMENT_3D_MOMENTS:
            raise ModelError(f"{path}: SCT has no 3-D network for {contrast}; use -kernel 2d with {contrast}_sc.h5")
        fits = config.n_middle == 2 and not layers.keys() & {"conv2d", "conv2d_transpose"}
    else:
        n_conv, depth = len(layers["conv2d"]), len(layers.get("conv2d_transpose", []))
        stage = "detect" if n_norm else "segment"
        config = SctConfig(stage, "2d", contrast, _n_out(layers["conv2d"][0]), depth, n_conv - 4 * depth - 1)
        fits = config.n_middle >= 1
    fits &= 1 <= depth <= MAX_DEPTH and config.base <= MAX_BASE
    if not fits or n_norm != (n_conv - 1) * config.has_norm:
        counts = ", ".join(f"{len(some)} {kind}" for kind, some in layers.items())
        raise ModelError(f"{path}: its layers ({counts}) are none of SCT's networks")
    return config


def _kind(config: SctConfig) -> tuple[str, str]:
    """Return stage and kernel."""
    return config.stage, config.kernel


def _n_out(conv: dict[str, NDArray]) -> int:
    """Return the number of feature maps that a convolution gives, at least 1."""
    kernel = conv.get("kernel")
    return max(1, kernel.shape[-1]) if kernel is not None and kernel.ndim else 1


def _to_state(layers: dict[str, Layers], model: SctUNet, path: Path) -> dict[str, Tensor]:
    """Return the arrays under the names of torch's parameters, after checking their shapes."""
    blocks = model.blocks()
    names = {module: name for name, module in model.named_modules()}
    convs = layers["conv3d" if model.config.kernel == "3d" else "conv2d"]
    pairs = [(block[0], arrays) for block, arrays in zip(blocks, convs[:-1], strict=True)]
    pairs.append((model.head, convs[-1]))
    pairs += zip(model.up, layers.get("conv2d_transpose", []), strict=True) if model.config.kernel == "2d" else []
    if model.config.has_norm:
        pairs += [(block[1], arrays) for block, arrays in zip(blocks, layers["batch_normalization"], strict=True)]
    expected = model.state_dict()
    state = {}
    for module, arrays in pairs:
        for keras_name, array in arrays.items():
            name = f"{names[module]}.{_TORCH_NAMES.get(keras_name, keras_name)}"
            value = _to_torch(array) if keras_name == "kernel" else torch.from_numpy(array)
            if name not in expected or value.shape != expected[name].shape or not value.isfinite().all():
                shape = tuple(expected[name].shape) if name in expected else "no such array"
                raise ModelError(
                    f"{path}: array {keras_name} of {name} has shape {tuple(value.shape)}; expected {shape}, all finite"
                )
            state[name] = value
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"{path}: no values for {missing[0]}; is the file complete?")
    return state


_TORCH_NAMES = {"kernel": "weight", "bias": "bias", **NORM_ARRAYS}


def _to_torch(kernel: NDArray[np.float32]) -> Tensor:
    """Move the two channel axes of a Keras kernel from the end to the front and swap them; nothing is flipped.

    For convolutions (..., in, out) becomes (out, in, ...), for transposed ones (..., out, in) becomes (in, out, ...).
    """
    if kernel.ndim < 3:
        return torch.from_numpy(kernel)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1))))


@dataclass(frozen=True)
class SctWeights:
    """SCT's files in a folder, or one of them; the networks are chosen by contrast."""

    path: Path  # A folder with files named as SCT names them, or one file, which replaces our network of its stage
    device: str = "cpu"
    _made: dict[tuple[str, str], Models] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            load_sct_model(self.path, "t2")  # an unusable file is reported before the first image
        elif not any(FILE_NAME.fullmatch(file.name) for file in self.path.iterdir()):
            raise ModelError(f"{self.path}: expected files named as by SCT, such as t2_ctr.h5, t2_sc.onnx, found none")

    def for_contrast(self, contrast: str, kernel: str = "2d") -> Models:
        """Return the networks for images of a contrast, read once.

        Parameters
        ----------
        contrast : {"t1", "t2", "t2s", "dwi"}
        kernel : {"2d", "3d"}; SCT has no 3-D network for dwi; the 2-D one is used then, with a note

        Raises
        ------
        ModelError; if a file is missing or cannot be used, or the only file has the other kernel
        """
        key = contrast, kernel
        if key not in self._made:
            self._made[key] = self._from_folder(*key) if self.path.is_dir() else self._from_file(*key)
        return self._made[key]

    def _from_file(self, contrast: str, kernel: str) -> Models:
        """Return our networks, with the file's network in place of ours at its stage."""
        network = self._ready(self.path, contrast)
        found = network.config
        if found.kernel != kernel and (found.stage == "segment" or kernel == "3d"):
            advice = "use -kernel 3d" if found.kernel == "3d" else f"use -kernel 2d, or give {contrast}_sc_3D.h5"
            raise ModelError(f"{self.path}: a {found.kernel} network to {found.stage}, with -kernel {kernel}; {advice}")
        own = load_own_models(None, self.device)
        notes: tuple[str, ...] = (
            () if found.contrast == contrast else (f"{self.path.name} was trained for {found.contrast} images",)
        )
        networks: dict[str, UNet | SctUNet] = {"detect": own.detect, "segment": own.segment, found.stage: network}
        return Models(networks["detect"], networks["segment"], self.device, notes)

    def _from_folder(self, contrast: str, kernel: str) -> Models:
        """Return the networks from the contrast's files, with our detector if the folder has none of SCT's."""
        notes = []
        if kernel == "3d" and contrast not in SEGMENT_3D_MOMENTS:
            notes.append(f"SCT has no 3-D network for {contrast}: the 2-D one was used")
            kernel = "2d"
        ending = {"2d": "sc", "3d": "sc_3D"}[kernel]
        segment = self._ready(self._file(f"{contrast}_{ending}"), contrast)
        detection = self._file(f"{contrast}_ctr")
        if detection.is_file():
            return Models(self._ready(detection, contrast), segment, self.device, tuple(notes))
        notes.append(f"no {detection.name} in the folder: the cord was found by spineseg's own network")
        return Models(load_own_models(None, self.device).detect, segment, self.device, tuple(notes))

    def _file(self, stem: str) -> Path:
        """Return the file of that name in either format; if there is neither, the path of the Keras one."""
        files = [self.path / f"{stem}{ending}" for ending in READERS]
        return next((file for file in files if file.is_file()), files[0])

    def _ready(self, path: Path, contrast: str) -> SctUNet:
        """Read a network and make it fast."""
        return to_channels_last(fold_sct_norm(load_sct_model(path, contrast))).to(self.device)
