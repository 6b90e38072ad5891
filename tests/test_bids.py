"""Names of images and masks."""

from hypothesis import given
from hypothesis import strategies as st

from spineseg.bids import derivative_path, format_stem, image_stem, parse_name, sidecar_path

labels = st.text("abcXYZ019", min_size=1, max_size=6)


@given(labels, labels | st.just(""), labels | st.just(""), st.sampled_from(["T1w", "T2star", "dwi", "bold"]))
def test_a_formatted_name_parses_back(subject, session, run, suffix):
    name = parse_name(format_stem(subject, suffix, session=session, run=run))
    assert (name.subject, name.session, name.run, name.suffix) == (subject, session, run, suffix)


def test_entities_keep_their_order():
    name = parse_name("sub-a_ses-1_acq-sag_rec-average_run-02_dwi")
    assert list(name.entities.items()) == [("ses", "1"), ("acq", "sag"), ("rec", "average"), ("run", "02")]


def test_names_outside_bids_are_rejected():
    for stem in (
        "scan",
        "sub-01",
        "T2w_sub-01",
        "sub-01_T2w_",
        "sub-_T2w",
        "sub-01_run-1_run-2_T2w",
        "sub-0 1_T2w",
        "",
    ):
        assert parse_name(stem) is None, stem


def test_only_nifti_names_have_a_stem():
    assert image_stem("a/b/x.nii") == image_stem("x.nii.gz") == "x"
    for name in ("x.json", "x.nii.gz.tmp", "x.mgz", "x"):
        assert image_stem(name) is None


def test_masks_and_sidecars_are_in_the_same_folder():
    mask = derivative_path("sub-1_ses-2_dwi", "1", "2", "dwi", "deepseg")
    assert mask.as_posix() == "sub-1/ses-2/dwi/sub-1_ses-2_dwi_desc-deepseg_label-SC_seg.nii.gz"
    assert sidecar_path(mask) == mask.with_name("sub-1_ses-2_dwi_desc-deepseg_label-SC_seg.json")
