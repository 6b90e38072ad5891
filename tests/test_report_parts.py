"""Parts of the report: contrasts that disagree, kinds of failure, pilot and other people, raters, figures by site."""

from dataclasses import replace

import pytest
from made_study import study_image, write_decision
from report_study import make_study

from spineseg.cli import main
from spineseg.report import charts
from spineseg.report.areas import (
    AreaRow,
    describe_areas,
    describe_level_sources,
    list_level_sources,
    summarise_areas,
)
from spineseg.report.figure_words import BY, FIGURE_WORDS, figure_title
from spineseg.report.figures import KINDS, draw_figures
from spineseg.report.frames import MAX_PARTS, frame_tables, split_tables
from spineseg.report.review import MethodResult, ReviewImage
from spineseg.report.reviewed import compute_kappa, summarise_reviewing
from spineseg.report.summaries import (
    PilotRow,
    compare_pilots,
    describe_disagreement,
    summarise_evidence,
    summarise_failures,
)
from spineseg.studyfolder.csa import CsaRow
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.locks import KeptMethods
from spineseg.studyfolder.marks import Mark, Marks, Preference
from spineseg.studyfolder.tables import AgreementRow, Identity, MetricsRow

METHODS = ("propseg", "deepseg")
SITES = ("Bern", "Lyon", "Oslo")


def many(n_people, n_images=1):
    """Tables of people at three sites."""
    metrics, agreement = [], []
    for person in range(n_people):
        for contrast in ("t1", "t2")[:n_images]:
            image = Identity(f"sub-{person}_{contrast}", str(person), contrast=contrast)
            for method in METHODS:
                metrics.append(MetricsRow(image, method, "ok", {"csa_mean_mm2": 70 + person % 13, "coverage": 1.0}))
            agreement.append(AgreementRow(image, *METHODS, {"dice": 0.9, "csa_difference_mm2": person % 7 - 3.0}))
    levels = [
        CsaRow(row.image, row.method, level, level[1], values={"csa_mm2": row.values["csa_mean_mm2"]})
        for row in metrics
        for level in ("C3", "C4")
    ]
    return frame_tables(metrics, agreement, levels=levels)


@pytest.mark.parametrize("n", [3, 30])
def test_every_figure_can_be_split_by_a_column(tmp_path, n):
    study = many(n, 2)
    sites = {str(person): SITES[person % 3] for person in range(n)}
    drawn = draw_figures(study, tmp_path, columns={"site": sites, "age": {str(p): str(p) for p in range(n)}})
    whole = {one.name for one in drawn if not one.column}
    assert {"failures", "dice", "bland_altman", "csa_levels"} <= whole
    assert {one.name for one in drawn if one.column == "site"} == whole
    assert {one.name for one in drawn if one.column == "age"} == (whole if n <= MAX_PARTS else set())
    svg = (tmp_path / "failures_by-site.svg").read_text()
    assert all(f"site: {site} ({2 * n // 3} images of {n // 3} people)" in svg for site in SITES)
    limits = "too few for limits of agreement" in (tmp_path / "bland_altman_by-site.svg").read_text()
    assert limits == (n == 3)  # two images of a site
    assert (tmp_path / "failures_by-site.png").is_file()
    draw_figures(study, tmp_path)
    assert not list(tmp_path.glob("*_by-*"))


def test_parts_contain_only_their_people_and_unknown_ones_are_separate():
    parts = split_tables(many(6), {"0": "Bern", "1": "Lyon", "2": "Bern"})
    assert list(parts) == ["Bern", "Lyon", "not known"]
    assert set(parts["Bern"].metrics["subject"]) == {"0", "2"}
    assert len(parts["not known"].agreement) == 3
    assert split_tables(many(6), dict.fromkeys("012345", "Bern")) == {}


