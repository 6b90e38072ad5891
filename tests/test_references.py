"""Reference masks: found by the names of the last ten years, with who made them."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_study import decide, make_study
from test_index import by_id, index, make_dataset

from spineseg.decision.report_text import write_report
from spineseg.errors import InputError
from spineseg.study.configuration import make_configuration
from spineseg.study.index import source_fingerprint, summarise_index
from spineseg.study.references import ENDS, KINDS, origin_of
from spineseg.study.sources import describe_references, list_references
from spineseg.studyfolder.images import read_images, write_images
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.references import read_references, write_references

IMAGE = "sub-01/anat/sub-01_T2w.nii.gz"
LABELS = "derivatives/labels/sub-01/anat/sub-01_T2w"


@pytest.mark.parametrize("end", ENDS)
def test_every_name_of_a_reference_is_found(tmp_path, end):
    rows, _ = index(make_dataset(tmp_path, IMAGE, f"{LABELS}{end}.nii.gz"))
    assert by_id(rows)["sub-01_T2w"].reference.endswith(f"sub-01_T2w{end}.nii.gz")


@pytest.mark.parametrize("end", ["_label-GM_seg", "_label-CSF_mask", "_lesion-manual", "_labels-disc-manual"])
def test_masks_of_other_tissue_are_not_references(tmp_path, end):
    rows, _ = index(make_dataset(tmp_path, IMAGE, f"{LABELS}{end}.nii.gz"))
    assert by_id(rows)["sub-01_T2w"].reference == ""


def test_every_other_file_of_the_folder_is_listed_with_the_reason(tmp_path):
    names = [
        f"{LABELS}{end}.nii.gz" for end in ("_seg_manual", "_label-spinalcord_dseg", "_label-discs_dlabel", "_seg")
    ]
    names += ["derivatives/labels/sub-01_T2w_seg.nii.gz", "derivatives/labels/sub-01/sub-01_T2w_seg.nii.gz"]
    left_out = "sub-02/anat/sub-02_T2w.nii.gz"
    root = make_dataset(tmp_path, IMAGE, left_out, *names, f"derivatives/labels/{left_out[:-7]}_seg.nii.gz")
    config = make_configuration({"dataset": "x", "bids_dir": str(root), "subjects": ["01"]})
    before = source_fingerprint(config)
    found = list_references(config, index(root, subjects=["01"])[0])
    assert {one.path.removeprefix(f"{root}/"): one.reason.split(":")[0] for one in found} == {
        names[0]: "its name is not one of a cord mask, such as sub-01_T2w_label-SC_seg",
        names[1]: "its name is not one of a cord mask, such as sub-01_T2w_label-SC_seg",
        names[2]: "it is of discs, not of the cord",
        names[3]: "",
        names[4]: "beside the folders of subjects, in none of them",
        names[5]: "in none of the folders anat, dwi, func",
        f"derivatives/labels/{left_out[:-7]}_seg.nii.gz": "its image is not part of the study",
    }
    write_references(tmp_path / "references.tsv", found)
    assert read_references(tmp_path / "references.tsv") == found
    assert describe_references(found)[0] == "references by name: 1 _seg"
    (root / names[0]).unlink()
    assert source_fingerprint(config) != before


def test_the_reference_with_the_first_name_is_used_and_the_other_listed(tmp_path):
    ends = ("_seg-manual", "_label-SC_seg", "_label-GM_seg", "x_seg")
    root = make_dataset(tmp_path, IMAGE, *(f"{LABELS}{end}.nii.gz" for end in ends))
    rows, _ = index(root)
    assert by_id(rows)["sub-01_T2w"].reference.endswith("_label-SC_seg.nii.gz")
    config = make_configuration({"dataset": "x", "bids_dir": str(root)})
    grey, manual, other = sorted(describe_references(list_references(config, rows))[1:])
    assert grey.endswith("sub-01_T2w_label-GM_seg.nii.gz: not used as a reference: it is of GM, not of the cord")
    assert "sub-01_T2w_seg-manual.nii.gz: not used as a reference: " in manual
    assert manual.endswith("_label-SC_seg.nii.gz is used")
    assert other.endswith("sub-01_T2wx_seg.nii.gz: not used as a reference: the dataset has no such image")


@pytest.mark.parametrize(
    ("sidecar", "kind", "method"),
    [
        ({}, "unknown", ""),
        ({"Kind": "manual"}, "manual", ""),
        ({"Author": "A. B.", "Label": "SC_seg"}, "manual", ""),
        ({"Kind": "automatic (an old PropSeg output)"}, "automatic", "propseg"),
        ({"Kind": "automatic (unknown)"}, "automatic", ""),
        ({"Kind": "prediction of an ensemble"}, "automatic", ""),
        ({"Description": "predicted by a CNN, then corrected by JD"}, "corrected", ""),
        ({"Description": "warped from PAM50"}, "automatic", ""),
        ({"Kind": "atlas-based"}, "automatic", ""),
        ({"Kind": "manual, checked against propseg"}, "manual", ""),
        ({"Kind": "silver (half-maximum region)"}, "silver", ""),
        ({"Kind": "manual correction of an automatic mask"}, "corrected", ""),
        ({"Kind": "manual by its file name; provenance unverified"}, "unknown", ""),
        ({"GeneratedBy": [{"Name": "sct_deepseg_sc", "Version": "6.1"}]}, "automatic", "deepseg"),
        ({"GeneratedBy": [{"Name": "sct_propseg"}, {"Name": "Manual"}]}, "corrected", "propseg"),
        ({"GeneratedBy": {"Name": "sct_deepseg_sc"}, "Author": "A. B."}, "corrected", "deepseg"),
        ({"Manual": True}, "manual", ""),
        ({"Manual": False, "GeneratedBy": [{"Name": "sct_propseg"}]}, "automatic", "propseg"),
        ({"GeneratedBy": [{"Name": "nnU-Net"}], "Manual": False, "Author": "Lab X"}, "automatic", ""),
        ({"GeneratedBy": [{"Name": "nnU-Net", "Manual": False, "Author": "Lab X"}]}, "automatic", ""),
        ({"Manual": "false", "Author": "AB"}, "automatic", ""),
        ({"Manual": True, "GeneratedBy": [{"Name": "nnU-Net"}]}, "corrected", ""),
        ({"Comment": "propseg output, not corrected"}, "automatic", "propseg"),
        ({"Comment": "propseg output, not corrected", "Author": "AB"}, "automatic", "propseg"),
        ({"Description": "PropSeg, uncorrected"}, "automatic", "propseg"),
        ({"Description": "Not manually corrected"}, "automatic", ""),
        ({"Description": "Not yet manually corrected", "Author": "AB"}, "automatic", ""),
        ({"Description": "Drawn by hand, not edited"}, "manual", ""),
        ({"Description": "propseg on the motion-corrected mean"}, "automatic", "propseg"),
        ({"Description": "propseg, corrected by AB"}, "corrected", "propseg"),
        ({"Kind": "automatic", "Manual": False, "Author": "AB"}, "automatic", ""),
        ({"Kind": "automatic", "Author": "AB", "GeneratedBy": [{"Name": "sct_propseg"}]}, "automatic", "propseg"),
        ({"Kind": "manual", "Comment": "to be compared with propseg"}, "manual", ""),
        ({"Author": "AB", "Comment": "to be compared with propseg"}, "manual", ""),
        ({"Author": "J. Silverstein"}, "manual", ""),
        ({"Author": "AB", "Description": "silver standard"}, "silver", ""),
        ({"Author": "sct_deepseg_sc"}, "automatic", "deepseg"),
        ({"Author": "n/a"}, "unknown", ""),
        ({"Description": "withdrawn"}, "unknown", ""),
        ({"GeneratedBy": [{"Name": "TotalSpineSeg"}]}, "automatic", ""),
        ({"GeneratedBy": "Spinal Cord Toolbox"}, "automatic", ""),
        ({"GeneratedBy": [{"Name": "some program", "Version": "1"}]}, "automatic", ""),
        ({"Method": "nnU-Net"}, "automatic", ""),
        ({"Kind": "corrected", "GeneratedBy": [{"Name": "sct_propseg"}]}, "corrected", "propseg"),
        ({"Kind": "unknown", "Author": "AB"}, "unknown", ""),
        ({"Manual": False, "Description": "propseg, corrected by AB"}, "corrected", "propseg"),
        ({"GeneratedBy": [{"Name": "Manual", "Author": "AB"}]}, "manual", ""),
        ({"Kind": "semiautomatic", "Author": "AB"}, "automatic", ""),
        ({"Kind": "auto", "Author": "AB"}, "automatic", ""),
        ({"Kind": "AI-assisted"}, "automatic", ""),
        ({"Description": "Autosegmentation"}, "automatic", ""),
        ({"Comment": "sct_propseg, then corrected"}, "corrected", "propseg"),
        ({"GeneratedBy": [{"Name": "ITK-SNAP", "Version": "4.0"}]}, "manual", ""),
        ({"GeneratedBy": [{"Name": "sct_deepseg_sc"}, {"Name": "FSLeyes"}]}, "corrected", "deepseg"),
        ({"GeneratedBy": [{"Name": "sct_propseg"}], "Comment": "looked at in FSLeyes"}, "automatic", "propseg"),
        ({"Author": ["AB", "CD"]}, "manual", ""),
        ({"Author": [], "Kind": ""}, "unknown", ""),
    ],
)
def test_who_made_a_reference(sidecar, kind, method):
    assert origin_of(sidecar) == (kind, method)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())))
def test_any_sidecar_gives_one_of_the_kinds(sidecar):
    assert origin_of(sidecar)[0] in KINDS


def with_kind(root, kind):
    (root / f"{LABELS}_label-SC_seg.json").write_text(json.dumps({"Kind": kind}))


def test_references_by_a_program_are_not_truth_unless_configured(tmp_path):
    root = make_dataset(tmp_path, IMAGE, f"{LABELS}_label-SC_seg.nii.gz")
    rows, _ = index(root)
    assert (by_id(rows)["sub-01_T2w"].reference_kind, by_id(rows)["sub-01_T2w"].reference_use) == ("unknown", "truth")
    assert "references, 1 unknown: taken as the truth; nothing says who drew them" in summarise_index(rows)
    before = source_fingerprint(make_configuration({"dataset": "x", "bids_dir": str(root)}))
    with_kind(root, "automatic (an old PropSeg output)")
    assert source_fingerprint(make_configuration({"dataset": "x", "bids_dir": str(root)})) != before
    image = by_id(index(root)[0])["sub-01_T2w"]
    assert (image.reference_kind, image.reference_from, image.reference_use) == ("automatic", "propseg", "agreement")
    rows, _ = index(root, references={"kinds": ["manual", "automatic"]})
    assert by_id(rows)["sub-01_T2w"].reference_use == "truth"
    with_kind(root, "silver")
    rows, _ = index(root, references={"folder": "derivatives/labels", "kinds": ["manual"]})
    assert by_id(rows)["sub-01_T2w"].reference_use == "agreement"
    assert "references, 1 silver: compared with, not counted as truth" in summarise_index(rows)
    assert by_id(rows)["sub-01_T2w"].reference_label is None


def test_the_label_of_the_cord_in_references_goes_with_the_images(tmp_path):
    rows, _ = index(make_dataset(tmp_path, IMAGE, f"{LABELS}_label-SC_seg.nii.gz"), references={"label": 4})
    table = tmp_path / "images.tsv"
    write_images(table, rows)
    assert read_images(table)[0].reference_label == 4
    lines = [line.split("\t")[:-1] for line in table.read_text().splitlines()]
    table.write_text("".join("\t".join(line) + "\n" for line in lines))  # as an earlier version wrote it
    assert read_images(table)[0].reference_label is None
    for label in (0, 1.0, True, "4"):
        with pytest.raises(InputError, match=r"'references'"):
            make_configuration({"dataset": "x", "bids_dir": "b", "references": {"label": label}})


def test_the_decision_does_not_count_errors_against_a_program_s_masks(tmp_path):
    """The decision also reports this, and which contrasts of the study the pilot lacks."""
    folder = make_study(tmp_path, n_subjects=5)
    images = read_images(folder.images)
    by_program = {"reference_kind": "automatic", "reference_from": "propseg", "reference_use": "agreement"}
    before = decide(folder).document
    others = [replace(i, **by_program, pilot=i.contrast == "t2") for i in images]
    write_images(folder.images, others)
    after = decide(folder).document
    assert any("5 automatic references are not counted as the truth" in note for note in after["notes"])
    assert any("no image of the pilot is t1" in note for note in after["notes"])
    assert not any("automatic" in note or "of the pilot" in note for note in before["notes"])
    assert (before["endpoint"], after["endpoint"]) == ("csa_error", "predicted_dice")


@pytest.mark.parametrize(
    ("twin", "has_reference", "used"),
    [
        ("sub-01_rec-average_T2w", True, "sub-01_rec-average_T2w"),
        ("sub-01_rec-average_T2w", False, "sub-01_T2w"),
        ("sub-01_echo-2_T2w", False, "sub-01_T2w"),
        ("sub-01_acq-mean_T2w", False, "sub-01_T2w"),
        ("sub-01_run-2_T2w", False, ""),
    ],
)
def test_forms_of_one_acquisition_count_once(tmp_path, twin, has_reference, used):
    """A series and its average count as one image; a second run counts as another."""
    folder = make_study(tmp_path, n_subjects=2, references=False)
    images = read_images(folder.images)
    first = next(image for image in images if image.image_id == "sub-01_T2w")
    kind = {"reference": "x.nii.gz", "reference_use": "truth"} if has_reference else {}
    write_images(folder.images, [*images, replace(first, image_id=twin, **kind)])
    for name in ("metrics.tsv", "agreement.tsv"):
        path = folder.table(Stage.ALL, name)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines + [line.replace(first.image_id, twin) for line in lines if "sub-01_T2w" in line]))
    decision = decide(folder).document
    excluded = {row["image_id"]: row["reason"] for row in decision["excluded"]}
    if not used:
        assert (decision["n_images"], excluded) == (5, {})
        return
    (other,) = {twin, first.image_id} - {used}
    assert decision["n_images"] == 4
    why = (
        "its reference counts as truth"
        if has_reference
        else "it has the plainest name, as the series that was recorded"
    )
    assert excluded == {other: f"another form of an acquisition: {used} is used, because {why}"}
    assert used in write_report(decision)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["manual"], "the reference masks, drawn by a person: 1 is perfect"),
        (["unknown"], "the reference masks, of unknown origin: 1 is perfect"),
        (["manual", "unknown"], "the reference masks (5 drawn by a person, 5 of unknown origin)"),
    ],
)
def test_who_drew_the_references_is_reported_if_known(tmp_path, kinds, words):
    folder = make_study(tmp_path, n_subjects=5)
    images = read_images(folder.images)
    kind = {image.image_id: kinds[n % len(kinds)] for n, image in enumerate(images)}
    write_images(folder.images, [replace(i, reference_kind=kind[i.image_id], reference_use="truth") for i in images])
    text = write_report(decide(folder).document)
    assert words in text
    assert ("drawn by a person" in text) == ("manual" in kinds)
