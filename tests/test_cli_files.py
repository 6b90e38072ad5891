"""Commands never overwrite their inputs, and refuse files that do not belong together."""

import json

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import main

AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])


@pytest.fixture
def mask(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = np.meshgrid(np.arange(40) - 20, np.arange(40) - 20, indexing="ij")
    tube = np.repeat((x**2 + y**2 < 36)[:, :, None], 12, axis=2)
    nib.save(nib.Nifti1Image(tube.astype(np.uint8), AFFINE), "m.nii.gz")
    nib.save(nib.Nifti1Image(tube.astype(np.uint8), AFFINE), "d.nii.gz")
    return "m.nii.gz"


COMMANDS = {
    "a table as an image": ["csa", "-i", "m.nii.gz", "-o", "m.nii.gz"],
    "a table as another image": ["csa", "-i", "m.nii.gz", "-o", "new.nii.gz"],
    "a table over the levels": ["csa", "-i", "m.nii.gz", "-discfile", "t.csv", "-o", "t.csv"],
    "the comparison over a mask": ["dice", "-i", "m.nii.gz", "-d", "d.nii.gz", "-o", "d.nii.gz"],
    "the line over its mask": ["centerline", "-i", "m.nii.gz", "-method", "fitseg", "-o", "m.nii.gz"],
    "the discs over the image": ["levels", "-i", "m.nii.gz", "-levels", "c.json", "-o", "m.nii.gz"],
}


@pytest.mark.parametrize("case", COMMANDS)
def test_nothing_that_is_read_is_written(mask, tmp_path, capsys, case):
    (tmp_path / "t.csv").write_text("1,2,3\n")
    (tmp_path / "c.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(COMMANDS[case]) == 2
    assert "error:" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_link_to_an_input_is_the_input(mask, tmp_path, capsys):
    (tmp_path / "link.csv").symlink_to(mask)
    assert main(["csa", "-i", mask, "-o", "link.csv"]) == 2
    assert "is one of the files that are read" in capsys.readouterr().err


def test_a_centerline_of_another_place_is_refused(mask, tmp_path, capsys):
    (tmp_path / "l.csv").write_text("".join(f"5,20,{k}\n" for k in range(12)))
    assert main(["csa", "-i", mask, "-centerline", "l.csv"]) == 2
    assert "found one 15 mm from it" in capsys.readouterr().err


def test_masks_with_the_same_name_stay_distinct(mask, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / mask).write_bytes((tmp_path / mask).read_bytes())
    assert main(["csa", "-i", f"a/{mask}", f"b/{mask}", "-o", "T.CSV"]) == 0
    rows = (tmp_path / "T.CSV").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [f"a/{mask}", f"b/{mask}"]


def test_a_mask_at_the_border_of_the_field_of_view_is_reported(mask, tmp_path, capsys):
    data = np.asarray(nib.load(mask).dataobj)[16:]
    nib.save(nib.Nifti1Image(data, AFFINE), "cut.nii.gz")
    assert main(["csa", "-i", "cut.nii.gz"]) == 0
    assert "touches the side of the field in 12 slices" in capsys.readouterr().err


def test_faint_voxels_of_a_soft_mask_add_no_area(mask, tmp_path, capsys):
    data = np.maximum(np.asarray(nib.load(mask).dataobj, np.float32), 0.005)
    nib.save(nib.Nifti1Image(data, AFFINE), "soft.nii.gz")
    areas = []
    for name in (mask, "soft.nii.gz"):
        assert main(["csa", "-i", name, "--json"]) == 0
        areas.append([row["csa_mm2"] for row in json.loads(capsys.readouterr().out)])
    assert areas[0] == areas[1]


def test_a_soft_centerline_is_weighted_by_its_values(mask, tmp_path, capsys):
    (tmp_path / "l.csv").write_text("".join(f"{20 + 0.3 * np.sin(k / 3):.3f},20.2,{k}\n" for k in range(12)))
    assert main(["centerline", "-i", mask, "-method", "fitseg", "-o", "soft", "-centerline-soft", "1", "-v", "0"]) == 0
    angles = []
    for line in ("soft.nii.gz", "soft.csv"):
        assert main(["csa", "-i", mask, "-centerline", line, "-perslice", "1"]) == 0
        angles.append(capsys.readouterr().out)
    assert angles[0] == angles[1]


@pytest.mark.parametrize(
    "command",
    [
        ["csa", "-i", "m.nii.gz", "-vert", "", "-discfile", "d.nii.gz"],
        ["dice", "-i", "m.nii.gz", "-d", "d.nii.gz", "-tolerance", "-1"],
    ],
)
def test_meaningless_values_are_refused(mask, capsys, command):
    assert main(command) == 2
    assert "expected" in capsys.readouterr().err


def test_a_page_is_named_once_it_is_there(tmp_path, monkeypatch, capsys):
    from spineseg.errors import OutputError
    from spineseg.phantom.dataset import write_dataset
    from spineseg.report import qc_page

    image = str(write_dataset(tmp_path / "people", 1, 1, contrasts=("T2star",), hard="none")[0])
    monkeypatch.chdir(tmp_path)
    command = ["propseg", "-i", image, "-c", "t2s", "-qc", "qc"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "xdg-open qc/index.html"

    def fail(folder):
        raise OutputError(f"{folder}/index.html: cannot be written (No space left on device)")

    monkeypatch.setattr(qc_page, "build_index", fail)
    assert main(command) == 2
    said = capsys.readouterr()
    assert "xdg-open" not in said.out
    assert "No space left on device" in said.err
