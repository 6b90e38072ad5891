"""Warnings: the most serious comes first, and a good mask has none."""

import pytest

from spineseg.measures import ADULTS, PlausibleLimits
from spineseg.report.flags import (
    BAD,
    COMMON,
    DOUBTFUL,
    FAILED,
    LOOK,
    NOTE,
    badness,
    find_common_notes,
    lower_common_notes,
    shown_status,
)
from spineseg.report.flags import find_flags as find_flags_within
from spineseg.report.review import MethodResult, ReviewImage
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.tables import AgreementRow, Identity

FINE = {"coverage": 1.0, "n_gaps": 0, "n_components": 1, "dice": 0.93, "plausible": 1.0}
PREDICTED = {"predicted_dice": 0.62, "predicted_dice_low": 0.4, "predicted_dice_high": 0.81, "flagged": 1}
AREAS = dict.fromkeys(range(20), 75.0)


IMAGE = StudyImage("sub-01_T2w", "01")


def find_flags(review, limits=ADULTS, problems=()):
    return find_flags_within(review, limits, problems)


def review(*methods, agreement=()):
    return ReviewImage(IMAGE, methods, tuple(agreement))


def pair(a, b, dice):
    return AgreementRow(Identity.of(IMAGE), a, b, {"dice": dice})


def fine(name="propseg", **changes):
    values = {"status": "ok", "metrics": FINE, "csa_mm2": AREAS} | changes
    return MethodResult(name, **values)


def test_fine_image_has_no_warning():
    flags = find_flags(review(fine(), fine("deepseg"), agreement=[pair("propseg", "deepseg", 0.92)]))
    assert flags == []
    assert badness(flags) == 0


@pytest.mark.parametrize(
    ("result", "severity", "text"),
    [
        (MethodResult("propseg", "failed", "x.nii: no such file"), FAILED, "no such file"),
        (MethodResult("propseg", "empty"), FAILED, "found no cord"),
        (fine(status="partial", message="slices 3-9 only"), LOOK, "slices 3-9 only"),
        (fine(metrics=FINE | {"coverage": 0.5}), LOOK, "50%"),
        (fine(metrics=FINE | {"n_gaps": 2, "longest_gap_mm": 12}), LOOK, "2 gaps along the cord, the longest 12 mm"),
        (fine(metrics=FINE | {"n_components": 3, "largest_fraction": 0.8}), LOOK, "3 separate pieces"),
        (fine(metrics=FINE | {"dice": 0.4}), BAD, "Dice 0.40"),
        (fine(metrics=FINE | {"dice": 0.8}), LOOK, "Dice 0.80"),
        (fine(metrics=FINE | {"plausible": 0.6}), LOOK, "40%"),
        (fine(metrics=FINE | PREDICTED), BAD, "predicted Dice 0.62 (90 %: 0.40 to 0.81)"),
        (fine(csa_mm2=AREAS | {7: 300.0, 8: 300.0}), LOOK, "2 slices with an area outside"),
        (fine(csa_mm2=AREAS | {7: 100.0}), LOOK, "2 jumps of area"),
    ],
)
def test_each_warning(result, severity, text):
    flags = find_flags(review(result))
    assert flags[0].severity == severity
    assert any(text in flag.text for flag in flags)


def test_a_predicted_dice_that_is_not_flagged_is_not_a_warning():
    assert find_flags(review(fine(metrics=FINE | PREDICTED | {"flagged": 0}))) == []


def test_end_slices_may_be_cut():
    assert find_flags(review(fine(csa_mm2=AREAS | {0: 8.0, 19: 10.0}))) == []


def test_zero_and_missing_areas_do_not_crash():
    assert find_flags(review(fine(csa_mm2={}))) == []
    assert find_flags(review(fine(csa_mm2=AREAS | {5: 0.0}))) == []


def test_area_limits_are_those_of_the_study():
    """A rat's cord is small; a study without limits has no unlikely area."""
    small = review(fine(csa_mm2=dict.fromkeys(range(20), 8.0)))
    assert [flag.severity for flag in find_flags(small)] == [LOOK]
    assert find_flags(small, PlausibleLimits(csa_mm2=(2.0, 15.0))) == []
    assert find_flags(small, None) == []


