"""Synthetic people: exact references, the same bytes from the same seed, intensities that fit the contrast."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import main
from spineseg.contrasts import CORD_DARKER, SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.phantom import anatomy, course, dataset, discs
from spineseg.phantom.acquisition import PROTOCOLS, draw_acquisition, draw_pose
from spineseg.phantom.anatomy import CORD_TISSUES, Compression, Tissue
from spineseg.phantom.contrast import B_VALUES, draw_contrast, property_table
from spineseg.phantom.sampling import fine_texture, sample_grid, voxel_points
from spineseg.volume import load_image, load_mask

CORD_COLUMN = np.isin(list(Tissue), CORD_TISSUES).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def person():
    return anatomy.draw(np.random.default_rng(7))


@pytest.fixture(scope="module")
def images():
    """One image of each contrast of an easy person."""
    return {suffix: dataset.make_image(3, 0, suffix) for suffix in dataset.SUFFIXES}


@pytest.fixture(scope="module")
def small_dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    dataset.write_dataset(folder, 2, seed=5, contrasts=["T2star", "dwi"])
    return folder


def straight(params):
    return replace(params, lordosis_mm=0.0, sway_mm=0.0, tilt=0.0)


def test_points_on_the_curve_are_the_origin_of_the_cord_frame(person):
    z = np.linspace(-300, 0, 50)
    points = anatomy.curve_mm(person, z)
    u, v, s = anatomy.to_cord_frame(person, points)
    np.testing.assert_allclose(np.hypot(u, v), 0, atol=1e-3)
    np.testing.assert_allclose(s, z, atol=1e-3)


def test_frame_is_perpendicular_to_the_curve(person):
    """A point 15 mm off at right angles keeps its position along the cord, and its distance."""
    z = np.linspace(-250, -20, 40)
    tangent = anatomy.curve_mm(person, z + 0.01) - anatomy.curve_mm(person, z - 0.01)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    away = np.cross(tangent, [0.3, -0.5, 0.2])
    away *= 15 / np.linalg.norm(away, axis=1, keepdims=True)
    u, v, s = anatomy.to_cord_frame(person, anatomy.curve_mm(person, z) + away)
    np.testing.assert_allclose(np.hypot(u, v), 15, atol=0.02)
    np.testing.assert_allclose(s, z, atol=0.05)


@pytest.mark.parametrize("zooms", [(0.5, 0.5, 5.0), (1.0, 1.0, 1.0), (0.9, 0.9, 5.0)])
def test_area_of_the_reference_is_the_analytic_area(person, zooms):
    params = straight(person)
    size_mm, z = 24.0, -np.arange(30.0, 110.0, 10.0)
    affine = np.diag([*zooms, 1.0])
    shape = (int(size_mm / zooms[0]), int(size_mm / zooms[1]), 1)
    mask_errors = []
    for height in z:
        affine[:3, 3] = -size_mm / 2 + 0.13, -size_mm / 2 - 0.21, height
        fraction = sample_grid(params, shape, affine, CORD_COLUMN).means[:, 0]
        pixel = zooms[0] * zooms[1]
        inside = height + np.linspace(-0.5, 0.5, 101) * zooms[2]
        expected = anatomy.cord_area_mm2(params, inside).mean()
        assert fraction.sum() * pixel == pytest.approx(expected, rel=0.01)
        mask_errors.append((fraction >= 0.5).sum() * pixel / expected - 1)
    # One slice of a mask of 1 mm pixels may be 5 % off (3 of 70 pixels); their mean may not.
    assert abs(np.mean(mask_errors)) < 0.02
    assert np.abs(mask_errors).max() < 0.05


def test_volume_is_exact_on_oblique_grids_of_a_curved_cord(person):
    params = replace(person, lordosis_mm=9.0, tilt=0.15)
    rng = np.random.default_rng(0)
    acquisition = draw_acquisition(rng, params, PROTOCOLS["T1w"], draw_pose(rng))
    to_person = acquisition.pose @ acquisition.affine
    sample = sample_grid(params, acquisition.shape, to_person, CORD_COLUMN)
    inside = (sample.s > -100) & (sample.s < -45)
    measured = sample.means[inside, 0].sum() * abs(np.linalg.det(to_person[:3, :3]))
    z = np.linspace(-100, -45, 2001)
    steps = np.linalg.norm(np.diff(anatomy.curve_mm(params, z), axis=0), axis=1)
    expected = (anatomy.cord_area_mm2(params, (z[1:] + z[:-1]) / 2) * steps).sum()
    assert measured == pytest.approx(expected, rel=0.01)


def test_areas_are_those_of_people():
    """Area at C4-C5 between 50 and 100 mm², C7 smaller, thoracic smaller still (metrics.md, section 6)."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        params = anatomy.draw(rng)
        c4, c7, chest = anatomy.cord_area_mm2(params, np.array([-68.0, -119.0, -250.0]) * params.height)
        assert 55 < c4 < 100
        assert 25 < chest < c7 < c4


