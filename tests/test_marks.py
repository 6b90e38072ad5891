"""Marks of raters: read strictly, joined and counted correctly."""

import json

import pytest
from made_study import study_folder, study_image, write_index

from spineseg.errors import InputError
from spineseg.study.configuration import make_configuration
from spineseg.study.index import check_before_jobs, index_images, source_files
from spineseg.study.notices import list_notices
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.marks import Mark, Marks, Preference, read_marks, word_fails

METHODS = ("propseg", "deepseg")


def write(path, marks=(), preferences=(), **more):
    path.write_text(json.dumps({"report": "r", "marks": list(marks), "preferences": list(preferences)} | more))
    return path


def mark(image="sub-01_T2w", method="propseg", kind="fail", rater="Ann", **more):
    return {"image": image, "method": method, "mark": kind, "rater": rater} | more


def test_files_saved_by_the_page_are_read(tmp_path):
    """A file in the format of the page; tests/test_qc_browser.py reads one that the page wrote."""
    given = mark(rating=3, time="2026-11-28T08:00:00Z", reason="leak", slices=[4, 5], mask_sha256="abc")
    choice = {"image": "sub-01_T2w", "x": "deepseg", "y": "propseg", "choice": "y", "rater": "Ann", "repeat": False}
    found = read_marks([write(tmp_path / "a.json", [given], [choice])])
    assert found.marks == (Mark(**(given | {"slices": (4, 5)})),)
    assert [p.answer for p in found.preferences] == ["propseg"]
    assert found.marks[0].words() == "fail by Ann: leak"


def test_an_unnamed_rater_is_called_unnamed_and_spaces_make_no_new_rater(tmp_path):
    given = [mark(rater=""), mark(rater=" Ann "), mark(rater="Ann", method="deepseg", reason=" a\nleak ")]
    found = read_marks([write(tmp_path / "a.json", given)])
    assert {(m.rater, m.words()) for m in found.marks} == {
        *(("unnamed rater", "fail by unnamed rater"), ("Ann", "fail by Ann"), ("Ann", "fail by Ann: a leak")),
    }
    assert found.failures(METHODS) == {("sub-01_T2w", method) for method in METHODS}


def test_names_that_differ_only_in_case_or_spaces_are_one_rater(tmp_path):
    choice = {"image": "sub-01_T2w", "x": "deepseg", "y": "propseg", "choice": "y", "rater": "ann  lee"}
    one = write(tmp_path / "1.json", [mark(rater="ann lee", time="2026-01-02T00:00:00Z")], [choice])
    passed = mark(kind="pass", rater="Ann Lee", time="2026-01-01")
    two = write(tmp_path / "2.json", [passed, mark(rater="Ann-Lee")], [choice])
    for files in ([one, two], [two, one]):
        found = read_marks(files)
        assert {(m.rater, m.mark) for m in found.marks} == {("Ann Lee", "fail"), ("Ann-Lee", "fail")}
        assert [p.rater for p in found.preferences] == ["Ann Lee"]


def test_the_first_format_of_the_page_is_still_read(tmp_path):
    path = tmp_path / "old.json"
    old = {"sub-01_T2w": {"propseg": {"mark": "fail", "sha": "abc"}, "deepseg": {"mark": "artifact", "sha": ""}}}
    path.write_text(json.dumps({"report": "r", "marks": old}))
    found = {(m.method, m.mark, m.mask_sha256) for m in read_marks([path]).marks}
    assert found == {("propseg", "fail", "abc"), (None, "artefact", "")}


