"""Training is reproducible: it records its people, code and masks, and gives the same bytes again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open

from spineseg import __version__
from spineseg.cli import main
from spineseg.deepseg.network import UNet, UNetConfig
from spineseg.deepseg.weights import load_model, save_model
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.training.deepseg.train import choose_images
from spineseg.training.labelled_images import load_tables
from spineseg.training.optic.fit import TrainingParams
from spineseg.training.optic.train import train_detectors


@pytest.fixture
def data(tmp_path):
    """Three people with one small image of a bright tube each, and a recipe that names two of them."""
    rng = np.random.default_rng(0)
    i, j = np.indices((40, 40)) - 19.5
    cord = np.repeat((np.hypot(i, j) < 5)[:, :, None], 4, axis=2)
    rows = ["image\tcontrast\treference\tsubject"]
    for person in "abc":
        image = (100 * cord + 20 * rng.random(cord.shape)).astype(np.float32)
        for name, values in ((f"{person}.nii.gz", image), (f"{person}_seg.nii.gz", cord.astype(np.uint8))):
            nib.save(nib.Nifti1Image(values, np.diag([1, 1, 4, 1])), tmp_path / name)
        rows.append(f"{person}.nii.gz\tt1\t{person}_seg.nii.gz\t{person}")
    (tmp_path / "data.tsv").write_text("\n".join(rows) + "\n")
    write_recipe(tmp_path, "a", "b")
    return tmp_path


def write_recipe(folder, *people, table="data"):
    rows = [f"{person}\t{person}.nii.gz\t{table}" for person in people]
    (folder / "recipe.tsv").write_text("\n".join(["subject\timage\ttable", *rows]) + "\n")


def test_a_new_person_in_the_table_changes_nothing_and_is_named(data):
    lines = []
    images, more = load_tables(data / "data.tsv", [], data / "recipe.tsv", lines.append)
    assert [item.subject for item in images] == ["a", "b"]
    assert more == []
    assert lines == ["recipe.tsv does not name c.nii.gz of c: left out"]


def test_folds_are_drawn_among_the_people_of_the_recipe(data, capsys):
    with_c = [choose_images(data / "data.tsv", None, f"{n}/3", [], data / "recipe.tsv") for n in range(3)]
    rows = (data / "data.tsv").read_text().splitlines()
    (data / "data.tsv").write_text("\n".join(rows[:-1]) + "\n")
    assert [choose_images(data / "data.tsv", None, f"{n}/3", [], data / "recipe.tsv") for n in range(3)] == with_c


def test_an_image_of_the_recipe_must_be_there(data):
    write_recipe(data, "a", "d")
    with pytest.raises(InputError, match=r"recipe\.tsv: names d\.nii\.gz of d \(data\), found no such"):
        load_tables(data / "data.tsv", [], data / "recipe.tsv")


def test_images_of_the_extra_table_are_asked_for_only_with_that_table(data):
    rows = (data / "data.tsv").read_text().splitlines()
    (data / "extra.tsv").write_text("\n".join([rows[0], rows[3]]) + "\n")
    text = (data / "recipe.tsv").read_text()
    (data / "recipe.tsv").write_text(text + "c\tc.nii.gz\textra\n")
    (data / "data.tsv").write_text("\n".join(rows[:3]) + "\n")
    assert load_tables(data / "data.tsv", [], data / "recipe.tsv")[1] == []
    _, more = load_tables(data / "data.tsv", [data / "extra.tsv"], data / "recipe.tsv")
    assert [item.subject for item in more] == ["c"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("subject\timage\na\ta.nii.gz\n", "column .table."),
        ("subject\timage\ttable\na\ta.nii.gz\tmore\n", "data or extra"),
        (None, "no such recipe"),
    ],
)
def test_a_bad_recipe_is_refused(data, text, said):
    path = data / "bad.tsv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"bad\.tsv: .*{said}"):
        load_tables(data / "data.tsv", [], path)


def test_equal_weights_give_equal_bytes(tmp_path):
    torch.manual_seed(0)
    model = UNet(UNetConfig("segment", (2, 4), (), 0.5, 32))
    digests = set()
    for n in range(12):  # the library writes the keys of its header in random order
        save_model(tmp_path / f"{n}.safetensors", model, {"people": ["a"], "seed": 1})
        digests.add(sha256_file(tmp_path / f"{n}.safetensors"))
    assert len(digests) == 1
    again, provenance = load_model(tmp_path / "0.safetensors")
    assert provenance == {"people": ["a"], "seed": 1}
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("stage", ["segment", "detect"])
def test_two_trainings_of_a_network_give_one_file(data, stage, capsys):
    files = [data / f"{n}.safetensors" for n in range(2)]
    few = ["-phantoms", "4", "-cordless", "2", "-steps", "2", "-batch", "4", "-threads", "1"]
    command = ["train", stage, "-data", str(data / "data.tsv"), "-recipe", str(data / "recipe.tsv"), *few, "-o"]
    assert main([*command, str(files[0])]) == 0
    again = [sys.executable, "-m", "spineseg", *command, str(files[1])]
    subprocess.run(again, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True, capture_output=True)
    assert files[0].read_bytes() == files[1].read_bytes()
    _, about = load_model(files[0])
    assert about["people"] == ["a", "b"]
    assert [item["reference_sha256"] for item in about["images"]] == [
        sha256((data / f"{person}_seg.nii.gz").read_bytes()).hexdigest() for person in "ab"
    ]
    assert about["code"]["torch"] == torch.__version__
    assert about["code"]["spineseg"] == __version__
    assert len(about["code"]["source_sha256"]) == 64


def test_two_trainings_of_a_detector_give_one_file(data):
    few = TrainingParams(n_own=8, n_mapped=8, n_rounds=2)
    named = {"contrasts": ["t1"], "recipe": data / "recipe.tsv", "params": few}
    files = train_detectors([data / "data.tsv"], data / "0", **named)
    code = f"""
from pathlib import Path
from spineseg.training.optic.fit import TrainingParams
from spineseg.training.optic.train import train_detectors
named = dict(contrasts=["t1"], recipe=Path({str(data / "recipe.tsv")!r}), params={few!r})
print(train_detectors([Path({str(data / "data.tsv")!r})], Path({str(data / "1")!r}), **named)[0])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    files.append(Path(done.stdout.split()[-1]))
    assert files[0].read_bytes() == files[1].read_bytes()
    with safe_open(files[0], framework="numpy") as stream:
        about = json.loads(stream.metadata()["about"])
    assert about["people"] == ["a", "b"]
    assert about["code"]["source_sha256"]