def test_compression_narrows_the_cord_at_one_level(person):
    squeezed = replace(person, compressions=(Compression(s_mm=-80.0, length_mm=6.0, depth=0.5),))
    s = np.array([-80.0, -30.0]) * person.height
    ratio = anatomy.cord_area_mm2(squeezed, s) / anatomy.cord_area_mm2(person, s)
    assert ratio[0] < 0.65
    assert ratio[1] == pytest.approx(1, abs=1e-3)


def test_no_cord_in_brain_nor_below_the_conus(person):
    ends = anatomy.curve_mm(person, np.array([30.0, 5.0, -60.0, -450.0 * person.height]))
    assert anatomy.is_cord_at(person, ends).tolist() == [False, False, True, False]
    assert np.isin(anatomy.label_points(person, ends[2:3]), CORD_TISSUES).all()
    assert anatomy.cord_area_mm2(person, np.array([30.0, -450 * person.height])).tolist() == [0, 0]


def test_labels_do_not_depend_on_the_batch(person):
    points = np.random.default_rng(0).uniform(-60, 60, (500, 3)) - [0, 0, 60]
    together = anatomy.label_points(person, points)
    apart = np.concatenate([anatomy.label_points(person, part) for part in np.array_split(points, 7)])
    np.testing.assert_array_equal(together, apart)


def test_texture_belongs_to_the_person(person):
    points = np.random.default_rng(0).uniform(-60, 60, (20000, 3)).astype(np.float32)
    field = fine_texture(person, points)
    assert abs(field.mean()) < 0.05
    assert field.std() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(field, fine_texture(person, points))


def test_label_slices_for_training():
    labels, fraction = anatomy.draw_label_slices(np.random.default_rng(2), 40, 128, 0.8)
    again, _ = anatomy.draw_label_slices(np.random.default_rng(2), 40, 128, 0.8)
    np.testing.assert_array_equal(labels, again)
    assert labels.shape == fraction.shape == (40, 128, 128)
    assert (labels.dtype, fraction.dtype) == (np.uint8, np.float32)
    is_cord = np.isin(labels, CORD_TISSUES)
    assert is_cord[fraction > 0.99].all()
    assert not is_cord[fraction < 0.01].any()
    area = fraction.sum((1, 2)) * 0.8**2
    has_cord = area > 0
    assert 0.7 < has_cord.mean() < 1
    assert np.median(area[has_cord]) == pytest.approx(65, abs=20)
    assert len(np.unique(labels)) > 15


@pytest.mark.parametrize("suffix", dataset.SUFFIXES)
def test_intensities_follow_the_contrast(images, suffix):
    image = images[suffix]
    data = image.data[..., np.array(B_VALUES) > 50].mean(-1) if suffix == "dwi" else image.data
    points = voxel_points(image.acquisition.shape, image.acquisition.pose @ image.acquisition.affine)
    labels = anatomy.label_points(dataset.draw_person(3, 0), points).reshape(data.shape)
    cord = np.median(data[image.cord_fraction > 0.99])
    levels = {t: np.median(data[labels == t]) for t in (Tissue.CSF, Tissue.MUSCLE, Tissue.AIRWAY)}
    darker = CORD_DARKER[SUFFIX_CONTRAST[suffix]]
    assert (cord < 0.8 * levels[Tissue.CSF]) if darker else (cord > 1.3 * levels[Tissue.CSF])
    assert levels[Tissue.AIRWAY] < 0.4 * cord
    if suffix == "dwi":
        assert cord > 1.7 * levels[Tissue.MUSCLE]


def test_contrasts_have_their_own_orientation_and_resolution(images):
    axcodes = {suffix: "".join(nib.aff2axcodes(im.acquisition.affine)) for suffix, im in images.items()}
    assert axcodes == {"T1w": "RAS", "T2w": "PSR", "T2star": "LAS", "dwi": "LPS"}
    for suffix, image in images.items():
        affine = image.acquisition.affine[:3, :3]
        zooms = np.sort(np.linalg.norm(affine, axis=0))
        np.testing.assert_allclose(zooms, np.sort(PROTOCOLS[suffix].zooms_mm), rtol=1e-4)
        assert np.abs(np.sort(np.abs(affine / zooms.max()), axis=0)[:2]).max() > 1e-3  # oblique


