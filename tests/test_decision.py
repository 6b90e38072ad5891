"""The rule on synthetic pilots whose right answer is known."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import MADE_BY, study_folder, study_image, write_chunk, write_index

from spineseg.cli import main
from spineseg.decision.arrangement import Tables, make_evidence
from spineseg.decision.document import Context, build_decision
from spineseg.decision.from_files import Question, decide_from_files
from spineseg.decision.next_steps import next_steps
from spineseg.decision.params import OBSOLETE, RENAMED, DecisionParams
from spineseg.decision.plan import Scope, describe_plan, fix_plan
from spineseg.decision.report_tables import left_out_section
from spineseg.decision.report_text import verdict_sentence, write_report
from spineseg.decision.training import LEARNERS, PREDICTION, TRAINING_IMAGES, Taught, find_taught
from spineseg.decision.wording import format_interval
from spineseg.errors import InputError
from spineseg.methods.registry import OWN_METHODS
from spineseg.quality.predictor import load_dice_predictor
from spineseg.study.configuration import make_configuration
from spineseg.studyfolder.csa import REFERENCE, CsaRow, write_csa
from spineseg.studyfolder.decisions import DECISION_KEYS, Decision
from spineseg.studyfolder.layout import TABLES, Stage
from spineseg.studyfolder.marks import Preference
from spineseg.studyfolder.sidecars import KILLED
from spineseg.studyfolder.tables import AgreementRow, ChunkTables, Identity, MetricsRow, SliceRow, write_chunk_tables

GOOD = {
    "n_slices": 50,
    "coverage": 1.0,
    "n_components": 1,
    "csa_mean_mm2": 70.0,
    "csa_roughness": 0.01,
    "centre_roughness": 0.05,
    "plausible": 1.0,
}
FAST = {"n_simulations": 10, "max_pilots": 100}


METHODS = ("propseg", "deepseg")

NOBODY = Taught()

TEXTS = ("status", "guessed_contrast", "contrast_doubt", "message")


class Pilot:
    """Tables of a pilot, built image by image; `metrics` holds rows whose values a test may change."""

    def __init__(self, root: Path):
        self.folder = study_folder(root)
        self.metrics: list[MetricsRow] = []
        self.agreement: list[AgreementRow] = []
        self.slices: list[SliceRow] = []

    def add(self, subject, methods, *, suffix="T2w", contrast="t2", session="", run="", dice_between=0.9):
        """Add an image; `methods` maps each name to the values that differ from `GOOD`, None if not known."""
        parts = [f"sub-{subject}", f"ses-{session}" if session else "", f"run-{run}" if run else "", suffix]
        image = Identity("_".join(p for p in parts if p), subject, session, run, suffix, contrast)
        for method, given in methods.items():
            texts = {name: given[name] for name in TEXTS if name in given}
            values = {name: value for name, value in (GOOD | given).items() if name not in TEXTS and value is not None}
            self.metrics.append(MetricsRow(image, method, texts.pop("status", "ok"), values, **texts))
        names = list(methods)
        between = {"nsd": 0.95, "csa_difference_mm2": 1.0} | ({} if dice_between is None else {"dice": dice_between})
        for n, a in enumerate(names):
            self.agreement += [AgreementRow(image, a, b, dict(between)) for b in names[n + 1 :]]
        return image.image_id

    def write(self) -> Path:
        return self.write_tables()[0]

    def write_tables(self) -> list[Path]:
        tables = ChunkTables(self.metrics, self.agreement, self.slices)
        return write_chunk_tables(self.folder, Stage.ALL, "pilot-0001", tables)

    def decide(self, *, override=None, methods=("propseg", "deepseg"), **decision):
        params = DecisionParams.from_config(FAST | decision)
        metrics, agreement, slices = self.write_tables()
        question = Question("demo", list(methods), params, override, fitted=METHODS)
        return decide_from_files(metrics, agreement, slices=slices, question=question)

    def decide_with(self, *, ratings=(), corrected_from=None, columns=None, taught=NOBODY, **decision):
        """Decide with information from other files of a study."""
        params = DecisionParams.from_config(FAST | decision)
        tables = Tables(self.metrics, self.agreement, columns or {}, corrected_from or {}, ratings=tuple(ratings))
        evidence = make_evidence(tables, ["propseg", "deepseg"], params)
        return build_decision(evidence, params, Context("demo", fitted=frozenset(METHODS), taught=taught))


@pytest.fixture
def pilot(tmp_path):
    return Pilot(tmp_path)


def with_dice(pilot, n, gap, spread=0.01, seed=0):
    """`n` people with references: deepseg is better by `gap` on average."""
    rng = np.random.default_rng(seed)
    for s in range(n):
        base = 0.9 + 0.02 * rng.standard_normal()
        difference = gap + spread * rng.standard_normal()
        pilot.add(f"{s:02d}", {"propseg": {"dice": base}, "deepseg": {"dice": base + difference}})
    return pilot


def with_errors(pilot, n, propseg, deepseg, seed=0, *, dice=(0.95, 0.95), suffix="T2w", contrast="t2", truth=None):
    """`n` people with references: errors of the area, percent, normal with (mean, SD) by method."""
    rng = np.random.default_rng(seed)
    for s in range(n):
        size = 70 + 6 * rng.standard_normal() if truth is None else truth[s]
        methods = {}
        for m, (name, (mean, sd)) in enumerate({"propseg": propseg, "deepseg": deepseg}.items()):
            error = mean + sd * rng.standard_normal()
            methods[name] = {"csa_error_pct": error, "csa_mean_mm2": size * (1 + error / 100), "dice": dice[m]}
        pilot.add(f"{s:02d}", methods, suffix=suffix, contrast=contrast)
    return pilot


def test_an_image_whose_process_was_killed_counts_for_no_method(pilot):
    with_dice(pilot, 3, 0.0)
    killed = f"{KILLED} (SIGKILL, as when memory runs out)"
    pilot.add("99", {"propseg": {}, "deepseg": {"status": "failed", "dice": None, "message": killed}})
    pilot.add("98", {"propseg": {}, "deepseg": {"status": "failed", "dice": None, "message": "the process died"}})
    decision = pilot.decide()
    assert decision["excluded"] == [{"image_id": "sub-99_T2w", "reason": f"no result by deepseg: {killed}"}]
    assert decision["failures"]["deepseg"]["images"] == ["sub-98_T2w"]


class TestVerdict:
    def test_clearly_better(self, pilot):
        d = with_dice(pilot, 12, 0.04).decide()
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "dice")
        assert d["probability"]["deepseg"] >= 0.95
        assert d["ci95"][0] < d["ci90"][0] < 0.04 < d["ci90"][1] < d["ci95"][1]
        assert d["ci90"][0] > d["margin"] == 0.01
        assert d["difference"] == pytest.approx(0.04, abs=0.01)
        assert d["stability"]["n_flips"] == 0
        assert d["stability"]["n_people"] == 12
        assert d["pilots"]["further_needed"] is None
        assert 0.02 < d["advantage_on_people_left_out"] <= d["difference"] + 1e-9

    def test_the_area_rules_and_dice_is_its_gate(self, pilot):
        d = with_errors(pilot, 30, (0, 8), (0, 2)).decide()
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "csa_error")
        assert d["difference"] == pytest.approx(6, abs=2.5)
        assert d["unit"] == "%"
        assert "up to 1.25 counts as none" in verdict_sentence(d)
        assert "±1.25" in write_report(d)
        for row in pilot.metrics:
            row.values["dice"] = 0.90 if row.method == "deepseg" else 0.95
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert any("deepseg is worse by Dice" in reason for reason in d["reasons"])

    def test_a_better_dice_alone_is_not_clear_where_areas_are_known(self, pilot):
        with_errors(pilot, 20, (0, 3), (0, 3), dice=(0.90, 0.96))
        d = pilot.decide()
        assert (d["verdict"], d["endpoint"]) == ("undecided", "csa_error")
        assert [row["favours"] for row in d["endpoints"] if row["endpoint"] == "dice"] == ["deepseg"]

    def test_a_large_constant_bias_is_named_and_precision_praised(self, pilot):
        d = with_errors(pilot, 40, (0.3, 3), (10, 0.6), dice=(0.94, 0.935)).decide()
        assert d["area_errors"]["deepseg"]["bias_pct"] == pytest.approx(10, abs=0.5)
        assert d["verdict"] != "equivalent"
        text = write_report(d)
        assert "Areas by deepseg are 10 % larger than the references, which cancels between groups" in text
        assert "it is precise about that" in text
        whole = pilot.decide(aim="absolute")
        assert (whole["method"], whole["verdict"], whole["endpoint"]) == ("propseg", "clear", "csa_error_rms")
        assert "which cancels" not in write_report(whole)

    def test_small_biases_and_their_intervals_have_the_same_digits(self, pilot):
        with_errors(pilot, 30, (0.4, 0.5), (-0.03, 0.5))
        text = write_report(pilot.decide(effect_pct=1))
        assert re.search(r"Areas by propseg are 0\.[2-6] % larger", text)
        assert re.search(r"\| deepseg \| 30 \| -?0\.\d \(-?0\.\d to -?0\.\d\) \|", text)
        assert "-0.0 " not in text

    def test_equivalent_needs_sixty_people_and_keeps_the_preferred_or_first_method(self, pilot):
        with_dice(pilot, 40, 0.0, spread=0.002)
        d = pilot.decide()
        assert d["verdict"] == "undecided"
        assert any("not proven so by failures" in reason for reason in d["reasons"])
        with_dice(pilot_of(pilot), 62, 0.0, spread=0.002)
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("propseg", "equivalent")
        assert d["probability"]["equivalent"] >= 0.9
        assert "propseg comes first in the list of methods" in verdict_sentence(d)
        d = pilot.decide(methods=["deepseg", "propseg"])
        assert (d["method"], d["verdict"]) == ("deepseg", "equivalent")
        d = pilot.decide(prefer="deepseg")
        assert (d["method"], d["verdict"]) == ("deepseg", "equivalent")
        assert "preferred" in verdict_sentence(d)

    def test_never_equivalent_where_an_interval_crosses_its_margin(self, pilot):
        with_dice(pilot, 64, 0.0, spread=0.002)
        for row in pilot.metrics:
            row.values["nsd"] = 0.95 + (0.03 if row.method == "deepseg" else 0)
        d = pilot.decide()
        assert d["verdict"] == "undecided"
        assert any("not proven so by surface within the tolerance" in reason for reason in d["reasons"])

    def test_undecided_keeps_the_better_and_says_how_many_more(self, pilot):
        with_dice(pilot, 7, 0.03, spread=0.03)
        d = pilot.decide()
        assert d["verdict"] == "undecided"
        assert d["method"] == d["best"]
        assert d["pilots"]["total_needed"] > 7
        assert f"add about {d['pilots']['further_needed']} participants with references (" in " ".join(next_steps(d))

    def test_the_number_of_people_comes_from_the_whole_rule(self, pilot, tmp_path):
        with_errors(pilot, 16, (0, 9), (0, 1))
        assert pilot.decide()["verdict"] == "clear"  # and then what the ruling endpoint does not see
        sites = {f"{s:02d}": {"site": f"site{s % 2}"} for s in range(16)}
        d = pilot.decide_with(columns=sites)
        assert (d["pilots"]["total_needed"], d["pilots"]["chance_at_most"]) == (None, 0)
        assert "the people come from 2 sites" in verdict_sentence(d)
        assert "add about" not in " ".join(next_steps(d))
        for row in pilot.metrics:
            row.values["dice"] = 0.90 if row.method == "deepseg" else 0.95
        d = pilot.decide()
        assert "because deepseg is worse by Dice with the reference" in verdict_sentence(d)
        assert any("deepseg is worse by Dice" in step for step in next_steps(d))
        alike = with_errors(Pilot(tmp_path / "alike"), 16, (0, 0.8), (0, 0.9))
        assert alike.decide()["pilots"]["total_needed"] > 50
        alike.metrics[0].values["dice"] = 0.3
        d = alike.decide()
        assert d["pilots"]["total_needed"] is None
        assert "propseg fails more often than deepseg" in " ".join(next_steps(d))

    def test_more_people_do_not_settle_a_constant_difference_of_area(self, pilot):
        with_errors(pilot, 80, (0, 1), (4, 1))
        text = " ".join(next_steps(pilot.decide()))
        assert "their mean areas differ by 4." in text
        assert "Choose by cost" not in text
        for n, row in enumerate(pilot.metrics):
            row.values["csa_error_pct"] -= (4 + 2 * (n % 4 == 1)) * (row.method == "deepseg")
        groups = {f"{s:02d}": {"group": "patient" if s % 2 else "control"} for s in range(80)}
        d = pilot.decide_with(columns=groups, group="group")
        assert (d["method"], d["verdict"]) == ("propseg", "undecided")
        assert "differ unequally between groups: the gap between their areas changes by 2." in verdict_sentence(d)

    @pytest.mark.parametrize("bias", [0.9, 1.0])
    def test_a_difference_near_its_margin_is_named_if_more_people_would_not_settle_it(self, pilot, bias):
        d = with_errors(pilot, 30, (0, 1), (bias, 1)).decide()
        assert d["verdict"] == "undecided"
        (said,) = [step for step in next_steps(d) if "equality is hard to prove" in step]
        (gap,) = [row["difference"] for row in d["endpoints"] if row["endpoint"] == "bias"]
        assert f"the mean areas equality is hard to prove: {abs(gap):.1f} %, where up to 1.25 %" in said

    def test_corrected_references_prevent_a_clear_verdict(self, pilot):
        with_errors(pilot, 30, (0, 8), (0, 2))
        d = pilot.decide_with(corrected_from={f"sub-{s:02d}_T2w": "deepseg" for s in range(30)})
        assert d["pilots"]["total_needed"] is None
        assert any("References drawn from scratch in 6 people" in step for step in next_steps(d))

    def test_never_clear_below_six(self, pilot):
        d = with_dice(pilot, 5, 0.2).decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert d["probability"]["deepseg"] > 0.9
        assert any("fewer than 6" in reason for reason in d["reasons"])

    def test_all_fail(self, pilot):
        for s in range(8):
            pilot.add(f"{s}", {m: {"status": "failed"} for m in ("propseg", "deepseg")})
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == (None, "none")
        assert "by hand" in verdict_sentence(d)
        assert "QC page" in write_report(d)

    def test_one_fails_often(self, pilot):
        for s in range(12):
            lost = {"status": "empty", "coverage": 0.0, "n_components": 0, "csa_mean_mm2": None}
            pilot.add(f"{s:02d}", {"propseg": lost if s < 6 else {}, "deepseg": {"coverage": 0.9}})
        d = pilot.decide()
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "failure_rate")
        assert d["failures"]["propseg"]["rate"] == 0.5
        low, high = d["failures"]["propseg"]["ci95"]
        assert (low, high) == pytest.approx((0.211, 0.789), abs=1e-3)  # Clopper and Pearson
        assert d["difference"] == 0.5
        assert d["ci90"][0] > 0.05
        assert any("not kept for failing" in note and "propseg" in note for note in d["notes"])

    def test_one_fails_often_in_few(self, pilot):
        for s in range(4):
            pilot.add(f"{s}", {"propseg": {"status": "failed"} if s < 2 else {}, "deepseg": {}})
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")

    def test_the_more_precise_method_that_fails_more_is_not_clear(self, pilot):
        with_errors(pilot, 30, (0, 8), (0, 2))
        lost = [row for row in pilot.metrics if row.method == "deepseg"][:4]
        for row in lost:
            row.values["dice"] = 0.3
        d = pilot.decide()
        assert d["failures"]["deepseg"]["n_failed"] == 4
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert any("deepseg fails more often" in reason for reason in d["reasons"])

    def test_a_negligible_advantage_is_not_called_better(self, pilot):
        d = with_errors(pilot, 9, (0, 5.0), (0, 5.0)).decide()
        assert abs(d["difference"]) <= d["margin"]
        assert "it is better by less than what counts so far, and that is not settled" in verdict_sentence(d)

    def test_very_wide_intervals_are_printed_without_digits(self):
        assert format_interval([-390991.0, 479636.0], "csa_error") == "below -100 to above +100"
        assert format_interval([-12.34, 99.96], "csa_error") == "-12.3 to +100.0"
        assert format_interval([-18.4, 0.9], "predicted_dice") == "below -1 to +0.900"
        assert format_interval([0.8, 1 + 1e-12], "preference") == "+80.0 to +100.0"

    def test_failures_come_first_unless_areas_contradict(self, pilot):
        """Equal areas, one slightly better by chance: the method that fails in every sixth person is not kept."""
        with_errors(pilot, 60, (0, 2.2), (0, 2))
        for row in [row for row in pilot.metrics if row.method == "deepseg"][:10]:
            row.values["dice"] = 0.3
        d = pilot.decide()
        assert (d["method"], d["verdict"], d["endpoint"]) == ("propseg", "clear", "failure_rate")
        for row in pilot.metrics:
            if row.method == "propseg":
                row.values["csa_error_pct"] *= 4
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert "deepseg is better by precision" in verdict_sentence(d)
        assert "but fails more often" in verdict_sentence(d)

    def test_partial_masks_fail_only_when_short(self, pilot):
        for s in range(10):
            short = {"status": "partial", "coverage": 0.5 if s < 3 else 0.85}
            pilot.add(f"{s}", {"propseg": short, "deepseg": {}})
        d = pilot.decide()
        assert d["failures"]["propseg"]["n_failed"] == 3
        assert d["method"] == "deepseg"

    def test_short_masks_fail_whatever_their_status(self, pilot):
        for s in range(12):
            pilot.add(f"{s:02d}", {"propseg": {"coverage": 0.3} if s < 10 else {}, "deepseg": {}})
        d = pilot.decide()
        assert d["failures"]["propseg"]["n_failed"] == 10
        assert any("covering less than 0.8" in note for note in d["notes"])

    def test_one_method(self, pilot):
        for s in range(8):
            pilot.add(f"{s}", {"deepseg": {}})
        d = pilot.decide(methods=["deepseg"])
        assert (d["method"], d["verdict"], d["computed"]["basis"]) == ("deepseg", "undecided", "single")
        assert d["probability"] is None
        assert "only method" in write_report(d)

    def test_three_and_four_methods(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(64):
            dice = {"a": 0.80, "b": 0.9, "c": 0.85, "e": 0.9}
            pilot.add(f"{s:02d}", {m: {"dice": v + 0.003 * rng.standard_normal()} for m, v in dice.items()})
        three = pilot.decide(methods=["a", "b", "c"])
        assert (three["method"], three["verdict"], three["runner_up"]) == ("b", "clear", "c")
        assert three["probability"]["a"] is None
        assert "not fitted for this method" not in write_report(three)  # nothing is predicted here
        four = pilot.decide(methods=["a", "b", "c", "e"], prefer="e")
        assert (four["method"], four["verdict"]) == ("e", "equivalent")
        assert {four["best"], four["runner_up"]} == {"b", "e"}

    def test_the_best_must_be_clear_against_every_other(self, pilot):
        rng = np.random.default_rng(1)
        for s in range(12):
            dice = {"a": 0.80, "b": 0.9, "c": 0.885}
            pilot.add(f"{s:02d}", {m: {"dice": v + 0.01 * rng.standard_normal()} for m, v in dice.items()})
        assert pilot.decide(methods=["a", "b"])["verdict"] == "clear"
        assert pilot.decide(methods=["a", "b", "c"])["verdict"] == "undecided"

    def test_override(self, pilot):
        override = {"method": "propseg", "reason": "used in our other sites", "by": "A. Person"}
        d = with_dice(pilot, 12, 0.04).decide(override=override)
        assert (d["method"], d["verdict"]) == ("propseg", "override")
        assert d["computed"] == {"method": "deepseg", "verdict": "clear", "basis": "endpoint"}
        assert "A. Person" in verdict_sentence(d)
        with pytest.raises(InputError, match=r"override\.reason"):
            pilot.decide(override={"method": "propseg", "by": "x"})
        with pytest.raises(InputError, match=r"override\.method"):
            pilot.decide(override=override | {"method": "other"})

    def test_no_images(self, pilot):
        d = pilot.decide()
        assert (d["method"], d["verdict"], d["n_images"]) == (None, "none", 0)
        assert write_report(d)

    def test_person_is_the_unit(self, pilot):
        # one person with many good images for deepseg against seven with small losses
        for run in range(1, 30):
            pilot.add("00", {"propseg": {"dice": 0.75}, "deepseg": {"dice": 0.9}}, run=str(run))
        for s in range(1, 8):
            pilot.add(f"{s:02d}", {"propseg": {"dice": 0.95}, "deepseg": {"dice": 0.88}})
        d = pilot.decide()
        assert (d["n_participants"], d["n_compared"], d["best"]) == (8, 8, "propseg")

    def test_failure_counts_as_no_overlap_and_not_as_an_area(self, pilot):
        with_errors(pilot, 11, (0, 1), (0, 1))
        pilot.add("99", {"propseg": {"status": "failed", "dice": None}, "deepseg": {"dice": 0.9, "csa_error_pct": 1.0}})
        d = pilot.decide()
        assert d["failures"]["propseg"]["n_failed"] == 1
        assert {row["endpoint"]: row["n"] for row in d["endpoints"]}["csa_error"] == 11
        assert {row["endpoint"]: row["n"] for row in d["endpoints"]}["dice"] == 12

    @pytest.mark.parametrize("method", METHODS)
    def test_a_few_large_errors_by_one_method_are_not_clear(self, pilot, method):
        """Two failures in thirty people: the next thirty may show two by the other method."""
        with_errors(pilot, 30, (0, 2), (0, 2))
        for row in [row for row in pilot.metrics if row.method == method][:2]:
            row.values["csa_error_pct"] += 30
        d = pilot.decide()
        assert d["difference"] > 4
        assert (d["verdict"], d["best"] != method) == ("undecided", True)
        assert d["ci90"][0] == pytest.approx(0, abs=0.01)

    def test_a_better_method_that_fails_too_often_is_not_called_worse(self, pilot):
        with_errors(pilot, 12, (0, 1), (0, 6))
        for row in [row for row in pilot.metrics if row.method == "propseg"][:3]:
            row.values["dice"] = 0.3
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        words = "propseg is better than deepseg so far, but fails in more than 20 % of the images"
        assert words in verdict_sentence(d)
        for row in pilot.metrics:  # so does a predicted Dice
            worse = row.method == "deepseg"
            row.values.update(csa_error_pct=np.nan, dice=np.nan, predicted_dice=0.6 if worse else 0.95)
        for n in (0, 2, 4):
            pilot.metrics[n] = cut_short(pilot.metrics[n])
        assert "propseg looks better than deepseg" in (sentence := verdict_sentence(pilot.decide()))
        assert "but fails in more than 20 % of the images" in sentence

    @pytest.mark.parametrize("n", [8, 70])
    def test_identical_masks_are_equivalent(self, pilot, n):
        with_errors(pilot, n, (0, 2), (0, 2))
        for one, other in zip(pilot.metrics[::2], pilot.metrics[1::2], strict=True):
            other.values.update(one.values)
        for preferred in METHODS:
            d = pilot.decide(prefer=preferred)
            assert (d["method"], d["verdict"]) == (preferred, "undecided" if n < 59 else "equivalent")
            assert d["ci90"][0] < d["difference"] == 0 < d["ci90"][1]
            assert "preferred in the configuration" in verdict_sentence(d)
            assert "better" not in verdict_sentence(d)

    @pytest.mark.parametrize("n", [1, 2])
    def test_one_or_two_people_settle_nothing_and_are_counted_correctly(self, pilot, n):
        d = with_errors(pilot, n, (0, 8), (0, 2)).decide()
        who = "1 person" if n == 1 else "2 people"
        assert f"the references of {who} are too few" in verdict_sentence(d)
        text = write_report(d)
        assert "()" not in text
        assert "too few people" in text

    def test_the_order_of_methods_changes_nothing(self, pilot):
        with_errors(pilot, 20, (0, 6), (0, 2))
        one, other = pilot.decide(), pilot.decide(methods=METHODS[::-1])
        for key in ("method", "verdict", "difference", "ci90", "probability", "endpoint", "pilots", "stability"):
            assert one[key] == other[key], key

    def test_differences_have_their_unit_in_the_methods_section(self, pilot):
        text = write_report(with_errors(pilot, 20, (0, 6), (0, 2)).decide())
        assert "percentage points (90 % interval" in text
        assert "margin 1.25 percentage points)" in text

    def test_training_people_stay_out(self, pilot):
        with_dice(pilot, 12, 0.04)
        d = pilot.decide(training_subjects=["00", "sub-01"])
        assert d["n_participants"] == 10
        assert [row["reason"] for row in d["excluded"]] == ["a method was trained on this person"] * 2


def prefer(image, answer, **more):
    """A blind rating of propseg against deepseg."""
    choice = {"propseg": "x", "deepseg": "y"}.get(answer, answer)
    return Preference(image, "propseg", "deepseg", choice, "R", **more)


def cut_short(row):
    """The row of a mask that counts as failed."""
    return replace(row, status="partial", values=row.values | {"coverage": 0.1})


def pilot_of(pilot):
    """The same pilot without images."""
    pilot.metrics.clear()
    pilot.agreement.clear()
    return pilot


class TestWithoutReferences:
    def predicted(self, pilot, n, gap, spread=0.005, flagged=()):
        rng = np.random.default_rng(1)
        for s in range(n):
            values = {"predicted_dice_low": 0.8, "predicted_dice_high": 0.97, "flagged": 0}
            better = 0.9 + gap + spread * rng.standard_normal()
            pilot.add(f"{s:02d}", {"propseg": values | {"predicted_dice": 0.9},
                                   "deepseg": values | {"predicted_dice": better}})  # fmt: skip
        return pilot

    @pytest.mark.parametrize("n", [3, 12, 100])
    def test_the_prediction_alone_is_never_clear(self, pilot, n):
        d = self.predicted(pilot, n, 0.08).decide()
        assert (d["method"], d["verdict"], d["computed"]["basis"]) == ("deepseg", "undecided", "triage")
        assert d["endpoint"] == "predicted_dice"
        assert "looks better" in verdict_sentence(d)
        assert "references of 6 people or more could settle it" in verdict_sentence(d)
        assert pilot.decide(prefer="propseg")["method"] == "propseg"

    def test_predictions_that_differ_by_less_than_the_margin_look_alike(self, pilot):
        d = self.predicted(pilot, 12, 0.004, spread=0.0).decide()
        assert "deepseg and propseg look alike" in verdict_sentence(d)
        assert (
            "there is no reference that counts as the truth, and no rating or repeat settles the choice"
            in verdict_sentence(d)
        )
        pilot.metrics[0].values["dice"] = pilot.metrics[1].values["dice"] = 0.9
        assert "the references of 1 person are too few" in verdict_sentence(pilot.decide())

    def test_other_methods_are_not_fitted(self, pilot):
        for s in range(8):
            values = {"predicted_dice": 0.9, "flagged": 0}
            pilot.add(f"{s}", {"propseg": values, "third": values})
        text = write_report(pilot.decide(methods=["propseg", "third"]))
        assert "0.900 (not fitted for this method)" in text
        assert "was not fitted for all these methods" in text

    def test_proxies_decide_nothing(self, pilot):
        for s in range(12):
            worse = {"coverage": 0.85, "plausible": 0.7, "csa_roughness": 0.05, "n_components": 3}
            pilot.add(f"{s:02d}", {"propseg": worse, "deepseg": {}})
        d = pilot.decide()
        assert (d["method"], d["verdict"], d["computed"]["basis"]) == ("propseg", "undecided", "nothing")
        assert (
            "there is no reference that counts as the truth, and no rating or repeat settles the choice"
            in verdict_sentence(d)
        )

    def test_flagged_images_are_named_and_the_prediction_is_checked_where_it_can_be(self, pilot):
        self.predicted(pilot, 8, 0.06)
        for n, row in enumerate(pilot.metrics[:6]):
            row.values["dice"] = row.values["predicted_dice"] - (0.02 if row.method == "propseg" else 0.0)
            row.values["predicted_dice_low"] = 0.95 if n == 0 else 0.5
            row.values["predicted_dice_high"] = 1.0
        pilot.metrics[1].values["flagged"] = 1
        d = pilot.decide()
        assert d["flagged"] == {"propseg": [], "deepseg": ["sub-00_T2w"]}
        check = d["prediction_against_truth"]
        assert (check["n"], check["covered"]) == (6, pytest.approx(5 / 6))
        assert check["bias"] == {"propseg": pytest.approx(0.02), "deepseg": pytest.approx(0)}
        text = write_report(d)
        assert "Look first at the images on which the mask of deepseg is probably wrong" in text
        assert "Predicted against measured Dice, 6 masks" in text

    def rated(self, pilot, n, answer):
        self.predicted(pilot, n, 0.0)
        return [prefer(f"sub-{s:02d}_T2w", answer(s), repeat=again) for s in range(n) for again in (False, True)]

    def test_blind_ratings_settle(self, pilot):
        d = pilot.decide_with(ratings=self.rated(pilot, 10, lambda s: "deepseg" if s else "same"))
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "preference")
        assert d["difference"] == pytest.approx(0.9)
        assert d["ratings"] == {"n": 10, "n_participants": 10, "raters": ["R"], "n_again": 10, "n_same": 10} | {
            "contradictory": [],
            "n_shared": 0,
            "n_alike": 0,
            "agreement": None,
        }
        assert "10 blind ratings of 10 people by R; shown again, 10 of 10 answers were the same" in write_report(d)

    def test_ratings_that_were_not_blind_do_not_count(self, pilot):
        ratings = self.rated(pilot, 10, lambda s: "deepseg")
        d = pilot.decide_with(ratings=[replace(one, blind=False) for one in ratings])
        assert (d["computed"]["basis"], d["ratings"]["n"]) == ("triage", 0)

    def test_marks_and_people_reach_the_decision_from_the_configuration(self, pilot, tmp_path):
        ratings = [vars(one) for one in self.rated(pilot, 10, lambda s: "deepseg")]
        marks = [{"image": "sub-03_T2w", "method": m, "mark": k, "rater": "R"}
                 for m, k in (("propseg", "fail"), ("deepseg", "pass"))]  # fmt: skip
        (tmp_path / "m.json").write_text(json.dumps({"marks": marks, "preferences": ratings}))
        rows = "".join(f"sub-{s:02d}\t{'ab'[s % 2]}\n" for s in range(10))
        (tmp_path / "participants.tsv").write_text(f"participant_id\tsite\n{rows}")
        config = tmp_path / "c.yaml"
        config.write_text(f"dataset: x\nbids_dir: {tmp_path}\nmarks: {tmp_path / 'm.json'}\n")
        command = ["decide", "-metrics", str(pilot.write()), "-config", str(config), "-o", str(tmp_path / "d.json")]
        assert main(command) == 0
        d = json.loads((tmp_path / "d.json").read_text())
        assert (d["endpoint"], d["verdict"]) == ("preference", "undecided")  # two sites
        assert set(d["failures"]["propseg"]["images"]) == {"sub-03_T2w"}
        for key, code in (("group: sex", 2), ("site: scanner", 2), ("site: site", 0), ("site: null", 0)):
            config.write_text(f"dataset: x\nbids_dir: {tmp_path}\ndecision: {{{key}}}\n")
            assert main(command) == code

    def test_a_rater_who_contradicts_their_own_answers_does_not_count(self, pilot):
        images = [pilot.add(f"{s:02d}", {m: {} for m in METHODS}) for s in range(20)]
        same = [prefer(i, "deepseg") for i in images] + [prefer(i, "deepseg", repeat=True) for i in images]
        assert pilot.decide_with(ratings=same)["verdict"] == "clear"
        turned = [prefer(i, "deepseg") for i in images] + [prefer(i, "propseg", repeat=True) for i in images]
        d = pilot.decide_with(ratings=turned)
        assert (d["endpoint"], d["ratings"]["contradictory"]) == (None, ["R"])
        assert "The ratings by R do not count" in write_report(d)
        other = [replace(one, rater="S") for one in same] + [replace(one, rater="T") for one in same]
        third = [replace(prefer(i, "propseg"), rater="U") for i in images]
        d = pilot.decide_with(ratings=[*other, *third])
        assert (d["ratings"]["n_shared"], d["ratings"]["n_alike"]) == (60, 20)
        assert "Raters agreed with each other in 20 of 60" in write_report(d)

    def test_few_or_divided_ratings_settle_nothing(self, pilot):
        ratings = self.rated(pilot, 10, lambda s: "deepseg" if s % 2 else "propseg")
        assert pilot.decide_with(ratings=ratings)["verdict"] == "undecided"
        few = pilot.decide_with(ratings=[r for r in ratings if int(r.image[4:6]) < 4])
        assert few["computed"]["basis"] == "triage"

    def test_references_come_before_ratings_and_a_contradiction_is_in_the_headline(self, pilot):
        with_errors(pilot, 30, (0, 8), (0, 2))
        ratings = [prefer(f"sub-{s:02d}_T2w", "propseg") for s in range(30)]
        d = pilot.decide_with(ratings=ratings)
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "undecided", "csa_error")
        assert "But by blind preference of raters propseg is better" in verdict_sentence(d)
        d = pilot.decide_with(ratings=ratings, endpoints=["preference", "csa_error"])
        assert d["endpoint"] == "preference"
        with_errors(pilot_of(pilot), 30, (0, 3), (0, 2))  # not clear by itself
        d = pilot.decide_with(ratings=ratings)
        assert d["method"] == "deepseg"
        assert d["ci90"][0] < d["margin"]
        assert "But by blind preference of raters propseg is better (by 100.0 percentage" in verdict_sentence(d)
        assert any("blind preference of raters says the opposite" in step for step in next_steps(d))


class TestRepeats:
    def runs(self, pilot, n, noise, *, sessions=False, shrink=1.0, length=(20, 20)):
        rng = np.random.default_rng(0)
        for s in range(n):
            size = 70 + 5 * rng.standard_normal()
            for number, one in enumerate(("1", "2")):
                entity = {"session": one} if sessions else {"run": one}
                image = pilot.add(f"{s:02d}", {"propseg": {}, "deepseg": {}}, **entity)
                for method, sd in noise.items():
                    area = size * (shrink if number else 1) * (1 + sd / 100 * rng.standard_normal())
                    for k in range(length[number]):
                        # the cord widens upwards, so that the mean over the whole mask depends on its length
                        values = {"csa_mm2": area * (1 + 0.01 * k), "centroid_z_mm": 2.0 * k}
                        pilot.slices.append(SliceRow(image, method, k, values))
        return pilot

    def test_declared_runs_rule(self, pilot):
        d = self.runs(pilot, 30, {"propseg": 8.0, "deepseg": 1.0}).decide(repeats={"by": "run"})
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "repeats")
        found = d["reliability"]["propseg"]
        assert found["n_repeated"] == 30
        assert found["repeat_sd_pct"] == pytest.approx(8, rel=0.4)
        assert found["repeat_sd_ci95"][0] < found["repeat_sd_pct"] < found["repeat_sd_ci95"][1]
        factor = found["smallest_detectable_change_pct"] / found["repeat_sd_pct"]
        assert factor == pytest.approx(1.96 * 2**0.5, rel=1e-4)
        assert "Repeatability of each method" in write_report(d)

    def test_undeclared_runs_and_sessions_are_not_repeats(self, pilot):
        d = self.runs(pilot, 12, {"propseg": 6.0, "deepseg": 1.0}).decide()
        assert d["endpoint"] is None
        assert d["reliability"] == {}
        assert any("declare them" in note for note in d["notes"])

    def test_follow_up_sessions_are_repeats_only_if_declared(self, tmp_path):
        """Two sessions with 2 % true shrinkage change no figure of repeatability."""
        figures = []
        for number, shrink in enumerate((1.0, 0.98)):
            pilot = Pilot(tmp_path / str(number))
            self.runs(pilot, 12, {"propseg": 1.0, "deepseg": 1.0})
            self.runs(pilot, 12, {"propseg": 1.0, "deepseg": 1.0}, sessions=True, shrink=shrink)
            figures.append(pilot.decide(repeats={"by": "run"})["reliability"])
            declared = pilot.decide(repeats={"sessions": ["1", "2"]})["reliability"]["propseg"]["repeat_sd_pct"]
            assert (declared > 1.3) == (shrink < 1)
        assert figures[0] == figures[1]

    def test_different_coverage_is_not_counted_as_variation(self, pilot):
        d = self.runs(pilot, 12, {"propseg": 0.01, "deepseg": 0.01}, length=(20, 12)).decide(repeats={"by": "run"})
        assert d["reliability"]["propseg"]["repeat_sd_pct"] < 0.05

    def test_without_slices_nothing_is_compared(self, pilot):
        self.runs(pilot, 12, {"propseg": 6.0, "deepseg": 1.0})
        pilot.slices.clear()
        d = pilot.decide(repeats={"by": "run"})
        assert d["endpoint"] is None
        assert any("no declared repeats could be compared" in note for note in d["notes"])

    def test_a_failed_mask_is_not_a_repeat(self, pilot):
        """The area of a failed mask says nothing about precision, and does not hide the other methods' repeats."""
        self.runs(pilot, 30, {"propseg": 1.0, "deepseg": 1.0})
        leak = ("sub-03_run-2_T2w", "propseg")
        for row in pilot.slices:
            if (row.image_id, row.method) == leak:
                row.values["csa_mm2"] *= 5
        assert pilot.decide(repeats={"by": "run"})["reliability"]["propseg"]["repeat_sd_pct"] > 10
        (n,) = [n for n, row in enumerate(pilot.metrics) if (row.image.image_id, row.method) == leak]
        pilot.metrics[n] = cut_short(pilot.metrics[n])
        d = pilot.decide(repeats={"by": "run"}, aim="change")
        found = {m: (r["n_repeated"], round(r["repeat_sd_pct"])) for m, r in d["reliability"].items()}
        assert found == {"propseg": (29, 1), "deepseg": (29, 1)}  # over the people in whom both can be compared
        assert [row["n"] for row in d["study"]] == [29, 29]  # the same people
        assert (d["endpoint"], d["n_compared"]) == ("repeats", 29)

    def test_a_method_that_failed_everywhere_has_no_repeats_and_hides_no_others(self, pilot):
        self.runs(pilot, 12, {"propseg": 8.0, "deepseg": 1.0})
        for row in list(pilot.metrics[::2]):
            pilot.metrics.append(replace(row, method="third", status="empty"))
        d = pilot.decide(methods=["propseg", "deepseg", "third"], repeats={"by": "run"}, aim="change")
        assert (d["method"], d["endpoint"]) == ("deepseg", "repeats")
        assert d["reliability"]["third"]["repeat_sd_pct"] is None
        assert [row["method"] for row in d["study"]] == ["propseg", "deepseg"]
        assert "None" not in write_report(d)

    def test_below_ten_people_no_smallest_change_is_printed(self, pilot):
        d = self.runs(pilot, 9, {"propseg": 2.0, "deepseg": 1.0}).decide(repeats={"by": "run"})
        assert d["reliability"]["propseg"]["smallest_detectable_change_pct"] is None
        assert "needs ten people" in write_report(d)

    def test_spread_between_contrasts_is_on_the_common_stretch(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(8):
            for suffix, contrast, start in (("T1w", "t1", 0), ("T2w", "t2", 10)):
                image_id = pilot.add(f"{s}", {"propseg": {}, "deepseg": {}}, suffix=suffix, contrast=contrast)
                for method, bias in (("propseg", 6.0), ("deepseg", 1.0)):
                    for k in range(40):
                        z = start + 2.0 * k
                        csa = 60 + 0.2 * z + bias * (contrast == "t1") + 0.1 * rng.standard_normal()
                        pilot.slices.append(SliceRow(image_id, method, k, {"csa_mm2": csa, "centroid_z_mm": z}))
        d = pilot.decide()
        assert d["reliability"]["propseg"]["inter_contrast_sd_mm2"] == pytest.approx(6 / 2**0.5, abs=0.1)
        assert d["reliability"]["deepseg"]["inter_contrast_sd_ci95"][0] >= 0
        assert d["verdict"] == "undecided"  # masks that are small everywhere look consistent: never alone


class TestChange:
    """Errors that are the same in all scans of a person cancel."""

    def scans(self, pilot, n, propseg, deepseg, *, seed=0):
        """`n` people with references of two sessions: errors with an SD between people and one within."""
        rng = np.random.default_rng(seed)
        for s in range(n):
            own = {"propseg": propseg[0] * rng.standard_normal(), "deepseg": deepseg[0] * rng.standard_normal()}
            for session in ("1", "2"):
                errors = {
                    "propseg": own["propseg"] + propseg[1] * rng.standard_normal(),
                    "deepseg": own["deepseg"] + deepseg[1] * rng.standard_normal(),
                }
                rows = {m: {"csa_error_pct": e, "csa_mean_mm2": 70 + 0.7 * e, "dice": 0.95} for m, e in errors.items()}
                pilot.add(f"{s:02d}", rows, session=session)
        return pilot

    def test_errors_constant_within_a_person_do_not_count(self, pilot):
        self.scans(pilot, 30, (8, 0.5), (1, 4))
        d = pilot.decide()
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "csa_error")
        d = pilot.decide(aim="change")
        assert (d["method"], d["verdict"], d["endpoint"]) == ("propseg", "clear", "change_error")
        (row,) = [row for row in d["endpoints"] if row["endpoint"] == "change_error"]
        assert row["means"] == pytest.approx({"propseg": 0.5, "deepseg": 4}, rel=0.3)
        errors = {m: [r.values["csa_error_pct"] for r in pilot.metrics if r.method == m] for m in METHODS}
        sds = {m: (np.diff(np.reshape(e, (-1, 2))) ** 2 / 2).mean() ** 0.5 for m, e in errors.items()}
        assert row["means"] == pytest.approx(sds, rel=1e-5)

    def test_other_aims_leave_the_order_alone_and_the_plan_may_name_it(self, pilot):
        self.scans(pilot, 12, (8, 0.5), (1, 4))
        assert pilot.decide(aim="absolute")["endpoint"] == "csa_error_rms"
        assert pilot.decide(endpoints=["change_error"])["endpoint"] == "change_error"
        content = pilot.decide(aim="change")["plan"]["content"]
        assert content["endpoints"] == ["change_error", "repeats", "csa_error", "preference"]

    def test_with_one_session_the_decision_says_what_is_missing(self, pilot):
        with_errors(pilot, 30, (0, 8), (0, 2))
        d = pilot.decide(aim="change")
        assert (d["method"], d["endpoint"]) == ("deepseg", "csa_error")
        assert "the study wants to see change, but the choice rests on precision of the area" in " ".join(d["notes"])
        assert "wants to see change" not in write_report(pilot.decide())

    def test_repeats_come_before_errors_between_people(self, pilot):
        """A method that always gives one width repeats well but errs between people: nothing is clear."""
        TestRepeats().runs(pilot, 30, {"propseg": 0.3, "deepseg": 3.0})
        rng = np.random.default_rng(1)
        for row in pilot.metrics:
            sd = 12 if row.method == "propseg" else 3
            row.values.update(csa_error_pct=sd * rng.standard_normal(), dice=0.95)
        d = pilot.decide(aim="change", repeats={"by": "run"})
        assert (d["endpoint"], d["verdict"]) == ("repeats", "undecided")
        assert any("deepseg is better" in text for text in d["contradictions"])


