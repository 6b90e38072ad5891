"""The recipes of docs/extending.md: they fit the schema, and run stand-ins that take the real programs' arguments."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from test_external_methods import AFFINE, SUBJECTS, bids, disc, save, segment  # noqa: F401

from spineseg.study.configuration import make_configuration

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
RECIPES = {
    name: yaml.safe_load(text)
    for name, text in re.findall(r"<!-- recipe: (\S+) -->\n```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
}

CORD = "(np.asarray(image.dataobj) > 120).astype(np.float32)"

PROGRAMS = {
    "sct_deepseg": f"""
parser.add_argument("task", choices=("spinalcord", "sc_epi"))
parser.add_argument("-i", required=True)
parser.add_argument("-o", required=True)
args = parser.parse_args()
image = nib.load(args.i)
assert image.ndim == 3, "Expected a 3D image"
nib.save(nib.Nifti1Image({CORD}.astype(np.uint8), image.affine), args.o)
""",
    "sct_maths": """
parser.add_argument("-i", required=True)
parser.add_argument("-mean", choices="xyzt", required=True)
parser.add_argument("-o", required=True)
args = parser.parse_args()
image = nib.load(args.i)
nib.save(nib.Nifti1Image(np.asarray(image.dataobj).mean(axis="xyzt".index(args.mean)), image.affine), args.o)
""",
    "totalspineseg": f"""
parser.add_argument("input", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--step1", action="store_true")
args = parser.parse_args()
image = nib.load(args.input)
folders = ["input", "step1_output", "step1_cord", "step1_canal", "step1_levels"] + ["step2_output"] * (not args.step1)
for folder in folders:
    (args.output / folder).mkdir(parents=True)
    share = np.where(np.indices(image.shape)[2] % 2, 0.8, 1.0) if folder == "step1_cord" else 0.0
    soft = ({CORD} * share).astype(np.float32)
    nib.save(nib.Nifti1Image(soft, image.affine), args.output / folder / args.input.name)
""",
    "nnUNetv2_predict": f"""
for flag in "iodcf":
    parser.add_argument("-" + flag, required=True)
args = parser.parse_args()
assert args.c in ("2d", "3d_fullres", "3d_lowres") and args.d.isdigit()
for path in Path(args.i).iterdir():
    assert path.name.endswith("_0000.nii.gz"), "images are named CASE_0000"
    image = nib.load(path)
    out = Path(args.o, path.name.replace("_0000", ""))
    nib.save(nib.Nifti1Image({CORD}.astype(np.uint8), image.affine), out)
Path(args.o, "dataset.json").write_text("{{}}")
""",
}
"""Stand-ins: arguments, names of files and kinds of masks are those of the real programs."""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    head = "import argparse\nfrom pathlib import Path\nimport nibabel as nib\nimport numpy as np\n"
    for name, text in PROGRAMS.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{head}parser = argparse.ArgumentParser(allow_abbrev=False)\n{text}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def third(recipe: str) -> dict:
    return RECIPES[recipe]["methods"][2]


def test_the_page_has_the_recipes():
    assert set(RECIPES) == {"sct-spinalcord", "sct-epi", "totalspineseg", "nnunet", "files", "options"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_a_configuration(recipe, programs, bids):  # noqa: F811
    config = make_configuration({"dataset": "x", "bids_dir": str(bids)} | RECIPES[recipe])
    assert list(config.methods)[2] == third(recipe)["name"]


@pytest.mark.parametrize("recipe", ["sct-spinalcord", "totalspineseg", "nnunet"])
def test_a_recipe_gives_the_mask_of_the_program(recipe, programs, tmp_path, bids):  # noqa: F811
    found = segment(tmp_path, bids, third(recipe))
    for subject in SUBJECTS:
        assert found[subject]["status"] == "ok", found[subject]["message"]
        np.testing.assert_array_equal(found[subject]["data"], disc())
    assert found["01"]["json"].maker == third(recipe)["version"]


def test_the_recipe_for_fmri_takes_a_series(programs, tmp_path, bids):  # noqa: F811
    series = np.stack([100 + 50 * disc() + shift for shift in (-1, 0, 1)], axis=-1)
    for subject in SUBJECTS:
        save(bids / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz", series.astype(np.float32))
    found = segment(tmp_path, bids, third("sct-epi"))
    assert {entry["status"] for entry in found.values()} == {"ok"}, found["01"]["message"]
    np.testing.assert_array_equal(found["02"]["data"], disc())


def test_a_stand_in_is_as_strict_as_the_program(programs, tmp_path, bids):  # noqa: F811
    wrong = third("nnunet") | {"command": third("nnunet")["command"].replace("case_0000", "case")}
    assert "images are named CASE_0000" in segment(tmp_path, bids, wrong)["01"]["message"]


def test_the_recipe_for_existing_masks_finds_them(tmp_path, bids):  # noqa: F811
    name = third("files")["files"].replace("{subject}", "sub-01").replace("{session}/", "")
    name = name.replace("{datatype}", "anat").replace("{image_id}", "sub-01_T2w")
    save(bids / name, disc())
    found = segment(tmp_path, bids, third("files"))
    assert (found["01"]["status"], found["02"]["status"]) == ("ok", "failed")
    assert np.allclose(nib.load(found["01"]["path"]).affine, AFFINE)