def test_cord_is_found_in_every_slice(images):
    for image in images.values():
        reference = image.cord_fraction >= 0.5
        axis = int(np.abs(image.acquisition.affine[2, :3]).argmax())
        filled = reference.any(tuple(a for a in range(3) if a != axis))
        assert filled.mean() > 0.9


def test_hard_cases_are_hard():
    easy = draw_contrast(np.random.default_rng(0), "T2w")
    noisy = draw_contrast(np.random.default_rng(0), "T2w", "low_snr")
    assert noisy.snr < easy.snr / 3
    assert draw_contrast(np.random.default_rng(0), "T2w", "csf_loss").csf_loss is not None
    touching = draw_contrast(np.random.default_rng(0), "T1w", "touching").intensity
    assert touching[Tissue.EPIDURAL] > 0.85 * touching[Tissue.WHITE_MATTER]
    short = dataset.make_image(3, 1, "dwi", hard="short_fov")
    full = dataset.make_image(3, 1, "dwi")
    assert np.prod(short.data.shape) < 0.3 * np.prod(full.data.shape)
    assert short.cord_fraction.max() == 1


def test_csf_is_lost_on_one_side_only():
    full, lost = (dataset.make_image(3, 1, "T2star", hard=hard) for hard in ("none", "csf_loss"))
    points = voxel_points(full.acquisition.shape, full.acquisition.pose @ full.acquisition.affine)
    person = dataset.draw_person(3, 1)
    csf = anatomy.label_points(person, points) == Tissue.CSF
    loss = draw_contrast(np.random.default_rng([3, 1, dataset._IMAGE, 0, 2]), "T2star", "csf_loss").csf_loss
    u, v, s = anatomy.to_cord_frame(person, points)
    towards = u * np.cos(loss.angle) + v * np.sin(loss.angle)
    level = csf & (np.abs(s - loss.s_mm) < loss.length_mm - 8)
    ratio = lost.data.ravel() / np.maximum(full.data.ravel(), 1)
    assert np.median(ratio[level & (towards > 4)]) < 0.75
    assert np.median(ratio[level & (towards < -2)]) == pytest.approx(1, abs=0.05)


def test_every_hard_case_occurs_in_ten_people():
    assert {dataset.hard_case(i) for i in range(10)} == {"none", *dataset.HARD_CASES}
    assert {dataset.hard_case(i, "none") for i in range(10)} == {"none"}


def test_people_do_not_depend_on_how_many_there_are(small_dataset, tmp_path):
    dataset.write_dataset(tmp_path, 1, seed=5, contrasts=["dwi"])
    files = [p.relative_to(tmp_path) for p in tmp_path.rglob("sub-01_*")]
    assert len(files) == 6  # image, bval, bvec, sidecar, reference, its sidecar
    for name in files:
        assert (tmp_path / name).read_bytes() == (small_dataset / name).read_bytes(), name


def test_sessions_show_the_same_person_with_other_noise():
    first, second = (dataset.make_image(3, 0, "dwi", session=session) for session in (1, 2))
    assert first.data.shape != second.data.shape or not np.array_equal(first.data, second.data)
    volume = [float(im.cord_fraction.sum() / im.cord_fraction.any((0, 1)).sum()) for im in (first, second)]
    assert volume[0] == pytest.approx(volume[1], rel=0.06)


def test_layout_is_bids_and_references_lie_on_the_grid(small_dataset):
    table = (small_dataset / "participants.tsv").read_text().splitlines()
    assert table == ["participant_id\thard", "sub-01\tnone", "sub-02\tcsf_loss"]
    for stem, folder in (("sub-01_T2star", "anat"), ("sub-02_dwi", "dwi")):
        path = small_dataset / stem[:6] / folder / f"{stem}.nii.gz"
        reference = small_dataset / "derivatives/labels" / stem[:6] / folder / f"{stem}_label-SC_seg.nii.gz"
        raw, mask = nib.load(path), nib.load(reference)
        assert mask.shape == raw.shape[:3]
        np.testing.assert_array_equal(mask.affine, raw.affine)
        assert mask.get_data_dtype() == np.uint8
        volume, grid = load_image(path, contrast=SUFFIX_CONTRAST[stem[7:]])
        loaded, _ = load_mask(reference, like=grid)
        assert loaded.data.shape == volume.data.shape
        assert set(np.unique(loaded.data)) == {0, 1}
    bvals = np.loadtxt(small_dataset / "sub-01/dwi/sub-01_dwi.bval")
    bvecs = np.loadtxt(small_dataset / "sub-01/dwi/sub-01_dwi.bvec")
    assert bvecs.shape == (3, bvals.size)
    np.testing.assert_allclose(np.linalg.norm(bvecs, axis=0), bvals > 50, atol=1e-5)