def test_the_later_mark_of_two_files_of_one_rater_counts(tmp_path):
    early = write(tmp_path / "a.json", [mark(time="2026-01-01T00:00:00Z")])
    late = write(tmp_path / "b.json", [mark(kind="pass", time="2026-01-02T00:00:00Z"), mark(rater="Bob")])
    for files in ([early, late], [late, early]):
        assert {(m.rater, m.mark) for m in read_marks(files).marks} == {("Ann", "pass"), ("Bob", "fail")}


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2026-11-28T09:00:00+02:00", "2026-11-28T08:00:00Z"),
        ("2026-11-28T23:30:00-05:00", "2026-11-29T05:00:00+00:00"),
        ("2026-11-28T08:00:00Z", "2026-11-28T08:00:00.500Z"),
        ("2026-11-28", "2026-11-28 08:00:00"),
    ],
)
def test_the_later_mark_is_found_across_time_zones(tmp_path, early, late):
    given = [mark(kind="pass", time=early), mark(time=late)]
    for n, marks in enumerate((given, given[::-1])):
        assert [m.mark for m in read_marks([write(tmp_path / f"{n}.json", marks)]).marks] == ["fail"]
    said = (Mark("a", "propseg", "fail", time=late, mask_sha256="abc"), Mark("a", "propseg", "pass", time=early))
    assert word_fails(said, "abc" * 20) == "fail by unnamed rater"


@pytest.mark.parametrize("wrong", [{"time": "yesterday"}, {"time": "28.11.2026 08:00"}, {"slices": [4, -1]}])
def test_an_invalid_time_or_slice_is_named(tmp_path, wrong):
    with pytest.raises(InputError, match=str(*wrong)[:-1]):
        read_marks([write(tmp_path / "a.json", [mark(**wrong)])])


def test_conflicting_marks_without_a_time_are_refused(tmp_path):
    timed = mark(kind="pass", time="2026-11-28T08:00:00Z")
    for given in ([timed, mark()], [mark(), timed]):
        with pytest.raises(InputError, match=r"Ann has marked propseg of sub-01_T2w .* write the time"):
            read_marks([write(tmp_path / "a.json", given)])
    assert len(read_marks([write(tmp_path / "b.json", [timed, mark(kind="pass"), mark(rater="Bob")])]).marks) == 2
    assert [m.mark for m in read_marks([write(tmp_path / "c.json", [mark(), mark(kind="pass")])]).marks] == ["pass"]


def test_a_fail_counts_between_methods_if_the_rater_saw_both():
    alone = Marks((Mark("a", "propseg", "fail", rater="Ann"), Mark("a", "deepseg", "pass", rater="Bob")))
    assert alone.failures(METHODS) == frozenset()
    assert alone.one_sided_failures(METHODS) == [alone.marks[0]]
    assert alone.failures(METHODS, {("a", "deepseg")}) == {("a", "propseg")}  # it has no mask to mark
    assert set(alone.failed_masks()) == {("a", "propseg")}  # the study still leaves the mask out
    both = Marks((*alone.marks, Mark("a", "deepseg", "pass", rater="Ann")))
    assert both.failures(METHODS) == {("a", "propseg")}


def test_marks_of_two_masks_of_one_method_are_both_kept(tmp_path):
    early = mark(time="2026-01-01T00:00:00Z", mask_sha256="abc")
    others = [
        mark(kind="pass", time=f"2026-01-0{n}T00:00:00Z", mask_sha256=sha) for n, sha in ((2, "def"), (3, "abcdef"))
    ]
    found = read_marks([write(tmp_path / "a.json", [early, others[0]])])
    assert {(m.mark, m.mask_sha256) for m in found.marks} == {("fail", "abc"), ("pass", "def")}
    for given in ([early, *others], [*others[::-1], early]):  # the later one of a mask counts, in whatever order
        found = read_marks([write(tmp_path / "b.json", given)])
        assert {(m.mark, m.mask_sha256) for m in found.marks} == {("pass", "def"), ("pass", "abcdef")}


def test_a_mark_of_a_corrected_mask_does_not_replace_that_of_the_original(tmp_path):
    """With or without the checksum of the mask: between the methods, and for the present mask."""
    own, corrected = "a" * 64, "c" * 64
    for named in ({"mask_sha256": own[:12]}, {}):
        given = [
            mark(time="2026-01-01T00:00:00Z", **named),
            mark(method="deepseg", kind="pass", time="2026-01-01T00:00:00Z"),
            mark(kind="pass", time="2026-01-02T00:00:00Z", mask_sha256=corrected[:12]),
        ]
        for marks in (given, given[::-1]):
            found = read_marks([write(tmp_path / "a.json", marks)])
            assert len(found.marks) == 3
            assert found.of_masks({("sub-01_T2w", "propseg"): own}).failures(METHODS) == {("sub-01_T2w", "propseg")}
            (of_image,) = found.failed_masks().values()
            assert word_fails(of_image, own) == "fail by Ann"
            assert word_fails(of_image, corrected, corrected=True) == ""