class TestFewPeopleOfAContrast:
    """Six people in three contrasts, two in each: two people are too few to know a spread."""

    def six(self, pilot, **values):
        rng = np.random.default_rng(0)
        for s in range(6):
            suffix, contrast = (("T1w", "t1"), ("T2w", "t2"), ("T2star", "t2s"))[s % 3]
            sds = zip(METHODS, (8, 1), strict=True)
            errors = {m: {"csa_error_pct": sd * rng.standard_normal()} | values for m, sd in sds}
            pilot.add(f"{s}", errors, suffix=suffix, contrast=contrast)
        return pilot

    def test_areas_settle_nothing(self, pilot):
        d = self.six(pilot, dice=0.95).decide()
        assert "csa_error" not in {row["endpoint"] for row in d["endpoints"]}
        assert d["verdict"] == "undecided"

    def test_a_person_alone_is_compared_and_not_left_out(self, pilot):
        pilot.add("0", {m: {"predicted_dice": 0.9} for m in METHODS})
        assert pilot.decide()["excluded"] == []

    def test_a_path_in_a_reason_keeps_its_case(self):
        rows = [{"image_id": name, "reason": why} for name, why in (("a", "bids/a.nii: empty"), ("b", "no mask"))]
        assert left_out_section({"excluded": rows})[1] == "- bids/a.nii: empty: a.\n- No mask: b."

    def test_a_contrast_with_two_people_is_left_out_and_reported(self, pilot):
        self.six(pilot, predicted_dice=0.9)
        for s in range(6, 9):
            pilot.add(f"{s}", {m: {"predicted_dice": 0.9} for m in METHODS})
        pilot.add("9", {m: {} for m in METHODS})
        d = pilot.decide()
        reasons = {row["participant"]: row["reason"] for row in d["excluded"]}
        assert reasons["0"] == "fewer than 3 people with predicted Dice in their contrast"
        assert reasons["9"] == "not known: predicted Dice"
        assert set(reasons) == {"0", "2", "3", "5", "9"}
        assert d["per_contrast"]["t2"]["n"] == 5
        assert d["n_compared"] == 5


