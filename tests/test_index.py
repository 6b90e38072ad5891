"""Which images a study has, and why not the others."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spineseg.errors import InputError
from spineseg.study.chunks import Membership, assign_chunks, choose_pilot
from spineseg.study.configuration import check_sources, complete_configuration
from spineseg.study.images import COLUMNS, read_images, read_included, write_images
from spineseg.study.index import index_images, source_fingerprint


def make_dataset(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read by the index")
    return root


def index(root: Path, chunk_size: int = 10, earlier: Membership | None = None, **keys):
    config = complete_configuration({"dataset": "x", "bids_dir": str(root)} | keys)
    check_sources(config)
    return index_images(config, chunk_size, earlier)


def by_id(rows) -> dict[str, dict[str, str]]:
    return {row["image_id"]: row for row in rows if row["included"] == "true"}


def reasons(rows) -> dict[str, str]:
    return {row["image_id"]: row["reason"] for row in rows if row["included"] == "false"}


UNEQUAL = (
    "sub-01/anat/sub-01_T2w.nii.gz",
    "sub-01/anat/sub-01_T2w.json",
    "sub-02/ses-a/anat/sub-02_ses-a_run-1_T2star.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_run-2_T2star.nii",
    "sub-02/ses-b/dwi/sub-02_ses-b_dwi.nii.gz",
    "sub-02/ses-b/dwi/sub-02_ses-b_dwi.bval",
    "sub-02/ses-b/dwi/sub-02_ses-b_rec-average_dwi.nii.gz",
    "sub-02/ses-b/fmap/sub-02_ses-b_epi.nii.gz",
    "derivatives/labels/sub-02/ses-b/dwi/sub-02_ses-b_rec-average_dwi_label-SC_seg.nii.gz",
    "derivatives/labels/sub-02/ses-b/dwi/sub-02_ses-b_rec-average_dwi_label-GM_seg.nii.gz",
    "sub-03/func/sub-03_task-rest_bold.nii.gz",
)


def test_unequal_sessions_and_runs(tmp_path):
    rows, _ = index(make_dataset(tmp_path, *UNEQUAL))
    images = by_id(rows)
    assert list(images) == [
        "sub-01_T2w",
        "sub-02_ses-a_run-1_T2star",
        "sub-02_ses-a_run-2_T2star",
        "sub-02_ses-b_dwi",
        "sub-02_ses-b_rec-average_dwi",
    ]
    dwi = images["sub-02_ses-b_dwi"]
    assert (dwi["session"], dwi["datatype"], dwi["contrast"]) == ("b", "dwi", "dwi")
    assert dwi["bval"].endswith("sub-02_ses-b_dwi.bval")
    assert not dwi["reference"]
    average = images["sub-02_ses-b_rec-average_dwi"]
    assert average["reference"].endswith("rec-average_dwi_label-SC_seg.nii.gz")
    assert not average["bval"]
    assert images["sub-02_ses-a_run-2_T2star"]["run"] == "2"
    assert reasons(rows) == {"sub-03_task-rest_bold": "contrast not asked for (config key contrasts)"}


def test_every_left_out_image_has_its_reason(tmp_path):
    root = make_dataset(
        tmp_path,
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_T2w.nii",
        "sub-01/anat/sub-01_acq-bad_T2w.nii.gz",
        "sub-01/anat/sub-01_PDw.nii.gz",
        "sub-01/anat/scan7.nii.gz",
        "sub-01/anat/sub-02_T1w.nii.gz",
        "sub-01/anat/sub-01_part-phase_T2star.nii.gz",
        "sub-02/anat/sub-02_T2w.nii.gz",
        "sub-03/anat/sub-03_T2w.nii.gz",
        "sub-01/anat/._sub-01_T2w.nii.gz",
    )
    (root / "sub-01/anat/sub-01_acq-link_T2w.nii.gz").symlink_to("gone")
    rows, _ = index(root, subjects=["01", "sub-03"], excluded={"sub-01_acq-bad_T2w.nii.gz": "motion", "03": "withdrew"})
    assert list(by_id(rows)) == ["sub-01_T2w"]
    assert by_id(rows)["sub-01_T2w"]["path"].endswith(".nii.gz")
    why = reasons(rows)
    assert why["sub-01_T2w"].startswith("duplicate: same name as ")
    assert why["sub-01_acq-bad_T2w"] == "excluded: motion"
    assert why["sub-03_T2w"] == "excluded: withdrew"
    assert why["sub-02_T2w"] == "subject not asked for (config key subjects)"
    assert why["sub-01_PDw"] == "no contrast is known for suffix PDw"
    assert why["scan7"] == "its name does not follow BIDS"
    assert why["sub-02_T1w"] == "its name is of another subject or session than its folder"
    assert why["sub-01_part-phase_T2star"] == "not a magnitude image (part-phase)"
    assert why["sub-01_acq-link_T2w"].startswith("broken link")
    assert len(rows) == 10


def test_contrasts_are_overridden_by_suffix_and_by_image(tmp_path):
    root = make_dataset(
        tmp_path, *(f"sub-0{n}/anat/sub-0{n}_{s}.nii.gz" for n in (1, 2) for s in ("T2w", "PDw", "T2starw"))
    )
    rows, _ = index(root, contrasts={"T2w": "t2", "PDw": "t2s", "T2star": "t1", "sub-02_T2w": "t1"})
    assert {image: row["contrast"] for image, row in by_id(rows).items()} == {
        "sub-01_PDw": "t2s",
        "sub-01_T2starw": "t1",
        "sub-01_T2w": "t2",
        "sub-02_PDw": "t2s",
        "sub-02_T2starw": "t1",
        "sub-02_T2w": "t1",
    }


def test_exclusions_from_files(tmp_path):
    root = make_dataset(tmp_path / "bids", *(f"sub-0{n}/anat/sub-0{n}_T2w.nii.gz" for n in (1, 2, 3)))
    table = tmp_path / "out.tsv"
    table.write_text("id\treason\nsub-01\tmotion\n")
    assert reasons(index(root, excluded=str(table))[0]) == {"sub-01_T2w": "excluded: motion"}
    generic = tmp_path / "exclude.yml"
    generic.write_text("csa_t2:\n  - sub-02 # wrong field of view\n  - sub-01_T2w.nii.gz\n")
    assert set(reasons(index(root, excluded=str(generic))[0])) == {"sub-01_T2w", "sub-02_T2w"}
    assert set(reasons(index(root, excluded=[{"id": "03"}])[0]).values()) == {"excluded: no reason given"}


def test_nothing_left_says_why(tmp_path):
    root = make_dataset(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz")
    with pytest.raises(InputError, match="most often: contrast not asked for"):
        index(root, contrasts=["dwi"])
    with pytest.raises(InputError, match="found no NIfTI image"):
        index(make_dataset(tmp_path / "b", "sub-01/anat/readme.txt"))


def test_the_table_reads_back(tmp_path):
    rows, _ = index(make_dataset(tmp_path / "bids", *UNEQUAL))
    table = tmp_path / "images.tsv"
    write_images(table, rows)
    assert [{k: row.get(k, "") for k in COLUMNS} for row in rows] == read_images(table)
    assert len(read_included(table)) == 5
    assert "\t\t" not in table.read_text()


def test_the_fingerprint_notices_added_and_removed_images(tmp_path):
    root = make_dataset(tmp_path, *UNEQUAL)
    config = complete_configuration({"dataset": "x", "bids_dir": str(root)})
    prints = [source_fingerprint(config)]
    assert source_fingerprint(config) == prints[0]
    for name in (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-09/anat/sub-09_T2w.nii.gz",
        "sub-01/ses-9/dwi/sub-01_ses-9_dwi.nii.gz",
        "derivatives/labels/sub-01/anat/sub-01_T1w_label-SC_seg.nii.gz",
    ):
        make_dataset(root, name)
        prints.append(source_fingerprint(config))
    (root / "sub-01/anat/sub-01_T1w.nii.gz").unlink()
    prints.append(source_fingerprint(config))
    assert len(set(prints)) == len(prints)


def write_sheet(path: Path, rows: list[dict[str, str]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["\t".join(names), *("\t".join(row.get(name, "n/a") for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_instead_of_a_dataset(tmp_path):
    make_dataset(tmp_path, "a/scan1.nii.gz", "a/sub-02_T2star.nii", "a/m.nii.gz", "a/d.nii.gz", "a/d.bval")
    sheet = write_sheet(
        tmp_path / "images.tsv",
        [
            {"subject": "01", "contrast": "t2", "path": "a/scan1.nii.gz", "reference": "a/m.nii.gz", "session": "1"},
            {"subject": "sub-02", "contrast": "MTS", "path": "a/sub-02_T2star.nii"},
            {"subject": "02", "contrast": "dwi", "path": str(tmp_path / "a/d.nii.gz"), "bval": "a/d.bval", "run": "3"},
        ],
    )
    config = complete_configuration({"dataset": "x", "images": str(sheet)})
    check_sources(config)
    images = by_id(index_images(config, 2)[0])
    assert list(images) == ["sub-01_ses-1_T2w", "sub-02_T2star", "sub-02_run-3_dwi"]
    first = images["sub-01_ses-1_T2w"]
    assert first["source_stem"] == "scan1"
    assert first["reference"] == str(tmp_path / "a/m.nii.gz")
    assert images["sub-02_T2star"]["contrast"] == "t2s"
    assert images["sub-02_run-3_dwi"]["datatype"] == "dwi"


GOOD = {"subject": "01", "contrast": "t2", "path": "a.nii.gz"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, GOOD], r"images.tsv, rows 2 and 3: two rows for one image, a|two rows for one image"),
        ([GOOD, GOOD | {"path": "./a.nii.gz", "run": "2"}], "rows 2 and 3: two rows for one image"),
        (
            [GOOD, {"subject": "01", "contrast": "t2", "path": "b.nii.gz"}],
            "rows 2 and 3: two rows for one image, sub-01_T2w",
        ),
        ([GOOD | {"contrast": "t3"}], r"row 2: unknown contrast 't3'; did you mean"),
        ([GOOD | {"path": "gone.nii.gz"}], r"row 2: path: no such file: gone.nii.gz"),
        ([GOOD | {"reference": "gone.nii.gz"}], "row 2: reference: no such file"),
        ([GOOD | {"bval": "gone.bval"}], "row 2: bval: no such file"),
        ([GOOD | {"subject": "n/a"}], "row 2: subject is empty"),
        ([GOOD | {"contrst": "t2"}], "unknown column 'contrst'; did you mean 'contrast'"),
        ([{"subject": "01", "path": "a.nii.gz"}], "column 'contrast' is missing"),
        ([GOOD | {"path": "a.mgz"}], "row 2: expected an image named .nii or .nii.gz"),
        ([GOOD | {"subject": "0/1"}], "row 2: expected letters and digits"),
    ],
)
def test_mistakes_in_a_table_name_the_row(tmp_path, rows, message):
    make_dataset(tmp_path, "a.nii.gz", "b.nii.gz", "a.mgz")
    config = complete_configuration({"dataset": "x", "images": str(write_sheet(tmp_path / "images.tsv", rows))})
    with pytest.raises(InputError, match=message) as caught:
        check_sources(config)
    assert "\n" not in str(caught.value)


images_lists = st.lists(st.tuples(st.integers(0, 40).map("image-{}".format), st.booleans()), unique_by=lambda x: x[0])


@given(images_lists, st.integers(1, 7))
def test_chunks_are_full_but_the_last_and_hold_one_group(images, size):
    chunks = assign_chunks(images, size, {})
    assert set(chunks) == {image for image, _ in images}
    for group, wanted in (("pilot", True), ("rest", False)):
        members = [image for image, pilot in images if pilot == wanted]
        own = [chunks[image] for image in members]
        assert own == [f"{group}-{1 + n // size:04d}" for n in range(len(members))]


@given(images_lists, images_lists, st.integers(1, 7))
def test_added_images_move_no_other(before, added, size):
    earlier = assign_chunks(before, size, {})
    known = {image for image, _ in before}
    both = sorted([*before, *(pair for pair in added if pair[0] not in known)])
    chunks = assign_chunks(both, size, earlier)
    assert {image: chunks[image] for image in earlier} == earlier
    counts = [list(chunks.values()).count(chunk) for chunk in set(chunks.values())]
    assert max(counts, default=0) <= size


@given(images_lists, st.integers(1, 7), st.integers(1, 7), st.randoms())
def test_removed_images_and_other_sizes_leave_a_valid_deal(images, size, other, random):
    earlier = assign_chunks(images, size, {})
    left = [pair for pair in images if random.random() < 0.5]
    chunks = assign_chunks(left, other, earlier)
    assert set(chunks) == {image for image, _ in left}
    counts = [list(chunks.values()).count(chunk) for chunk in set(chunks.values())]
    assert max(counts, default=0) <= other
    if other >= size:
        assert all(chunks[image] == earlier[image] for image in chunks)


subject_lists = st.sets(st.integers(0, 60).map(str), min_size=1)


@given(subject_lists, st.integers(1, 20), st.integers(0, 5))
def test_a_drawn_pilot_has_n_and_does_not_depend_on_order(subjects, n, seed):
    choice = {"n": n, "seed": seed}
    drawn = choose_pilot(subjects, choice)["subjects"]
    assert len(drawn) == min(n, len(subjects))
    assert drawn == choose_pilot(sorted(subjects, reverse=True), choice)["subjects"]


@given(subject_lists, subject_lists, st.integers(1, 20))
def test_new_subjects_do_not_change_a_drawn_pilot(subjects, added, n):
    choice = {"n": n, "seed": 1}
    first = choose_pilot(subjects, choice)
    again = choose_pilot(subjects | added, choice, Membership({}, first))["subjects"]
    assert set(first["subjects"]) <= set(again)
    assert len(again) == min(n, len(subjects | added))
    assert choose_pilot(subjects, {"n": n, "seed": 2}, Membership({}, first)) == choose_pilot(
        subjects, {"n": n, "seed": 2}
    )
