"""Training: synthetic slices replay from their seed, augmentation keeps image and label together, runs resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from spineseg.deepseg.network import UNet, UNetConfig
from spineseg.deepseg.weights import load_model
from spineseg.errors import InputError, ModelError
from spineseg.training.deepseg import appearance, deform
from spineseg.training.deepseg.batches import draw_slices, generator_of, make_batch, vary_slices
from spineseg.training.deepseg.shards import (
    Shard,
    build_cordless_shard,
    build_mask_shard,
    build_phantom_shard,
    build_shard,
    build_template_shard,
    shard_px,
)
from spineseg.training.deepseg.synthetic import draw_mask_slice, paint
from spineseg.training.deepseg.train import (
    Sources,
    choose_images,
    even_out_contrasts,
    parse_fold,
    parse_trust,
    train_network,
)
from spineseg.training.deepseg.trainer import Trainer, TrainingParams
from spineseg.training.labelled_images import LabelledImage

TINY = UNetConfig("segment", (6, 12), (), 0.5, 32)
TINY_3D = replace(TINY, kernel="3d")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="labelled images are not at ../shared/data")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def disc_shard(seed=0, n=12, painted=False):
    size = shard_px(TINY)
    rng = np.random.default_rng(seed)
    i, j = np.indices((size, size)) - (size - 1) / 2
    cords = [np.hypot(i, j) < rng.uniform(5, 8) for _ in range(n)]
    drawn = [draw_mask_slice(rng, c.astype(np.float32), None, None, 0.5) for c in cords]
    labels, cord = (torch.from_numpy(np.stack(x))[:, None] for x in zip(*drawn, strict=True))
    image = labels if painted else paint(labels, cord, torch.Generator().manual_seed(seed)).half()
    stack = torch.arange(n) if painted else torch.arange(n) // 5
    return Shard(image, cord.half(), torch.ones_like(labels), "discs", "s", 1.0, stack, torch.full((n,), 2.0), painted)


def test_label_slices_replay_from_their_seed():
    cord = np.zeros((40, 40), np.float32)
    cord[15:25, 14:26] = 1
    a, b, c = (draw_mask_slice(np.random.default_rng(s), cord, None, None, 0.5)[0] for s in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_phantom_shard_replays_and_holds_cord():
    a, b = (build_phantom_shard(6, TINY, np.random.default_rng(2), 1.0) for _ in range(2))
    assert torch.equal(a.image, b.image)
    assert a.painted
    assert a.cord.amax((1, 2, 3)).max() == 1


def test_painting_gives_the_edge_at_the_cord_fraction():
    shard = disc_shard(painted=True)
    a, b = (paint(shard.image, shard.cord.float(), torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.min() >= 0
    assert a.max() <= 1


def test_image_and_label_move_together():
    stack = torch.zeros(8, 2, 52, 52)
    i, j = torch.meshgrid(torch.arange(52) - 25.5, torch.arange(52) - 25.5, indexing="ij")
    stack[:, :] = (torch.hypot(i - 4, j + 3) < 7).float()
    shape = deform.draw_shape(8, 32, deform.ShapeRanges(), torch.Generator().manual_seed(0))
    moved, inside = deform.apply_shape(stack, shape, 32)
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert inside.shape == (8, 1, 32, 32)
    areas = moved[:, 0].sum((1, 2))
    assert ((areas > 0.4 * 154) & (areas < 2.2 * 154)).float().mean() > 0.7


def test_no_change_of_shape_is_a_centred_crop():
    stack = torch.rand((2, 1, 20, 20), generator=torch.Generator().manual_seed(0))
    still = deform.ShapeRanges(0, 0, 0, 0, 0, 0, 0, 0, 0)
    shape = deform.draw_shape(2, 12, still, torch.Generator().manual_seed(0))
    moved, inside = deform.apply_shape(stack, shape, 12)
    crop = stack[:, :, 4:16, 4:16]
    pairs = zip(moved, crop, strict=True)
    same = [min(float((m - c).abs().max()), float((m - c.flip(1)).abs().max())) for m, c in pairs]
    assert max(same) < 1e-5  # flip(1) of (1, H, W): the right-left mirror image
    assert inside.all()


def test_curves_pass_through_their_knots():
    curves = torch.rand((1, appearance.LUT_KNOTS))
    knots = torch.linspace(0, 1, appearance.LUT_KNOTS)[None, None, None]
    np.testing.assert_allclose(appearance.apply_curves(knots, curves).flatten(), curves.flatten(), atol=1e-5)


def test_any_angle_is_among_the_turned():
    shape = deform.draw_shape(400, 32, deform.ShapeRanges(p_turned=0.5), torch.Generator().manual_seed(0))
    angle = torch.atan2(shape.matrix[:, 1, 1], shape.matrix[:, 0, 1]) - torch.pi / 2  # of the image of axis 1
    turned = torch.cos(angle) < np.cos(np.deg2rad(40))
    assert (
        0.3 < turned.float().mean() < 0.5
    )  # half are turned by any angle, 100 of 360 degrees of these by less than 50


def test_a_ghost_is_the_image_again_elsewhere():
    image = torch.zeros(2, 1, 20, 20)
    image[:, 0, 4, 7] = 1
    ghosts = appearance.apply_ghost(image, torch.tensor([[0.25, 0.5, 1.0], [0.25, 0.25, 0.0]]))
    assert ghosts[0, 0, 4, 7] == pytest.approx(0.8)
    assert ghosts[0, 0, 14, 7] == pytest.approx(0.2)  # wrapped by half the side along axis 0
    assert ghosts[1, 0, 4, 2] == pytest.approx(0.2)


def test_a_void_removes_signal_inside_only():
    image = torch.ones(1, 1, 40, 40)
    spoilt = appearance.apply_void(image, torch.tensor([[0.5, 0.5, 0.2, 0.2, 1.0]]))
    assert spoilt[0, 0, 20, 20] < 0.01
    assert spoilt[0, 0, 0, 0] == pytest.approx(1, abs=1e-3)
    assert torch.equal(appearance.apply_void(image, torch.tensor([[0.5, 0.5, 0.2, 0.2, 0.0]])), image)


def test_recorded_air_belongs_to_the_image_and_padding_does_not():
    drawn = appearance.draw_appearance(8, appearance.AppearanceRanges(p_air=0.5), torch.Generator().manual_seed(3))
    air = ~drawn.air.flatten().isnan()
    assert 0 < air.sum() < 8
    image, inside = torch.rand(8, 1, 16, 16), torch.zeros(8, 1, 16, 16)
    inside[..., :9] = 1
    changed, valid = appearance.apply_appearance(image, torch.zeros_like(image), inside, drawn)
    assert valid[air].all()
    assert torch.equal(valid[~air], inside[~air])
    assert (changed[air][..., 9:] == drawn.air[air]).all()


@pytest.mark.parametrize("config", [TINY, TINY_3D, UNetConfig("detect", (4, 8), (), 0.5, 32)])
def test_batches_are_finite_standardised_and_repeatable(config):
    shards = [disc_shard(), disc_shard(painted=True)]
    wanted = {"n": 24, "painted_fraction": 0.35, "seed": 1}
    first, again, next_one = (make_batch(shards, config, step=k, **wanted) for k in (7, 7, 8))
    assert first.image.shape == first.cord.shape == first.valid.shape == (24, 1, 32, 32)
    assert torch.isfinite(first.image).all()
    assert first.image.abs().max() <= 4
    assert first.cord.min() >= 0
    assert first.cord.max() <= 1
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, next_one.image)


def test_slices_of_a_run_lie_beside_each_other_in_one_stack():
    shard = disc_shard()
    number = torch.arange(12, dtype=torch.float16)[:, None, None, None]
    shard = replace(shard, image=number.expand_as(shard.image).contiguous())
    slices = draw_slices([shard, disc_shard(painted=True)], 32, 0.3, 8, generator_of(0, 0))
    near = slices.neighbours()
    real = 16
    index = slices.image[:, 0, 0, 0].long()
    for k in range(real):
        for other in (near.below[k], near.above[k]):
            assert abs(index[k] - index[other]) <= 1
            assert shard.stack[index[k]] == shard.stack[index[other]]
    assert (slices.run[:8] == 0).all()
    assert torch.equal(near.below[real:], torch.arange(real, 32))  # painted slices have no neighbours
    assert torch.equal(near.above[real:], torch.arange(real, 32))
    batch = vary_slices(slices, TINY_3D, generator_of(0, 1))
    assert batch.near.weight.max() <= 1


def test_training_lowers_the_loss():
    shard = disc_shard()
    trainer = Trainer(TINY, TrainingParams(steps=40, batch=8), [shard])
    # always the same batch, so that the loss does not depend on the draw
    batch = make_batch([shard], TINY, n=8, painted_fraction=0.0, seed=0, step=0)
    losses = [trainer.learn(batch) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_3d_network_starts_as_its_2d_one(tmp_path):
    torch.manual_seed(0)
    flat = UNet(TINY).eval()
    trainer = Trainer(TINY_3D, TrainingParams(batch=16, steps=2), [disc_shard()], start=flat)
    batch = make_batch([disc_shard()], TINY_3D, n=16, painted_fraction=0.0, seed=0, step=0)
    before = trainer.average(batch.image, batch.near)
    torch.testing.assert_close(before, flat(batch.image))
    trainer.run()
    after = trainer.average(batch.image, batch.near)
    alone = trainer.average(batch.image)
    assert not torch.allclose(after, before)
    assert not torch.allclose(after, alone)  # neighbours matter now
    with pytest.raises(ModelError, match="same stage"):
        Trainer(UNetConfig("segment", (4, 8), (), 0.5, 32), TrainingParams(), [disc_shard()], start=flat)


def test_a_run_reports_and_ends():
    rows = []
    params = TrainingParams(steps=4, batch=4, log_every=2)
    Trainer(TINY, params, [disc_shard()], [disc_shard(3)]).run(report=rows.append)
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 <= rows[-1]["discs"] <= 1


def test_a_killed_run_resumes_with_the_same_result(tmp_path):
    def make():
        return Trainer(TINY, TrainingParams(steps=8, batch=4), [disc_shard(), disc_shard(1, painted=True)])

    whole = make()
    whole.run()
    first = make()
    for _ in range(4):
        first.step()
    first.save(tmp_path / "run.ckpt")
    second = make()
    second.load(tmp_path / "run.ckpt")
    second.run()
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name
    other = Trainer(UNetConfig("segment", (4, 8), (), 0.5, 32), TrainingParams(), [disc_shard()])
    with pytest.raises(ModelError, match="another network"):
        other.load(tmp_path / "run.ckpt")


@pytest.mark.parametrize("text", ["3/3", "-1/3", "a/3", "1", "0/0"])
def test_wrong_folds_are_refused(text):
    with pytest.raises(InputError, match="fold"):
        parse_fold(text)


def test_training_without_images_is_refused():
    with pytest.raises(InputError, match="labelled image"):
        Trainer(TINY, TrainingParams(), [])


@needs_data
def test_held_out_people_are_in_no_table():
    kept, held_out = choose_images(DATA / "labelled.tsv", DATA / "images.tsv", "0/3", [])
    assert kept
    assert held_out
    assert not {item.subject for item in kept} & {item.subject for item in held_out}
    with pytest.raises(InputError, match="nobody"):
        choose_images(DATA / "labelled.tsv", None, None, ["nobody"])


@needs_data
def test_shards_have_the_cord_in_their_middle():
    folder = DATA / "bids" / "sub-sct017" / "dwi"
    name = "sub-sct017_rec-average_dwi"
    reference = DATA / "bids/derivatives/labels/sub-sct017/dwi" / f"{name}_label-SC_seg.nii.gz"
    shard = build_shard(LabelledImage(folder / f"{name}.nii.gz", reference, "dwi", "sct017"), TINY)
    size = shard_px(TINY)
    assert shard.image.shape == shard.cord.shape == shard.valid.shape == (15, 1, size, size)
    assert shard.cord[:, 0, size // 2, size // 2].min() == 1
    area = shard.cord.float().sum((1, 2, 3)) * TINY.zoom_mm**2
    assert ((area > 50) & (area < 110)).all()


def test_an_empty_reference_is_refused(tmp_path):
    for name, values in (("image", np.indices((20, 20, 4)).sum(0)), ("empty", np.zeros((20, 20, 4)))):
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    with pytest.raises(InputError, match=r"empty\.nii\.gz: expected a mask with cord"):
        build_shard(LabelledImage(tmp_path / "image.nii.gz", tmp_path / "empty.nii.gz", "t2", "s"), TINY)


def test_slices_without_cord_have_an_empty_label():
    shard = build_cordless_shard(30, TINY, np.random.default_rng(0), 1.0)
    assert not shard.cord.any()
    assert len({float(image.float().mean()) for image in shard.image}) > 20
    again = build_cordless_shard(30, TINY, np.random.default_rng(0), 1.0)
    assert torch.equal(shard.image, again.image)


@needs_data
def test_the_template_teaches_cord_and_what_lies_below_it():
    shard = build_template_shard(DATA / "template", TINY)
    holds = shard.cord.amax((1, 2, 3)) > 0.5
    first = int(holds.int().argmax())
    assert 20 < first < 60  # below the conus
    assert holds[first:].all()
    assert shard.image.shape[0] == int(holds.sum()) + first
    with pytest.raises(InputError, match="-template"):
        build_template_shard(DATA / "geometry" / "none", TINY)


@needs_data
def test_mask_shards_use_real_shapes(tmp_path):
    for file in (DATA / "geometry").glob("sub-cardiff03_T2w*"):
        (tmp_path / file.name).symlink_to(file)
    shard = build_mask_shard(tmp_path, TINY, np.random.default_rng(0), 1.0)
    assert len(shard.image) == 16
    with pytest.raises(InputError, match="-masks"):
        build_mask_shard(tmp_path / "none", TINY, np.random.default_rng(0), 1.0)


@needs_data
@pytest.mark.slow
def test_the_command_writes_weights_with_their_provenance(tmp_path):
    rows = (DATA / "labelled.tsv").read_text().splitlines()
    keep = [rows[0]] + [r for r in rows[1:] if "sct017" in r or "t1crop" in r]
    table = tmp_path / "two.tsv"
    table.write_text("\n".join(keep).replace("bids/", f"{DATA}/bids/"))
    out = tmp_path / "w.safetensors"
    few = Sources(n_phantoms=4, n_cordless=2)
    settings = {"steps": 2, "batch": 4}
    train_network("segment", data=table, out=out, sources=few, exclude=["t1crop"], settings=settings)
    _, provenance = load_model(out)
    assert provenance["people"] == ["sct017"]
    assert provenance["held_out"] == ["t1crop"]
    assert (tmp_path / "w.csv").read_text().startswith("step,")
    assert not (tmp_path / "w.ckpt").exists()
    with Image.open(tmp_path / "w.png") as curves:
        assert curves.size == (1080, 420)
    before = out.read_bytes()
    train_network("segment", data=table, out=out, resume=True)  # nothing left to do
    assert out.read_bytes() == before
    deep = tmp_path / "w3.safetensors"
    more = {"sources": few, "settings": {"steps": 1, "batch": 8}}
    train_network("segment", data=table, out=deep, kernel="3d", start=out, exclude=["t1crop"], **more)
    model, provenance = load_model(deep)
    assert model.config.kernel == "3d"
    assert provenance["start_sha256"]
    with pytest.raises(InputError, match="kernel"):
        train_network("detect", data=table, out=deep, kernel="3d", **more)


def test_references_may_count_less():
    assert parse_trust(["a=0.5", "b=1"]) == {"a": 0.5, "b": 1.0}
    for wrong in ("a", "a=2", "a=-1", "a=x"):
        with pytest.raises(InputError, match="-trust"):
            parse_trust([wrong])


def test_half_of_the_lumbar_slices_have_no_cord():
    shard = build_phantom_shard(40, TINY, np.random.default_rng(2), 1.0, lumbar=True)
    holds = shard.cord.amax((1, 2, 3)) > 0.5
    assert 0.1 < holds.float().mean() < 0.6


def test_contrasts_are_drawn_as_the_root_of_their_weights():
    contrasts = ("t2", "dwi", "t2", "t1")
    images = [LabelledImage(Path("image"), Path("reference"), contrast, "s") for contrast in contrasts]
    weights = (12.0, 1.0, 4.0, 1.0)  # in all 16 t2, 1 dwi, 1 t1: the mean is 6
    shards = even_out_contrasts([replace(disc_shard(), weight=weight) for weight in weights], images)
    drawn = [shard.weight for shard in shards]
    assert drawn[0] + drawn[2] == pytest.approx(4 * drawn[1])
    assert drawn[0] == pytest.approx(3 * drawn[2])
    assert drawn[1] == drawn[3]
    assert even_out_contrasts([], []) == []
