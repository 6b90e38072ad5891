"""SCT's weights as Keras files: written here in their format, against the same layers in plain numpy and scipy."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
from analytic import tube
from scipy import ndimage as ndi

from spineseg.centerline.curve import Centerline
from spineseg.deepseg.model import load_models
from spineseg.deepseg.network import DETECT, SEGMENT, UNet
from spineseg.deepseg.sct import inference as sct_inference
from spineseg.deepseg.sct.networks import SctConfig, SctUNet, fold_sct_norm
from spineseg.deepseg.sct.weights import SctWeights, load_sct_model
from spineseg.deepseg.segment import DeepsegParams, segment_cord
from spineseg.deepseg.weights import save_model
from spineseg.errors import InputError, ModelError
from spineseg.methods.registry import OWN_METHODS
from spineseg.volume import Volume

# Keras files: {layer name: {array name: array}}, layers numbered as Keras does


def conv(rng, *shape, n_out=None):
    n_out = shape[-1] if n_out is None else n_out
    kernel = rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
    return {"kernel": kernel, "bias": rng.normal(0, 0.1, n_out)}


def norm(rng, n):
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return dict(zip(names, (*rng.normal(0.5, 0.3, (3, n)), rng.uniform(0.2, 2.0, n)), strict=True))


def sct_2d(f, depth, n_middle, with_norm, seed=0, start=1):
    """Layers of a 2-D network; `start` is the first number, which Keras counts per process."""
    rng = np.random.default_rng(seed)
    widths = [f * 2**n for n in range(depth + 1)]
    plan = [pair for n in range(depth) for pair in ((widths[n - 1] if n else 1, widths[n]), (widths[n], widths[n]))]
    plan += [(widths[-2] if n == 0 else widths[-1], widths[-1]) for n in range(n_middle)]
    plan += [pair for n in range(depth)[::-1] for pair in ((2 * widths[n], widths[n]), (widths[n], widths[n]))]
    layers = {f"conv2d_{start + n}": conv(rng, 3, 3, *pair) for n, pair in enumerate(plan)}
    layers[f"conv2d_{start + len(plan)}"] = conv(rng, 1, 1, f, 1)
    if with_norm:
        layers |= {f"batch_normalization_{start + n}": norm(rng, pair[1]) for n, pair in enumerate(plan)}
    for n in range(depth):
        fine = widths[depth - 1 - n]
        layers[f"conv2d_transpose_{start + n}"] = conv(rng, 2, 2, fine, 2 * fine, n_out=fine)
    return layers


def sct_3d(f, seed=0):
    rng = np.random.default_rng(seed)
    plan = [(1, f), (f, 2 * f), (2 * f, 2 * f), (2 * f, 4 * f), (6 * f, 2 * f), (2 * f, 2 * f)]
    layers = {f"conv3d_{n}": conv(rng, 3, 3, 3, *pair) for n, pair in enumerate(plan, 1)}
    layers["conv3d_7"] = conv(rng, 1, 1, 1, 2 * f, 1)
    return layers | {f"batch_normalization_{n}": norm(rng, pair[1]) for n, pair in enumerate(plan, 1)}


def write_keras(path, layers):
    with h5py.File(path, "w") as file:
        graph = {"config": {"layers": [{"class_name": "Lambda", "config": {"function": ["4wEAAAA=\n", None, None]}}]}}
        file.attrs.update(
            {"keras_version": b"2.0.6", "backend": b"tensorflow", "model_config": json.dumps(graph).encode()}
        )
        group = file.create_group("model_weights")
        for name in ("input_1", "activation_1", "lambda_1", "concatenate_1"):
            group.create_group(name)
        for layer, arrays in layers.items():
            for name, array in arrays.items():
                group[f"{layer}/{layer}/{name}:0"] = array.astype(np.float32)
        file["optimizer_weights/Adam/iterations:0"] = 7
    return path


# the same layers, channels last, one at a time


def convolve(image, layer, dilation=1):
    kernel, n_spatial = layer["kernel"], image.ndim - 1
    wide = np.zeros([(n - 1) * dilation + 1 for n in kernel.shape[:n_spatial]] + list(kernel.shape[n_spatial:]))
    wide[(slice(None, None, dilation),) * n_spatial] = kernel
    out = np.zeros((*image.shape[:-1], kernel.shape[-1])) + layer["bias"]
    for a, b in np.ndindex(kernel.shape[n_spatial:]):
        out[..., b] += ndi.correlate(image[..., a], wide[..., a, b], mode="constant")
    return out


def normalise(image, layer):
    scaled = (image - layer["moving_mean"]) / np.sqrt(layer["moving_variance"] + 1e-3)
    return scaled * layer["gamma"] + layer["beta"]


def pool(image):
    for axis in range(image.ndim - 1):
        pairs = (*image.shape[:axis], image.shape[axis] // 2, 2, *image.shape[axis + 1 :])
        image = image.reshape(pairs).max(axis=axis + 1)
    return image


def transpose(image, layer):
    out = np.einsum("ijc,aboc->iajbo", image, layer["kernel"])
    return out.reshape(2 * image.shape[0], 2 * image.shape[1], -1) + layer["bias"]


def numpy_forward(image, layers, depth, n_middle, dilated):
    """Probabilities of an image (..., 1) by layers numbered from 1."""
    kind = "conv3d" if "conv3d_1" in layers else "conv2d"
    count = 0

    def block(image, dilation=1):
        nonlocal count
        count += 1
        image = convolve(image, layers[f"{kind}_{count}"], dilation)
        name = f"batch_normalization_{count}"
        return np.maximum(normalise(image, layers[name]) if name in layers else image, 0)

    skips = []
    for _ in range(depth):
        image = block(block(image), 2 if dilated else 1)
        skips.append(image)
        image = pool(image)
    for n in range(n_middle):
        image = block(image, 2**n if dilated else 1)
    for n in range(1, depth + 1):
        if kind == "conv3d":
            up = image.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        else:
            up = transpose(image, layers[f"conv2d_transpose_{n}"])
        image = block(block(np.concatenate([up, skips.pop()], axis=-1)))
    return 1 / (1 + np.exp(-convolve(image, layers[f"{kind}_{count + 1}"])[..., 0]))


def run(model, image):
    with torch.inference_mode():
        return torch.sigmoid(model(torch.from_numpy(image.astype(np.float32))[None, None]))[0, 0].numpy()


# networks


@pytest.mark.parametrize(
    ("layers", "depth", "n_middle", "dilated", "shape"),
    [
        (sct_2d(3, 2, 3, True), 2, 3, True, (20, 24)),
        (sct_2d(2, 2, 2, True), 2, 2, True, (16, 12)),
        (sct_2d(3, 2, 2, False), 2, 2, False, (16, 20)),
        (sct_2d(2, 3, 2, False), 3, 2, False, (24, 16)),
        (sct_3d(2), 1, 2, False, (8, 6, 4)),
    ],
    ids=["detect-3", "detect-2", "segment-2", "segment-3", "segment-3d"],
)
def test_networks_compute_what_their_layers_say(tmp_path, layers, depth, n_middle, dilated, shape):
    model = load_sct_model(write_keras(tmp_path / "any.h5", layers), "t2")
    image = np.random.default_rng(5).normal(0, 1, shape)
    expected = numpy_forward(image[..., None], layers, depth, n_middle, dilated)
    assert expected.std() > 0.005
    np.testing.assert_allclose(run(model, image), expected, atol=2e-5)
    np.testing.assert_allclose(run(fold_sct_norm(model), image), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "layers", "count", "config"),
    [
        ("t2_ctr", sct_2d(16, 2, 2, True), 118_033, SctConfig("detect", "2d", "t2", 16, 2, 2)),
        ("t2s_ctr", sct_2d(8, 2, 3, True), 39_337, SctConfig("detect", "2d", "t2s", 8, 2, 3)),
        ("dwi_ctr", sct_2d(8, 2, 2, True), 29_961, SctConfig("detect", "2d", "dwi", 8, 2, 2)),
        ("t1_ctr", sct_2d(24, 2, 3, True), 347_641, SctConfig("detect", "2d", "t1", 24, 2, 3)),
        ("t1_sc", sct_2d(32, 2, 2, False), 465_953, SctConfig("segment", "2d", "t1", 32, 2, 2)),
        ("t2_sc", sct_2d(32, 3, 2, False), 1_925_025, SctConfig("segment", "2d", "t2", 32, 3, 2)),
        ("t2_sc_3D", sct_3d(24), 468_817, SctConfig("segment", "3d", "t2", 24, 1, 2)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_sizes_are_recognised(tmp_path, name, layers, count, config):
    model = load_sct_model(write_keras(tmp_path / f"{name}.h5", layers), "t1")
    assert model.config == config
    state = model.state_dict()
    assert sum(value.numel() for key, value in state.items() if not key.endswith("num_batches_tracked")) == count


def test_layer_numbers_may_start_anywhere_and_groups_at_the_root(tmp_path):
    image = np.random.default_rng(1).normal(0, 1, (8, 8))
    first, late = (sct_2d(2, 2, 2, True, start=start) for start in (1, 95))  # 95..104 sort wrongly as text
    expected = run(load_sct_model(write_keras(tmp_path / "a.h5", first), "t1"), image)
    np.testing.assert_array_equal(run(load_sct_model(write_keras(tmp_path / "b.h5", late), "t1"), image), expected)
    with h5py.File(tmp_path / "a.h5") as file, h5py.File(tmp_path / "c.h5", "w") as bare:
        for name in file["model_weights"]:
            file.copy(f"model_weights/{name}", bare)
    np.testing.assert_array_equal(run(load_sct_model(tmp_path / "c.h5", "t1"), image), expected)


def changed(layers, layer, array, value):
    return layers | {layer: layers[layer] | {array: value}}


def without(layers, *names):
    return {name: arrays for name, arrays in layers.items() if name not in names}


BASE = sct_2d(2, 2, 2, True)
DAMAGED = {
    "no layers": {},
    "a layer too few": without(BASE, "batch_normalization_3"),
    "no transposed": without(BASE, "conv2d_transpose_1", "conv2d_transpose_2"),
    "wrong shape": changed(BASE, "conv2d_4", "kernel", np.zeros((5, 5, 4, 4))),
    "flat kernel": changed(BASE, "conv2d_1", "kernel", np.zeros(3)),
    "scalar kernel": changed(BASE, "conv2d_1", "kernel", np.zeros(())),
    "too wide": changed(BASE, "conv2d_1", "kernel", np.zeros((3, 3, 1, 5000))),
    "too deep": sct_2d(1, 5, 2, False),
    "not finite": changed(BASE, "conv2d_4", "bias", np.full(4, np.nan)),
    "unknown array": changed(BASE, "conv2d_4", "spectral", np.zeros(4)),
    "no bias": BASE | {"conv2d_2": {"kernel": BASE["conv2d_2"]["kernel"]}},
    "no kernel": BASE | {"conv2d_1": {"bias": BASE["conv2d_1"]["bias"]}},
    "other 3d": without(sct_3d(2), "conv3d_6"),
    "both kinds": sct_3d(2) | {"conv2d_transpose_1": BASE["conv2d_transpose_1"]},
}


@pytest.mark.parametrize("layers", DAMAGED.values(), ids=DAMAGED)
def test_other_networks_are_refused_in_one_line(tmp_path, layers):
    with pytest.raises(ModelError) as error:
        load_models(write_keras(tmp_path / "strange.h5", layers), device="cpu")
    assert "strange.h5" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_other_formats_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.h5").write_text("no weights")
    whole = write_keras(tmp_path / "whole.h5", BASE).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(tmp_path / "array.h5", "w") as file:
        file["model_weights"] = 3
    with h5py.File(tmp_path / "integers.h5", "w") as file:
        file["model_weights/conv2d_1/conv2d_1/kernel:0"] = np.zeros((3, 3, 1, 2), int)
    write_keras(tmp_path / "t2_sc.h5", BASE)  # a detection network
    write_keras(tmp_path / "dwi_sc_3D.h5", sct_3d(2))
    (tmp_path / "t2_sc.onnx").write_bytes(b"x")
    for name in (
        "text.h5",
        "cut.h5",
        "array.h5",
        "integers.h5",
        "t2_sc.h5",
        "dwi_sc_3D.h5",
        "t2_sc.onnx",
        "missing.h5",
    ):
        with pytest.raises(ModelError) as error:
            load_models(tmp_path / name, device="cpu")
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"missing\.h5"):
        OWN_METHODS["deepseg"].hash_weights(tmp_path / "missing.h5")


# which networks are used


@pytest.fixture
def folder(tmp_path):
    for name, layers in {
        "t2_ctr": sct_2d(2, 2, 2, True),
        "t2_sc": sct_2d(2, 3, 2, False),
        "dwi_sc": sct_2d(2, 2, 2, False),
        "t2s_sc_3D": sct_3d(2),
    }.items():
        write_keras(tmp_path / f"{name}.h5", layers)
    return tmp_path


def test_a_folder_gives_each_contrast_its_networks(folder):
    weights = load_models(folder, device="cpu")
    t2, dwi = weights.for_contrast("t2"), weights.for_contrast("dwi", "3d")
    assert (t2.detect.config.contrast, t2.segment.config.depth, t2.notes) == ("t2", 3, ())
    assert weights.for_contrast("t2") is t2
    assert dwi.detect.config == DETECT
    assert dwi.segment.config.kernel == "2d"
    assert ["3-D" in dwi.notes[0], "dwi_ctr.h5" in dwi.notes[1]] == [True, True]
    assert weights.for_contrast("t2s", "3d").segment.config.patch_px == 96
    for contrast, kernel, name in (("t1", "2d", "t1_sc.h5"), ("t2s", "2d", "t2s_sc.h5"), ("t2", "3d", "t2_sc_3D.h5")):
        with pytest.raises(ModelError, match=name):
            weights.for_contrast(contrast, kernel)
    assert sorted(OWN_METHODS["deepseg"].hash_weights(folder)) == ["dwi_sc.h5", "t2_ctr.h5", "t2_sc.h5", "t2s_sc_3D.h5"]


def test_one_file_replaces_its_stage(folder):
    models = load_models(folder / "t2_ctr.h5", device="cpu").for_contrast("t1")
    assert (models.detect.config.contrast, models.segment.config) == ("t2", SEGMENT)
    assert "trained for t2" in models.notes[0]
    models = load_models(folder / "dwi_sc.h5", device="cpu").for_contrast("dwi")
    assert (models.detect.config, models.segment.config.stage, models.notes) == (DETECT, "segment", ())
    other = (folder / "dwi_sc.h5").rename(folder / "mine.h5")
    assert load_models(other, device="cpu").for_contrast("t1").segment.config.contrast == "t1"
    for name, kernel in (("t2s_sc_3D.h5", "2d"), ("t2_sc.h5", "3d"), ("t2_ctr.h5", "3d")):
        with pytest.raises(ModelError, match=rf"{name}.*-kernel"):
            load_models(folder / name, device="cpu").for_contrast("t2s", kernel)


def test_folders_without_their_files_are_refused(tmp_path):
    write_keras(tmp_path / "mine.h5", BASE)
    with pytest.raises(ModelError, match="named as by SCT"):
        load_models(tmp_path, device="cpu")
    save_model(tmp_path / "deepseg_detect.safetensors", UNet(DETECT), {})
    with pytest.raises(ModelError, match="deepseg_segment"):
        load_models(tmp_path, device="cpu")


# from a volume to a mask


def through(f, layers, bias, slope, middle):
    """Make a network that gives sigmoid(slope * (input + bias - middle)): channel 0 of the finest level, untouched."""
    for name, arrays in layers.items():
        if name.startswith("batch"):
            ones, zeros = np.ones_like(arrays["gamma"]), np.zeros_like(arrays["gamma"])
            arrays |= {"gamma": ones, "beta": zeros, "moving_mean": zeros, "moving_variance": ones - 1e-3}
        else:
            arrays |= {key: np.zeros_like(value) for key, value in arrays.items()}
    kind = "conv3d" if "conv3d_1" in layers else "conv2d"
    convs = sorted((name for name in layers if name.startswith(f"{kind}_") and "transpose" not in name), key=number)
    first, second, joined, last, head = (layers[convs[n]] for n in (0, 1, -3, -2, -1))
    centre = (1,) * (first["kernel"].ndim - 2)
    for layer in (first, second, last):
        layer["kernel"][(*centre, 0, 0)] = 1
    first["bias"][0] = bias
    n_skip = 2 * f if kind == "conv3d" else f
    joined["kernel"][(*centre, joined["kernel"].shape[-2] - n_skip, 0)] = 1  # after the up-sampled ones
    head["kernel"][..., 0, 0] = slope
    head["bias"][0] = -slope * middle
    return layers


def number(name):
    return int(name.rsplit("_", 1)[1])


@pytest.fixture(scope="module")
def bright():
    """A bright cord of 5 mm radius on dark ground, 48 x 48 mm, and its mask."""
    torch.set_num_threads(1)
    cord = tube(radius_mm=5.0, shape=(48, 60, 14), zooms=(1.0, 0.8, 4.0), tilt_deg=5.0)
    return Volume((40 + 300 * cord.data).astype(np.float32), cord.affine), cord.data >= 0.5


@pytest.fixture(scope="module")
def thresholds_folder(tmp_path_factory):
    """Networks that call pixels cord from the middle of the scaled range on."""
    path = tmp_path_factory.mktemp("weights")
    write_keras(path / "t2_ctr.h5", through(2, sct_2d(2, 2, 2, True), 2.0, 20.0, 2.0 + (127.5 - 51.1417) / 57.4408))
    write_keras(path / "t2_sc.h5", through(2, sct_2d(2, 3, 2, False), 0.0, 0.5, 127.5))
    write_keras(path / "t2_sc_3D.h5", through(2, sct_3d(2), 2.0, 30.0, 2.0 + (127.5 - 65.8562) / 59.7999))
    return path


@pytest.mark.parametrize("kernel", ["2d", "3d"])
def test_a_cord_is_outlined_with_the_users_networks(thresholds_folder, bright, kernel):
    volume, reference = bright
    weights = load_models(thresholds_folder, device="cpu")
    before = volume.data.copy()
    result = segment_cord(volume, "t2", DeepsegParams(kernel=kernel), models=weights)
    assert result.status == "ok"
    assert result.parameters["thr"] == 0.7
    dice = 2 * (result.cord_mask & reference).sum() / (result.cord_mask.sum() + reference.sum())
    assert dice > 0.97
    assert ((result.cord_prob >= 0.5) == result.cord_mask).all()
    np.testing.assert_array_equal(volume.data, before)
    for batch, mirror in ((1, False), (5, True)):
        params = DeepsegParams(kernel=kernel, batch=batch, mirror=mirror)
        again = segment_cord(volume, "t2", params, centerline=result.centerline, models=weights).cord_mask
        assert (again == result.cord_mask).mean() > (0.999 if mirror else 0.9999999)


def test_no_cord_without_a_bright_pixel(thresholds_folder):
    flat = Volume(np.full((40, 40, 6), 7.0, np.float32), np.diag([-1.0, 1, 3, 1]))
    result = segment_cord(flat, "t2", models=load_models(thresholds_folder, device="cpu"))
    assert result.status == "empty"


def test_the_threshold_is_the_contrasts_unless_given(tmp_path, bright):
    volume, _ = bright
    curve = Centerline(np.array([[23.5, 29.5, k] for k in range(2, 9)]))
    for contrast in ("t1", "t2", "t2s", "dwi"):
        layers = through(2, sct_2d(2, 2, 2, False), 0.0, 0.0, 0.0)  # 0.5 everywhere
        write_keras(tmp_path / f"{contrast}_sc.h5", layers)
    weights = SctWeights(tmp_path)
    found = {}
    for contrast in ("t1", "t2", "t2s", "dwi"):
        result = segment_cord(volume, contrast, centerline=curve, models=weights)
        found[contrast] = (result.parameters["thr"], result.status)
    assert found == {"t1": (0.15, "partial"), "t2": (0.7, "empty"), "t2s": (0.89, "empty"), "dwi": (0.01, "partial")}
    given = segment_cord(volume, "t2", DeepsegParams(thr=0.4), centerline=curve, models=weights)
    assert (given.parameters["thr"], given.status) == (0.4, "partial")
    with pytest.raises(InputError):
        DeepsegParams(thr=-1)


def test_intensities_are_scaled_as_in_sct(thresholds_folder, bright):
    volume, _ = bright
    curve = Centerline(np.array([[23.5, 29.5, k] for k in range(14)]))
    seen = {}
    for kernel in ("2d", "3d"):
        models = SctWeights(thresholds_folder).for_contrast("t2", kernel)
        for stage, network in (("detect", models.detect), ("segment", models.segment)):
            network.register_forward_pre_hook(lambda _, x, key=(stage, kernel): seen.update({key: x[0].clone()}))
        sct_inference.compute_sct_heatmap(volume, models.detect)
        sct_inference.compute_sct_coverage(volume, curve, models.segment, thr=0.5)
    detect, flat, deep = (seen[key] for key in (("detect", "2d"), ("segment", "2d"), ("segment", "3d")))
    assert detect.shape[2:] == (96, 96)
    assert flat.shape == (14, 1, 64, 64)
    assert deep.shape == (1, 1, 64, 64, 48)
    for image, mean, std in ((detect, 51.1417, 57.4408), (flat, 0, 1), (deep, 65.8562, 59.7999)):
        values = image * std + mean
        assert values.min().item() == pytest.approx(0, abs=1e-3)
        assert values.max().item() == pytest.approx(255, abs=1e-3)
    np.testing.assert_allclose((deep * 59.7999 + 65.8562)[0, 0, :, :, :14], flat[:, 0].permute(1, 2, 0), atol=1e-3)
    low, high = np.percentile(volume.data, (2, 98))
    middle = float(np.clip((volume.data[24, 30, 7] - low) / (high - low), 0, 1)) * 255
    assert flat[7, 0, 32, 32].item() == pytest.approx(middle, abs=1)


def test_patches_stay_inside_large_images_and_are_zero_outside_small_ones():
    large = Volume(np.ones((80, 30, 3), np.float32), np.diag([-0.5, 0.5, 3, 1]))
    centres = sct_inference._shift_inside(np.array([[2.0, 3.0], [40.0, 20.0], [79.0, 29.0]]), large, 64)
    np.testing.assert_allclose(centres, [[31.5, 3.0], [40.0, 20.0], [47.5, 29.0]])
    patches = sct_inference._extract(large, centres, np.arange(3), 64)
    assert (patches.amax(dim=(1, 3)) == 1).all()  # x is filled
    assert (patches[:, 0].amax(dim=1) > 0).sum(dim=1).tolist() == [30, 30, 30]  # of y the image's 15 mm


def test_chunks_are_blended_without_seams(tmp_path):
    model = load_sct_model(write_keras(tmp_path / "x.h5", through(2, sct_3d(2), 2.0, 1.0, 2.0)), "t1")
    stack = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (101, 4, 4)).astype(np.float32))
    prob = sct_inference.run_chunks(model, stack)
    expected = torch.sigmoid((stack - 88.5001) / 66.275)
    torch.testing.assert_close(prob, expected, atol=1e-5, rtol=0)


def test_the_network_class_covers_one_level_too():
    assert SctUNet(SctConfig("segment", "2d", "t1", 2, 1, 1)).eval()(torch.zeros(1, 1, 4, 4)).shape == (1, 1, 4, 4)
