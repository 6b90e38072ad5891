"""The reporting checklist says what the study's files say."""

from __future__ import annotations

import re

import pytest
from made_study import MADE_BY
from report_study import decide, make_study

from spineseg.cli import main
from spineseg.report.checklist import list_items, read_facts
from spineseg.studyfolder.decisions import KeptRow, write_kept
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.locks import AcceptedChange, KeptMethods, Lock, write_lock


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), n_subjects=2, failed=[("sub-02_T1w", "deepseg")])


def found(folder) -> dict[int, str]:
    return {item.number: item.found for item in list_items(read_facts(folder))}


def test_before_a_decision_missing_items_are_listed(study):
    items = found(study)
    assert items[7] == "4 images of 2 people; t2 2, t1 2"
    assert items[22] == items[28] == "no decision yet: run the pilot"
    assert items[13] == "no masks kept yet"


def test_it_is_filled_in_from_the_decision_and_the_study(study, capsys):
    decision = decide(study)
    items = found(study)
    assert items[35].startswith("propseg failed in 0 of 4 images of the pilot; deepseg failed in 1 of 4 images")
    assert "deepseg: sub-02_T1w" in items[37]
    mean = decision.document["summary"]["propseg"]["dice"]
    assert re.search(rf"propseg: [^;]*{mean:.3f}", items[28])
    assert decision.document["plan"]["sha256"][:12] in items[26]
    write_lock(
        study,
        Lock(KeptMethods("propseg"), {"propseg": MADE_BY}, (AcceptedChange(("thr 1, now 2",), "better", "A. Bee"),)),
    )
    rows = [KeptRow("sub-01_T2w", "01", "", "t2", "propseg", status) for status in ("ok", "corrected")]
    study.kept(Stage.STUDY).parent.mkdir(parents=True, exist_ok=True)
    write_kept(study.kept(Stage.STUDY), rows)
    items = found(study)
    assert MADE_BY.code[:12] in items[22]
    assert "accepted by A. Bee: better" in items[24]
    assert items[13] == "2 images: ok 1, corrected 1"
    assert items[35].endswith("1 masks corrected by a person")
    assert main(["checklist", "-results", str(study.root)]) == 0
    assert capsys.readouterr().out.strip() == str(study.checklist)
    lines = study.checklist.read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| \d+ \|", line)]
    assert len(rows) == len(items)
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert "## For the methods section" in lines


def test_no_study_is_a_one_line_error(tmp_path, capsys):
    assert main(["checklist", "-results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
