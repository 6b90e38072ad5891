"""Changes that must not matter: what they do to an image, how masks come back, and what a method's agreement says."""

import json
from pathlib import Path

import numpy as np
import pytest

from spineseg.methods import PreparedMethod
from spineseg.perturbation import NOISE, Perturbation, draw_perturbations, map_back, perturb_volume
from spineseg.provenance import sha256_file
from spineseg.segmentation import Segmentation
from spineseg.study.images import write_images
from spineseg.study.perturb import agree_with_perturbed, perturb_chunk, read_perturbed
from spineseg.volume import Volume, load_image, save_volume
from spineseg.writing import write_json

ZOOMS = (0.5, 0.8, 3.0)
AFFINE = np.diag([-ZOOMS[0], ZOOMS[1], ZOOMS[2], 1.0])
HALF = 203
"""Between the cord's intensity and that around it."""
NOTHING = Perturbation(0.0, (0.0, 0.0), (0.0, 0.0, 0.0), (0,))


def cord(centre_mm=(15.0, 16.0), radius_mm=5.0):
    i, j, _ = np.indices((61, 41, 6))
    return np.hypot(i * ZOOMS[0] - centre_mm[0], j * ZOOMS[1] - centre_mm[1]) < radius_mm


def image() -> Volume:
    return Volume((100.0 + 200.0 * cord() + np.indices((61, 41, 6))[2]).astype(np.float32), AFFINE)


def test_the_changes_of_an_image_are_its_own_and_small():
    first, again, other = (draw_perturbations(name, 3) for name in ("a", "a", "b"))
    assert first == again
    assert draw_perturbations("a", 5)[:3] == first
    assert first != other
    assert len({change.noise_seed for change in first + other}) == 6
    for change in first:
        assert abs(change.angle_deg) == 1
        assert np.abs(change.shift_vox).tolist() == [0.5, 0.5]
        assert np.linalg.norm(change.bias) == pytest.approx(0.1)


def test_noise_has_its_size_and_nothing_leaves_the_range():
    # a ramp, so that clipping touches few voxels
    volume = Volume(np.indices((61, 41, 60))[2].astype(np.float32), AFFINE)
    noise = perturb_volume(volume, NOTHING).data - volume.data
    low, high = np.percentile(volume.data, [0.5, 99.5])
    assert noise[:, :, 5:55].std() == pytest.approx(NOISE * (high - low), rel=0.02)
    assert abs(noise[:, :, 5:55].mean()) < 0.05
    changed = perturb_volume(volume, draw_perturbations("x", 1)[0]).data
    assert changed.min() >= volume.data.min()
    assert changed.max() <= volume.data.max()
    assert changed.dtype == np.float32


@pytest.mark.parametrize("number", range(3))
def test_a_cord_moves_as_said_and_comes_back(number):
    change = draw_perturbations("sub-01_T2w", 3)[number]
    volume = image()
    moved = perturb_volume(volume, change).data > HALF
    before, after = (np.array(np.nonzero(mask[:, :, 2])).mean(axis=1) for mask in (cord(), moved))
    # a turn by one degree about the middle moves this cord by little; the shift moves it by half a voxel
    np.testing.assert_allclose(np.abs(after - before), 0.5, atol=0.2)
    back = map_back(moved, volume, change)
    overlap = 2 * (back & cord()).sum() / (back.sum() + cord().sum())
    assert overlap > 0.97
    np.testing.assert_allclose(np.array(np.nonzero(back)).mean(axis=1), np.array(np.nonzero(cord())).mean(axis=1),
                               atol=0.15)  # fmt: skip


def test_the_turn_is_in_millimetres():
    turn = Perturbation(90.0, (0.0, 0.0), (0.0, 0.0, 0.0), (0,))
    line = np.zeros((61, 41, 1), np.float32)
    line[20:41, 20] = 100
    turned = perturb_volume(Volume(line, AFFINE), turn).data
    ends = np.flatnonzero(turned[30, :, 0] > 50)
    # 10 mm along axis 0 become 10 mm along axis 1
    assert (ends[-1] - ends[0]) * ZOOMS[1] == pytest.approx(10, abs=1)