def test_a_later_mark_counts_whether_or_not_it_names_its_mask():
    own = "a" * 64
    early = Mark("a", "propseg", "fail", rater="Ann", time="2026-01-01")
    late = Mark("a", "propseg", "pass", rater="Ann", time="2026-01-02", mask_sha256=own)
    seen = Mark("a", "deepseg", "pass", rater="Ann")
    for marks in ((early, late, seen), (late, early, seen)):
        said = Marks(marks)
        assert said.of_masks({("a", "propseg"): own}).failures(METHODS) == frozenset()
        assert word_fails(said.failed_masks()["a", "propseg"], own) == ""


def test_marks_of_corrected_masks_do_not_count_between_methods():
    own = {("a", "propseg"): "abc" * 20, ("a", "deepseg"): "def" * 20}
    fail, seen = Mark("a", "propseg", "fail", mask_sha256="abcabc"), Mark("a", "deepseg", "pass", mask_sha256="defdef")
    better = Preference("a", "propseg", "deepseg", "x", "Ann", x_sha256="abc", y_sha256="def")
    said = Marks((fail, seen), (better,))
    assert said.of_masks(own) == said
    other = said.of_masks(own | {("a", "propseg"): "0" * 60})
    assert (other.failures(METHODS), other.preferences) == (frozenset(), ())
    plain = Marks((Mark("a", "propseg", "fail"),), (Preference("a", "propseg", "deepseg", "x", "Ann"),))
    assert plain.of_masks(own) == plain


def test_an_artefact_excludes_the_image_with_its_reason():
    marks = Marks((Mark("a", None, "artefact", rater="Ann", reason="motion"), Mark("b", "propseg", "fail")))
    assert marks.artefacts == {"a": "artefact by Ann: motion"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "JSON without keys"),
        ("{}", "no key 'marks'"),
        ('{"marks": 3}', "expected a list"),
        ('{"marks": ["a"]}', "other content"),
        ('{"marks": [{"image": "a", "method": "propseg", "mark": "bad"}]}', "expected one of pass, fail, artefact"),
        ('{"marks": [{"image": "a", "method": null, "mark": "fail"}]}', "names no method"),
        ('{"marks": [{"image": "a", "method": "propseg", "mark": "fail", "rating": 12}]}', "expected 0 to 9"),
        ('{"marks": [{"image": "a", "method": "propseg", "mark": "fail", "rating": "3"}]}', "other content"),
        ('{"marks": [{"image": "a", "method": "propseg", "mark": "fail", "slices": "12"}]}', "expected a list"),
        ('{"marks": [{"image": "a", "method": "propseg", "mark": "fail", "colour": 1}]}', "colour"),
        ('{"marks": [{"image": "a", "method": "propseg", "mark": "fail", "rater": null}]}', "rater: 'None'"),
        (
            '{"marks": [], "preferences": [{"image": "a", "x": "p", "y": "p", "choice": "x", "rater": "b"}]}',
            "a: p is compared with itself",
        ),
        (
            '{"marks": [], "preferences": [{"image": "a", "x": "p", "y": "d", "choice": "z", "rater": ""}]}',
            "choice 'z'",
        ),
        ('{"marks": [{"image": "a", "method": "p", "mark": "fail", "mask_sha256": "ABC"}]}', "beginning of a checksum"),
        ("not json", "no JSON"),
    ],
)
def test_a_damaged_file_of_marks_is_one_line(tmp_path, content, words):
    path = tmp_path / "marks.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"marks\.json") as error:
        read_marks([path])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_marks_of_unknown_images_are_refused_with_the_nearest_name():
    marks = Marks((Mark("sub-01_T2W", "propseg", "fail"),))
    with pytest.raises(InputError, match=r"did you mean 'sub-01_T2w'\?"):
        marks.check_names(["sub-01_T2w"], METHODS, "config key 'marks'")
    preference = Marks((), (Preference("sub-01_T2w", "propseg", "deepsg", "x", "Ann"),))
    with pytest.raises(InputError, match=r"did you mean 'deepseg'\?"):
        preference.check_names(["sub-01_T2w"], METHODS, "config key 'marks'")


