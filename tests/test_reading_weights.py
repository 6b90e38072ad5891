"""Damaged, odd or huge weights are refused in one line."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from spineseg.centerline.detector import load_detector
from spineseg.deepseg.weights import default_weights, load_model
from spineseg.errors import ModelError
from spineseg.provenance import WEIGHTS_DIR

OWN = default_weights()["segment"]
OPTIC = WEIGHTS_DIR / "optic_t2.safetensors"


def parts(path: Path):
    with safe_open(path, framework="pt") as stream:
        return dict(stream.metadata()), {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


def changed(key, value):
    def change(metadata, tensors):
        config = json.loads(metadata["config"])
        config[key] = value
        metadata["config"] = json.dumps(config)

    return change


def drop(name):
    return lambda metadata, tensors: metadata.pop(name)


def put(name, value):
    return lambda metadata, tensors: metadata.update({name: value})


def spoil(value):
    def change(metadata, tensors):
        name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 4)
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[3] = value

    return change


def reshape(metadata, tensors):
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 4)
    tensors[name] = tensors[name][:, :, :1].contiguous()


NETWORK = {
    "no format": drop("format"), "no config": drop("config"), "no provenance": drop("provenance"),
    "another format": put("format", "spineseg-unet-9"), "config is not JSON": put("config", "{"),
    "config is a list": put("config", "[]"), "config is null": put("config", "null"),
    "provenance is not JSON": put("provenance", "x"), "deeply nested config": put("config", "[" * 100_000),
    "a huge network": changed("channels", [4096] * 8), "channels of 10^12": changed("channels", [10**12]),
    "no channels": changed("channels", []), "channels are text": changed("channels", "abc"),
    "negative channels": changed("channels", [-1, 2]), "an unknown key": changed("x", 1),
    "another stage": changed("stage", "x"), "a pixel of 0 mm": changed("zoom_mm", 0),
    "a patch of 1.5": changed("patch_px", 1.5),
    "another kernel": changed("kernel", "4d"), "NaN weights": spoil(float("nan")),
    "infinite weights": spoil(float("inf")),
    "a wrong shape": reshape, "a missing tensor": lambda m, t: t.pop(next(iter(t))),
    "an extra tensor": lambda m, t: t.update(extra=torch.zeros(3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETWORK)
def test_damaged_networks_are_refused(tmp_path, kind):
    metadata, tensors = parts(OWN)
    NETWORK[kind](metadata, tensors)
    (tmp_path / "w.safetensors").write_bytes(save(tensors, metadata))
    refuse(lambda: load_model(tmp_path / "w.safetensors"), tmp_path)


def refuse(load, folder):
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            load()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
    assert str(caught.value).startswith(f"{folder}/w.")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
@pytest.mark.parametrize("source", [OWN, OPTIC], ids=["network", "detector"])
def test_cut_weights(tmp_path, source, keep):
    (tmp_path / "w.safetensors").write_bytes(source.read_bytes()[:keep])
    load = (lambda path: load_model(path)) if source == OWN else (lambda path: load_detector("t2", path))
    refuse(lambda: load(tmp_path / "w.safetensors"), tmp_path)


def about(**keys):
    def change(metadata, tensors):
        content = json.loads(metadata["about"]) | keys
        metadata["about"] = json.dumps({key: value for key, value in content.items() if value != "drop"})

    return change


DETECTOR = {
    "no description": drop("about"), "description is a list": put("about", "[]"),
    "description is text": put("about", '"x"'),
    "description is not JSON": put("about", "{"), "no bias": about(bias="drop"), "bias is text": about(bias="x"),
    "bias is null": about(bias=None), "infinite bias": about(bias=float("inf")),
    "three percentiles": about(percentiles=[1, 2, 3]),
    "percentiles reversed": about(percentiles=[99, 1]), "percentiles are a number": about(percentiles=3),
    "slabs of a kilometre": about(slab_mm=1e6), "NaN weights": spoil(float("nan")),
    "weights of another length": lambda m, t: t.update(weights=torch.zeros(3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", DETECTOR)
def test_damaged_detectors_are_refused(tmp_path, kind):
    metadata, tensors = parts(OPTIC)
    DETECTOR[kind](metadata, tensors)
    (tmp_path / "w.safetensors").write_bytes(save(tensors, metadata))
    refuse(lambda: load_detector("t2", tmp_path / "w.safetensors"), tmp_path)


def test_whole_weights_are_read(tmp_path):
    for source, load in ((OWN, load_model), (OPTIC, lambda path: load_detector("t2", path))):
        metadata, tensors = parts(source)
        (tmp_path / "w.safetensors").write_bytes(save(tensors, metadata))
        assert load(tmp_path / "w.safetensors") is not None


def test_hdf5_that_unpacks_to_gigabytes_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    from spineseg.deepseg.sct.weights import load_sct_model

    with h5py.File(tmp_path / "w.h5", "w") as file:
        shape = (3, 3, 30_000, 30_000)
        file.create_dataset("conv2d_1/conv2d_1/kernel:0", shape, "f4", chunks=(1, 1, 1000, 1000), compression="gzip")
    refuse(lambda: load_sct_model(tmp_path / "w.h5", "t2"), tmp_path)


def test_many_arrays_of_hdf5_that_together_unpack_to_gigabytes_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    from spineseg.deepseg.sct.weights import load_sct_model

    with h5py.File(tmp_path / "w.h5", "w") as file:
        for n in range(1, 40):
            file.create_dataset(f"conv2d_{n}/conv2d_{n}/kernel:0", (3, 3, 2000, 2000), "f4", chunks=(1, 1, 500, 500))
    refuse(lambda: load_sct_model(tmp_path / "w.h5", "t2"), tmp_path)


UNSAFE = re.compile(
    r"import (pickle|marshal|shelve|joblib)|\bpickle\.|allow_pickle=True|unsafe_load|(?<!def )(?<![.\w])(eval|exec)\("
    r"|torch\.load\((?![^)]*weights_only=True)"
)


def test_nothing_uses_pickle():
    root = Path(__file__).parents[1]
    files = [*(root / "spineseg").rglob("*.py"), *(root / "rules").rglob("*.smk"), root / "Snakefile"]
    assert not {(path.name, found[0]) for path in files if (found := UNSAFE.search(path.read_text()))}
    assert UNSAFE.search("torch.load(path)")
    assert UNSAFE.search("import pickle")


def test_the_quality_model_with_odd_content_is_refused(tmp_path):
    from spineseg.quality import predictor

    whole = json.loads(predictor.MODEL_FILE.read_text())
    load = next(getattr(predictor, name) for name in dir(predictor) if name.startswith("load_"))
    for number, content in enumerate(
        [[], 3, None, {}, whole | {"terms": 3}, whole | {"terms": [{}]}, whole | {"format": 1}]
    ):
        path = tmp_path / f"q{number}.json"
        path.write_text(json.dumps(content))
        with pytest.raises(ModelError):
            load(path)
    assert np.isfinite(load(predictor.MODEL_FILE).intercept)
