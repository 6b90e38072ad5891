"""Who and what a study leaves out: every entry matches something, and a list named after a contrast applies to it."""

import json

import pytest
from test_index import by_id, index, make_dataset, reasons

from spineseg.errors import InputError
from spineseg.study.configuration import make_configuration
from spineseg.study.exclusion import NO_SITES, Exclusion
from spineseg.study.index import check_before_jobs, find_idle_exclusions, index_images, source_files
from spineseg.study.participants import read_participants
from spineseg.studyfolder.images import StudyImage

IMAGES = (
    *("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz"),
    *("sub-02/anat/sub-02_T2w.nii.gz", "sub-stanford03/ses-a/anat/sub-stanford03_ses-a_T2w.nii.gz"),
    "sub-stanford03/ses-b/anat/sub-stanford03_ses-b_run-1_T2w.nii.gz",
)


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "bids", *IMAGES)


def left_out(root, excluded):
    return set(reasons(index(root, excluded=excluded)[0]))


@pytest.mark.parametrize(
    ("entry", "images"),
    [
        ("sub-02", {"sub-02_T1w", "sub-02_T2w"}),
        ("02", {"sub-02_T1w", "sub-02_T2w"}),
        ("sub-02/", {"sub-02_T1w", "sub-02_T2w"}),
        ("sub-02 ", {"sub-02_T1w", "sub-02_T2w"}),
        ("./sub-02", {"sub-02_T1w", "sub-02_T2w"}),
        ("sub-02_T2w", {"sub-02_T2w"}),
        ("sub-02_T2w.nii.gz", {"sub-02_T2w"}),
        ("sub-02/anat/sub-02_T2w.nii.gz", {"sub-02_T2w"}),
        ("sub-stanford03_ses-b", {"sub-stanford03_ses-b_run-1_T2w"}),
        ("sub-stanford03/ses-b", {"sub-stanford03_ses-b_run-1_T2w"}),
        ("sub-stanford03/ses-b/", {"sub-stanford03_ses-b_run-1_T2w"}),
        ("sub-stanford03_ses-b_run-1", {"sub-stanford03_ses-b_run-1_T2w"}),
    ],
)
def test_every_way_to_write_a_name(root, entry, images):
    assert left_out(root, [entry]) == images


