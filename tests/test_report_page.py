"""The report is written whatever is missing in the study, and says what is missing."""

import json
import re
from dataclasses import replace

import pytest
from helpers import text_of
from report_study import METHODS, decide, keep, make_study, measure_stage

from spineseg.cli import main
from spineseg.decision.report_text import write_report
from spineseg.decision.study_size import people_per_group
from spineseg.report.decision_figure import draw_sample_size, sample_size_rows
from spineseg.report.figures import KINDS, draw_figures
from spineseg.report.frames import frame_tables
from spineseg.report.page import advise, list_departures
from spineseg.report.review import StudyView, collect_reviews, read_stage
from spineseg.report.summaries import summarise_evidence
from spineseg.report.verdict import word_verdict
from spineseg.studyfolder.commands import VARIABLE
from spineseg.studyfolder.decisions import Decision, read_decision
from spineseg.studyfolder.images import read_images, write_images
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.locks import AcceptedChange, KeptMethods, Lock
from spineseg.studyfolder.manifests import Timing
from spineseg.studyfolder.sidecars import MadeBy
from spineseg.studyfolder.tables import Identity, MetricsRow

UNSURE = {
    "verdict": "undecided",
    "computed": {"method": "deepseg", "verdict": "undecided", "basis": "endpoint"},
    "probability": {"propseg": 0.05, "equivalent": 0.12, "deepseg": 0.83},
    "difference": 0.031,
    "ci95": [0.012, 0.052],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("study"), n_subjects=3, failed=[("sub-02_T1w", "propseg")])
    decide(folder, **UNSURE, excluded=[{"image_id": "sub-03_T1w", "reason": "a method was trained on this person"}])
    assert main(["report", "-results", str(folder.root)]) == 0
    return folder


def report(folder, *options):
    assert main(["report", "-results", str(folder.root), *options]) == 0
    return text_of(folder.report(Stage.ALL))


def test_decision_comes_first_with_probability_and_doubt(study):
    text = text_of(study.report(Stage.ALL))
    assert text.index("Keep deepseg for now:") < text.index("advantage of deepseg +0.")
    assert text.index("no real difference") < text.index("What to do next") < text.index("Median (quartiles)")
    assert "that is not settled" in text


def test_report_names_failures_exclusions_and_links(study):
    text, html = text_of(study.report(Stage.ALL)), study.report(Stage.ALL).read_text()
    assert "1 of 6" in text
    assert "a method was trained on this person" in text
    assert 'href="qc/index.html#sub-02_T1w"' in html
    assert not re.search(r"""(src|href)=["'](https?:)?//""", html)


def test_figures_as_png_and_svg(study):
    names = {path.name for path in study.figures(Stage.ALL).iterdir() if path.suffix != ".tsv"}
    drawn = set(KINDS) - {"sample_size", "csa_levels"}  # too few people for one, no labels for the other
    assert names == {f"{name}.{ending}" for name in drawn for ending in ("png", "svg")}


def test_equal_tables_give_equal_files(study, tmp_path):
    assert main(["report", "-results", str(study.root), "-o", str(tmp_path / "report.html")]) == 0
    for path in study.figures(Stage.ALL).iterdir():
        assert path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes(), path.name


def test_links_follow_the_page(study):
    page, qc = study.report(Stage.PILOT), study.qc(Stage.ALL)
    assert main(["report", "-results", str(study.root), "-o", str(page), "-qc", str(qc)]) == 0
    assert 'href="../qc/index.html' in page.read_text()


def test_study_stage_reads_its_own_tables(study, tmp_path):
    """Only the decided method is shown, with its rows."""
    measure_stage(study, Stage.STUDY, ["deepseg"])
    page = tmp_path / "report.html"
    assert main(["report", "-results", str(study.root), "-stage", "study", "-o", str(page)]) == 0
    evidence = text_of(page).split("Median (quartiles)")[1].split("Images to look at first")[0]
    assert "deepseg" in evidence
    assert "propseg" not in evidence
    bar = re.findall(r"flex-grow:[\d.]+;background:(#\w+)", page.read_text())  # as in the pilot
    assert len(bar) == len(set(bar)) == 3


def test_one_method(tmp_path):
    text = report(make_study(tmp_path, n_subjects=1, methods={"deepseg": keep}))
    assert "No decision has been made yet." in text
    assert "between methods" not in text


def evidence_of(text):
    return text.split("Median (quartiles)")[1].split("By contrast")[0]


def test_no_references(study, tmp_path):
    evidence = evidence_of(report(make_study(tmp_path, n_subjects=2, references=False)))
    assert "reference" not in evidence
    assert "roughness of the CSA" in evidence
    assert "Dice with the reference" in evidence_of(text_of(study.report(Stage.ALL)))