def test_an_artefact_excludes_an_image_and_a_fail_does_not(tmp_path):
    root = tmp_path / "bids"
    for subject in ("01", "02"):
        image = root / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz"
        image.parent.mkdir(parents=True)
        image.write_bytes(b"not read by the index")
    marks = write(tmp_path / "m.json", [mark("sub-01_T2w", None, "artefact", reason="motion"), mark("sub-02_T2w")])
    config = make_configuration({"dataset": "x", "bids_dir": str(root), "marks": str(marks)})
    images, _ = index_images(config, 10)
    assert {image.image_id: image.reason for image in images} == {
        "sub-01_T2w": "excluded: artefact by Ann: motion",
        "sub-02_T2w": "",
    }
    assert str(marks) in source_files(config, images)  # so that a new mark is noticed


def test_marks_of_another_study_stop_before_the_first_job(tmp_path):
    (tmp_path / "bids" / "sub-01" / "anat").mkdir(parents=True)
    (tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T2w.nii.gz").write_bytes(b"x")
    marks = write(tmp_path / "m.json", [mark("sub-O1_T2w")])
    keys = {"dataset": "x", "bids_dir": str(tmp_path / "bids"), "marks": [str(marks)]}
    with pytest.raises(InputError, match=r"config key 'marks': .*did you mean 'sub-01_T2w'"):
        check_before_jobs(make_configuration(keys))


def test_marks_of_the_datasets_masks_count_if_these_masks_are_used(tmp_path):
    (tmp_path / "bids" / "sub-01" / "anat").mkdir(parents=True)
    (tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T2w.nii.gz").write_bytes(b"x")
    keys = {"dataset": "x", "bids_dir": str(tmp_path / "bids")}
    keys["marks"] = str(write(tmp_path / "m.json", [mark(method="manual")]))
    check_before_jobs(make_configuration(keys | {"manual": "use"}))
    with pytest.raises(InputError, match="'manual', which is not compared"):
        check_before_jobs(make_configuration(keys))


def test_columns_of_the_plan_are_checked_before_the_first_job(tmp_path):
    (tmp_path / "bids" / "sub-01" / "anat").mkdir(parents=True)
    (tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T2w.nii.gz").write_bytes(b"x")
    (tmp_path / "bids" / "participants.tsv").write_text("participant_id\tpathology\nsub-01\tHC\n")

    def check(**plan):
        check_before_jobs(make_configuration({"dataset": "x", "bids_dir": str(tmp_path / "bids"), "decision": plan}))

    check()  # a site is not needed
    check(group="pathology", site="pathology")
    for key in ("group", "site"):
        with pytest.raises(InputError, match=rf"config key 'decision\.{key}': .* no column 'patology'.*'pathology'"):
            check(**{key: "patology"})


def test_a_file_from_a_page_of_another_study_is_named(tmp_path):
    folder = study_folder(tmp_path / "results", "x")
    write_index(folder, [study_image("01", "T2w")])
    files = [str(write(tmp_path / f"{page}.json", [mark()], report=page)) for page in ("here", "elsewhere")]
    config = make_configuration({"dataset": "x", "bids_dir": str(tmp_path), "marks": files})
    assert list_notices(folder, config, Stage.PILOT) == []  # no page has been made yet
    folder.page_identity(Stage.PILOT).parent.mkdir(parents=True)
    folder.page_identity(Stage.PILOT).write_text("here\n")
    (line,) = list_notices(folder, config, Stage.PILOT)
    assert line.startswith(f"warning: {files[1]}: not saved from a page of this study")