@pytest.mark.parametrize(
    ("table", "images"),
    [
        ("id\tReason\tContrast\nsub-02\tmotion\tT1w\n", {"sub-02_T1w"}),
        ("ID\tsuffix\nsub-02\tt2\nsub-01\tT1w\n", {"sub-02_T2w", "sub-01_T1w"}),
        (
            "id\treason\tcontrast\nsub-02\tmotion\t\nsub-01\tn/a\tn/a\n",
            {"sub-02_T1w", "sub-02_T2w", "sub-01_T1w", "sub-01_T2w"},
        ),
    ],
)
def test_a_row_may_name_one_contrast(root, tmp_path, table, images):
    (tmp_path / "e.tsv").write_text(table)
    found = reasons(index(root, excluded=str(tmp_path / "e.tsv"))[0])
    assert set(found) == images
    assert ("motion" in table.split("\n")[1]) is any("motion" in reason for reason in found.values())
    rows = [line.split("\t") for line in table.splitlines()]
    items = [{key: cell for key, cell in zip(rows[0], row, strict=True) if cell not in ("", "n/a")} for row in rows[1:]]
    (tmp_path / "e.yml").write_text(json.dumps(items))
    assert left_out(root, str(tmp_path / "e.yml")) == images  # the same as a list


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("id\treason\tsession\nsub-02\tmotion\t1\n", "found id, reason, session"),
        ("id\tcontrast\tsuffix\nsub-02\tt1\tT1w\n", "found id, contrast, suffix"),
        ("id\treason\tReason\nsub-02\ta\tb\n", "found id, reason, Reason"),
        ("participant_id\treason\nsub-02\ta\n", "expected id and reason"),
        ("id\tcontrast\nsub-02\tT1\nsub-01\tT2\n", ""),
        ("id\tcontrast\nsub-02\tT7w\n", "'T7w' is not a contrast or suffix; did you mean"),
    ],
)
def test_a_column_is_understood_or_refused(root, tmp_path, table, words):
    (tmp_path / "e.tsv").write_text(table)
    if not words:
        assert left_out(root, str(tmp_path / "e.tsv")) == {"sub-02_T1w", "sub-01_T2w"}
        return
    with pytest.raises(InputError, match=r"e\.tsv(, line 2)?: ") as caught:
        left_out(root, str(tmp_path / "e.tsv"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("e.csv", "sub-02,motion\n", "expected id and reason"),  # no heading: nobody would be left out
        ("e.tsv", "sub-02\n", "expected id and reason"),
        ("e.yml", "csa_t2: sub-02\n", "expected a list of subjects"),
        ("e.yml", "[sub-01/anat/sub-02_T2w.nii.gz]\n", "fits no subject"),
        ("e.yml", "[sub-stanford03/ses-b/anat/sub-stanford03_ses-a_T2w.nii.gz]\n", "fits no subject"),
    ],
)
def test_a_list_that_would_exclude_nobody_or_the_wrong_person_is_refused(root, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        left_out(root, str(tmp_path / name))


@pytest.mark.parametrize(("name", "text"), [("e.csv", "id,reason\n"), ("e.yml", "csa_t1:\ncsa_t2:\n"), ("e.yml", "")])
def test_an_empty_list_excludes_nobody(root, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert left_out(root, str(tmp_path / name)) == set()


def test_an_entry_that_differs_only_in_case_is_named(root, tmp_path):
    (tmp_path / "e.yml").write_text("[sub-02_T2W, sub-x1]\n")
    excluded = {"file": str(tmp_path / "e.yml"), "unmatched": "ignore"}
    config = make_configuration({"dataset": "x", "bids_dir": str(root), "excluded": excluded})
    _, line = find_idle_exclusions(config, index_images(config, 10)[0])
    assert line.endswith("because upper and lower case differ: 'sub-02_T2W' ('sub-02_T2w'?)")


def test_unmatched_entries_that_are_allowed_are_one_line(root, tmp_path):
    names = ["sub-02", *(f"sub-x{n}" for n in range(12)), "nowhere"]
    (tmp_path / "e.yml").write_text(json.dumps(names))
    excluded = {"file": str(tmp_path / "e.yml"), "unmatched": "ignore", "sites": {"nowhere": "sub-nowhere"}}
    config = make_configuration({"dataset": "x", "bids_dir": str(root), "excluded": excluded})
    images, _ = index_images(config, 10)
    (line,) = find_idle_exclusions(config, images)
    assert "13 entries fit nothing here" in line
    assert "sub-x0, sub-x1" in line
    assert "sub-02" not in line


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ("sub-02_T2W", "sub-02_T2w"), ("sub-O2", "sub-02"), ("Sub-02", "sub-02"), ("sub-2", "sub-02"),
        ("sub_02", "sub-02"), ("sub-02_t1w", "sub-02_T1w"), ("sub-stanford03_ses-c", "sub-stanford03_ses"),
        ("sub-02_ses-a", ""), ("stanford", ""), ("sub-", ""), ("sub-0", ""), ("sub-stanford", ""), ("T2w", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["list", "mapping", "tsv", "yaml", "named"])
def test_an_entry_that_fits_nothing_stops_before_the_first_job(root, tmp_path, entry, meant, form):
    """The person who was meant may have withdrawn consent."""
    files = {
        "tsv": ("e.tsv", f"id\treason\n{entry}\tmotion\n"),
        "yaml": ("e.yml", f"- {entry}\n"),
        "named": ("e.yml", f"csa_t2: [{entry}]\n"),
    }
    excluded = {"list": [{"id": entry, "reason": "x"}], "mapping": {entry: "x"}}.get(form)
    if form in files:
        name, text = files[form]
        (tmp_path / name).write_text(text)
        excluded = str(tmp_path / name)
    with pytest.raises(InputError, match="fits no subject") as error:
        check_before_jobs(make_configuration({"dataset": "x", "bids_dir": str(root), "excluded": excluded}))
    assert repr(entry) in str(error.value)
    assert (f"did you mean '{meant}" if meant else "fits") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_list_that_datasets_share_may_have_entries_that_fit_nothing(root, tmp_path):
    (tmp_path / "e.yml").write_text("- sub-99\n- sub-01\n")
    shared = {"file": str(tmp_path / "e.yml"), "unmatched": "ignore"}
    assert left_out(root, shared) == {"sub-01_T1w", "sub-01_T2w"}
    with pytest.raises(InputError, match="'sub-99' fits no subject"):
        left_out(root, {"file": str(tmp_path / "e.yml")})


def test_a_list_named_after_a_contrast_applies_to_that_contrast(root, tmp_path):
    (tmp_path / "e.yml").write_text("csa_t1: [sub-01]\nT2w: [sub-02]\n")
    found = reasons(index(root, excluded=str(tmp_path / "e.yml"))[0])
    assert set(found) == {"sub-01_T1w", "sub-02_T2w"}
    assert found["sub-01_T1w"] == f"excluded: listed under csa_t1 ('sub-01' in {tmp_path / 'e.yml'}, list csa_t1)"


def test_an_image_in_the_list_of_another_contrast_is_refused(root, tmp_path):
    (tmp_path / "e.yml").write_text("csa_t1: [sub-01_T2w]\n")
    with pytest.raises(InputError, match="'sub-01_T2w' is not an image of t1"):
        left_out(root, str(tmp_path / "e.yml"))


def test_other_lists_must_be_chosen(root, tmp_path):
    path = tmp_path / "e.yml"
    path.write_text("csa_t1: [sub-01]\nmtr: [sub-02]\nbrain: [sub-01]\n")
    with pytest.raises(InputError, match="the lists 'mtr', 'brain' are named after no contrast"):
        left_out(root, str(path))
    assert left_out(root, {"file": str(path), "lists": ["csa_t1"]}) == {"sub-01_T1w"}
    assert left_out(root, {"file": str(path), "lists": ["mtr"]}) == {"sub-02_T1w", "sub-02_T2w"}
    with pytest.raises(InputError, match=r"no list 'csa_t'; did you mean 'csa_t1'\?"):
        left_out(root, {"file": str(path), "lists": ["csa_t"]})


def test_lists_of_failed_images_by_sct_are_read(root, tmp_path):
    (tmp_path / "qc_fail.yml").write_text("FILES_SEG:\n- sub-01_T2w.nii.gz  # propseg\n")
    assert left_out(root, str(tmp_path / "qc_fail.yml")) == {"sub-01_T2w"}


def test_sites_are_declared_never_guessed(root, tmp_path):
    (tmp_path / "e.yml").write_text("- stanford\n")
    stanford = {"sub-stanford03_ses-a_T2w", "sub-stanford03_ses-b_run-1_T2w"}
    file = {"file": str(tmp_path / "e.yml")}
    with pytest.raises(InputError, match="'stanford' fits no subject"):
        left_out(root, file)
    assert left_out(root, file | {"sites": {"stanford": "sub-stanford"}}) == stanford
    with pytest.raises(InputError, match="every subject begins with 'sub-'"):  # all of them would belong to the site
        left_out(root, file | {"sites": {"stanford": "sub-"}})
    with pytest.raises(InputError, match="no subject begins with 'oxford'"):
        left_out(root, file | {"sites": {"stanford": "stanford", "oxford": "oxford"}})
    (root / "participants.tsv").write_text("participant_id\tsite\nsub-01\tmni\nsub-stanford03\tstanford\n")
    assert left_out(root, file) == stanford
    assert left_out(root, ["mni"]) == {"sub-01_T1w", "sub-01_T2w"}


def test_marks_are_not_exclusions(root, tmp_path):
    path = tmp_path / "qc_marks.json"
    path.write_text(json.dumps({"report": "r", "marks": []}))
    with pytest.raises(InputError, match="name it with the config key 'marks'"):
        left_out(root, str(path))


@pytest.mark.parametrize("text", ["- 01\n", "csa_t2: [01]\n", "- {reason: x}\n", "csa_t2: sub-01\nT1w: [sub-01]\n"])
def test_names_that_yaml_reads_as_something_else_are_refused(root, tmp_path, text):
    (tmp_path / "e.yml").write_text(text)
    with pytest.raises(InputError, match="expected"):
        left_out(root, str(tmp_path / "e.yml"))


def test_a_name_does_not_match_longer_names():
    assert not Exclusion("sub-1", "", "").fits(StudyImage("sub-11_T2w", "11"), NO_SITES)


# ---------------------------------------------------------------- participants.tsv

TABLE = "participant_id\tage\tpathology\tsite\nsub-01\t30\tHC\ta\nsub-02\tn/a\tMS\tb\nsub-stanford03\t71.5\tHC\tb\n"


@pytest.mark.parametrize(
    ("query", "who"),
    [
        ("pathology == 'HC'", {"01", "stanford03"}),
        ("pathology != 'HC'", {"02"}),
        ("age >= 30", {"01", "stanford03"}),
        ("age > 30 and pathology == 'HC'", {"stanford03"}),
        ("18 <= age < 50", {"01"}),
        ("not (site == 'a')", {"02", "stanford03"}),
        ("site in ['a', 'c'] or age == 71.5", {"01", "stanford03"}),
        ("pathology not in ('HC', 'DCM')", {"02"}),
        ("age in [30.0, 5]", {"01"}),
        ("age in ['30']", {"01"}),
        ("age not in [30]", {"stanford03"}),
        ("age >= '8'", {"01", "stanford03"}),
        ("not age >= 50", {"01"}),
        ("not (age >= 50 and site == 'b')", {"01"}),
        ("not (age >= 50 or site == 'b')", {"01"}),
        ("age < 50 or pathology == 'MS'", {"01", "02"}),
    ],
)
def test_people_are_chosen_by_participants_tsv(root, query, who):
    (root / "participants.tsv").write_text(TABLE)
    rows, _ = index(root, subjects={"participants": query})
    assert {image.subject for image in by_id(rows).values()} == who


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("patology == 'HC'", "no column 'patology'; did you mean 'pathology'?"),
        ("pathology == 'XX'", "fits none of the 3 participants"),
        ("pathology = 'HC'", "is not a condition"),
        ("pathology", "expected comparisons"),
        ("'pathology' != 'HC'", "expected a column in each comparison, found"),  # it would be true for all of them
        ("age > 3 or 1 == 1", "expected a column in each comparison"),
        ("__import__('os').system('true')", "no column '__import__'"),
        ("age.real == 3", "expected a column or a value"),
        ("pathology > 3", "compares 'HC' with the number 3"),
        ("age is 3", "expected one of"),
        ("[a for a in age] == 3", "'a'"),
        ("age in 5", "expected a list after in, found 5; write [5]"),
        ("pathology in ('HC')", "expected a list after in, found 'HC'; write ['HC']"),
        ("pathology in site", "expected a list after in"),
        ("age in [[1]]", "found the list [1]"),
        ("age < [1, 2]", "compares with the list [1, 2]"),
        ("[1] < age", "compares with the list [1]"),
        ("site == ['a']", "compares with the list ['a']"),
        ("site != ['a']", "compares with the list ['a']"),
        ("pathology >= 'A'", "'HC' is not a number"),
        ("age < site", "'a' is not a number"),
        ("age == -'a'", "expected a column or a value"),
        ("age > " + "-" * 900 + "1", "is not a condition"),
        ("age > 1" + " or age > 1" * 2000, "is not a condition"),
        ("age == " + "(" * 300 + "1" + ")" * 300, "is not a condition"),
    ],
)
def test_a_condition_that_cannot_be_used_is_one_line(root, query, words):
    (root / "participants.tsv").write_text(TABLE)
    with pytest.raises(InputError, match=r"config key 'subjects\.participants'") as error:
        check_before_jobs(
            make_configuration({"dataset": "x", "bids_dir": str(root), "subjects": {"participants": query}})
        )
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("unknown", ["n/a", "N/A", "NA", "nan", "NaN", ""])
@pytest.mark.parametrize("query", ["age >= 18", "age != 18", "not age >= 99", "age not in [18]", "not age == 5"])
def test_missing_values_match_no_condition(root, unknown, query):
    (root / "participants.tsv").write_text(f"participant_id\tage\nsub-01\t{unknown}\nsub-02\t20.0\n")
    assert read_participants(root).query(query, "key") == ["02"]