def test_a_file_that_cannot_be_shown_and_a_note():
    flags = find_flags(review(fine(warnings=("cut at the edge",))), problems=["x.nii: damaged"])
    assert [(flag.severity, flag.text) for flag in flags] == [(FAILED, "x.nii: damaged"), (NOTE, "cut at the edge")]


def test_disagreement_and_missing_results():
    for dice, severity in ((0.3, BAD), (0.8, LOOK)):
        assert find_flags(review(fine("a"), fine("b"), agreement=[pair("a", "b", dice)]))[0].severity == severity
    assert find_flags(review())[0].text == "no method has a result for this image"


def test_the_same_warning_of_both_methods_appears_once():
    flags = find_flags(review(MethodResult("propseg", "failed", "bad"), MethodResult("deepseg", "failed", "bad")))
    assert [(flag.method, flag.text) for flag in flags] == [("propseg and deepseg", "failed: bad")]


def test_failures_sort_before_everything_else():
    failed = find_flags(review(MethodResult("propseg", "failed", "bad")))
    many = find_flags(review(fine(metrics=FINE | {"dice": 0.1, "coverage": 0.2, "n_gaps": 9, "plausible": 0.1})))
    assert badness(failed) > badness(many)


def test_a_doubted_contrast_and_an_exception_are_flagged():
    doubt, exception = "looks like t1/dwi, not t2: ...", "exception: kept by propseg instead of deepseg (r; me)"
    flags = find_flags(ReviewImage(IMAGE, (fine(),), exception=exception, contrast_doubt=doubt))
    assert [(flag.severity, flag.method, flag.text) for flag in flags] == [(LOOK, "", doubt), (LOOK, "", exception)]


def test_an_ok_mask_whose_area_differs_by_a_quarter_comes_before_notes():
    thin = dict.fromkeys(range(20), 75.0) | {4: 59.0, 5: 59.0}
    far = find_flags(review(fine(), fine("deepseg", csa_mm2=thin)))
    assert "areas of propseg and deepseg differ by more than a quarter in 2 slices (4, 5)" in [f.text for f in far]
    near = find_flags(review(fine(), fine("deepseg", csa_mm2=dict.fromkeys(range(20), 61.0))))
    assert near == []
    noted = find_flags(review(fine(warnings=tuple(f"note {n}" for n in "abcdefghijk"))))
    assert badness(far) > badness(noted)


def test_a_note_on_every_image_of_a_kind_is_not_a_warning():
    mean, doubt = (
        "mean of 6 of 9 volumes (b > 50 s/mm²)",
        "mean of 9 volumes: all of them, since no b-values were found",
    )
    rare = "slices 3: uncertain"
    flags = [find_flags(review(fine(warnings=(f"cut at 0.{n}", *([rare] if n == 4 else []))))) for n in (3, 4, 5)]
    common = find_common_notes([("T2w", own) for own in flags])
    assert [f.severity for f in lower_common_notes("T2w", flags[1], common)] == [NOTE, COMMON]
    assert lower_common_notes("T2w", flags[1], common)[0].text == rare
    assert badness(lower_common_notes("T2w", flags[0], common)) == 0
    alone = find_flags(review(fine(warnings=(mean, doubt))))
    assert [(f.severity, f.text) for f in lower_common_notes("dwi", alone, ())] == [(NOTE, doubt), (COMMON, mean)]


def test_a_mask_is_not_both_ok_and_probably_wrong():
    flags = find_flags(review(fine(metrics=FINE | PREDICTED), fine("deepseg")))
    assert shown_status("propseg", "ok", flags) == DOUBTFUL
    assert shown_status("deepseg", "ok", flags) == "ok"
    both = find_flags(review(fine(metrics=FINE | PREDICTED), fine("deepseg", metrics=FINE | PREDICTED)))
    assert {shown_status(name, "ok", both) for name in ("propseg", "deepseg")} == {DOUBTFUL}
