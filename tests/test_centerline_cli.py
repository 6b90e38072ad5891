"""`spineseg centerline` and `spineseg train optic` as a user calls them."""

import itertools
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from test_centerline_estimate import make_neck

from spineseg.centerline.curve import load_centerline
from spineseg.centerline.detector import load_detector
from spineseg.cli import main
from spineseg.volume import load_image


@pytest.fixture
def neck(tmp_path, monkeypatch):
    volume, centre = make_neck("t2", (50, 50, 10), (1.0, 1.0, 3.0))
    nib.save(nib.Nifti1Image(volume.data, volume.affine), tmp_path / "neck.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "neck.nii.gz", centre


def test_default_names_are_in_the_current_folder(neck, capsys):
    image, centre = neck
    assert main(["centerline", "-i", str(image), "-c", "t2"]) == 0
    folder = image.parent
    written = nib.load(folder / "neck_centerline.nii.gz")
    assert np.asarray(written.dataobj).sum(axis=(0, 1)).tolist() == [1] * 10
    assert written.get_data_dtype() == np.uint8
    points = np.loadtxt(folder / "neck_centerline.csv", delimiter=",")
    assert points.shape == (10, 3)
    assert np.abs(points[:, :2] - centre).max() < 1.5
    assert "fsleyes" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["line", "line.csv", "line.nii.gz", "sub/line.nii"])
def test_extension_of_the_output_is_optional(neck, name):
    image, _ = neck
    assert main(["centerline", "-i", str(image), "-c", "t2", "-o", name, "-v", "0"]) == 0
    stem = name.split(".")[0]
    assert (image.parent / f"{stem}.nii.gz").is_file()
    assert (image.parent / f"{stem}.csv").is_file()


def test_many_images_one_bad(neck, capsys):
    image, _ = neck
    bad = image.with_name("bad.nii.gz")
    bad.write_bytes(b"no image")
    assert main(["centerline", "-i", str(bad), str(image), "-c", "t2", "-ofolder", "out", "--json"]) == 2
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert [r["status"] for r in results] == ["failed", "ok"]
    assert "bad.nii.gz" in captured.err
    assert captured.err.count("\n") == 1


def test_bad_usage(neck):
    image, _ = neck
    assert main(["centerline", "-i", str(image)]) == 2
    assert main(["centerline", "-i", str(image), str(image), "-c", "t2"]) == 2
    assert main(["centerline", "-i", str(image), "missing.nii", "-c", "t2", "-o", "x"]) == 2
    with pytest.raises(SystemExit) as caught:
        main(["centerline", "-i", str(image), "-c", "pd"])
    assert caught.value.code == 2


def test_fitseg_uses_the_centers_of_a_mask(neck):
    image, centre = neck
    volume, _ = load_image(image)
    i, j = np.meshgrid(np.arange(50), np.arange(50), indexing="ij")
    mask = np.hypot(i[..., None] - centre[:, 0], j[..., None] - centre[:, 1]) < 4
    mask[:, :, [0, 4, 9]] = False  # ends and a gap
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), volume.affine), image.with_name("mask.nii.gz"))
    assert main(["centerline", "-i", "mask.nii.gz", "-method", "fitseg", "-o", "fit", "-v", "0"]) == 0
    points = np.loadtxt(image.parent / "fit.csv", delimiter=",")
    assert points[:, 2].tolist() == list(range(1, 9))
    assert np.abs(points[:, :2] - centre[1:9]).max() < 0.5
    assert main(["centerline", "-i", "mask.nii.gz", "-method", "fitseg", "-o", "fit", "-extrapolation", "1"]) == 0
    assert len(np.loadtxt(image.parent / "fit.csv", delimiter=",")) == 10


def test_every_orientation_gives_the_same_curve(neck, tmp_path):
    image, _ = neck
    source = nib.load(image)
    main(["centerline", "-i", str(image), "-c", "t2", "-o", "first", "-v", "0"])
    expected = load_centerline("first.csv", load_image(image)[1]).points_vox
    for order in itertools.permutations(range(3)):
        for flips in itertools.product([1, -1], repeat=3):
            turned = source.as_reoriented(np.stack([order, flips], axis=1))
            nib.save(turned, "turned.nii.gz")
            main(["centerline", "-i", "turned.nii.gz", "-c", "t2", "-o", "turned_line", "-v", "0"])
            grid = load_image("turned.nii.gz")[1]
            np.testing.assert_allclose(load_centerline("turned_line.csv", grid).points_vox, expected, atol=1e-6)
            same = np.asarray(nib.load("turned_line.nii.gz").affine)
            np.testing.assert_allclose(same, turned.affine, atol=1e-5)


def test_centerline_does_not_import_torch(neck):
    image, _ = neck
    code = (
        "import sys; from spineseg.cli import main; "
        f"code = main(['centerline', '-i', {str(image)!r}, '-c', 't2', '-v', '0']); "
        "sys.exit(code or ('torch' in sys.modules) * 7 or ('pandas' in sys.modules) * 8)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_from_a_table(neck, monkeypatch, capsys):
    image, centre = neck
    i, j = np.meshgrid(np.arange(50), np.arange(50), indexing="ij")
    mask = np.hypot(i[..., None] - centre[:, 0], j[..., None] - centre[:, 1]) < 4
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), nib.load(image).affine), image.with_name("mask.nii.gz"))
    rows = "image\tcontrast\treference\tsubject\nneck.nii.gz\tt2\tmask.nii.gz\tA\nneck.nii.gz\tt2\tmask.nii.gz\tB\n"
    image.with_name("table.tsv").write_text(rows)
    monkeypatch.setattr("spineseg.training.optic.fit.TrainingParams.__init__.__defaults__", (6, 6, 2, 1e-3, 0))
    arguments = ["train", "optic", "-data", "table.tsv", "-c", "t2"]
    assert main([*arguments, "-ofolder", "first"]) == 0
    assert main([*arguments, "-ofolder", "second", "-v", "0"]) == 0
    first, second = (image.parent / f / "optic_t2.safetensors" for f in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert "round 2" in capsys.readouterr().out
    assert load_detector("t2", first).contrast == "t2"
    assert main([*arguments, "-exclude", "C"]) == 2
