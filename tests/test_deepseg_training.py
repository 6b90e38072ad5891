"""Training: synthetic slices replay from their seed, augmentation keeps image and label together, runs resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spineseg.deepseg import augment
from spineseg.deepseg.model import UNetConfig, load_model
from spineseg.deepseg.recipe import choose_images, parse_fold, train_network
from spineseg.deepseg.shards import Shard, build_mask_shard, build_phantom_shard, build_shard, shard_px
from spineseg.deepseg.synthetic import draw_mask_slice, paint
from spineseg.deepseg.training import Trainer, TrainingParams, augment_batch, draw_batch
from spineseg.errors import InputError, ModelError
from spineseg.training_data import LabelledImage

TINY = UNetConfig("segment", (6, 12), (), 0.5, 32)
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
    return Shard(image, cord.half(), torch.ones_like(labels), "discs", "s", 1.0, painted)


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
    shape = augment.draw_shape(8, 32, augment.ShapeRanges(), torch.Generator().manual_seed(0))
    moved, inside = augment.apply_shape(stack, shape, 32)
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert inside.shape == (8, 1, 32, 32)
    areas = moved[:, 0].sum((1, 2))
    assert ((areas > 0.4 * 154) & (areas < 2.2 * 154)).float().mean() > 0.7


def test_no_change_of_shape_is_a_centred_crop():
    stack = torch.rand((2, 1, 20, 20), generator=torch.Generator().manual_seed(0))
    still = augment.ShapeRanges(0, 0, 0, 0, 0, 0, 0, 0)
    shape = augment.draw_shape(2, 12, still, torch.Generator().manual_seed(0))
    moved, inside = augment.apply_shape(stack, shape, 12)
    crop = stack[:, :, 4:16, 4:16]
    pairs = zip(moved, crop, strict=True)
    same = [min(float((m - c).abs().max()), float((m - c.flip(1)).abs().max())) for m, c in pairs]
    assert max(same) < 1e-5  # flip(1) of (1, H, W): the right-left mirror image
    assert inside.all()


def test_curves_pass_through_their_knots():
    curves = torch.rand((1, augment.LUT_KNOTS))
    knots = torch.linspace(0, 1, augment.LUT_KNOTS)[None, None, None]
    np.testing.assert_allclose(augment.apply_curves(knots, curves).flatten(), curves.flatten(), atol=1e-5)


@pytest.mark.parametrize("stage", ["segment", "detect"])
def test_batches_are_finite_and_standardised(stage):
    config = UNetConfig(stage, (4, 8), (), 0.5, 32)
    params = TrainingParams(batch=12)
    rng = torch.Generator().manual_seed(0)
    stack = draw_batch([disc_shard(), disc_shard(painted=True)], 12, params, rng)
    image, cord, valid = augment_batch(stack, config, params, rng)
    assert image.shape == cord.shape == valid.shape == (12, 1, 32, 32)
    assert torch.isfinite(image).all()
    assert image.abs().max() <= 4
    assert cord.min() >= 0
    assert cord.max() <= 1


def test_training_lowers_the_loss():
    shard, rng = disc_shard(), torch.Generator().manual_seed(0)
    params = TrainingParams(steps=40, batch=8)
    trainer = Trainer(TINY, params, [shard])
    # always the same batch, so that the loss does not hang on what was drawn
    batch = augment_batch(draw_batch([shard], 8, params, rng), TINY, params, rng)
    losses = [trainer.learn(batch) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_run_reports_and_ends():
    rows = []
    params = TrainingParams(steps=4, batch=4, log_every=2)
    Trainer(TINY, params, [disc_shard()], [disc_shard(3)]).run(report=rows.append)
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 <= rows[-1]["discs"] <= 1


def test_a_killed_run_goes_on_as_if_nothing_happened(tmp_path):
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
def test_shards_hold_the_cord_in_their_middle():
    folder = DATA / "bids" / "sub-sct017" / "dwi"
    name = "sub-sct017_rec-average_dwi"
    reference = DATA / "bids/derivatives/labels/sub-sct017/dwi" / f"{name}_label-SC_seg.nii.gz"
    shard = build_shard(LabelledImage(folder / f"{name}.nii.gz", reference, "dwi", "sct017"), TINY)
    size = shard_px(TINY)
    assert shard.image.shape == shard.cord.shape == shard.valid.shape == (15, 1, size, size)
    assert shard.cord[:, 0, size // 2, size // 2].min() == 1
    area = shard.cord.float().sum((1, 2, 3)) * TINY.zoom_mm**2
    assert ((area > 50) & (area < 110)).all()


@needs_data
def test_mask_shard_is_made_of_real_shapes(tmp_path):
    for file in (DATA / "geometry").glob("sub-cardiff03_T2w*"):
        (tmp_path / file.name).symlink_to(file)
    shard = build_mask_shard(tmp_path, TINY, np.random.default_rng(0), 1.0)
    assert len(shard.image) == 16
    assert build_mask_shard(tmp_path / "none", TINY, np.random.default_rng(0), 1.0) is None


@needs_data
@pytest.mark.slow
def test_the_command_writes_weights_with_their_provenance(tmp_path):
    rows = (DATA / "labelled.tsv").read_text().splitlines()
    keep = [rows[0]] + [r for r in rows[1:] if "sct017" in r or "t1crop" in r]
    table = tmp_path / "two.tsv"
    table.write_text("\n".join(keep).replace("bids/", f"{DATA}/bids/"))
    out = tmp_path / "w.safetensors"
    train_network("segment", data=table, out=out, n_phantoms=4, exclude=["t1crop"], settings={"steps": 2, "batch": 4})
    _, provenance = load_model(out)
    assert provenance["people"] == ["sct017"]
    assert provenance["held_out"] == ["t1crop"]
    assert (tmp_path / "w.csv").read_text().startswith("step,")
    assert not (tmp_path / "w.ckpt").exists()
    before = out.read_bytes()
    train_network("segment", data=table, out=out, resume=True)  # nothing left to do
    assert out.read_bytes() == before