# row: with `test_a_participant_without_a_name_is_refused`
def test_a_participant_twice_is_refused(root):
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t3\n01\t4\n")
    with pytest.raises(InputError, match="line 3: participant '01' is there twice"):
        read_participants(root)


# row: a row of participants.tsv without a name, or a person listed twice | refused
def test_a_participant_without_a_name_is_refused(root):
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n \t40\n")
    with pytest.raises(InputError, match="line 3: participant_id is empty; fill it in, or delete the line"):
        read_participants(root)


def test_a_change_of_participants_or_of_the_list_is_noticed(root, tmp_path):
    (root / "participants.tsv").write_text(TABLE)
    (tmp_path / "e.yml").write_text("- sub-01\n")
    config = make_configuration({"dataset": "x", "bids_dir": str(root), "excluded": str(tmp_path / "e.yml")})
    assert {str(root / "participants.tsv"), str(tmp_path / "e.yml")} <= set(source_files(config, []))


def test_a_subject_named_like_a_site_needs_a_choice(tmp_path):
    root = make_dataset(tmp_path, *(f"sub-0{n}/anat/sub-0{n}_T2w.nii.gz" for n in (1, 2, 3)))
    (root / "participants.tsv").write_text("participant_id\tsite\nsub-01\t02\nsub-02\t01\nsub-03\t01\n")
    with pytest.raises(InputError, match="'01' may mean sub-01 or the site 01 with 2 subjects; write sub-01"):
        left_out(root, ["01"])
    assert left_out(root, ["sub-01"]) == {"sub-01_T2w"}
