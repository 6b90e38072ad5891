"""The report is written whatever the study lacks, and says what it lacks."""

import gzip
import json
import re

import pandas as pd
import pytest
from report_study import METHODS, keep, make_study, write_decision

from spineseg.cli import main
from spineseg.report.figures import FIGURES, draw_figures
from spineseg.report.frames import StudyTables, load_tables
from spineseg.report.page import summarise_evidence
from spineseg.report.verdict import word_verdict
from spineseg.writing import write_text


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = make_study(tmp_path_factory.mktemp("study"), n_subjects=3, failed=[("sub-02_T1w", "propseg")])
    write_decision(results, excluded=[{"image_id": "sub-03_T1w", "reason": "a method was trained on this person"}])
    assert main(["report", "-results", str(results)]) == 0
    return results


def text_of(page):
    """The page's words, without markup."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page.read_text(), flags=re.DOTALL))


def report(results, *options):
    page = results / "report.html"
    assert main(["report", "-results", str(results), "-o", str(page), *options]) == 0
    return text_of(page)


def test_decision_comes_first_with_probability_and_doubt(study):
    text = text_of(study / "report.html")
    assert text.index("Keep deepseg: not settled.") < text.index("mean advantage of deepseg +0.031")
    assert text.index("83 %") < text.index("What to do next") < text.index("Median (quartiles)")


def test_report_names_failures_exclusions_and_links(study):
    text, html = text_of(study / "report.html"), (study / "report.html").read_text()
    assert "1 of 6" in text
    assert "a method was trained on this person" in text
    assert 'href="qc/index.html#sub-02_T1w"' in html
    assert not re.search(r"""(src|href)=["'](https?:)?//""", html)


def test_figures_as_png_and_svg(study):
    names = {path.name for path in (study / "figures").iterdir()}
    assert names == {f"{name}.{ending}" for name in FIGURES for ending in ("png", "svg")}