def test_a_column_of_many_words_is_split_by_the_most_frequent_and_the_others():
    """A multi-centre study has too many sites for one figure each; ages and codes are not groups."""
    people = [str(person) for person in range(24)]
    sites = {person: f"site{n % 12:02d}" if n < 20 else "site00" for n, person in enumerate(people)} | {"23": ""}
    parts = split_tables(many(24), sites)
    assert list(parts) == [*(f"site{n:02d}" for n in range(6)), "6 others", "not known"]
    assert sum(len(part.metrics) for part in parts.values()) == 48
    assert split_tables(many(24), {person: f"{20 + n % 12}.5" for n, person in enumerate(people)}) == {}
    assert split_tables(many(24), {person: f"code{person}" for person in people}) == {}


def test_names_of_columns_and_values_are_unchanged(tmp_path):
    columns = {name: {str(n): ("$x_{", "a$b$")[n % 2] for n in range(6)} for name in ("$si_te", "a b", "a_b", "a b_2")}
    drawn = draw_figures(many(6), tmp_path, columns=columns)
    assert len({one.file for one in drawn}) == len(drawn)
    svg = (tmp_path / f"failures{BY}-si-te.svg").read_text()
    assert all(words in svg for words in ("Images by status, by $si_te", "$si_te: $x_{ (", "$si_te: a$b$ ("))


def test_many_images_are_drawn_as_distributions(tmp_path):
    few, crowd = (tmp_path / name for name in ("few", "crowd"))
    n = charts.MAX_POINTS + 600
    sizes = {folder: draw_figures(many(people, 2), folder) for folder, people in ((few, 20), (crowd, n))}
    assert {one.name for one in sizes[few]} == {one.name for one in sizes[crowd]}
    assert "csa_contrasts" in {one.name for one in sizes[crowd]}
    assert max(path.stat().st_size for path in crowd.glob("*.svg")) < 4e5


def test_every_figure_has_title_caption_and_table():
    assert list(KINDS) == list(FIGURE_WORDS)
    for name, words in FIGURE_WORDS.items():
        assert words.caption.endswith(".")
        assert ".tsv" in KINDS[name].table or name == "sample_size"  # whose points are written beside it
        assert figure_title(f"{name}{BY}site") == f"{words.title}, by site"


def test_quartiles_of_few_images_are_left_out():
    one, several = (summarise_evidence(many(n)) for n in (1, 8))
    cells = [{row["heading"]: row["cells"]["propseg"] for row in rows} for rows in (one, several)]
    assert cells[0]["mean CSA, mm²"] == "70.0"
    assert "(" in cells[1]["mean CSA, mm²"]


def in_contrast(difference, favours):
    return {"difference": difference, "favours": favours, "ci90": [difference - 0.1, difference + 0.1], "n": 9}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"t1": (0.05, "deepseg"), "t2": (-0.05, "propseg")}, "The contrasts disagree: t1 favours deepseg"),
        ({"t1": (0.05, None), "t2": (-0.05, None)}, "but none clearly"),
        ({"t1": (0.05, None), "t2": (0.02, None)}, None),
    ],
)
def test_contrasts_that_disagree_are_named(tmp_path, rows, words):
    content = {"best": "deepseg", "runner_up": "propseg", "endpoint": "dice"}
    content["per_contrast"] = {contrast: in_contrast(*row) for contrast, row in rows.items()}
    said = describe_disagreement(write_decision(StudyFolder(tmp_path), "deepseg", **content))
    assert (words in said) if words else said == ""
    assert describe_disagreement(None) == ""


def test_failures_are_counted_by_kind_whatever_the_image_is_called():
    def failed(name, method, message, status="failed"):
        return ReviewImage(study_image(name), (MethodResult(method, status, message), MethodResult("other", "ok")))

    reviews = [
        failed("01", "propseg", "/data/sub-01_T2w.nii.gz: expected 3 axes, found 2"),
        failed("02", "propseg", "/data/sub-02_T2w.nii.gz: expected 3 axes, found 5"),
        failed("02", "deepseg", "/data/sub-02_T2w.nii.gz: expected 3 axes, found 5"),
        failed("03", "deepseg", "cord found in slices 3-9 of 40", "partial"),
    ]
    first, second = summarise_failures(reviews, METHODS)
    assert (first.kind, first.counts) == ("failed: the image expected # axes, found #", {"propseg": 2, "deepseg": 1})
    assert first.example == "sub-01_T2w"
    assert second.counts == {"propseg": 0, "deepseg": 1}