def test_properties_have_a_row_per_tissue():
    table = property_table(draw_contrast(np.random.default_rng(0), "dwi"))
    assert table.shape == (len(Tissue), len(B_VALUES) + 3)
    assert np.isfinite(table).all()
    assert (table >= 0).all()


def test_command_writes_and_reports_it(tmp_path, capsys):
    options = ["--subjects", "1", "--contrasts", "dwi", "--rescan", "--discs", "--center", "C2-C3"]
    assert main(["phantom", str(tmp_path / "d"), *options]) == 0
    assert "2 images of 1 people" in capsys.readouterr().out
    assert (tmp_path / "d/sub-01/ses-2/dwi/sub-01_ses-2_dwi.nii.gz").exists()
    for path in (tmp_path / "d").rglob("*_label-discs_dlabel.nii.gz"):
        assert {2, 3, 4} <= set(np.unique(np.asanyarray(nib.load(path).dataobj)).tolist())  # C1/C2 to C3/C4


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--contrasts", "T3w"], "T3w"), (["--subjects", "0"], "subjects"), (["--seed", "-1"], "seed")]
    + [(["--center", center], "--center") for center in ("C1", "S2", "C2,C4", "C2/C3 5:25")],
)
def test_command_refuses_wrong_options(tmp_path, capsys, options, named):
    assert main(["phantom", str(tmp_path / "d"), *options]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_unknown_contrast_is_named(tmp_path):
    with pytest.raises(InputError, match="PDw"):
        dataset.write_dataset(tmp_path, 1, seed=0, contrasts=["PDw"])


def test_lesions_stay_inside_the_cord(person):
    rng = np.random.default_rng(4)
    injured = replace(person, lesions=tuple(anatomy.draw_lesion(rng) for _ in range(5)))
    points = np.concatenate(
        [anatomy.curve_mm(person, [lesion.s_mm])[0] + rng.uniform(-9, 9, (4000, 3)) for lesion in injured.lesions]
    )
    labels = anatomy.label_points(injured, points)
    assert (labels == Tissue.LESION).any()
    np.testing.assert_array_equal(np.isin(labels, CORD_TISSUES), anatomy.is_cord_at(person, points))


def test_disc_labels_lie_on_the_cord_at_the_heights_of_the_discs(tmp_path):
    dataset.write_dataset(tmp_path, 1, seed=4, contrasts=["T2w"], discs=True)
    image = dataset.make_image(4, 0, "T2w")
    person = dataset.draw_person(4, 0)
    labels = tmp_path / "derivatives" / "labels" / "sub-01" / "anat"
    stored = nib.load(labels / "sub-01_T2w_label-discs_dlabel.nii.gz")
    assert np.array_equal(stored.affine, nib.load(labels / "sub-01_T2w_label-SC_seg.nii.gz").affine)
    found = np.asarray(stored.dataobj)
    values = found[found > 0]
    assert {2, 3, 4, 5} <= set(values)
    assert len(values) == len(set(values))
    voxels = np.argwhere(found)
    assert (image.cord_fraction[tuple(voxels.T)] > 0.5).all()
    points = np.column_stack([voxels, np.ones(len(voxels))]) @ (image.acquisition.pose @ image.acquisition.affine).T
    _, _, s = course.to_cord_frame(person, points[:, :3])
    wanted = discs.LABEL_S_MM[found[tuple(voxels.T)].astype(int) - 2] * person.height
    assert discs.LABEL_S_MM[1] == -42  # C2/C3, as drawn
    half = np.linalg.norm(image.acquisition.affine[:3, :3], axis=0).max() * 0.87  # half the diagonal of a voxel
    assert np.abs(s - wanted).max() < half


@pytest.mark.parametrize("description", [None, "{}", '{"GeneratedBy": [{"Name": "scanner"}]}', "no JSON", "[1]"])
def test_people_of_another_dataset_are_never_replaced(tmp_path, description):
    image = tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    image.parent.mkdir(parents=True)
    image.write_text("precious")
    if description is not None:
        (tmp_path / "dataset_description.json").write_text(description)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="expected no dataset, or one of synthetic people, found another"):
        dataset.write_dataset(tmp_path, 1, seed=1, contrasts=["T2w"])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_synthetic_people_can_be_added_to_their_own_kind(tmp_path):
    for n in (1, 2):
        dataset.write_dataset(tmp_path, n, seed=1, contrasts=["T2star"])
    assert len(list(tmp_path.glob("sub-*"))) == 2