class TestLevel:
    """Over the whole mask the methods are alike; at C2-C3 propseg's areas scatter by 8 %."""

    def measure(self, pilot, tmp_path, n=30, references=True, **flags):
        rng = np.random.default_rng(0)
        rows = []
        for s in range(n):
            image = pilot.add(
                f"{s:02d}",
                {m: {"dice": 0.95, "csa_error_pct": rng.standard_normal()} if references else {} for m in METHODS},
            )
            truth = 75 + 5 * rng.standard_normal()
            areas = {
                "propseg": truth * (1 + 0.08 * rng.standard_normal()),
                "deepseg": 1.1 * truth * (1 + 0.01 * rng.standard_normal()),
                REFERENCE: truth,
            }
            for method, area in areas.items():
                if references or method != REFERENCE:
                    for level, factor in (("C2-C3", 1.0), ("C4", 2.0)):
                        row = CsaRow(pilot.metrics[-1].image, method, level, values={"csa_mm2": factor * area})
                        rows.append(replace(row, flags=flags.get(method.strip("()"), ())))
            assert pilot.metrics[-1].image.image_id == image
        write_csa(tmp_path / "levels.tsv", rows)
        return tmp_path / "levels.tsv"

    def decide(self, pilot, levels, **decision):
        metrics, agreement, _ = pilot.write_tables()
        question = Question("demo", METHODS, DecisionParams.from_config(FAST | decision), fitted=METHODS)
        return decide_from_files(metrics, agreement, levels=levels, question=question)

    def test_areas_are_compared_where_the_plan_says(self, pilot, tmp_path):
        levels = self.measure(pilot, tmp_path)
        d = self.decide(pilot, levels, level="C2-C3")
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "csa_error")
        assert d["area_errors"]["deepseg"]["bias_pct"] == pytest.approx(10, abs=0.5)
        assert d["area_errors"]["propseg"]["sd_pct"] == pytest.approx(8, rel=0.3)
        assert d["area_errors"]["deepseg"]["slope"] == pytest.approx(1, abs=0.1)
        assert {row["area"] for row in d["study"]} == {"C2-C3"}
        assert "the area at C2-C3 is known of 30 of 30 images" in d["notes"]
        whole = self.decide(pilot, levels)
        assert whole["verdict"] == "undecided"
        assert whole["area_errors"]["deepseg"]["bias_pct"] == pytest.approx(0, abs=0.5)
        assert {row["area"] for row in whole["study"]} == {"whole mask"}
        assert "at a level (`decision.level`" in write_report(whole)

    def test_without_references_the_difference_is_at_the_level(self, pilot, tmp_path):
        d = self.decide(pilot, self.measure(pilot, tmp_path, references=False), level="C2-C3")
        (bias,) = [row for row in d["endpoints"] if row["endpoint"] == "bias"]
        assert bias["difference"] == pytest.approx(-9.5, abs=3)
        assert bias["favours"] is None
        assert "areas differ" in write_report(d)

    @pytest.mark.parametrize(
        ("method", "flag", "used"),
        [
            ("deepseg", "coverage", False),
            ("deepseg", "unbounded", False),
            ("propseg", "doubted", False),
            ("reference", "coverage", False),
            ("reference", "doubted", True),
            ("deepseg", "tilted", True),
        ],
    )
    def test_areas_of_other_or_incomplete_levels_are_not_used(self, pilot, tmp_path, method, flag, used):
        d = self.decide(pilot, self.measure(pilot, tmp_path, n=8, **{method: (flag,)}), level="C2-C3")
        assert (d["area_errors"]["deepseg"]["bias_pct"] > 5) == used

    def test_an_sd_uses_areas_of_one_kind_only(self, pilot, tmp_path):
        """Areas at a level and over whole masks are never combined, and the decision says which were used."""
        levels = self.measure(pilot, tmp_path, n=8)
        pilot.add("99", {m: {"dice": 0.95, "csa_error_pct": 3.0} for m in METHODS})
        d = self.decide(pilot, levels, level="C2-C3")
        assert (d["area_errors"]["deepseg"]["n"], d["area_errors"]["deepseg"]["at_level"]) == (8, True)
        assert "the area at C2-C3 is known of 8 of 9 images: areas are compared in these alone" in d["notes"]
        for s in range(10, 18):
            pilot.add(f"{s}", {m: {"dice": 0.95, "csa_error_pct": 3.0 + s % 2} for m in METHODS})
        d = self.decide(pilot, levels, level="C2-C3")
        assert (d["area_errors"]["deepseg"]["n"], d["area_errors"]["deepseg"]["at_level"]) == (17, False)
        assert any("areas over whole masks are compared instead" in note for note in d["notes"])
        assert self.decide(pilot, None, level="C2-C3")["area_errors"]["deepseg"]["n"] == 17

    def test_a_third_method_changes_nothing_between_two(self, pilot, tmp_path):
        levels = self.measure(pilot, tmp_path)
        two = self.decide(pilot, levels, level="C2-C3")
        for row in list(pilot.metrics):
            if row.method == "deepseg":
                pilot.metrics.append(MetricsRow(row.image, "third", "empty", {"coverage": 0.0}))
        metrics, agreement, _ = pilot.write_tables()
        question = Question("demo", (*METHODS, "third"), DecisionParams.from_config(FAST | {"level": "C2-C3"}))
        three = decide_from_files(metrics, agreement, levels=levels, question=question)
        for key in ("method", "verdict", "difference", "ci90", "margin", "n_compared"):
            assert three[key] == two[key]
        assert all(three["area_errors"][m] == two["area_errors"][m] for m in METHODS)

    def test_two_raters_are_compared_at_the_level(self, pilot, tmp_path):
        levels = self.measure(pilot, tmp_path, n=8)
        for row in list(pilot.metrics):
            if row.method == "deepseg":
                pilot.metrics.append(replace(row, method="anna"))
        rows = levels.read_text().splitlines()
        more = [line.replace("\tdeepseg\t", "\tanna\t") for line in rows if "\tdeepseg\t" in line]
        levels.write_text("\n".join([*rows, *more]) + "\n")
        d = self.decide(pilot, levels, level="C2-C3", second_rater="anna")
        assert d["references"]["rater_error"]["csa"] == pytest.approx(10, abs=1)


