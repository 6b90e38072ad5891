"""The decision at its limits: a value at the limit is on the side that the documentation says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_decision import GOOD, Pilot, with_errors

from spineseg.decision.arrangement import Tables, _is_failed, make_evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import judge
from spineseg.studyfolder.tables import Identity, MetricsRow


@pytest.fixture
def pilot(tmp_path):
    return Pilot(tmp_path)


@pytest.mark.parametrize(("coverage", "failed"), [(0.8, False), (np.nextafter(0.8, 0), True), (0.9, False)])
def test_a_partial_mask_fails_below_the_coverage_limit(coverage, failed):
    image = Identity("sub-1_T2w", "1", "", "", "T2w", "t2")
    limit = DecisionParams().coverage_limit
    assert limit == 0.8
    row = MetricsRow(image, "propseg", "partial", GOOD | {"coverage": coverage})
    assert _is_failed(row, [row], limit, frozenset()) == failed
    good = MetricsRow(image, "propseg", "ok", GOOD)
    assert _is_failed(good, [good], limit, frozenset({("sub-1_T2w", "propseg")}))
    other = MetricsRow(image, "deepseg", "ok", GOOD)
    assert not _is_failed(other, [good, other], limit, frozenset({("sub-1_T2w", "propseg")}))


@pytest.mark.parametrize(("longer", "failed"), [("ok", True), ("partial", False)])
def test_a_whole_mask_is_short_beside_another_whole_one_alone(longer, failed):
    """A mask that extends into the brain, and is doubted for it, does not make the other mask short."""
    image = Identity("sub-1_T2w", "1", "", "", "T2w", "t2")
    short = MetricsRow(image, "propseg", "ok", GOOD | {"coverage": 0.6})
    line = [short, MetricsRow(image, "deepseg", longer, GOOD | {"coverage": 1.0})]
    assert _is_failed(short, line, 0.8, frozenset()) == failed


@pytest.mark.parametrize(("n_failed", "kept"), [(0, True), (2, True), (3, False)])
def test_a_method_that_fails_in_a_fifth_of_the_people_may_still_be_kept(pilot, n_failed, kept):
    for number in range(10):
        given = {"status": "failed"} if number < n_failed else {"dice": 0.95}
        pilot.add(f"{number:02d}", {"propseg": given, "deepseg": {"dice": 0.9}})
    params = DecisionParams()
    assert params.max_fail == 0.2
    tables = Tables(pilot.metrics, pilot.agreement, {}, {})
    evidence = make_evidence(tables, ["propseg", "deepseg"], params)
    assert judge(evidence, params).eligible == ((0, 1) if kept else (1,))


@pytest.mark.parametrize(("least", "clear"), [(8, True), (9, False)])
def test_as_many_people_as_are_asked_for_may_be_clear(pilot, least, clear):
    decision = with_errors(pilot, 8, (0.0, 12.0), (0.0, 0.5)).decide(min_participants=least)
    assert (decision["verdict"] == "clear") == clear
    assert ("fewer than 9 never give a clear verdict" in json.dumps(decision)) != clear


@pytest.mark.parametrize(("least", "verdict"), [(20, "clear"), (21, "undecided")])
def test_as_many_people_as_are_asked_for_may_show_that_a_method_fails_more(pilot, least, verdict):
    for number in range(20):
        given = {"status": "failed"} if number < 12 else {}
        pilot.add(f"{number:02d}", {"propseg": given, "deepseg": {}})
    assert pilot.decide(min_participants=least, max_fail=1.0)["verdict"] == verdict
