"""Small changes of an image: what they do, how masks are mapped back, and how agreement is measured."""

import errno
from dataclasses import replace

import numpy as np
import pytest
from made_study import CHUNK, MADE_BY, save_nifti, study_folder, study_image, write_chunk, write_index, write_result

from spineseg.cli import main
from spineseg.errors import MachineError, OutputError
from spineseg.methods.protocol import ImageInput, PreparedOwnMethod
from spineseg.perturbation import NOISE, Perturbation, draw_perturbations, map_back, perturb_volume
from spineseg.segmentation import Segmentation
from spineseg.study.perturb import agree_with_perturbed, perturb_chunk
from spineseg.studyfolder.decisions import Perturbed, read_perturbed, write_perturbed
from spineseg.studyfolder.layout import StudyFolder
from spineseg.volume import Volume, load_image

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


def test_changes_are_small_and_depend_on_the_image_name():
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
def test_a_moved_cord_is_mapped_back(number):
    change = draw_perturbations("sub-01_T2w", 3)[number]
    volume = image()
    moved = perturb_volume(volume, change).data > HALF
    before, after = (np.array(np.nonzero(mask[:, :, 2])).mean(axis=1) for mask in (cord(), moved))
    # a rotation of one degree hardly moves this cord; the shift moves it by half a voxel
    np.testing.assert_allclose(np.abs(after - before), 0.5, atol=0.2)
    back = map_back(moved, volume, change)
    overlap = 2 * (back & cord()).sum() / (back.sum() + cord().sum())
    assert overlap > 0.97
    np.testing.assert_allclose(np.array(np.nonzero(back)).mean(axis=1), np.array(np.nonzero(cord())).mean(axis=1),
                               atol=0.15)  # fmt: skip


def test_the_rotation_is_in_millimetres():
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
    """A method that counts how often it runs; `flaw` makes it depend on the noise, `reads_file` on the file."""

    def __init__(self, flaw: float = 0.0) -> None:
        self.calls, self.flaw = 0, flaw

    def prepare(self) -> PreparedOwnMethod:
        return PreparedOwnMethod("mine", replace(MADE_BY, parameters={"flaw": self.flaw}), self.segment)

    def segment(self, volume, contrast, progress=None):
        self.calls += 1
        mask = volume.data > HALF
        if self.flaw:
            mask &= np.random.default_rng(int(volume.data.sum())).random(mask.shape) > self.flaw
        return Segmentation(mask.astype(np.float32), mask, None, "ok")


class FileThreshold(PreparedOwnMethod):
    """A method that reads the image's file, as programs do."""

    reads_file = True

    def segment(self, image: ImageInput, progress=None) -> Segmentation:
        assert image.path.is_file()
        return self.kernel(load_image(image.path)[0], image.contrast)


@pytest.fixture
def study(tmp_path) -> StudyFolder:
    """A chunk of two images: one with a mask by the method `mine`, one that failed."""
    folder, images = study_folder(tmp_path), []
    for subject in ("01", "02"):
        path = save_nifti(tmp_path / f"sub-{subject}_T2w.nii.gz", image().data, AFFINE, np.float32)
        images.append(study_image(subject, path=str(path)))
    write_index(folder, images)
    masks = (cord().astype(np.uint8), None)
    entries = [write_result(folder, im, "mine", mask, affine=AFFINE) for im, mask in zip(images, masks, strict=True)]
    write_chunk(folder, "mine", entries)
    return folder


def run(study: StudyFolder, method: Threshold, n: int = 3) -> Perturbed:
    return perturb_chunk(study, method.prepare(), CHUNK, n)


def test_a_steady_method_agrees_with_itself_and_a_flawed_one_less(study):
    steady = run(study, Threshold()).images
    study.perturbed_image("mine", "sub-01_T2w").unlink()  # otherwise it would be good, because the mask is the same
    flawed = run(study, Threshold(flaw=0.2)).images
    assert steady["sub-01_T2w"]["perturb_dice"] > 0.97
    assert steady["sub-01_T2w"]["perturb_csa_cv"] < 1.5
    assert flawed["sub-01_T2w"]["perturb_dice"] < 0.93
    assert steady["sub-02_T2w"] == {"perturb_dice": None, "perturb_csa_cv": None}


def test_a_method_that_reads_files_is_given_changed_ones(study):
    expected = run(study, Threshold()).images
    study.perturbed_image("mine", "sub-01_T2w").unlink()
    method = Threshold()
    again = perturb_chunk(study, FileThreshold("mine", MADE_BY, method.segment), CHUNK, 3)
    assert method.calls == 3
    assert again.images == expected


@pytest.mark.parametrize(
    "error",
    [
        OutputError("a.nii.gz: cannot be written (No space left on device)"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7718400 bytes."),
    ],
    ids=["writing", "system", "torch"],
)
def test_a_machine_short_of_memory_does_not_count_against_a_method(study, monkeypatch, error):
    method = Threshold()
    monkeypatch.setattr(method, "segment", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(MachineError):
        run(study, method)
    assert not study.perturbed_image("mine", "sub-01_T2w").exists()


def test_finished_images_are_not_computed_again(study):
    method = Threshold()
    first = run(study, method)
    assert method.calls == 3
    assert run(study, method) == first
    assert method.calls == 3
    study.perturbed_image("mine", "sub-01_T2w").write_text("{")  # damaged: computed again
    assert run(study, method) == first
    assert method.calls == 6
    run(study, method, n=2)
    assert method.calls == 8
    path = study.perturbed("mine", CHUNK)
    write_perturbed(path, first)
    assert read_perturbed(path) == first


def test_a_changed_mask_is_compared_again(study):
    method = Threshold()
    run(study, method)
    entry = write_result(study, study_image("01"), "mine", cord(radius_mm=4.0).astype(np.uint8), affine=AFFINE)
    write_chunk(study, "mine", [entry])
    write_index(study, [study_image("01", path=str(study.root.parents[1] / "sub-01_T2w.nii.gz"))])
    assert run(study, method).images["sub-01_T2w"]["perturb_dice"] < 0.95
    assert method.calls == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-method", "nothing", "-n", "3"], "-method: expected a method that can be run again, found 'nothing'"),
        (["-method", "propseg", "-n", "0"], "-n: expected 1 or more, found 0"),
        (["-method", "propseg"], "-n: expected 1 or more, found 0"),
    ],
)
def test_the_command_refuses_in_one_line(study, capsys, options, message):
    assert main(["perturb", "-results", str(study.root), "-chunk", CHUNK, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
