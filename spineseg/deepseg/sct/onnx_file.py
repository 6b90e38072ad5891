"""Read the arrays of an ONNX file as the layers of the Keras network from which it was exported.

Exporters rename arrays, so layers are identified by their operators. An ONNX graph lists operators in the order of
computation, which is the order in which Keras numbers the layers of these networks.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.deepseg.sct.keras_file import MAX_VALUES, Layers
from spineseg.deepseg.sct.networks import BN_EPS
from spineseg.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

OPERATORS = {"Conv": "conv", "ConvTranspose": "conv2d_transpose", "BatchNormalization": "batch_normalization"}
NORM_NAMES = ("gamma", "beta", "moving_mean", "moving_variance")
"""Arrays of a batch norm in the order in which its operator takes them."""


def read_onnx_layers(path: Path) -> dict[str, Layers]:
    """Return the layers of an ONNX file by kind, with arrays named and laid out as in Keras.

    A batch norm that the exporter merged into its convolution is replaced by one that changes nothing.

    Raises
    ------
    ModelError; if the package onnx is not installed, the file cannot be read, or holds no convolution
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"{path}: reading ONNX files needs the package onnx: pip install onnx") from error
    if path.stat().st_size > 4 * MAX_VALUES:
        raise ModelError(f"{path}: {path.stat().st_size} bytes are no weights of SCT")
    try:
        graph = onnx.load(path, load_external_data=False).graph
        layers, n_dilated = _collect(graph)
    except Exception as error:  # protobuf and onnx raise many kinds
        raise ModelError(f"{path}: expected a network in ONNX format ({str(error).splitlines()[0]})") from error
    convs = layers.get("conv2d") or layers.get("conv3d")
    if not convs:
        raise ModelError(f"{path}: expected operators Conv with their weights, found none")
    if "batch_normalization" not in layers and (n_dilated or "conv3d" in layers):
        layers["batch_normalization"] = [_identity_norm(conv["kernel"].shape[-1]) for conv in convs[:-1]]
    return dict(layers)


def _collect(graph: GraphProto) -> tuple[dict[str, Layers], int]:
    """Return the layers, and the number of dilated convolutions."""
    from onnx import numpy_helper

    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    layers, n_dilated, n_values = defaultdict(list), 0, 0
    for node in graph.node:
        if node.op_type not in OPERATORS:
            continue
        n_values += sum(arrays[name].size for name in node.input[1:] if name)
        if n_values > MAX_VALUES:  # one array may be used by any number of operators
            raise ValueError(f"more than {MAX_VALUES} values")
        values = [np.array(arrays[name], dtype=np.float32) for name in node.input[1:] if name]
        if node.op_type == "BatchNormalization":
            layers["batch_normalization"].append(dict(zip(NORM_NAMES, values, strict=True)))
            continue
        kind = f"conv{values[0].ndim - 2}d" if node.op_type == "Conv" else OPERATORS[node.op_type]
        layers[kind].append(_conv_layer(values, transposed=node.op_type == "ConvTranspose"))
        n_dilated += _is_dilated(node)
    return layers, n_dilated


def _conv_layer(values: list[NDArray[np.float32]], *, transposed: bool) -> dict[str, NDArray[np.float32]]:
    """Move the two channel axes, first in ONNX, to the end and swap them, as Keras has them."""
    kernel = np.moveaxis(values[0], (0, 1), (-1, -2))
    n_out = kernel.shape[-2 if transposed else -1]
    return {"kernel": kernel, "bias": values[1] if len(values) > 1 else np.zeros(n_out, np.float32)}


def _is_dilated(node: NodeProto) -> bool:
    """Return whether a convolution is dilated."""
    return any(attribute.name == "dilations" and max(attribute.ints) > 1 for attribute in node.attribute)


def _identity_norm(n_features: int) -> dict[str, NDArray[np.float32]]:
    """Return the batch norm that changes nothing."""
    one, zero = np.ones(n_features, np.float32), np.zeros(n_features, np.float32)
    return dict(zip(NORM_NAMES, (one, zero, zero, one * np.float32(1 - BN_EPS)), strict=True))
