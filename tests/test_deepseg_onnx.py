"""SCT's networks as ONNX: graphs written here as exporters write them, run by onnx's own reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_deepseg_sct import sct_2d, sct_3d, write_keras

from spineseg.deepseg.model import load_models
from spineseg.deepseg.sct.weights import load_sct_model
from spineseg.errors import ModelError
from spineseg.methods.registry import OWN_METHODS

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
reference = pytest.importorskip("onnx.reference")
helper = onnx.helper


class Graph:
    """An ONNX graph, built operator by operator; arrays get new names as from exporters."""

    def __init__(self, *, constants: bool):
        self.nodes, self.initializers, self.constants = [], [], constants

    def array(self, value):
        name = f"W{len(self.nodes)}_{len(self.initializers)}"
        tensor = onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
        if self.constants:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.insert(0, tensor)  # in no useful order
        return name

    def add(self, kind, *inputs, **attributes):
        name = f"T{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def channels_first(kernel):
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def write_onnx(path, layers, depth, n_middle, shape, *, dilated=False, merged=False, constants=False):
    """Write the layers as a graph for images of a fixed shape (1, H, W[, D], 1) and return the path."""
    graph = Graph(constants=constants)
    n_spatial = len(shape)
    kind = f"conv{n_spatial}d"
    count = 0

    def block(name, dilation=1):
        nonlocal count
        count += 1
        layer, norm = layers[f"{kind}_{count}"], layers.get(f"batch_normalization_{count}")
        kernel, bias = layer["kernel"], layer["bias"]
        if norm and merged:
            scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + 1e-3)
            kernel, bias = kernel * scale, (bias - norm["moving_mean"]) * scale + norm["beta"]
        arrays = graph.array(channels_first(kernel)), graph.array(bias)
        how = {"dilations": [dilation] * n_spatial, "pads": [dilation] * 2 * n_spatial}
        name = graph.add("Conv", name, *arrays, kernel_shape=[3] * n_spatial, **how)
        if norm and not merged:
            values = [graph.array(norm[k]) for k in ("gamma", "beta", "moving_mean", "moving_variance")]
            name = graph.add("BatchNormalization", name, *values, epsilon=1e-3)
        return graph.add("Relu", name)

    first, last = [0, n_spatial + 1, *range(1, n_spatial + 1)], [0, *range(2, n_spatial + 2), 1]
    name, skips = graph.add("Transpose", "input_1", perm=first), []
    for _ in range(depth):
        name = block(block(name), 2 if dilated else 1)
        skips.append(name)
        name = graph.add("MaxPool", name, kernel_shape=[2] * n_spatial, strides=[2] * n_spatial)
    for n in range(n_middle):
        name = block(name, 2**n if dilated else 1)
    for n in range(1, depth + 1):
        if n_spatial == 3:
            sizes = graph.array([]), graph.array([1, 1, 2, 2, 2])  # no region of interest; factors
            name = graph.add("Resize", name, *sizes, mode="nearest", coordinate_transformation_mode="asymmetric")
        else:
            layer = layers[f"conv2d_transpose_{n}"]
            arrays = graph.array(channels_first(layer["kernel"])), graph.array(layer["bias"])
            name = graph.add("ConvTranspose", name, *arrays, strides=[2, 2], kernel_shape=[2, 2])
        name = block(block(graph.add("Concat", name, skips.pop(), axis=1)))
    head = layers[f"{kind}_{count + 1}"]
    arrays = graph.array(channels_first(head["kernel"])), graph.array(head["bias"])
    name = graph.add("Conv", name, *arrays, kernel_shape=[1] * n_spatial)
    name = graph.add("Sigmoid", name)
    graph.nodes.append(helper.make_node("Transpose", [name], ["predictions"], perm=last))
    ends = [
        helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, [1, *shape, 1]) for end in ("input_1", "predictions")
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "keras", ends[:1], ends[1:], graph.initializers),
        opset_imports=[helper.make_opsetid("", 15)],  # 11 alike, but its batch norm is evaluated as in training
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


NETWORKS = {
    "t2_ctr": (sct_2d(2, 2, 3, True), 2, 3, (16, 24), True),
    "t2_sc": (sct_2d(2, 3, 2, False), 3, 2, (16, 24), False),
    "t2_sc_3D": (sct_3d(2), 1, 2, (8, 8, 4), False),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("how", [{}, {"constants": True}, {"merged": True}])
def test_the_network_computes_what_the_graph_computes(tmp_path, name, how):
    layers, depth, n_middle, shape, dilated = NETWORKS[name]
    path = write_onnx(tmp_path / f"{name}.onnx", layers, depth, n_middle, shape, dilated=dilated, **how)
    image = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    expected = reference.ReferenceEvaluator(str(path)).run(None, {"input_1": image[None, ..., None]})[0]
    with torch.inference_mode():
        found = torch.sigmoid(load_sct_model(path, "t2")(torch.from_numpy(image)[None, None]))
    np.testing.assert_allclose(found[0, 0], expected[0, ..., 0], atol=2e-5)


def test_both_formats_give_the_same_network(tmp_path):
    layers, depth, n_middle, shape, dilated = NETWORKS["t2_ctr"]
    onnx_file = write_onnx(tmp_path / "t2_ctr.onnx", layers, depth, n_middle, shape, dilated=dilated)
    keras_file = write_keras(tmp_path / "t2_ctr.h5", layers)
    a, b = (load_sct_model(path, "t2").state_dict() for path in (onnx_file, keras_file))
    assert all(torch.equal(a[key], b[key]) for key in b)


def test_a_folder_of_onnx_files_serves_a_study(tmp_path):
    for name in ("t2_ctr", "t2_sc"):
        layers, depth, n_middle, shape, dilated = NETWORKS[name]
        write_onnx(tmp_path / f"{name}.onnx", layers, depth, n_middle, shape, dilated=dilated)
    models = load_models(tmp_path, device="cpu").for_contrast("t2")
    assert (models.detect.config.stage, models.segment.config.depth) == ("detect", 3)
    assert sorted(OWN_METHODS["deepseg"].hash_weights(tmp_path)) == ["t2_ctr.onnx", "t2_sc.onnx"]


def test_other_graphs_are_refused_in_one_line(tmp_path):
    (tmp_path / "noise.onnx").write_bytes(b"no graph at all")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "empty", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), tmp_path / "relu.onnx")
    layers, depth, n_middle, shape, _ = NETWORKS["t2_sc"]
    broken = {key: value for key, value in layers.items() if not key.startswith("conv2d_transpose")}
    broken |= {f"conv2d_transpose_{n}": layers["conv2d_transpose_1"] for n in (1, 2, 3)}
    write_onnx(tmp_path / "wide.onnx", broken, depth, n_middle, shape)
    for name in ("noise.onnx", "relu.onnx", "wide.onnx"):
        with pytest.raises(ModelError) as error:
            load_models(tmp_path / name, device="cpu")
        assert name in str(error.value)
        assert "\n" not in str(error.value)