def test_people_of_the_pilot_unlike_the_rest_are_marked():
    images = [study_image(str(n), contrast="t2", pilot=n < 4, image_id=f"sub-{n}_t1") for n in range(20)]
    sites = {str(n): "Bern" if n < 4 else "Lyon" for n in range(20)}
    rows = {row.what: row for row in compare_pilots(images, {"site": sites}, many(20), KeptMethods("propseg"))}
    assert rows["participants"] == PilotRow("participants", "4", "16")
    assert rows["site: Bern"] == PilotRow("site: Bern", "100 %", "0 %", True)
    assert not rows["contrast: t2"].is_far
    assert any("mean CSA" in what and row.is_far for what, row in rows.items())
    everyone = [study_image(str(n)) for n in range(4)]
    assert compare_pilots(everyone, {}, many(4), KeptMethods("propseg")) == []


def preference(image, choice, rater, repeat=False, **more):
    return Preference(image, *METHODS, choice, rater, repeat=repeat, **more)


def test_agreement_of_raters_is_reported_and_unseen_images_are_named():
    reviews = [ReviewImage(study_image(f"{n:02d}"), (MethodResult("propseg", "ok"),)) for n in range(1, 6)]
    names = [review.image.image_id for review in reviews]
    marks = [Mark(names[n], "propseg", mark, rater=r) for r in ("A", "B") for n, mark in ((0, "pass"), (1, "fail"))]
    marks.append(Mark(names[3], "deepseg", "pass", rater="A"))  # of a mask that this stage does not show
    blind = [preference(names[2], "x", "A"), preference(names[2], "y", "A", True), preference("gone", "x", "A")]
    blind += [preference(names[2], "y", rater, blind=False) for rater in "AB"]  # after the names had been seen
    found = summarise_reviewing(Marks(tuple(marks), tuple(blind)), reviews)
    assert [(row.rater, row.n_marks, row.n_comparisons, row.n_not_blind) for row in found.raters] == [
        ("A", {"pass": 1, "fail": 1}, 1, 1),
        ("B", {"pass": 1, "fail": 1}, 0, 1),
    ]
    assert found.raters[0].again == "0 of 1 the same, kappa 0.00"
    assert found.agreement == ["A and B, marks: 2 of 2 the same, kappa 1.00."]
    assert found.chosen == {"propseg": 1}
    assert found.unseen == names[3:]


def test_kappa_is_not_defined_where_there_is_one_answer():
    assert compute_kappa([("a", "a"), ("a", "a")]) is None
    assert compute_kappa([("a", "b"), ("b", "a")]) == -1


def test_areas_are_of_people_and_leave_out_what_has_a_warning():
    def row(person, area, flags=(), level=3, contrast="t2"):
        image = Identity(f"sub-{person}", person, contrast=contrast)
        name = "C2-C3" if level == 3 else f"C{level}"
        return CsaRow(image, level=name, vert_level=str(level), values={"csa_mm2": area}, flags=flags)

    mixed = [row("1", 70.0, (), level, contrast) for level in (5, 4) for contrast in ("t2", "t1")]
    order = [(area.contrast, area.level) for area in summarise_areas(mixed)]
    assert order == [("t2", "C4"), ("t2", "C5"), ("t1", "C4"), ("t1", "C5")]
    (found,) = summarise_areas([row("1", 70.0), row("1", 72.0), row("2", 75.0), row("3", 10.0, ("failed",))])
    assert (found.n_people, found.mean, found.n_flagged) == (2, "73.0", 1)
    assert "C2-C3 is the vertebral levels C2 to C3" in describe_areas([found])
    assert describe_areas([replace(found, n_people=0), replace(found, level="whole mask")]) == ""