def test_agreement_of_known_masks():
    zooms = np.array(ZOOMS)
    mask = cord()
    same = agree_with_perturbed(mask, [mask] * 3, [mask] * 3, zooms)
    assert same == {"perturb_dice": 1.0, "perturb_csa_cv": 0.0}
    larger = cord(radius_mm=5.5)
    result = agree_with_perturbed(mask, [larger], [larger], zooms)
    assert result["perturb_dice"] == pytest.approx(2 / (1 + 1.1**2), abs=0.02)
    areas = np.array([1, 1.1**2])
    assert result["perturb_csa_cv"] == pytest.approx(100 * areas.std(ddof=1) / areas.mean(), abs=1.5)
    nothing = np.zeros_like(mask)
    assert agree_with_perturbed(nothing, [mask], [mask], zooms)["perturb_dice"] is None
    lost = agree_with_perturbed(mask, [mask, nothing], [mask, nothing], zooms)
    assert lost == {"perturb_dice": 0.5, "perturb_csa_cv": None}


class Threshold:
    """A method that counts how often it runs; `flaw` makes it depend on the noise."""

    def __init__(self, flaw: float = 0.0) -> None:
        self.calls, self.flaw = 0, flaw

    def prepare(self) -> PreparedMethod:
        return PreparedMethod("mine", self.segment, {"flaw": self.flaw}, {})

    def segment(self, volume, contrast):
        self.calls += 1
        mask = volume.data > HALF
        if self.flaw:
            mask &= np.random.default_rng(int(volume.data.sum())).random(mask.shape) > self.flaw
        return Segmentation(mask.astype(np.float32), mask, None, "ok")


@pytest.fixture
def study(tmp_path) -> Path:
    """A chunk of two images: one with a mask by the method `mine`, one that failed."""
    import nibabel as nib

    results, rows, entries = tmp_path / "results" / "x", [], []
    for subject in ("01", "02"):
        stem = f"sub-{subject}_T2w"
        nib.save(nib.Nifti1Image(image().data, AFFINE), tmp_path / f"{stem}.nii.gz")
        rows.append({"image_id": stem, "subject": subject, "datatype": "anat", "contrast": "t2", "suffix": "T2w",
                     "path": str(tmp_path / f"{stem}.nii.gz"), "included": "true", "pilot": "true",
                     "chunk": "pilot-0001"})  # fmt: skip
        entries.append({"image_id": stem, "status": "failed", "mask": None, "mask_sha256": None})
    mask = results / "sub-01_mask.nii.gz"
    save_volume(mask, cord(), load_image(rows[0]["path"])[1])
    entries[0] |= {"status": "ok", "mask": mask.name, "mask_sha256": sha256_file(mask)}
    write_images(results / "images.tsv", rows)
    write_json(results / "chunks" / "mine" / "pilot-0001.json", {"images": entries})
    return results


def run(study: Path, method: Threshold, n: int = 3) -> dict:
    return perturb_chunk(study / "images.tsv", study, method.prepare(), "pilot-0001", n)


def test_a_steady_method_agrees_with_itself_and_a_flawed_one_less(study):
    steady = run(study, Threshold())
    flawed = run(study, Threshold(flaw=0.2))
    assert steady["sub-01_T2w"]["perturb_dice"] > 0.97
    assert steady["sub-01_T2w"]["perturb_csa_cv"] < 1.5
    assert flawed["sub-01_T2w"]["perturb_dice"] < 0.93
    assert steady["sub-02_T2w"] == {"perturb_dice": None, "perturb_csa_cv": None}


def test_finished_images_are_not_done_again(study, tmp_path):
    method = Threshold()
    first = run(study, method)
    assert method.calls == 3
    assert run(study, method) == first
    assert method.calls == 3
    run(study, method, n=2)
    assert method.calls == 5
    path = tmp_path / "chunk.json"
    path.write_text(json.dumps({"method": "mine", "images": first}))
    assert read_perturbed([path])["sub-01_T2w", "mine"] == first["sub-01_T2w"]
