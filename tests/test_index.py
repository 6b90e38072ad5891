"""Which images a study includes, and why others are left out."""

import os
import re
from pathlib import Path

import pytest
from helpers import replace_by_older
from hypothesis import given
from hypothesis import strategies as st

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.file_digests import FileDigests
from spineseg.study.choices import PilotChoice
from spineseg.study.chunks import assign_chunks, choose_pilot
from spineseg.study.configuration import make_configuration
from spineseg.study.index import (
    check_before_jobs,
    digest_sources,
    find_pilot_gaps,
    find_unlisted_people,
    find_unseen_strata,
    index_images,
    source_files,
    source_fingerprint,
    summarise_index,
)
from spineseg.study.sources import check_sources
from spineseg.studyfolder.decisions import Membership, read_membership
from spineseg.studyfolder.images import IMAGE_COLUMNS, StudyImage, read_images, read_included, write_images
from spineseg.studyfolder.layout import StudyFolder


def make_dataset(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read by the index")
    return root


def index(root: Path, chunk_size: int = 10, earlier: Membership | None = None, **keys):
    config = make_configuration({"dataset": "x", "bids_dir": str(root)} | keys)
    check_sources(config)
    return index_images(config, chunk_size, earlier)


def by_id(images) -> dict[str, StudyImage]:
    return {image.image_id: image for image in images if image.included}


def reasons(images) -> dict[str, str]:
    return {image.image_id: image.reason for image in images if not image.included}


FORMS = (
    "sub-01/dwi/sub-01_dwi.nii.gz",
    "sub-01/dwi/sub-01_rec-average_dwi.nii.gz",
    "sub-02/ses-a/dwi/sub-02_ses-a_dwi.nii.gz",
    "sub-02/ses-a/dwi/sub-02_ses-a_desc-mean_dwi.nii.gz",
    "sub-02/ses-b/dwi/sub-02_ses-b_rec-average_dwi.nii.gz",
    "sub-03/anat/sub-03_echo-1_T2star.nii.gz",
    "sub-03/anat/sub-03_echo-2_T2star.nii.gz",
    "sub-03/anat/sub-03_run-1_T2w.nii.gz",
    "sub-03/anat/sub-03_run-2_T2w.nii.gz",
)
ONE_FORM = {
    *("sub-01_dwi", "sub-02_ses-a_dwi", "sub-02_ses-b_rec-average_dwi", "sub-03_echo-1_T2star"),
    *("sub-03_run-1_T2w", "sub-03_run-2_T2w"),
}


@pytest.mark.parametrize(
    ("forms", "labelled", "gone", "come"),
    [
        ("one", (), (), ()),
        ("one", ("sub-01_rec-average_dwi",), ("sub-01_dwi",), ("sub-01_rec-average_dwi",)),
        (["rec-average"], (), ("sub-01_dwi",), ("sub-01_rec-average_dwi",)),
        (
            ["rec-average", "desc-mean", "echo-2"],
            (),
            ("sub-01_dwi", "sub-02_ses-a_dwi", "sub-03_echo-1_T2star"),
            ("sub-01_rec-average_dwi", "sub-02_ses-a_desc-mean_dwi", "sub-03_echo-2_T2star"),
        ),
        ("all", (), (), ("sub-01_rec-average_dwi", "sub-02_ses-a_desc-mean_dwi", "sub-03_echo-2_T2star")),
    ],
)
def test_one_of_several_forms_of_an_acquisition_is_included(tmp_path, forms, labelled, gone, come):
    """Sessions and runs are separate acquisitions; the reason of a form left out names the one used, and why."""
    masks = [f"derivatives/labels/sub-01/dwi/{name}_label-SC_seg.nii.gz" for name in labelled]
    images, _ = index(make_dataset(tmp_path, *FORMS, *masks), forms=forms)
    assert set(by_id(images)) == (ONE_FORM - set(gone)) | set(come)
    why = "a reference is of it" if labelled else "the configuration prefers it" if forms != "one" else "as the series"
    if forms == "all":
        assert reasons(images) == {}
        return
    first = next(reason for name, reason in reasons(images).items() if name.startswith("sub-01"))
    assert first.startswith("another form of an acquisition: sub-01_")
    assert (why in first) or (labelled and "its reference counts as truth" in first)
    assert "not included, 3: another form of an acquisition\n" in f"{summarise_index(images)}\n"


def test_an_excluded_form_is_replaced_by_another_and_a_started_study_keeps_its_form(tmp_path):
    root = make_dataset(tmp_path, *FORMS)
    images, membership = index(root, excluded=["sub-01_dwi"])
    assert "sub-01_rec-average_dwi" in by_id(images)
    make_dataset(root, "derivatives/labels/sub-02/ses-a/dwi/sub-02_ses-a_desc-mean_dwi_label-SC_seg.nii.gz")
    config = make_configuration({"dataset": "x", "bids_dir": str(root)})
    images, _ = index_images(config, 10, membership, frozenset({"sub-02_ses-a_dwi"}))
    assert {"sub-01_rec-average_dwi", "sub-02_ses-a_dwi"} <= by_id(images).keys()
    assert "in the study when that started" in reasons(images)["sub-02_ses-a_desc-mean_dwi"]
    assert "sub-02_ses-a_desc-mean_dwi" in by_id(index_images(config, 10)[0])  # another study


def test_forms_of_one_acquisition_are_excluded_as_one_image(tmp_path):
    """Of an excluded person no form is used; the reason of each form names the entry."""
    root = make_dataset(tmp_path, *FORMS)
    images, _ = index(root, excluded={"sub-01": "withdrew"})
    left = {image.image_id: image for image in images if image.subject == "01"}
    assert {name: image.exclusion for name, image in left.items()} == {
        "sub-01_dwi": "withdrew",
        "sub-01_rec-average_dwi": "",
    }
    assert "sub-01_dwi; excluded: withdrew ('sub-01' in" in left["sub-01_rec-average_dwi"].reason
    assert "not included, 1: another form of an excluded image" in summarise_index(images)
    images, _ = index(root, excluded={"sub-01": "withdrew"}, forms="all")
    assert [image.exclusion for image in images if image.subject == "01"] == ["withdrew"] * 2


def test_people_whose_chosen_forms_differ_are_named(tmp_path):
    pairs = [f"sub-{n}/dwi/sub-{n}_{form}dwi.nii.gz" for n in (1, 2) for form in ("", "rec-average_")]
    root = make_dataset(tmp_path, *pairs)
    assert "shift areas" not in summarise_index(index(root)[0])
    make_dataset(root, "derivatives/labels/sub-2/dwi/sub-2_rec-average_dwi_label-SC_seg.nii.gz")
    said = next(line for line in summarise_index(index(root)[0]).splitlines() if "shift areas" in line)
    assert "(sub-1_dwi, sub-2_rec-average_dwi)" in said
    assert "shift areas" not in summarise_index(index(root, forms=["rec-average"])[0])


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
    rows, _ = index(make_dataset(tmp_path, *UNEQUAL), forms="all")
    images = by_id(rows)
    assert list(images) == [
        "sub-01_T2w",
        "sub-02_ses-a_run-1_T2star",
        "sub-02_ses-a_run-2_T2star",
        "sub-02_ses-b_dwi",
        "sub-02_ses-b_rec-average_dwi",
    ]
    dwi = images["sub-02_ses-b_dwi"]
    assert (dwi.session, dwi.datatype, dwi.contrast) == ("b", "dwi", "dwi")
    assert dwi.bval.endswith("sub-02_ses-b_dwi.bval")
    assert not dwi.reference
    average = images["sub-02_ses-b_rec-average_dwi"]
    assert average.reference.endswith("rec-average_dwi_label-SC_seg.nii.gz")
    assert average.bval == dwi.bval  # inherited: its name has no more entities than that of the series
    assert images["sub-02_ses-a_run-2_T2star"].run == "2"
    assert reasons(rows) == {
        "sub-02_ses-b_epi": "in the folder fmap: only anat, dwi, func hold images of the cord",
        "sub-03_task-rest_bold": "contrast not asked for (config key contrasts)",
    }


PASSED_OVER = {
    "sub-01_T2w.nii.gz": "beside the folders of subjects",
    "sub-01/sub-01_acq-a_T2w.nii.gz": "in none of the folders anat, dwi, func",
    "sub-01/fmap/sub-01_epi.nii.gz": "in the folder fmap",
    "sub-01/extra/deep/sub-01_acq-b_T2w.nii": "in the folder extra",
    "sub-01/dwi/sub-01_acq-f_T2star.nii.gz": "T2star in the folder dwi, where BIDS has it in anat",
    "sub-01/anat/sub-01_dwi.nii.gz": "dwi in the folder anat, where BIDS has it in dwi",
    "sub-01/anat/sub-01_task-rest_sbref.nii.gz": "sbref in the folder anat, where BIDS has it in func or dwi",
    "sub-01/anat/more/sub-01_acq-c_T2w.nii.gz": "in a folder within anat",
    "sub-01/anat/sub-01_acq-d_T2w.NII.GZ": "no name of a NIfTI file",
    "sub-01/anat/sub-01_acq-e_T2w.mgz": "no name of a NIfTI file",
    "sub-02/ses-1/other/sub-02_ses-1_T2w.nii.gz": "in the folder other",
    "sub-02/ses-1/ses-2/anat/sub-02_ses-2_T2w.nii.gz": "in the folder ses-2",
    "Sub-04/anat/Sub-04_T2w.nii.gz": "its subject's folder is named Sub-04",
}


# row: images outside `anat`, `dwi` and `func` or in the wrong one, in other formats, or in nested or misspelled folders
#   | listed in images.tsv with the reason
def test_images_in_unexpected_places_are_listed_with_the_reason(tmp_path):
    others = ("sub-01/anat/sub-01_T2w.nii.gz", "sourcedata/sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat/notes.txt")
    root = make_dataset(tmp_path, *others, *PASSED_OVER)
    (root / "sub-01/anat/loop").symlink_to(".")
    rows, _ = index(root)
    assert list(by_id(rows)) == ["sub-01_T2w"]
    found = {Path(row.path).relative_to(root).as_posix(): row.reason for row in rows if not row.included}
    assert found.keys() == PASSED_OVER.keys()
    assert {path: reason for path, reason in found.items() if not reason.startswith(PASSED_OVER[path])} == {}


# row: with `test_long_names_are_written`
def test_an_image_whose_mask_names_would_be_too_long_is_left_out(tmp_path):
    long = "sub-01_acq-" + "a" * 220 + "_T2w"
    root = make_dataset(tmp_path, f"sub-01/anat/{long}.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz")
    rows, _ = index(root)
    assert list(by_id(rows)) == ["sub-01_T2w"]
    assert reasons(rows)[long].startswith("its masks' names would have 268 bytes, at most 255 can be")


# row: with `test_names_with_line_breaks_and_codes_stay_one_line`
def test_escape_codes_in_names_are_escaped_in_tables(tmp_path):
    names = ("sub-01/anat/sub-01_acq-\x1b[2J_T2w.nii.gz", "sub-\x1b[31m/anat/sub-\x1b[31m_T2w.nii.gz")
    root = make_dataset(
        tmp_path, *names, "sub-01/anat/a\nb.nii", "sub-01/fmap/a\tb.nii", "sub-01/anat/sub-01_T2w.nii.gz"
    )
    rows, _ = index(root)
    write_images(tmp_path / "images.tsv", rows)
    text = (tmp_path / "images.tsv").read_text()
    assert text.replace("\n", "").replace("\t", "").isprintable()
    assert len(read_images(tmp_path / "images.tsv")) == 5


# row: links in a loop | ignored; the study continues
def test_circular_links_do_not_stop_a_study(tmp_path):
    root = make_dataset(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz", "sub-02/anat/sub-02_acq-x_T2w.json")
    for place in ("sub-02/anat/sub-02_T2w.nii.gz", "sub-03", "sub-01/ses-1"):
        (root / place).symlink_to((root / place).name)
    rows, _ = index(root)
    assert "sub-01_T2w" in by_id(rows)


# row: an image in another person's folder | left out, with the reason; affects no other image
def test_a_misplaced_file_does_not_displace_the_right_image(tmp_path):
    root = make_dataset(tmp_path, "sub-01/anat/sub-02_T2w.nii.gz", "sub-02/anat/sub-02_T2w.nii.gz")
    rows, _ = index(root)
    assert [Path(image.path).parts[-3] for image in by_id(rows).values()] == ["sub-02"]
    assert [row.reason for row in rows if not row.included] == [
        "its name is of another subject or session than its folder"
    ]


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
    assert by_id(rows)["sub-01_T2w"].path.endswith(".nii.gz")
    why = reasons(rows)
    assert why["sub-01_T2w"].startswith("duplicate: same name as ")
    assert why["sub-01_acq-bad_T2w"] == "excluded: motion ('sub-01_acq-bad_T2w.nii.gz' in config key 'excluded')"
    assert why["sub-03_T2w"] == "excluded: withdrew ('03' in config key 'excluded')"
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
    assert {name: image.contrast for name, image in by_id(rows).items()} == {
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
    said = f"excluded: motion ('sub-01' in {table}, line 2)"
    assert reasons(index(root, excluded=str(table))[0]) == {"sub-01_T2w": said}
    generic = tmp_path / "exclude.yml"
    generic.write_text("csa_t2:\n  - sub-02 # wrong field of view\n  - sub-01_T2w.nii.gz\n")
    assert set(reasons(index(root, excluded=str(generic))[0])) == {"sub-01_T2w", "sub-02_T2w"}
    (said,) = reasons(index(root, excluded=[{"id": "03"}])[0]).values()
    assert said == "excluded: no reason given ('03' in config key 'excluded')"


def test_a_study_without_images_says_why(tmp_path):
    root = make_dataset(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz")
    with pytest.raises(InputError, match="most often: excluded: motion"):
        index(root, excluded={"sub-01": "motion"})
    with pytest.raises(InputError, match="found no NIfTI image"):
        index(make_dataset(tmp_path / "b", "sub-01/anat/readme.txt"))


def test_the_table_reads_back(tmp_path):
    rows, _ = index(make_dataset(tmp_path / "bids", *UNEQUAL), forms="all")
    table = tmp_path / "images.tsv"
    write_images(table, rows)
    assert read_images(table) == rows
    assert len(read_included(table)) == 5
    assert "\t\t" not in table.read_text()


def test_the_fingerprint_notices_added_and_removed_images(tmp_path):
    root = make_dataset(tmp_path, *UNEQUAL)
    config = make_configuration({"dataset": "x", "bids_dir": str(root)})
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
    for name in UNEQUAL:
        if name.endswith((".nii.gz", ".bval")) and "fmap" not in name and "GM" not in name and "bold" not in name:
            replace_by_older(root / name, b"NOT READ by the index")  # same size, older date
            prints.append(source_fingerprint(config))
    assert len(set(prints)) == len(prints)


def write_image_table(path: Path, rows: list[dict[str, str]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["\t".join(names), *("\t".join(row.get(name, "n/a") for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_instead_of_a_dataset(tmp_path):
    make_dataset(tmp_path, "a/scan1.nii.gz", "a/sub-02_T2star.nii", "a/m.nii.gz", "a/d.nii.gz", "a/d.bval")
    table = write_image_table(
        tmp_path / "images.tsv",
        [
            {"subject": "01", "contrast": "t2", "path": "a/scan1.nii.gz", "reference": "a/m.nii.gz", "session": "1"},
            {"subject": "sub-02", "contrast": "MTS", "path": "a/sub-02_T2star.nii"},
            {"subject": "02", "contrast": "dwi", "path": str(tmp_path / "a/d.nii.gz"), "bval": "a/d.bval", "run": "3"},
        ],
    )
    config = make_configuration({"dataset": "x", "images": str(table)})
    check_sources(config)
    images = by_id(index_images(config, 2)[0])
    assert list(images) == ["sub-01_ses-1_T2w", "sub-02_T2star", "sub-02_run-3_dwi"]
    first = images["sub-01_ses-1_T2w"]
    assert first.source_stem == "scan1"
    assert first.reference == str(tmp_path / "a/m.nii.gz")
    assert images["sub-02_T2star"].contrast == "t2s"
    assert images["sub-02_run-3_dwi"].datatype == "dwi"


GOOD = {"subject": "01", "contrast": "t2", "path": "a.nii.gz"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, GOOD], r"images.tsv, lines 2 and 3: two lines for one image"),
        ([GOOD, GOOD | {"path": "./a.nii.gz", "run": "2"}], "lines 2 and 3: two lines for one image"),
        (
            [GOOD, {"subject": "01", "contrast": "t2", "path": "b.nii.gz"}],
            "lines 2 and 3: two lines for one image, sub-01_T2w",
        ),
        ([GOOD | {"contrast": "t3"}], r"line 2: unknown contrast 't3'; did you mean"),
        ([GOOD | {"path": "gone.nii.gz"}], r"line 2: path: no such file: gone.nii.gz"),
        ([GOOD | {"reference": "gone.nii.gz"}], "line 2: reference: no such file"),
        ([GOOD | {"bval": "gone.bval"}], "line 2: bval: no such file"),
        ([GOOD | {"subject": "n/a"}], "line 2: subject is empty"),
        ([GOOD | {"contrst": "t2"}], "unknown column 'contrst'; did you mean 'contrast'"),
        ([{"subject": "01", "path": "a.nii.gz"}], "with the column .contrast., found subject, path"),
        ([GOOD | {"path": "a.mgz"}], "line 2: expected an image named .nii or .nii.gz"),
        ([GOOD | {"subject": "0/1"}], "line 2: expected letters and digits"),
    ],
)
def test_mistakes_in_a_table_name_the_row(tmp_path, rows, message):
    make_dataset(tmp_path, "a.nii.gz", "b.nii.gz", "a.mgz")
    config = make_configuration({"dataset": "x", "images": str(write_image_table(tmp_path / "images.tsv", rows))})
    with pytest.raises(InputError, match=message) as caught:
        check_sources(config)
    assert "\n" not in str(caught.value)


images_lists = st.lists(
    st.tuples(st.integers(0, 40).map("image-{}".format), st.booleans(), st.just("")), unique_by=lambda x: x[0]
)


@given(images_lists, st.integers(1, 7))
def test_all_chunks_but_the_last_are_full_and_contain_one_group(images, size):
    chunks = assign_chunks(images, size, {})
    assert set(chunks) == {image for image, *_ in images}
    for group, wanted in (("pilot", True), ("rest", False)):
        members = [image for image, pilot, _ in images if pilot == wanted]
        own = [chunks[image] for image in members]
        assert own == [f"{group}-{1 + n // size:04d}" for n in range(len(members))]


@given(images_lists, images_lists, st.integers(1, 7))
def test_added_images_do_not_change_the_chunks_of_others(before, added, size):
    earlier = assign_chunks(before, size, {})
    known = {image for image, *_ in before}
    both = sorted([*before, *(pair for pair in added if pair[0] not in known)])
    chunks = assign_chunks(both, size, earlier)
    assert {image: chunks[image] for image in earlier} == earlier
    counts = [list(chunks.values()).count(chunk) for chunk in set(chunks.values())]
    assert max(counts, default=0) <= size


@given(images_lists, st.integers(1, 7), st.integers(1, 7), st.randoms())
def test_removed_images_and_other_chunk_sizes_move_no_image(images, size, other, random):
    earlier = assign_chunks(images, size, {})
    left = [pair for pair in images if random.random() < 0.5]
    chunks = assign_chunks(left, other, earlier)
    assert set(chunks) == {image for image, *_ in left}
    counts = [list(chunks.values()).count(chunk) for chunk in set(chunks.values())]
    assert max(counts, default=0) <= size
    assert all(chunks[image] == earlier[image] for image in chunks)


contrast_lists = st.lists(
    st.tuples(st.integers(0, 40).map("image-{}".format), st.booleans(), st.sampled_from("ab")), unique_by=lambda x: x[0]
)


@given(contrast_lists, st.integers(1, 7), st.integers(1, 7))
def test_chunks_have_one_contrast_each_whatever_they_had_before(images, size, other):
    """A study that changes to one method for each contrast: each job has one method, and no image moves twice."""
    mixed = assign_chunks([(image, pilot, "") for image, pilot, _ in images], other, {})
    chunks = assign_chunks(images, size, mixed)
    for chunk in set(chunks.values()):
        assert len({contrast for image, _, contrast in images if chunks[image] == chunk}) == 1
    assert all(chunks[image].startswith("pilot" if pilot else "rest") for image, pilot, _ in images)
    assert assign_chunks(images, other, chunks) == chunks


subject_lists = st.sets(st.integers(0, 60).map(str), min_size=1)


@given(subject_lists, st.integers(1, 20), st.integers(0, 5))
def test_a_drawn_pilot_has_n_and_does_not_depend_on_order(subjects, n, seed):
    choice = PilotChoice(n=n, seed=seed)
    drawn = choose_pilot(subjects, choice)["subjects"]
    assert len(drawn) == min(n, len(subjects))
    assert drawn == choose_pilot(sorted(subjects, reverse=True), choice)["subjects"]


@given(subject_lists, subject_lists, st.integers(1, 20))
def test_new_subjects_do_not_change_a_drawn_pilot(subjects, added, n):
    choice = PilotChoice(n=n)
    first = choose_pilot(subjects, choice)
    again = choose_pilot(subjects | added, choice, Membership({}, first))["subjects"]
    assert set(first["subjects"]) <= set(again)
    assert len(again) == min(n, len(subjects | added))
    other = PilotChoice(n=n, seed=2)
    assert choose_pilot(subjects, other, Membership({}, first)) == choose_pilot(subjects, other)


def test_a_pilot_covers_every_stratum_or_names_what_is_missing(tmp_path):
    """The draw covers each value of the given columns of participants.tsv, if n allows it."""
    names = [f"{n:02d}" for n in range(1, 31)]
    make_dataset(tmp_path, *(f"sub-{name}/anat/sub-{name}_T2w.nii.gz" for name in names))
    site = {name: "rare" if name == "17" else "n/a" if name == "18" else "usual" for name in names}
    lines = [f"sub-{name}\t{site[name]}\t{'MS' if name in ('05', '06') else 'HC'}\n" for name in names]
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\tgroup\n" + "".join(lines))
    keys = {"dataset": "x", "bids_dir": str(tmp_path)}
    for seed in range(5):
        pilot = {"subjects": {"n": 4, "seed": seed}, "strata": ["site", "group"]}
        config = make_configuration(keys | {"pilot": pilot})
        images, membership = index_images(config, 10)
        drawn = {image.subject for image in images if image.pilot}
        assert len(drawn) == 4
        assert "17" in drawn
        assert drawn & {"05", "06"}
        assert find_unseen_strata(config, images) == []
        again = {image.subject for image in index_images(config, 10, membership)[0] if image.pilot}
        assert again == drawn
    one = make_configuration(keys | {"pilot": {"subjects": ["01"], "strata": ["site", "group"]}})
    assert find_unseen_strata(one, index_images(one, 10)[0]) == ["group MS", "site rare"]
    with pytest.raises(InputError, match=r"config key 'pilot.strata': .* has no column 'grup'; did you mean 'group'"):
        check_before_jobs(make_configuration(keys | {"pilot": {"subjects": "all", "strata": ["grup"]}}))


@given(
    st.dictionaries(st.integers(0, 60).map(str), st.sets(st.sampled_from(["t1", "t2", "dwi"]), min_size=1), min_size=3),
    st.integers(0, 50),
)
def test_a_drawn_pilot_has_every_contrast_and_stays(contrasts, seed):
    choice = PilotChoice(n=3, seed=seed)  # as many as there are contrasts: it can always have them all
    drawn = choose_pilot(contrasts, choice, None, contrasts)
    assert set().union(*(contrasts[name] for name in drawn["subjects"])) == set().union(*contrasts.values())
    assert len(drawn["subjects"]) == 3
    assert choose_pilot(contrasts, choice, Membership({}, drawn), contrasts) == drawn
    plain = choose_pilot(contrasts, choice)
    if set().union(*(contrasts[name] for name in plain["subjects"])) == set().union(*contrasts.values()):
        assert drawn == plain  # a study that needs no change keeps its draw


def test_a_contrast_that_the_pilot_lacks_is_named(tmp_path):
    root = make_dataset(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    said = "warning: no image of the pilot is t1; the decision says nothing about it"
    assert said in summarise_index(index(root, pilot={"subjects": ["01"]})[0])
    drawn, _ = index(root, pilot={"subjects": {"n": 2, "seed": 1}})
    assert "no image of the pilot" not in summarise_index(drawn)


@pytest.mark.parametrize(
    ("pilot", "words"),
    [
        ({"n": 40}, "asks for 40 people, and the study has 2"),
        ({"n": 2}, ""),
        ("all", ""),
        (["01", "03"], "the pilot is without 03, who have no image in the study"),
    ],
)
def test_a_pilot_smaller_than_requested_is_reported(tmp_path, pilot, words):
    root = make_dataset(tmp_path, *(f"sub-0{n}/anat/sub-0{n}_T2w.nii.gz" for n in (1, 2, 3)))
    keys = {"dataset": "x", "bids_dir": str(root), "excluded": ["03"], "pilot": {"subjects": pilot}}
    config = make_configuration(keys)
    said = find_pilot_gaps(config, index_images(config, 10)[0])
    assert [words in line for line in said] == [True] * bool(words)


POINTER = b"/annex/objects/MD5E-s10--0123456789abcdef0123456789abcdef.nii.gz\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "broken link: its content is elsewhere (datalad get fetches it)"),
        (POINTER, "pointer without content: it is elsewhere (datalad get fetches it)"),
        (LFS, "pointer without content: it is elsewhere (git lfs pull fetches it)"),
    ],
)
def test_missing_content_is_named_and_noticed_when_it_appears_and_disappears(tmp_path, content, words):
    root = make_dataset(tmp_path / "bids", *(f"sub-{n}/anat/sub-{n}_T2w.nii.gz" for n in (1, 2)))
    path = root / "sub-1/anat/sub-1_T2w.nii.gz"

    def take_away():
        path.unlink()
        path.symlink_to("../../../objects/key") if content is None else path.write_bytes(content)

    take_away()
    config = make_configuration({"dataset": "x", "bids_dir": str(root)})
    images, _ = index_images(config, 10)
    assert reasons(images) == {"sub-1_T2w": words}
    assert f"not included, 1: {words}" in summarise_index(images)
    before = source_fingerprint(config)
    target = tmp_path / "objects" / "key" if content is None else path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"the image at last")
    assert source_fingerprint(config) != before
    images, _ = index_images(config, 10)
    assert set(by_id(images)) == {"sub-1_T2w", "sub-2_T2w"}
    arrived = source_fingerprint(config)
    target.unlink() if content is None else take_away()
    assert source_fingerprint(config) != arrived
    assert set(by_id(index_images(config, 10)[0])) == {"sub-2_T2w"}


def test_b_values_and_references_without_content_are_named(tmp_path):
    names = ("sub-1/dwi/sub-1_dwi.nii.gz", "sub-1/dwi/sub-1_dwi.bval", "sub-2/anat/sub-2_T2w.nii.gz")
    label = "derivatives/labels/sub-2/anat/sub-2_T2w_label-SC_seg.nii.gz"
    root = make_dataset(tmp_path, *names, label)
    (root / names[1]).write_bytes(POINTER)
    (root / label).write_bytes(POINTER)
    images, _ = index(root)
    assert reasons(images)["sub-1_dwi"].startswith("its b-values: pointer without content")
    assert by_id(images)["sub-2_T2w"].reference.endswith(label)
    assert "references not used, 1: pointer without content" in summarise_index(images)


def test_the_checksums_of_every_source_are_kept_and_follow_content(tmp_path):
    root = make_dataset(tmp_path / "bids", *UNEQUAL)
    table = tmp_path / "out.tsv"
    table.write_text("id\treason\nsub-01\tmotion\n")
    config = make_configuration({"dataset": "x", "bids_dir": str(root), "excluded": str(table), "forms": "all"})
    images, _ = index_images(config, 10)
    digests = FileDigests()
    files = digest_sources(config, images, digests)
    assert str(table) in files
    assert not [name for name in files if "sub-01_T2w" in name]  # excluded, so it is not needed
    ends = ("run-1_T2star.nii.gz", "b_dwi.nii.gz", "b_dwi.bval", "label-SC_seg.nii.gz")
    assert all(any(name.endswith(end) for name in files) for end in ends)
    assert set(files) <= set(source_files(config, images))
    path = next(name for name in files if name.endswith("b_dwi.bval"))
    before = digests.digest(path)
    replace_by_older(Path(path), b"0 1000")
    assert digests.digest(path) != before


def run_index(tmp_path, root, **keys) -> StudyFolder:
    (tmp_path / "c.yaml").write_text(str({"dataset": "x", "bids_dir": str(root)} | keys))
    command = ["index", "-config", str(tmp_path / "c.yaml"), "-results", str(tmp_path / "r" / "x")]
    assert main([*command, "-chunk-size", "2"]) == 0
    return StudyFolder(tmp_path / "r" / "x")


def test_the_command_writes_everything_and_identically_twice(tmp_path):
    root = make_dataset(tmp_path / "bids", *UNEQUAL)
    folder = run_index(tmp_path, root, pilot={"subjects": {"n": 1, "seed": 3}})
    written = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    named = {folder.images, folder.membership, folder.file_digests, folder.description, folder.readme}
    assert named <= set(written)
    assert folder.images.with_suffix(".json") in written
    membership = read_membership(folder)
    assert set(membership.chunks) == {image.image_id for image in read_included(folder.images)}
    assert membership.pilot["subjects"] == sorted({i.subject for i in read_included(folder.images) if i.pilot})
    assert "chunk" not in folder.images.read_text().splitlines()[0].split("\t")
    run_index(tmp_path, root, pilot={"subjects": {"n": 1, "seed": 3}})
    assert {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()} == written


def test_a_column_that_is_not_there_stops_the_index(tmp_path, capsys):
    root = make_dataset(tmp_path / "bids", *UNEQUAL)
    (tmp_path / "c.yaml").write_text(str({"dataset": "x", "bids_dir": str(root), "columns": ["sex"]}))
    command = ["index", "-config", str(tmp_path / "c.yaml"), "-results", str(tmp_path / "r")]
    named = "participant_id\tage\n01\t20\n"
    for table, words in ((None, "is missing or describes nobody"), (named, "it has age")):
        if table:
            (root / "participants.tsv").write_text(table)
        assert main(command) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "r").exists()


def test_a_damaged_membership_is_an_error_and_not_a_new_draw(tmp_path, capsys):
    root = make_dataset(tmp_path / "bids", *UNEQUAL)
    folder = run_index(tmp_path, root)
    before = folder.images.read_bytes()
    for text in ("", "{", "[]", '{"chunks": {}}', '{"chunks": {"a": "elsewhere-1"}, "pilot": {}}',
                 '{"chunks": {}, "pilot": {"n": 1, "seed": 1}}'):  # fmt: skip
        folder.membership.write_text(text)
        command = ["index", "-config", str(tmp_path / "c.yaml"), "-results", str(folder.root)]
        capsys.readouterr()
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(folder.membership) in error
        assert "drawn again" in error
        assert folder.images.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_a_name_that_is_not_text_is_left_out_with_the_reason(tmp_path):
    root = make_dataset(tmp_path / "bids", "sub-1/anat/sub-1_T2w.nii.gz")
    (Path(os.fsdecode(os.fsencode(root / "sub-1" / "anat") + b"/sub-1_acq-\xff_T2w.nii.gz"))).write_bytes(b"x")
    folder = run_index(tmp_path, root)
    assert [image.image_id for image in read_included(folder.images)] == ["sub-1_T2w"]
    assert len(read_images(folder.images)) == 2


@pytest.mark.parametrize("name", ["a\u00a0b.nii.gz", "a\u3000b.nii.gz", "a \u2009 b.nii.gz"])
def test_unusual_blanks_in_a_path_of_a_table_are_kept(tmp_path, name):
    make_dataset(tmp_path, name)
    table = write_image_table(tmp_path / "images.tsv", [{"subject": "01", "contrast": "t2", "path": name}])
    images, _ = index_images(make_configuration({"dataset": "x", "images": str(table)}), 10)
    write_images(tmp_path / "x.tsv", images)
    assert read_images(tmp_path / "x.tsv") == images
    assert Path(images[0].path).is_file()


def test_a_folder_that_is_named_as_an_image_is_listed_with_its_reason(tmp_path):
    make_dataset(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz")
    (tmp_path / "sub-02" / "anat" / "sub-02_T2w.nii.gz").mkdir(parents=True)
    os.mkfifo(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    reasons = {image.image_id: image.reason for image in index(tmp_path)[0]}
    assert reasons.pop("sub-01_T2w") == ""
    assert reasons.keys() == {"sub-01_T1w", "sub-02_T2w"}
    assert set(reasons.values()) == {"a folder or a pipe, not a file, despite its name"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"subjects": ["01", "1"]}, "'subjects': the dataset has no such subject '1'; did you mean '01'?"),
        (
            {"pilot": {"subjects": ["sub-O2"]}},
            "'pilot.subjects': the dataset has no such subject 'O2'; did you mean '02'?",
        ),
        (
            {"decision": {"training_subjects": ["sub-002"]}},
            "training_subjects': the dataset has no such subject 'sub-002'",
        ),
        ({"follow_up": ["ses-1", "2"]}, "'follow_up': the dataset has no such session '2'; it has 1, b"),
        (
            {"decision": {"repeats": {"sessions": ["1", "c"]}}},
            "'decision.repeats': the dataset has no such session 'c'",
        ),
        ({"contrasts": ["T2w", "dwi"]}, "'contrasts': the dataset has no such suffix 'dwi'; it has T2starw, T2w"),
        ({"contrasts": {"T2w": "t2", "T1w": "t1"}}, "'contrasts.T1w': the dataset has no such suffix or image 'T1w'"),
        (
            {"decision": {"contrasts": ["dwi"]}},
            "'decision.contrasts': the dataset has no such suffix or contrast 'dwi'",
        ),
        ({"follow_up": ["ses-1", "ses-b"], "contrasts": ["T2w", "T2star"], "decision": {"contrasts": ["t2s"]}}, ""),
    ],
)
def test_entries_that_match_nobody_stop_before_the_first_job(tmp_path, keys, words):
    names = ("ses-1/anat/sub-01_ses-1_T2w", "ses-b/anat/sub-01_ses-b_T2starw")
    root = make_dataset(tmp_path, *(f"sub-01/{name}.nii.gz" for name in names), "sub-02/anat/sub-02_T2w.nii.gz")
    config = make_configuration({"dataset": "x", "bids_dir": str(root)} | keys)
    if not words:
        check_before_jobs(config)
        return
    with pytest.raises(InputError) as caught:
        check_before_jobs(config)
    assert words in str(caught.value)


def test_people_whom_participants_tsv_does_not_list_are_named(tmp_path):
    root = make_dataset(tmp_path, *(f"sub-0{n}/anat/sub-0{n}_T2w.nii.gz" for n in (1, 2)))
    config = make_configuration({"dataset": "x", "bids_dir": str(root), "columns": ["age"]})
    (root / "participants.tsv").write_text("participant_id\tage\n01\t20\n")
    check_before_jobs(config)
    (line,) = find_unlisted_people(config, index_images(config, 10)[0])
    assert "no row for 02" in line
    (root / "participants.tsv").write_text("participant_id\tage\nsub-1\t20\nsub-2\t30\n")
    with pytest.raises(InputError, match=r"no row for anybody in the study, such as sub-01; did you mean '1'\?"):
        check_before_jobs(config)


@pytest.mark.parametrize("key", ["sub-77_T2w", "sub-01_t2w", "sub-02", "sub-01_T2w.nii.gz", "T2ww"])
def test_contrast_keys_that_match_nothing_are_refused(tmp_path, key):
    root = make_dataset(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz", "sub-02/anat/sub-02_T2w.nii.gz")
    with pytest.raises(InputError, match=rf"'contrasts.{re.escape(key)}': the dataset has no such suffix or image"):
        index(root, contrasts={"T2w": "t2", key: "t1"})


@pytest.mark.parametrize("label", ["cord", "1.0", "-1", "1_0", "nan"])
def test_a_bad_reference_label_is_named(tmp_path, label):
    cells = dict.fromkeys(IMAGE_COLUMNS, "x") | {"included": "true", "pilot": "false", "reference_label": label}
    table = tmp_path / "images.tsv"
    table.write_text("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")
    with pytest.raises(InputError, match=f"line 2: column reference_label: expected a whole number.*{label}"):
        read_images(table)