def test_equal_tables_give_equal_files(study, tmp_path):
    assert main(["report", "-results", str(study), "-o", str(tmp_path / "report.html")]) == 0
    for path in (study / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes(), path.name


def test_links_follow_the_page(study, tmp_path):
    page = study / "pilot" / "report.html"
    assert main(["report", "-results", str(study), "-o", str(page), "-qc", str(study / "qc")]) == 0
    assert 'href="../qc/index.html' in page.read_text()


def test_study_stage_reads_its_own_tables(study, tmp_path):
    """The decided method alone, and only its rows."""
    target = study / "study" / "tables"
    for table in (study / "tables").iterdir():
        content = gzip.decompress(table.read_bytes()) if table.suffix == ".gz" else table.read_bytes()
        lines = [line for line in content.decode().splitlines() if "propseg" not in line]
        write_text(target / table.name, "\n".join(lines) + "\n")
    page = tmp_path / "report.html"
    assert main(["report", "-results", str(study), "-stage", "study", "-o", str(page)]) == 0
    evidence = text_of(page).split("Median (quartiles)")[1].split("Images to look at first")[0]
    assert "deepseg" in evidence
    assert "propseg" not in evidence


def test_one_method(tmp_path):
    text = report(make_study(tmp_path, n_subjects=1, methods={"deepseg": keep}))
    assert "No decision has been made yet." in text
    assert "between methods" not in text


def test_no_references(tmp_path):
    text = report(make_study(tmp_path, n_subjects=2, references=False))
    assert "Dice with the reference ," not in text
    assert "roughness of the CSA" in text


def test_all_failed(tmp_path):
    pairs = [(f"sub-01_{suffix}", method) for suffix in ("T1w", "T2w") for method in METHODS]
    results = make_study(tmp_path, n_subjects=1, failed=pairs)
    write_decision(results, method=None, verdict="none", probability=None, difference=None, ci95=None)
    text = report(results)
    assert "Keep neither method" in text
    assert "2 of 2" in text
    assert {p.stem for p in (results / "figures").iterdir()} == {"failures", "dice"}  # a missing mask scores 0


def test_study_without_tables(tmp_path):
    results = make_study(tmp_path, n_subjects=1)
    for table in (results / "tables").iterdir():
        table.unlink()
    assert "There are no measures yet." in report(results)


def test_folder_that_is_no_study(tmp_path, capsys):
    assert main(["report", "-results", str(tmp_path)]) == 2
    assert "images.tsv" in capsys.readouterr().err


def test_markup_in_the_tables_stays_text(tmp_path):
    results = make_study(tmp_path, n_subjects=1)
    evil = "<script>alert(1)</script>"
    write_decision(results, verdict="override", override={"method": "deepseg", "by": evil, "reason": "<b>x"})
    table = results / "images.tsv"
    table.write_text(table.read_text().replace("\tt2\t", f"\t{evil}\t"))
    html_text = (report(results), (results / "report.html").read_text())[1]
    assert "<script>alert" not in html_text
    assert "&lt;script&gt;" in html_text
    assert "<b>x" not in html_text


@pytest.mark.parametrize(
    ("decision", "headline"),
    [
        (None, "No decision"),
        ({"verdict": "clear", "method": "propseg"}, "Keep propseg."),
        ({"verdict": "equivalent", "method": "propseg"}, "Keep propseg: equally good"),
        ({"verdict": "undecided", "method": "propseg"}, "Keep propseg: not settled."),
        ({"verdict": "none", "method": None}, "Keep neither"),
        ({"verdict": "override", "method": "x", "override": {"by": "A", "reason": "r"}}, "chosen by A, because r."),
    ],
)
def test_headlines(decision, headline):
    assert headline in word_verdict(decision).headline


def test_shares_put_equivalence_between_the_methods():
    words = word_verdict({"method": "a", "verdict": "clear", "probability": {"a": 1.0, "b": 0.0, "equivalent": 0.0}})
    assert [share.key for share in words.shares] == ["a", "equivalent", "b"]


def test_report_of_a_real_decision(study, tmp_path):
    """decision.json as spineseg decide writes it."""
    tables, decision = study / "tables", tmp_path / "decision.json"
    options = ["-agreement", str(tables / "agreement.tsv"), "-slices", str(tables / "slices.tsv.gz")]
    assert main(["decide", "-metrics", str(tables / "metrics.tsv"), *options, "-o", str(decision)]) == 0
    page = tmp_path / "report.html"
    assert main(["report", "-results", str(study), "-o", str(page), "-decision", str(decision)]) == 0
    content = json.loads(decision.read_text())
    assert f"Keep {content['method']}" in text_of(page)
    assert "never give a verdict" in text_of(page)  # three participants are too few, and the report says so


def test_tables_with_one_row_draw_what_they_can(tmp_path):
    metrics = pd.DataFrame([{"image_id": "a", "contrast": "t2", "method": "m", "status": "ok", "seconds": 1.0}])
    drawn = draw_figures(StudyTables(["m"], metrics, pd.DataFrame(), pd.DataFrame()), tmp_path)
    assert set(drawn) == {"failures", "cost"}


def test_numbers_are_read_as_numbers(study):
    frames = load_tables(study, "all")
    assert frames.metrics["dice"].dtype == float
    assert frames.metrics["subject"].iloc[0] == "01"
    assert json.loads((study / "decision.json").read_text())["method"] in frames.methods


def test_a_best_is_named_only_where_the_images_are_the_same():
    rows = [
        {"image_id": image, "method": method, "contrast": "t2", "status": "ok", "coverage": value, "seconds": 1.0}
        for image in "ab"
        for method, value in (("m", 0.9), ("n", 1.0))
    ]
    same, fewer = pd.DataFrame(rows), pd.DataFrame(rows[:3])  # an exception: n has one image of two
    nothing = pd.DataFrame()
    named = [
        {row["best"] for row in summarise_evidence(StudyTables(["m", "n"], metrics, nothing, nothing))}
        for metrics in (same, fewer)
    ]
    assert "n" in named[0]
    assert named[1] == {None}