class TestContrastsAndSites:
    def two(self, pilot, gaps, n=15, spread=0.01):
        rng = np.random.default_rng(3)
        for s in range(n):
            for (suffix, contrast), gap in zip((("T2w", "t2"), ("T2star", "t2s")), gaps, strict=True):
                dice = {"propseg": {"dice": 0.9}, "deepseg": {"dice": 0.9 + gap + spread * rng.standard_normal()}}
                pilot.add(f"{s:02d}", dice, suffix=suffix, contrast=contrast)
        return pilot

    def test_contrasts_that_favour_different_methods_are_in_the_headline(self, pilot):
        d = self.two(pilot, (0.10, -0.03)).decide()
        assert d["verdict"] == "undecided"
        sentence = verdict_sentence(d)
        assert "contrasts favour different methods by Dice with the reference: propseg in t2s (by 0.0" in sentence
        assert "and deepseg in t2 (by 0.1" in sentence
        assert sentence.count("in 15 people, 90 % interval +0.0") == 3

    def test_predictions_that_favour_different_methods_are_reported(self, pilot):
        self.two(pilot, (0.10, -0.10))
        for row in pilot.metrics:
            row.values["predicted_dice"] = row.values.pop("dice")
        d = pilot.decide()
        assert (d["verdict"], d["computed"]["basis"]) == ("undecided", "triage")
        assert "contrasts favour different methods by predicted Dice" in verdict_sentence(d)

    def test_one_method_for_each_contrast(self, pilot):
        d = self.two(pilot, (0.05, -0.05)).decide(by="contrast")
        assert d["method_by_contrast"] == {"t2": "deepseg", "t2s": "propseg"}
        assert {row["verdict"] for row in d["per_contrast"].values()} == {d["verdict"]} == {"clear"}
        assert d["contradictions"] == []
        assert not any("favour different methods" in note for note in d["notes"])
        text = write_report(d)
        assert "**One method for each contrast, as planned: deepseg for t2, propseg for t2s.**" in text
        assert "t2: Keep deepseg: it is better than propseg by Dice with the reference" in verdict_sentence(d)
        assert "t2s: Keep propseg: it is better than deepseg" in verdict_sentence(d)
        assert "| propseg (kept for t2s) |" in text

    def test_with_one_method_for_each_contrast_the_least_certain_verdict_counts(self, pilot):
        self.two(pilot, (0.08, -0.025), n=8, spread=0.03)
        short, good = {"status": "partial", "coverage": 0.5, "dice": 0.9}, {"dice": 0.9}
        name = pilot.add("90", {"propseg": good, "deepseg": short})
        other = pilot.add("90", {"propseg": short, "deepseg": good}, suffix="T2star", contrast="t2s")
        d = pilot.decide(by="contrast")
        assert (d["verdict"], d["per_contrast"]["t2s"]["verdict"]) == ("undecided", "undecided")
        steps = next_steps(d)
        assert any(step.startswith("t2s: Obstacle: propseg fails more often") for step in steps)
        kept = d["method_by_contrast"]
        assert kept == {"t2": "deepseg", "t2s": "propseg"}
        assert f"Correct or exclude the images in which the kept method failed: {name}, {other}." in steps
        override = {"method": "propseg", "reason": "as before", "by": "A"}
        assert pilot.decide(by="contrast", override=override)["method_by_contrast"] == {}

    def test_a_contrast_in_which_every_method_fails_keeps_none(self, pilot):
        self.two(pilot, (0.08, 0.08), n=12)
        for row in pilot.metrics:
            if row.image.contrast == "t2s":
                row.values["dice"] = 0.3
        d = pilot.decide(by="contrast")
        assert d["method_by_contrast"] == {"t2": "deepseg", "t2s": None}
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert "t2s: Keep no method as it is" in verdict_sentence(d)
        for row in pilot.metrics:
            row.values["dice"] = 0.3
        d = pilot.decide(by="contrast")
        assert (d["method"], d["verdict"], d["method_by_contrast"]) == (None, "none", {"t2": None, "t2s": None})

    def test_one_contrast_has_its_own_method_too(self, pilot):
        d = with_dice(pilot, 12, 0.04).decide(by="contrast")
        assert d["method_by_contrast"] == {"t2": "deepseg"}
        assert (d["method"], d["verdict"]) == ("deepseg", "clear")

    def test_contrasts_outside_the_plan_are_left_out(self, pilot):
        self.two(pilot, (0.05, -0.05))
        pilot.add("99", {"propseg": {}, "deepseg": {"status": "failed"}}, suffix="T2star", contrast="t2s")
        d = pilot.decide(contrasts=["T2w"])
        assert (d["method"], d["verdict"], d["n_images"]) == ("deepseg", "clear", 15)
        assert d["failures"]["deepseg"]["n_failed"] == 0
        assert {row["reason"] for row in d["excluded"]} == {"its contrast is not in the plan (decision.contrasts)"}
        pilot.add("98", {"propseg": {}, "deepseg": {}}, suffix="bold")
        assert pilot.decide(contrasts=["T2w"])["n_images"] == 15
        assert pilot.decide(contrasts=["t2"])["n_images"] == 16

    def test_the_plans_weights(self, pilot):
        self.two(pilot, (0.05, -0.02))
        even, heavy = pilot.decide(), pilot.decide(contrasts={"T2w": 3, "T2star": 1})
        assert even["difference"] == pytest.approx(0.015, abs=0.005)
        assert heavy["difference"] == pytest.approx((3 * 0.05 - 0.02) / 4, abs=0.005)
        assert pilot.decide(contrasts=["T2w"])["difference"] == pytest.approx(0.05, abs=0.005)

    @pytest.mark.parametrize("what", ["ratings", "failures", "repeats"])
    def test_contrasts_are_strata_of_every_endpoint(self, pilot, what):
        """T2w favours deepseg, T1w propseg, in the same people; more images of one contrast give it no more weight."""
        rng, ratings, lost = np.random.default_rng(0), [], {"status": "empty", "coverage": 0.0}
        for s in range(20):
            for suffix, contrast, worse in (("T2w", "t2", "propseg"), ("T1w", "t1", "deepseg")):
                size = 70 + 5 * rng.standard_normal()
                for run in "1234" if contrast == "t2" else "12":
                    bad = {worse: lost} if what == "failures" and s % 4 == 0 else {}
                    methods = {m: {} for m in METHODS} | bad
                    image = pilot.add(f"{s:02d}", methods, suffix=suffix, contrast=contrast, run=run)
                    ratings += [prefer(image, METHODS[worse == "propseg"])] * (what == "ratings")
                    for m in METHODS:
                        area = size * (1 + (0.1 if m == worse else 0.01) * rng.standard_normal())
                        shown = [SliceRow(image, m, k, {"csa_mm2": area, "centroid_z_mm": 2.0 * k}) for k in range(20)]
                        pilot.slices += shown if what == "repeats" else []
        repeats = {"repeats": {"by": "run"}} if what == "repeats" else {}

        def decide(**plan):
            return pilot.decide_with(ratings=ratings, **plan) if ratings else pilot.decide(**plan, **repeats)

        d = decide()
        assert d["verdict"] == "undecided"
        assert "contrasts favour different methods" in verdict_sentence(d)
        key = {"ratings": "preference"}.get(what, what)
        row = next(row for row in d["endpoints"] if row["endpoint"] == key)
        assert abs(row["difference"]) < 1.5
        if what == "repeats":
            assert d["reliability"]["propseg"]["repeat_sd_pct"] == pytest.approx(row["means"]["propseg"], rel=1e-3)
            return
        heavy = decide(contrasts={"T1w": 9, "T2w": 1})
        row = next(row for row in heavy["endpoints"] if row["endpoint"] == key)
        share = 0.8 * (0.25 if what == "failures" else 1)
        assert row["difference"] * (1 if row["methods"][0] == "propseg" else -1) == pytest.approx(share)

    def test_every_table_shows_the_numbers_that_rule(self, pilot):
        """Contrasts of unequal size and weight, one of them with too few people; people in whom one method failed."""
        rng = np.random.default_rng(0)
        for contrast, suffix, n, sds in (
            ("t1", "T1w", 30, (0.5, 3)),
            ("t2", "T2w", 8, (20, 9)),
            ("t2s", "T2star", 2, (40, 1)),
        ):
            for s in range(n):
                own = {
                    m: {"csa_error_pct": 5 + sd * rng.standard_normal(), "dice": 0.95}
                    for m, sd in zip(METHODS, sds, strict=True)
                }
                if s == 3:
                    own["propseg"] = {"status": "empty", "coverage": 0.0}
                pilot.add(f"{s:02d}", own, suffix=suffix, contrast=contrast)
        for plan in ({}, {"contrasts": {"T1w": 9, "T2w": 1, "T2star": 1}}):
            d = pilot.decide(**plan)
            rows = {row["endpoint"]: row for row in d["endpoints"]}
            for m in METHODS:
                assert d["area_errors"][m]["sd_pct"] == pytest.approx(rows["csa_error"]["means"][m], rel=1e-4)
                assert d["area_errors"][m]["bias_pct"] == pytest.approx(rows["bias"]["means"][m], rel=1e-4)
                assert d["area_errors"][m]["n"] == rows["csa_error"]["n"] == 30 - 1
                assert d["area_errors"][m]["left_out"] == ["t2s"]
            text = write_report(d)
            assert "Too few people have references in t2s" in text
            assert "fewer than 3 people show t2s" in "".join(d["notes"])

    def columns(self, n, n_sites):
        return {f"{s:02d}": {"site": f"site{s % n_sites}"} for s in range(n)}

    @pytest.mark.parametrize(("n_sites", "verdict"), [(1, "clear"), (2, "undecided"), (5, "undecided"), (6, "clear")])
    def test_below_six_sites_nothing_is_clear(self, pilot, n_sites, verdict):
        d = with_dice(pilot, 24, 0.06).decide_with(columns=self.columns(24, n_sites))
        assert d["verdict"] == verdict
        if n_sites > 1:
            assert set(d["per_site"]) == {f"site{s}" for s in range(n_sites)}
            assert "## By site" in write_report(d)

    def test_a_person_without_a_site_prevents_a_verdict_and_is_reported(self, pilot):
        columns = {f"{s:02d}": {"site": "a" if s else ""} for s in range(24)}
        d = with_errors(pilot, 24, (0, 8), (0, 2)).decide_with(columns=columns)
        assert d["verdict"] == "undecided"
        assert set(d["per_site"]) == {"a", "unknown"}
        assert "below -100 to above +100" in write_report(d)

    def test_a_site_of_one_person_has_no_interval(self, pilot):
        columns = {f"{s:02d}": {"site": "alone" if s == 0 else f"site{s % 2}"} for s in range(13)}
        d = with_errors(pilot, 13, (0, 4), (0, 3)).decide_with(columns=columns)
        assert d["per_site"]["alone"]["ci90"] == [None, None]
        row = next(line for line in write_report(d).splitlines() if line.startswith("| alone |"))
        assert "(" not in row

    @pytest.mark.parametrize("sd", [1, 0])
    def test_a_bias_that_differs_between_groups_is_warned_of(self, pilot, sd):
        with_errors(pilot, 24, (0, sd), (0, sd))
        groups = {f"{s:02d}": {"group": "MS" if s % 2 else "HC"} for s in range(24)}
        for row in pilot.metrics:
            if row.method == "propseg" and groups[row.image.subject]["group"] == "MS":
                row.values["csa_error_pct"] += 4.0
        d = pilot.decide_with(columns=groups, group="group")
        warned = [row for row in d["differential_bias"] if row["is_warned"]]
        assert [(row["of"], row["by"]) for row in warned] == [("propseg", "group")]
        text = write_report(d)
        assert "Warning: the bias of propseg differs by" in text
        assert "does not cancel" in text

    def grouped(self, pilot, propseg, deepseg, n=80):
        """Errors with an SD of 1 %; the bias differs between two groups by method."""
        rng = np.random.default_rng(0)
        for s in range(n):
            side = 0.5 if s < n // 2 else -0.5
            errors = {"propseg": propseg[0] * side + propseg[1] * rng.standard_normal()}
            errors["deepseg"] = deepseg[0] * side + deepseg[1] * rng.standard_normal()
            pilot.add(f"{s:02d}", {m: {"csa_error_pct": e, "dice": 0.95, "nsd": 0.99} for m, e in errors.items()})
        return pilot.decide_with(
            columns={f"{s:02d}": {"group": "HC" if s < n // 2 else "MS"} for s in range(n)}, group="group"
        )

    def test_methods_whose_biases_differ_between_groups_are_not_equivalent(self, pilot, tmp_path):
        assert self.grouped(pilot, (0, 1), (0, 1))["verdict"] == "equivalent"
        d = self.grouped(Pilot(tmp_path / "uneven"), (2.4, 1), (0, 1))
        assert d["verdict"] == "undecided"
        assert "how their biases differ between groups" in " ".join(d["reasons"])

    @pytest.mark.parametrize(("bias", "verdict"), [(0, "clear"), (2.2, "undecided"), (6, "undecided")])
    def test_a_precise_method_whose_bias_differs_between_groups_is_not_clear(self, pilot, bias, verdict):
        d = self.grouped(pilot, (0, 9), (bias, 0.3), n=60)
        if bias == 2.2:  # half of the effect is not reached; the other method's difference is larger by chance
            assert d["verdict"] in ("clear", "undecided")
            return
        assert (d["method"], d["verdict"]) == ("deepseg", verdict)
        assert any("the bias of deepseg differs" in reason for reason in d["reasons"]) == bool(bias)

    def test_biases_that_could_not_be_tested_are_reported(self, pilot):
        columns = {f"{s:02d}": {"group": "MS" if s < 2 else "HC"} for s in range(24)}
        d = with_errors(pilot, 24, (0, 8), (0, 2)).decide_with(columns=columns, group="group")
        assert "is not tested for group MS" in write_report(d)
        assert "decision.group names none" in write_report(pilot.decide())
        sites = {f"{s:02d}": {"group": f"g{s % 2}", "site": f"s{s % 2}"} for s in range(24)}
        assert "a bias by one may be a bias by the other" in write_report(
            pilot.decide_with(columns=sites, group="group")
        )

    def test_a_verdict_that_rests_on_one_contrast_says_so(self, pilot):
        with_errors(pilot, 30, (0, 8), (0, 2))
        for s in range(30):
            pilot.add(f"{s:02d}", {m: {} for m in METHODS}, suffix="T1w", contrast="t1")
        d = pilot.decide()
        assert d["verdict"] == "clear"
        assert any("this rests on images of t2" in reason and reason.endswith("t1") for reason in d["reasons"])

    def test_an_override_keeps_the_verdict_of_each_contrast(self, pilot):
        self.two(pilot, (0.05, -0.05))
        d = pilot.decide(by="contrast", override={"method": "propseg", "reason": "r", "by": "me"})
        assert {c: one["method"] for c, one in d["computed"]["by_contrast"].items()} == {
            "t2": "deepseg",
            "t2s": "propseg",
        }
        assert "t2 by deepseg (clear); t2s by propseg (clear)" in verdict_sentence(d)
        assert d["method_by_contrast"] == {}


class TestReferences:
    def test_references_corrected_from_a_method_do_not_make_it_clearly_better(self, pilot):
        with_errors(pilot, 30, (0, 8), (0, 2))
        corrected = {f"sub-{s:02d}_T2w": "deepseg" for s in range(27)}
        d = pilot.decide_with(corrected_from=corrected)
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert "made by correcting masks of deepseg" in verdict_sentence(d)
        assert d["references"]["corrected_from"] == {"deepseg": 27}
        assert d["references"]["without_corrected"]["verdict"] == "undecided"
        few = {f"sub-{s:02d}_T2w": "deepseg" for s in range(5)}
        d = pilot.decide_with(corrected_from=few)
        assert (d["verdict"], d["references"]["without_corrected"]["verdict"]) == ("clear", "clear")
        assert "References made by correcting a mask" in write_report(d)

    def test_the_leader_without_corrected_references_is_reported_once_if_known(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(30):
            sds = {"propseg": 12 if s < 20 else 2, "deepseg": 1 if s < 20 else 6}
            errors = {m: {"csa_error_pct": sd * rng.standard_normal(), "dice": 0.95} for m, sd in sds.items()}
            pilot.add(f"{s:02d}", errors)
        text = verdict_sentence(pilot.decide_with(corrected_from={f"sub-{s:02d}_T2w": "deepseg" for s in range(20)}))
        assert text.count("propseg leads") == 1
        alone = pilot.decide_with(corrected_from={f"sub-{s:02d}_T2w": "deepseg" for s in range(30)})
        assert "propseg leads" not in verdict_sentence(alone)  # the first in the list, because nothing is known

    def test_failures_by_corrected_references_alone_do_not_settle(self, pilot):
        """A Dice of 0.65 against a corrected mask of the other method is no failure once corrections are left out."""
        for s in range(30):
            pilot.add(f"{s:02d}", {"propseg": {"dice": 0.65 if s < 10 else 0.9}, "deepseg": {"dice": 0.9}})
        corrected = {f"sub-{s:02d}_T2w": "deepseg" for s in range(10)}
        assert pilot.decide()["verdict"] == "clear"
        d = pilot.decide_with(corrected_from=corrected)
        assert d["verdict"] == "undecided"
        assert d["references"]["without_corrected"]["verdict"] == "undecided"

    def test_no_margin_is_finer_than_two_raters(self, pilot):
        with_errors(pilot, 20, (0, 8), (0, 2))
        for s in range(6):
            image = Identity(f"sub-{s:02d}_T2w", f"{s:02d}", suffix="T2w", contrast="t2")
            pilot.metrics.append(MetricsRow(image, "anna", "ok", {"csa_error_pct": 4.0 * (-1) ** s, "dice": 0.92}))
        plain = pilot.decide()
        d = pilot.decide(second_rater="anna", methods=["propseg", "deepseg", "anna"])
        assert d["methods"] == ["propseg", "deepseg"]
        assert (plain["margin"], d["margin"]) == (pytest.approx(1.25), pytest.approx(4.0))
        assert "Two people's drawings differ by 4.0 % in area" in write_report(d)
        tables = Tables(pilot.metrics, untrue={f"sub-{s:02d}_T2w": "made by a program" for s in range(6)})
        evidence = make_evidence(tables, list(METHODS), DecisionParams(second_rater="anna"))
        assert evidence.rater_error == {}  # without a reference that counts as truth, nothing is wrong
        d = pilot.decide(second_rater="anna", methods=[*METHODS, "anna"])
        assert "In force, because no margin is finer than two raters: 4 % in bias" in write_report(d)
        pilot.metrics = [row for row in pilot.metrics if row.method != "anna" or row.image.subject < "04"]
        d = pilot.decide(second_rater="anna", methods=[*METHODS, "anna"])
        assert d["margin"] == pytest.approx(1.25)
        assert "A second person drew 4 people: too few to set a margin" in write_report(d)
        with pytest.raises(InputError, match=r"decision\.second_rater: .*has no row of 'bert'"):
            pilot.decide(second_rater="bert")

    def test_few_references_do_not_rule(self, pilot):
        with_errors(pilot, 4, (0, 8), (0, 1))
        for s in range(10, 20):
            pilot.add(f"{s}", {"propseg": {"predicted_dice": 0.9}, "deepseg": {"predicted_dice": 0.9}})
        d = pilot.decide()
        assert d["endpoint"] == "predicted_dice"
        assert pilot.decide(min_references=4)["endpoint"] == "csa_error"


class TestTrainingPeople:
    def test_training_people_are_found_by_the_content_of_their_images(self, tmp_path, monkeypatch):
        content, images = b"a header and voxels" * 40, []
        for name, data in {
            "again.nii.gz": gzip.compress(content, 1),
            "plain.nii": content,
            "as-long.nii": content[::-1],
            "other.nii.gz": gzip.compress(content + b"."),
            "cut.nii.gz": gzip.compress(content)[:5],
        }.items():
            (tmp_path / name).write_bytes(data)
            images.append(study_image(name, path=str(tmp_path / name)))
        images.append(study_image("gone", path=str(tmp_path / "gone.nii.gz")))
        digests = {"crc32": f"{zlib.crc32(content):08x}", "sha256": hashlib.sha256(content).hexdigest()}
        row = {"person": "p", "bytes": len(content), "taught": ["deepseg", PREDICTION], **digests}
        table = tmp_path / "training_images.json"
        table.write_text(json.dumps([row]))
        monkeypatch.setattr("spineseg.decision.training.TRAINING_IMAGES", table)
        who = frozenset(["again.nii.gz", "plain.nii"])
        shipped = OWN_METHODS["deepseg"].hash_weights()
        weights = {"deepseg": {}, "ours_too": shipped, "own": {"deepseg_segment.safetensors": "0" * 64}, "propseg": {}}
        assert find_taught(images, weights) == Taught({"deepseg": who, "ours_too": who}, who)
        assert find_taught(images[2:], weights) == NOBODY

    def test_the_shipped_list_has_everyone_whom_the_networks_learned_from(self):
        rows = json.loads(TRAINING_IMAGES.read_text())
        assert {name for row in rows for name in row["taught"]} == {*LEARNERS, PREDICTION}
        people = {row["person"] for row in rows if PREDICTION in row["taught"]}
        assert people == set(load_dice_predictor().provenance["people"])

    def test_a_verdict_that_rests_on_training_people_is_withdrawn(self, pilot):
        with_errors(pilot, 20, (0, 9), (0, 1))
        for row in pilot.metrics:
            row.values.update(predicted_dice=0.95, predicted_dice_low=0.9, predicted_dice_high=1.0)
        others = pilot.decide_with(taught=Taught({"propseg": frozenset(["00", "01"])}, frozenset(["00"])))
        assert others["verdict"] == "clear"  # they favour propseg, yet deepseg is better
        assert "2 of these 20 people (2 of the 20 compared) were used to train the cord detectors" in verdict_sentence(
            others
        )
        assert others["prediction_against_truth"]["n"] == 38
        everyone = frozenset(f"{s:02d}" for s in range(18))
        d = pilot.decide_with(taught=Taught({"deepseg": everyone}, everyone | {"18", "19"}))
        assert (d["method"], d["verdict"], d["prediction_against_truth"]) == ("deepseg", "undecided", None)
        assert "rests on people who taught deepseg; without them it does not hold" in verdict_sentence(d)
        text = write_report(d)
        assert "checked only on the others, of whom none has a reference" in text
        assert "decision.training_subjects" in write_report(pilot.decide_with())


class TestStudy:
    def test_people_per_group(self, pilot):
        d = with_errors(pilot, 40, (0, 6), (0, 1)).decide()
        rows = {row["method"]: row for row in d["study"]}
        assert rows["propseg"]["people_per_group"] > rows["deepseg"]["people_per_group"]
        low, high = rows["deepseg"]["people_per_group_ci95"]
        assert low < rows["deepseg"]["people_per_group"] < high
        assert "## What it means for the study" in write_report(d)
        half = pilot.decide(effect_pct=2.5)["study"][0]["people_per_group"]
        assert half == pytest.approx(4 * d["study"][0]["people_per_group"], rel=0.05)

    def test_a_method_that_hides_atrophy_needs_as_many_people(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(40):
            truth, e = 70 + 7 * rng.standard_normal(), rng.standard_normal(2)
            areas = {"propseg": truth * (1 + e[0] / 100), "deepseg": (70 * truth) ** 0.5 * (1 + e[1] / 200)}
            rows = {m: {"csa_error_pct": 100 * (a / truth - 1), "csa_mean_mm2": a} for m, a in areas.items()}
            pilot.add(f"{s:02d}", rows)
        d = pilot.decide()
        true, hiding = d["study"]
        assert hiding["sd_pct"] < 0.6 * true["sd_pct"]
        assert hiding["people_per_group"] == pytest.approx(true["people_per_group"], rel=0.1)
        assert "deepseg draws small cords too large" in write_report(d)
        assert "propseg draws" not in write_report(d)

    def test_methods_are_measured_in_the_same_people(self, pilot):
        with_errors(pilot, 20, (0, 1), (0, 1))
        for n, row in enumerate(pilot.metrics):
            if row.method == "propseg" and n < 12:
                pilot.metrics[n] = cut_short(row)
        assert [row["n"] for row in pilot.decide()["study"]] == [14, 14]

    def test_areas_without_spread_give_no_sample_size(self, pilot):
        for s in range(8):
            pilot.add(f"{s}", {"propseg": {}, "deepseg": {}})
        assert {row["people_per_group"] for row in pilot.decide()["study"]} == {None}
        text = write_report(pilot.decide(aim="change", repeats={"by": "run"}))
        assert "six people scanned twice" in text

    def test_slope(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(20):
            size = 50 + 2.0 * s
            squeezed = 70 * (size / 70) ** 0.8
            error = 100 * (squeezed / size - 1) + 0.1 * rng.standard_normal()
            pilot.add(f"{s:02d}", {
                "propseg": {"csa_mean_mm2": squeezed, "csa_error_pct": error, "dice": 0.9},
                "deepseg": {"csa_mean_mm2": size, "csa_error_pct": 0.1 * rng.standard_normal(), "dice": 0.9},
            })  # fmt: skip
        errors = pilot.decide()["area_errors"]
        assert errors["propseg"]["slope"] == pytest.approx(0.8, abs=0.01)
        assert errors["deepseg"]["slope_ci95"][0] < 1 < errors["deepseg"]["slope_ci95"][1]


class TestPlan:
    def test_the_plan_is_written_when_the_pilot_starts_and_changes_are_reported(self, pilot):
        first, later = DecisionParams(), DecisionParams(effect_pct=3.0, aim="change")
        fix_plan(pilot.folder, DecisionParams(effect_pct=9.0), is_started=False)
        plan = fix_plan(pilot.folder, first, is_started=False)  # no result exists yet
        assert plan.content["effect_pct"] == 5.0
        assert fix_plan(pilot.folder, later, is_started=True) == plan
        found = describe_plan(plan, later)
        assert found["fixed_sha256"] == plan.sha256 != found["sha256"]
        assert found["changes"][:2] == ["aim: groups before, change now", "effect_pct: 5 before, 3 now"]
        assert found["changes"][2].startswith("endpoints: [csa_error, ")  # those of the other aim

    def test_a_plan_written_after_the_pilot_does_not_count(self, pilot):
        plan = fix_plan(pilot.folder, DecisionParams(), is_started=True)
        assert describe_plan(plan, DecisionParams())["fixed_sha256"] is None

    def test_the_decision_shows_the_plan(self, pilot):
        metrics = with_dice(pilot, 8, 0.04).write()
        write_index(pilot.folder, [study_image(f"{s:02d}") for s in range(8)])
        plan = fix_plan(pilot.folder, DecisionParams(), is_started=False)
        question = Question(methods=["propseg", "deepseg"], params=DecisionParams(effect_pct=2.0), fitted=METHODS)
        d = decide_from_files(metrics, table=pilot.folder.images, question=question)
        text = write_report(d)
        assert f"written before the pilot, {plan.sha256[:12]}" in text
        assert "The plan was changed after the pilot had started: effect_pct: 5 before, 2 now." in text

    def test_a_damaged_plan_is_one_line(self, pilot):
        fix_plan(pilot.folder, DecisionParams(), is_started=False)
        text = pilot.folder.plan.read_text()
        pilot.folder.plan.write_text(text.replace("groups", "change"))
        with pytest.raises(InputError, match="checksum"):
            fix_plan(pilot.folder, DecisionParams(), is_started=True)

    def test_the_plan_covers_methods_and_references(self, pilot):
        plan = fix_plan(pilot.folder, DecisionParams(), Scope(METHODS, ["manual"]), is_started=False)
        now = describe_plan(plan, DecisionParams(), Scope((*METHODS, "third"), ["silver", "manual"]))
        assert [change.split(":")[0] for change in now["changes"]] == ["methods", "reference_kinds"]
        assert now["fixed_sha256"] != now["sha256"]
        assert describe_plan(plan, DecisionParams(), Scope(METHODS, ["manual"]))["changes"] == []
        earlier = fix_plan(pilot.folder, DecisionParams(), is_started=False)  # as earlier versions wrote it
        assert describe_plan(earlier, DecisionParams(), Scope(METHODS, ["manual"]))["changes"] == []


class TestDocument:
    KEYS = (
        *("dataset", "method", "verdict", "endpoint", "probability", "difference", "ci95", "n_participants"),
        *("n_images", "failures", "per_contrast", "excluded", "parameters", "versions", "weights_sha256"),
        *("config_sha256", "seed"),
    )

    def test_keys_of_the_contract(self, pilot):
        d = with_dice(pilot, 8, 0.02).decide()
        assert set(self.KEYS) <= set(d) == set(DECISION_KEYS)
        json.dumps(d, allow_nan=False)
        assert Decision.from_json(json.loads(json.dumps(d))).method == d["method"]

    def test_same_inputs_same_bytes(self, pilot, tmp_path):
        with_dice(pilot, 7, 0.01)
        metrics, agreement, slices = pilot.write_tables()
        config = tmp_path / "config.yaml"
        config.write_text(
            "dataset: demo\nmethods: [propseg, deepseg]\ndecision: {n_posterior: 4000, n_simulations: 20}\n"
        )
        command = ["decide", "-metrics", str(metrics), "-agreement", str(agreement), "-slices", str(slices)]
        for name in ("x", "y"):
            assert main([*command, "-config", str(config), "-o", str(tmp_path / name / "decision.json")]) == 0
        pilot.metrics.reverse()
        pilot.write()
        assert main([*command, "-config", str(config), "-o", str(tmp_path / "z" / "decision.json")]) == 0
        for end in ("json", "md"):
            first = (tmp_path / "x" / f"decision.{end}").read_bytes()
            assert first == (tmp_path / "y" / f"decision.{end}").read_bytes()
            assert first == (tmp_path / "z" / f"decision.{end}").read_bytes()

    def test_the_decision_contains_no_time(self, pilot):
        d = with_dice(pilot, 8, 0.0, spread=0.002).decide()
        words = json.dumps(d) + write_report(d)
        assert not [word for word in ("seconds", "peak_mb", "faster", "time per image", "memory") if word in words]

    def test_keys_of_the_configuration_that_it_depends_on_are_hashed(self, pilot, tmp_path):
        metrics = with_dice(pilot, 6, 0.02).write()
        config, hashes = tmp_path / "c.yaml", []
        for more in ("", "bids_dir: elsewhere", "decision: {max_fail: 0.3}"):
            config.write_text(f"dataset: demo\n{more}\n")
            command = ["decide", "-metrics", str(metrics), "-config", str(config), "-o", str(tmp_path / "d.json")]
            assert main(command) == 0
            hashes.append(json.loads((tmp_path / "d.json").read_text())["config_sha256"])
        assert hashes[0] == hashes[1] != hashes[2]

    def test_contrasts(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(8):
            for suffix, contrast, gap in (("T1w", "t1", 0.05), ("T2w", "t2", 0.03)):
                base = 0.85 + 0.01 * rng.standard_normal()
                masks = {"propseg": {"dice": base}, "deepseg": {"dice": base + gap, "coverage": 0.99}}
                pilot.add(f"{s}", masks, suffix=suffix, contrast=contrast)
        d = pilot.decide()
        assert d["per_contrast"]["t1"]["difference"] == pytest.approx(0.05)
        assert sum(d["per_contrast"]["t2"]["probability"].values()) == pytest.approx(1, abs=1e-3)
        assert d["agreement"][0]["dice"] == pytest.approx(0.9)
        text = write_report(d)
        assert "## By contrast" in text
        assert "nan" not in text.lower().replace("covariance", "")
        assert "None" not in text

    def test_disagreeing_images_are_named(self, pilot):
        with_dice(pilot, 8, 0.02)
        name = pilot.add("77", {"propseg": {"dice": 0.4}, "deepseg": {"dice": 0.9}}, dice_between=0.35)
        d = pilot.decide()
        assert d["agreement"][0]["images_below_0.7"] == [name]
        assert name in write_report(d)

    def test_left_out_images_are_listed(self, pilot):
        with_dice(pilot, 6, 0.02)
        other = replace(pilot.metrics[0].image, image_id="sub-90_T2w", subject="90")
        pilot.metrics.append(replace(pilot.metrics[0], image=other))
        metrics = pilot.write()
        image = study_image("91", included=False, pilot=False, reason="unknown suffix")
        write_index(pilot.folder, [image])
        params, code = (
            DecisionParams.from_config(FAST | {"training_subjects": ["sub-92", "91"]}),
            {"measures": "m" * 64},
        )
        question = Question(methods=["propseg", "deepseg"], params=params, code=code)
        d = decide_from_files(metrics, table=pilot.folder.images, question=question)
        assert "nobody in the study is called 92 (config key decision.training_subjects)" in d["notes"]
        assert [(row["image_id"], row["reason"]) for row in d["excluded"]] == [
            ("sub-91_T2w", "unknown suffix"),
            ("sub-90_T2w", "no result by deepseg"),
        ]

    def test_code_weights_and_libraries_are_those_of_the_masks(self, pilot):
        metrics = with_dice(pilot, 6, 0.02).write()
        write_index(pilot.folder, [study_image("a"), study_image("b", pilot=False)],
                    {"sub-a_T2w": "pilot-0001", "sub-b_T2w": "rest-0001"})  # fmt: skip
        for n, method in enumerate(("propseg", "deepseg")):
            for chunk, letter in (("pilot-0001", "ab"[n]), ("rest-0001", "z")):
                made = replace(MADE_BY, code=letter * 64, weights={"w": letter * 64}, libraries={"torch": "9.9"})
                write_chunk(pilot.folder, method, [], chunk, made)
        params, code = DecisionParams.from_config(FAST), {"measures": "m" * 64}
        question = Question(methods=["propseg", "deepseg"], params=params, code=code)
        d = decide_from_files(metrics, table=pilot.folder.images, question=question)
        assert d["weights_sha256"] == {"propseg": {"w": "a" * 64}, "deepseg": {"w": "b" * 64}}
        assert (d["code_sha256"]["propseg"], d["code_sha256"]["deepseg"]) == ("a" * 64, "b" * 64)
        assert set(d["code_sha256"]) == {"propseg", "deepseg", "measures", "decision"}
        assert d["versions"]["torch"] == "9.9"
        assert {"numpy", "scipy", "spineseg"} <= set(d["versions"])


class TestInputs:
    @pytest.mark.parametrize(
        ("section", "words"),
        [
            ({"max_fails": 0.1}, "'decision.max_fails': no such key; did you mean 'max_fail'"),
            ({"max_fail": 2}, "'decision.max_fail': expected a number from 0 to 1; found 2"),
            ({"max_fail": float("nan")}, "'decision.max_fail': expected a finite number, found nan"),
            ({"margin_dice": float("inf")}, "'decision.margin_dice': expected a finite number, found inf"),
            ({"aim": "size"}, "'decision.aim': expected one of groups, change, absolute"),
            ({"endpoints": ["dice"]}, "'decision.endpoints.0': expected one of csa_error"),
            ({"endpoints": []}, "'decision.endpoints': expected a list"),
            ({"repeats": {"by": "session"}}, "'decision.repeats.by': expected run"),
            ({"repeats": {"sessions": ["1"]}}, "'decision.repeats.sessions': expected a list of two"),
            ({"contrasts": {"T2w": 0}}, "'decision.contrasts': expected contrasts"),
            ({"by": "person"}, "'decision.by': expected one of dataset, contrast"),
            ({"effect_pct": 0}, "'decision.effect_pct': expected a number from 0.1"),
            ({"seed": "one"}, "'decision.seed': expected a whole number from 0"),
            ({"seed": 1.0}, "'decision.seed': expected a whole number from 0"),
            ({"rope_dice": True}, "'decision.rope_dice': expected a number from 0"),
            ({"rope_dice": "0.1"}, "'decision.rope_dice': expected a number from 0"),
            ({"one_method_for_all": 1}, "'decision.one_method_for_all': no such key"),
            ({"one_method_for_all": True}, "'decision.one_method_for_all': no such key"),
            ({"max_pilots": 1.5}, "'decision.max_pilots': expected a whole number"),
            ({"max_pilots": 10**400}, "'decision.max_pilots': expected a whole number"),
            ({"perturbations": 21}, "'decision.perturbations': expected a whole number from 0 to 20"),
            ({"training_subjects": "01"}, "'decision.training_subjects': expected a list of subjects"),
            ({"training_subjects": [1]}, "'decision.training_subjects"),
            ({"prefer": 3}, "'decision.prefer': expected a name, or null"),
            ({"prefer": "third"}, "'decision.prefer': expected one of methods, found 'third'"),
            ({"second_rater": "ana"}, "'decision.second_rater': expected one of methods, found 'ana'"),
            ({"level": "Q9"}, "'decision.level'"),
            ({"contrasts": ["T2W"]}, "'decision.contrasts': expected some of T1w"),
        ],
    )
    def test_wrong_settings(self, section, words):
        with pytest.raises(InputError) as caught:
            make_configuration({"dataset": "x", "decision": section})
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_settings(self):
        assert DecisionParams.from_config(None) == DecisionParams()
        assert make_configuration({"dataset": "x"}).decision == DecisionParams()
        assert DecisionParams.from_config({"max_fail": 0}).max_fail == 0.0
        assert DecisionParams.from_config({"training_subjects": ["1", "02"]}).training_subjects == ("1", "02")

    def test_keys_of_earlier_versions_are_accepted_and_reported(self, pilot):
        old = {"primary": "auto", "rope_composite": 0.2, "n_posterior": 4000, "rope_dice": 0.02, "rope_nsd": 0.03}
        params = make_configuration({"dataset": "x", "decision": old}).decision
        assert (params.margin_dice, params.margin_nsd) == (0.02, 0.03)
        assert set(params.obsolete) == {"primary", "rope_composite", "n_posterior"}
        assert set(old) == set(params.obsolete) | set(RENAMED)
        assert set(params.obsolete) <= set(OBSOLETE)
        notes = with_dice(pilot, 8, 0.04).decide(primary="composite")["notes"]
        assert any(note.startswith("config key decision.primary is no longer used") for note in notes)

    def test_wrong_tables(self, pilot, tmp_path):
        with_dice(pilot, 3, 0.02)
        with pytest.raises(InputError, match="no row for method third"):
            pilot.decide(methods=["propseg", "third"])
        with pytest.raises(InputError, match="prefer"):
            pilot.decide(prefer="third")
        pilot.metrics.append(pilot.metrics[0])
        with pytest.raises(InputError, match="two rows"):
            pilot.decide()
        (tmp_path / "bad.tsv").write_text("image_id\tmethod\n1\ta\n")
        with pytest.raises(InputError, match="column subject"):
            decide_from_files(tmp_path / "bad.tsv")
        with pytest.raises(InputError, match="no such table"):
            decide_from_files(tmp_path / "none.tsv")

    @pytest.mark.parametrize("number", range(len(TABLES)))
    def test_a_damaged_table_is_one_line_with_its_line_number(self, pilot, number):
        with_dice(pilot, 3, 0.02)
        pilot.slices.extend(SliceRow("sub-00_T2w", "propseg", k, {"csa_mm2": 70.0}) for k in range(3))
        paths = pilot.write_tables()
        if paths[number].suffix == ".gz":
            paths[number].write_bytes(paths[number].read_bytes()[:-9])
            words = "not a whole table"
        else:
            lines = paths[number].read_text().splitlines(keepends=True)
            paths[number].write_text("".join([*lines[:2], lines[2].replace("\n", "\tmore\n"), *lines[3:]]))
            words = "line 3: expected"
        with pytest.raises(InputError, match=words) as caught:
            decide_from_files(paths[0], paths[1], slices=paths[2])
        assert str(paths[number]) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_command_line_errors_are_one_line(self, pilot, tmp_path, capsys):
        metrics = with_dice(pilot, 3, 0.02).write()
        bad = tmp_path / "bad.yaml"
        for text in ("dataset: x\ndecision: {nothing: 1}", "[1, 2", "dataset: x\ndecision: {seed: .nan}", "- a"):
            bad.write_text(text)
            assert main(["decide", "-metrics", str(metrics), "-config", str(bad), "-o", str(tmp_path / "d.json")]) == 2
            assert capsys.readouterr().err.count("\n") == 1
            assert not (tmp_path / "d.json").exists()


def test_images_that_look_like_another_contrast_are_named(pilot):
    for person in range(6):
        doubt = {"contrast_doubt": "looks like t1/dwi, not t2: ..."} if person == 3 else {}
        pilot.add(f"{person:02d}", {"propseg": doubt, "deepseg": doubt})
    decision = pilot.decide()
    words = "1 image may have another contrast than configured: sub-03_T2w"
    assert any(note.startswith(words) for note in decision["notes"])
    assert words in write_report(decision)