def test_all_failed(tmp_path):
    pairs = [(f"sub-01_{suffix}", method) for suffix in ("T1w", "T2w") for method in METHODS]
    folder = make_study(tmp_path, n_subjects=1, failed=pairs)
    assert decide(folder).verdict == "none"
    text = report(folder)
    assert "Keep no method as it is" in text
    assert "2 of 2" in text
    assert {p.stem for p in folder.figures(Stage.ALL).glob("*.svg")} == {"failures", "dice"}  # a missing mask scores 0


def test_study_without_tables(tmp_path):
    folder = make_study(tmp_path, n_subjects=1)
    for table in folder.table(Stage.ALL, "metrics.tsv").parent.iterdir():
        table.unlink()
    assert "There are no measures yet." in report(folder)


def test_a_folder_that_is_not_a_study(tmp_path, capsys):
    assert main(["report", "-results", str(tmp_path)]) == 2
    assert "images.tsv" in capsys.readouterr().err


def test_a_damaged_table_is_one_line(tmp_path, capsys):
    folder = make_study(tmp_path, n_subjects=1)
    table = folder.table(Stage.ALL, "metrics.tsv")
    table.write_text(table.read_text()[:-40])
    assert main(["report", "-results", str(folder.root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(table) in line


def test_markup_in_the_tables_stays_text(tmp_path):
    folder = make_study(tmp_path, n_subjects=1)
    evil = "<script>alert(1)</script>"
    notes = [f"name them in `decision.{evil}`"]
    decide(folder, verdict="override", override={"method": "deepseg", "by": evil, "reason": "<b>x"}, notes=notes)
    write_images(folder.images, [replace(image, contrast=evil) for image in read_images(folder.images)])
    report(folder)
    html_text = folder.report(Stage.ALL).read_text()
    assert "<script>alert" not in html_text
    assert html_text.count("&lt;script&gt;") > 1  # in the decision and in the list of images
    assert "<b>x" not in html_text
    assert "<code>decision.&lt;script&gt;" in html_text


def computed(method, verdict):
    return {
        "method": method,
        "verdict": verdict,
        "computed": {"method": method, "verdict": verdict, "basis": "endpoint"},
    }


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        (None, "No decision"),
        (computed("deepseg", "clear"), "Keep deepseg: it is better than propseg"),
        (computed("propseg", "equivalent"), "Keep propseg: deepseg and propseg are equally good"),
        (computed("deepseg", "undecided"), "Keep deepseg for now:"),
        (computed(None, "none"), "Keep no method as it is"),
        (
            {"verdict": "override", "method": "x", "override": {"method": "x", "by": "A", "reason": "r"}},
            "Keep x: A chose it (r); the rule would keep deepseg",
        ),
    ],
)
def test_headline_of_each_verdict(study, changes, headline):
    document = dict(read_decision(study.decision).document)
    words = word_verdict(None if changes is None else Decision.from_json(document | changes))
    assert headline in words.headline
    assert words.tone == (changes["verdict"] if changes else "missing")


def test_shares_put_equivalence_between_the_methods(study):
    words = word_verdict(read_decision(study.decision))
    assert [share.key for share in words.shares] == ["propseg", "equivalent", "deepseg"]


def test_report_of_a_real_decision(study, tmp_path):
    """decision.json as spineseg decide writes it."""
    tables, decision = study.table(Stage.ALL, "metrics.tsv").parent, tmp_path / "decision.json"
    options = ["-agreement", str(tables / "agreement.tsv"), "-slices", str(tables / "slices.tsv.gz")]
    assert main(["decide", "-metrics", str(tables / "metrics.tsv"), *options, "-o", str(decision)]) == 0
    page = tmp_path / "report.html"
    assert main(["report", "-results", str(study.root), "-o", str(page), "-decision", str(decision)]) == 0
    content = json.loads(decision.read_text())
    assert f"Keep {content['method']}" in text_of(page)
    assert "references of 6 people or more could settle it" in text_of(page)  # three are too few


def metrics_row(image, method, **values):
    return MetricsRow(Identity(image, image, contrast="t2"), method, "ok", values)


def test_tables_with_one_row_draw_what_they_can(tmp_path):
    tables = frame_tables([metrics_row("a", "m")], timings=[Timing("a", "m", 1.0, None)])
    assert {one.name for one in draw_figures(tables, tmp_path)} == {"failures", "cost"}


def test_numbers_are_read_as_numbers(study):
    records = read_stage(StudyView(study))
    frames = frame_tables(records.metrics, records.agreement, records.slices, records.timings)
    assert {frames.metrics[name].dtype.kind for name in ("dice", "seconds", "peak_mb")} == {"f"}
    assert frames.metrics["subject"].iloc[0] == "01"
    assert frames.metrics["seconds"].notna().all()
    assert records.decision.method in frames.methods


def test_a_best_is_named_only_where_the_images_are_the_same():
    rows = [metrics_row(image, method, coverage=value) for image in "ab" for method, value in (("m", 0.9), ("n", 1.0))]
    named = [
        {row["best"] for row in summarise_evidence(frame_tables(own))}
        for own in (rows, rows[:3])  # an exception: n has one image of two
    ]
    assert "n" in named[0]
    assert named[1] == {None}


def test_exceptions_and_accepted_changes_are_reported(study):
    view = StudyView(study)
    reviews = collect_reviews(view, read_stage(view))
    assert list_departures(None, reviews) == []
    accepted = AcceptedChange(("code a, now b",), "a bug", "N. N.")
    lock = Lock(KeptMethods("deepseg"), {"deepseg": MadeBy("1", "a", {}, {})}, (accepted,))
    changed, kept = list_departures(lock, [replace(reviews[0], exception="kept by propseg"), *reviews[1:]])
    assert changed == "Changed within the study and accepted by N. N. (a bug): code a, now b."
    assert kept.startswith("sub-01_T2w is kept by another method")


def test_the_sample_size_is_drawn_of_a_decision_that_has_one(tmp_path):
    row = {"contrast": "t2", "method": "deepseg", "n": 12, "sd_pct": 8.0, "sd_ci95": [5.7, 13.6], "failures": 0.0}
    row |= {"slope": 0.9, "slope_ci95": [0.8, 1.0], "sd_over_slope_pct": 8.9, "sd_over_slope_ci95": [6.1, 14.9]}
    settings = {"effect_pct": 5.0, "power": 0.8}
    tables = frame_tables([], [], [], [])
    (drawn,) = draw_figures(tables, tmp_path, {"study": [row], "parameters": settings})
    assert drawn.name == "sample_size"
    points = sample_size_rows({"study": [row], "parameters": settings})  # the table behind it
    near = min(points, key=lambda point: abs(point.effect_pct - 5.0))
    assert near.people_low < near.people < near.people_high
    assert near.people == pytest.approx(people_per_group(8.0 / 0.9, near.effect_pct, 0.8))
    unsure = row | {"method": "propseg", "slope_ci95": [-0.2, 2.0], "sd_over_slope_ci95": [4.0, None]}  # no upper limit
    both = {"study": [row, unsure], "parameters": settings}
    ends = {(point.method, point.people_high is None) for point in sample_size_rows(both)}
    assert ends == {("deepseg", False), ("propseg", True)}
    (figure,) = draw_sample_size(both).axes
    assert [text.get_text() for text in figure.get_legend().get_texts()] == ["deepseg (n = 12)", "propseg (n = 12)"]
    (figure,) = draw_sample_size(both | {"parameters": settings | {"aim": "change"}}).axes
    assert figure.get_xlabel() == "difference in the change of CSA, %"
    assert draw_figures(tables, tmp_path, {"study": [], "parameters": settings}) == []
    assert not (tmp_path / "sample_size.png").is_file()


def test_advice_names_the_command_that_the_user_types(study, monkeypatch):
    monkeypatch.setenv(VARIABLE, "spineseg study ACTION -config 'my study.yaml'")
    (decided,) = [row["text"] for row in advise(decide(study), [], Stage.PILOT, "qc") if "segment every" in row["text"]]
    assert decided.startswith("Run spineseg study run -config 'my study.yaml' to segment every image with ")
    assert "Run spineseg study pilot -config" in advise(None, [], Stage.PILOT, "qc")[0]["text"]


def test_advice_fits_the_stage(study):
    decision = decide(study)
    said = {stage: " ".join(row["text"] for row in advise(decision, [], stage, "qc")) for stage in Stage}
    assert f"Use {decision.method} for every image" in said[Stage.PILOT]
    assert "Run snakemake study" in said[Stage.PILOT]
    for words in ("Use ", "To settle", "Run snakemake study", "override"):
        assert words not in said[Stage.STUDY]
    assert f"The study is held to {decision.method}" in said[Stage.STUDY]
    (preview,) = advise(decision, [], Stage.PILOT, "qc", "propseg")
    assert "The study has started and is held to propseg" in preview["text"]
    assert f"- {preview['text']}" in write_report(dict(decision.document), "propseg")