def test_areas_of_two_kinds_of_image_are_not_averaged_though_their_contrast_is_one():
    rows = [
        CsaRow(Identity(f"sub-1_{name}", "1", contrast="t2"), level="C3", vert_level="3", values={"csa_mm2": area})
        for name, area in (("T2w", 70.0), ("run-1_task-rest_bold", 80.0), ("run-2_task-rest_bold", 84.0))
    ]
    assert [(area.images, area.mean) for area in summarise_areas(rows)] == [("T2w", "70.0"), ("task-rest_bold", "82.0")]


def test_the_report_names_the_labels_used_and_the_distance_of_the_cords():
    def row(name, labels, distance, flags=(), n_slices=9):
        return CsaRow(
            Identity(name, name[4]),
            level="C3",
            n_slices=n_slices,
            levels_from=labels,
            levels_distance_mm=distance,
            flags=flags,
        )

    own = row("sub-1_T2w", "/x/sub-1_T2w_labels-disc.nii.gz", 0.0)
    near = row("sub-1_T2star", "/x/sub-1_T2w_labels-disc.nii.gz", 0.6)
    far = row("sub-2_T2star", "/x/sub-2_T2w_labels-disc.nii.gz", 4.25, ("doubted",))
    lost = row("sub-3_T2star", "/x/sub-3_T2w_labels-disc.nii.gz", float("nan"), ("doubted",))
    none = row("sub-4_T2star", "/x/sub-4_T2w_labels-disc.nii.gz", float("nan"), ("unmeasured",), 0)
    assert describe_level_sources(list_level_sources([own, none])) == ""
    one = describe_level_sources(list_level_sources([near, near]))
    assert one.startswith("1 image has its levels from labels of another image of the session; ")
    assert one.endswith("the middles of the two cords lie 0.6 mm apart.")
    found = list_level_sources([own, near, far, lost, none])
    assert [(one.image, one.distance, one.is_doubted) for one in found] == [
        ("sub-3_T2star", "not compared", True),
        ("sub-2_T2star", "4.2 mm", True),
        ("sub-1_T2star", "0.6 mm", False),
    ]
    assert describe_level_sources(found).endswith("2.4 mm apart in the median, 4.2 mm at most; 2 of them are doubted.")


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("C2/C3", "up to 10 mm above and below the disc C2/C3"),
        ("C2/C3 5:25", "from 5 to 25 mm below the disc C2/C3"),
        ("PMJ 54:74", "54 to 74 mm below the pontomedullary junction"),
        ("slices 5:23", "slices 5 to 23, counted from below"),
        ("C2;C4-C5", "the vertebral levels C2 and C4 to C5"),
    ],
)
def test_the_report_describes_each_area_for_a_paper(level, words):
    own = AreaRow("T2w", "t2", level, 3, "70.0", "1.0", 0)
    assert words in describe_areas([own])
    text = describe_areas([own, *(replace(own, level=name) for name in ("C2", "C3", "T1"))])
    assert words in text
    assert "each of the vertebral levels C2, C3, T1" in text
    assert "stretches of cord (the vertebral level C3)" in describe_areas([replace(own, level="C3")])


def test_the_report_says_what_nobody_reviewed(tmp_path):
    folder = make_study(tmp_path, n_subjects=1, failed=[("sub-01_T1w", "propseg")])
    assert main(["report", "-results", str(folder.root)]) == 0
    page = folder.report(Stage.ALL).read_text()
    assert "Nobody has reviewed any of the 2 images: sub-01_T" in page
    listed = (folder.figures(Stage.ALL) / "not_reviewed.tsv").read_text().splitlines()
    assert sorted(listed) == ["image_id", "sub-01_T1w", "sub-01_T2w"]
    assert "failed: the image propseg has stopped" in page


def test_no_contrast_has_the_colour_of_a_method():
    from spineseg.report.charts import CONTRAST_COLORS
    from spineseg.report.palette import OTHER_COLORS, print_color_of

    own = {print_color_of(name, 0).upper() for name in ("propseg", "deepseg")}
    assert not {color.upper() for color in CONTRAST_COLORS} & (own | {color.upper() for color in OTHER_COLORS})
