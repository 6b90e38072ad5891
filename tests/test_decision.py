"""The rule on made-up pilots whose right answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import MADE_BY, study_folder, study_image, write_chunk, write_index

from spineseg.cli import main
from spineseg.decision.endpoints import KINDS, ORDER, compute_endpoint, scan_rescan_cov
from spineseg.decision.evidence import load_evidence
from spineseg.decision.from_files import Question, decide_from_files
from spineseg.decision.params import PRIMARY_CHOICES, DecisionParams
from spineseg.decision.report_text import verdict_sentence, write_report
from spineseg.errors import InputError
from spineseg.measures import MEASURES
from spineseg.study.configuration import make_configuration
from spineseg.studyfolder.layout import TABLES, Stage
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
FAST = {"n_bootstrap": 500, "n_posterior": 4000, "n_simulations": 30, "max_pilots": 60}


TEXTS = ("status", "guessed_contrast", "contrast_doubt", "message")


class Pilot:
    """Tables of a pilot, built image by image; `metrics` holds rows whose values a test may change."""

    def __init__(self, root: Path):
        self.folder = study_folder(root)
        self.metrics: list[MetricsRow] = []
        self.agreement: list[AgreementRow] = []
        self.slices: list[SliceRow] = []

    def add(self, subject, methods, *, suffix="T2w", contrast="t2", session="", run="", dice_between=0.9):
        """Add an image; `methods` goes from name to what differs from `GOOD`, None where a value is not known."""
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
        question = Question("demo", list(methods), params, override)
        return decide_from_files(metrics, agreement, slices=slices, question=question)


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


class TestVerdict:
    def test_clearly_better(self, pilot):
        d = with_dice(pilot, 12, 0.04).decide()
        assert (d["method"], d["verdict"], d["endpoint"]) == ("deepseg", "clear", "dice")
        assert d["probability"]["deepseg"] >= 0.9
        assert d["ci95"][0] < 0.04 < d["ci95"][1]
        assert d["difference"] == pytest.approx(0.04, abs=0.01)
        assert d["stability"]["n_flips"] == 0
        assert d["pilots"]["further_needed"] is None

    def test_equal_takes_the_preferred_and_else_the_first_of_the_list(self, pilot):
        with_dice(pilot, 15, 0.0, spread=0.002)
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("propseg", "equivalent")
        assert d["probability"]["equivalent"] >= 0.9
        assert "it comes first in the list of methods" in verdict_sentence(d)
        d = pilot.decide(methods=["deepseg", "propseg"])
        assert (d["method"], d["verdict"]) == ("deepseg", "equivalent")
        d = pilot.decide(prefer="deepseg")
        assert (d["method"], d["verdict"]) == ("deepseg", "equivalent")
        assert "preferred" in verdict_sentence(d)

    def test_undecided_says_how_many_more(self, pilot):
        with_dice(pilot, 7, 0.014, spread=0.02)
        d = pilot.decide()
        assert d["verdict"] == "undecided"
        assert d["method"] == d["best"]
        assert d["pilots"]["further_needed"] is None or d["pilots"]["further_needed"] >= 1
        other = "propseg" if d["best"] == "deepseg" else "deepseg"
        assert pilot.decide(prefer=other)["method"] == other

    def test_never_clear_below_six(self, pilot):
        d = with_dice(pilot, 5, 0.2).decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert d["probability"]["deepseg"] > 0.9
        assert any("fewer than 6" in note for note in d["notes"])
        assert d["p_wilcoxon"] == pytest.approx(0.0625)

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
        assert low == pytest.approx(0.254, abs=1e-3)
        assert high == pytest.approx(0.746, abs=1e-3)
        assert d["mcnemar_p"] == pytest.approx(2 / 64)
        assert d["difference"] == 0.5
        assert d["ci95"][0] > 0.1
        assert "propseg" in " ".join(d["notes"])

    def test_one_fails_often_in_few(self, pilot):
        for s in range(4):
            pilot.add(f"{s}", {"propseg": {"status": "failed"} if s < 2 else {}, "deepseg": {}})
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")

    def test_partial_masks_fail_only_when_short(self, pilot):
        for s in range(10):
            short = {"status": "partial", "coverage": 0.5 if s < 3 else 0.85}
            pilot.add(f"{s}", {"propseg": short, "deepseg": {}})
        d = pilot.decide()
        assert d["failures"]["propseg"]["n_failed"] == 3
        assert d["method"] == "deepseg"

    def test_one_method(self, pilot):
        for s in range(8):
            pilot.add(f"{s}", {"deepseg": {}})
        d = pilot.decide(methods=["deepseg"])
        assert (d["method"], d["verdict"], d["computed"]["basis"]) == ("deepseg", "undecided", "single")
        assert d["probability"] is None
        assert "only method" in write_report(d)

    def test_three_and_four_methods(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(12):
            dice = {"a": 0.80, "b": 0.9, "c": 0.85, "e": 0.9}
            pilot.add(f"{s:02d}", {m: {"dice": v + 0.003 * rng.standard_normal()} for m, v in dice.items()})
        three = pilot.decide(methods=["a", "b", "c"])
        assert (three["method"], three["verdict"], three["runner_up"]) == ("b", "clear", "c")
        assert three["probability"]["a"] is None
        four = pilot.decide(methods=["a", "b", "c", "e"], prefer="e")
        assert (four["method"], four["verdict"]) == ("e", "equivalent")
        assert {four["best"], four["runner_up"]} == {"b", "e"}

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
            pilot.add("00", {"propseg": {"dice": 0.7}, "deepseg": {"dice": 0.9}}, run=str(run))
        for s in range(1, 8):
            pilot.add(f"{s:02d}", {"propseg": {"dice": 0.93}, "deepseg": {"dice": 0.88}})
        d = pilot.decide()
        assert d["n_participants"] == 8
        assert d["n_compared"] == 8
        assert d["probability"]["propseg"] > d["probability"]["deepseg"]

    def test_failure_counts_as_no_overlap(self, pilot):
        with_dice(pilot, 11, 0.0, spread=0.001)
        pilot.add("99", {"propseg": {"status": "failed", "dice": None}, "deepseg": {"dice": 0.9}})
        evidence = load_evidence(pilot.write(), ["propseg", "deepseg"], coverage_limit=0.8)
        endpoint = compute_endpoint(evidence, "dice", DecisionParams())
        assert endpoint.means[-1].tolist() == [0.0, 0.9]

    def test_training_people_stay_out(self, pilot):
        with_dice(pilot, 12, 0.04)
        d = pilot.decide(training_subjects=["00", "sub-01"])
        assert d["n_participants"] == 10
        assert [row["reason"] for row in d["excluded"]] == ["a method was trained on this person"] * 2


class TestEndpoints:
    def test_few_references_fall_back(self, pilot):
        for s in range(10):
            values = {"dice": 0.9} if s < 4 else {}
            pilot.add(f"{s}", {"propseg": values | {"coverage": 0.85, "plausible": 0.7}, "deepseg": values})
        d = pilot.decide()
        assert (d["endpoint"], d["method"], d["verdict"]) == ("composite", "deepseg", "clear")
        assert any("known for 4 participants, 5 needed" in note for note in d["notes"])
        assert "Draw reference masks" in write_report(d)
        assert pilot.decide(min_references=4)["endpoint"] == "dice"

    def test_named_endpoint_that_is_missing_is_said(self, pilot):
        for s in range(8):
            pilot.add(f"{s}", {"propseg": {}, "deepseg": {}})
        d = pilot.decide(primary="nsd")
        assert d["endpoint"] == "composite"
        assert any("known for 0 participants" in note for note in d["notes"])

    def test_scan_rescan(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(10):
            noise = {"propseg": 2.0, "deepseg": 0.1}
            for run in ("1", "2"):
                values = {m: {"csa_mean_mm2": 70 + sd * rng.standard_normal()} for m, sd in noise.items()}
                pilot.add(f"{s}", values, run=run)
        d = pilot.decide()
        assert (d["endpoint"], d["method"]) == ("scan_rescan_cov", "deepseg")
        assert d["difference"] > 0
        reliability = d["reliability"]["propseg"]
        assert reliability["n_repeated"] == 10
        assert reliability["icc"] < 0.5
        assert reliability["minimal_detectable_change_mm2"] == pytest.approx(1.96 * 2**0.5 * 2, rel=0.5)
        assert "How each method repeats itself" in write_report(d)

    def test_scan_rescan_value(self, pilot):
        for run, area in (("1", 70.0), ("2", 72.0)):
            pilot.add("01", {"propseg": {"csa_mean_mm2": area}, "deepseg": {"csa_mean_mm2": 50.0}}, run=run)
        pilot.add("02", {"propseg": {}, "deepseg": {}}, run="1")
        evidence = load_evidence(pilot.write(), ["propseg", "deepseg"], coverage_limit=0.8)
        expected = 100 * np.sqrt(2.0**2 / 2) / 71
        np.testing.assert_allclose(scan_rescan_cov(evidence), [[expected, 0], [np.nan, np.nan]])

    def test_inter_contrast(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(8):
            for suffix, contrast, start in (("T1w", "t1", 0), ("T2w", "t2", 10)):
                image_id = pilot.add(f"{s}", {"propseg": {}, "deepseg": {}}, suffix=suffix, contrast=contrast)
                for method, bias in (("propseg", 6.0), ("deepseg", 1.0)):
                    for k in range(40):
                        z = start + 2.0 * k
                        # the area changes along the cord, so that only the common stretch may count
                        csa = 60 + 0.2 * z + bias * (contrast == "t1") + 0.1 * rng.standard_normal()
                        pilot.slices.append(SliceRow(image_id, method, k, {"csa_mm2": csa, "centroid_z_mm": z}))
        d = pilot.decide()
        assert (d["endpoint"], d["method"], d["verdict"]) == ("inter_contrast_sd", "deepseg", "clear")
        assert d["difference"] == pytest.approx(5 / np.sqrt(2), abs=0.1)
        assert set(d["per_contrast"]) == {"t1", "t2"}
        assert d["per_contrast"]["t1"]["endpoint"] == "composite"

    def test_composite_counts_signs(self, pilot):
        worse = {
            "coverage": 0.9,
            "csa_roughness": 0.02,
            "n_components": 3,
            "plausible": 1.0,
            "centre_roughness": 0.0501,
        }
        pilot.add("01", {"propseg": worse, "deepseg": {}})
        pilot.add(
            "02", {"propseg": {"status": "failed", "coverage": 0.0} | dict.fromkeys(list(worse)[1:]), "deepseg": {}}
        )
        evidence = load_evidence(pilot.write(), ["propseg", "deepseg"], coverage_limit=0.8)
        endpoint = compute_endpoint(evidence, "composite", DecisionParams())
        np.testing.assert_allclose(endpoint.differences[1, 0], [3 / 5, 1.0])
        np.testing.assert_allclose(endpoint.differences[0, 1], [-3 / 5, -1.0])

    def test_smoothness_alone_does_not_decide(self, pilot):
        for s in range(12):
            smooth = {"csa_roughness": 0.005, "centre_roughness": 0.01}
            pilot.add(f"{s:02d}", {"propseg": smooth, "deepseg": {}})
        d = pilot.decide()
        assert d["probability"]["propseg"] > 0.9
        assert d["verdict"] == "undecided"
        assert any("only smoothness" in note for note in d["notes"])
        assert d["pilots"]["further_needed"] is None

    @pytest.mark.parametrize(
        ("dice_between", "verdict"), [(0.95, "equivalent"), (0.85, "undecided"), (None, "undecided")]
    )
    def test_equal_proxies_mean_equal_methods_only_if_masks_agree(self, pilot, dice_between, verdict):
        for s in range(10):
            pilot.add(f"{s:02d}", {"propseg": {}, "deepseg": {}}, dice_between=dice_between)
        d = pilot.decide()
        assert (d["endpoint"], d["verdict"]) == ("composite", verdict)
        assert ("blind to size" in " ".join(d["notes"])) == (verdict == "undecided")
        assert write_report(d)

    def test_other_size_cannot_be_clear_without_reference(self, pilot):
        for s in range(12):
            short = {"coverage": 0.85, "plausible": 0.7}
            pilot.add(f"{s:02d}", {"propseg": short, "deepseg": {}})
        assert pilot.decide()["verdict"] == "clear"
        for row in pilot.agreement:
            row.values["csa_difference_mm2"] = -14.0
        d = pilot.decide()
        assert (d["method"], d["verdict"]) == ("deepseg", "undecided")
        assert any("differ by 20 %" in note for note in d["notes"])

    def test_unreadable_images_are_nobodys_failure(self, pilot):
        with_dice(pilot, 8, 0.03)
        broken = {"status": "failed", "message": "x.nii.gz: damaged", "dice": None}
        name = pilot.add("70", {"propseg": broken, "deepseg": broken})
        pilot.add("71", {"propseg": broken | {"message": "MemoryError"}, "deepseg": broken})
        d = pilot.decide()
        assert {"image_id": name, "reason": "x.nii.gz: damaged"} in d["excluded"]
        assert d["failures"]["propseg"]["n_failed"] == d["failures"]["deepseg"]["n_failed"] == 1

    def test_repeats_with_a_failure(self, pilot):
        for run, area in (("1", 70.0), ("2", 72.0), ("3", None)):
            pilot.add("01", {"propseg": {"csa_mean_mm2": area}, "deepseg": {"csa_mean_mm2": 50.0}}, run=run)
        evidence = load_evidence(pilot.write(), ["propseg", "deepseg"], coverage_limit=0.8)
        np.testing.assert_allclose(scan_rescan_cov(evidence), [[100 * 2**0.5 / 71, 0]])


class TestPredictedDice:
    def add(self, pilot, n, a, b, **rest):
        rng = np.random.default_rng(0)
        for s in range(n):
            noise = 0.005 * rng.standard_normal(2)
            rows = {
                method: {
                    "predicted_dice": value + e,
                    "predicted_dice_low": 0.7,
                    "predicted_dice_high": 0.99,
                    "flagged": 0,
                }
                for method, value, e in zip(("propseg", "deepseg"), (a, b), noise, strict=True)
            }
            pilot.add(f"{s:02d}", {m: row | rest.get(m, {}) for m, row in rows.items()})
        return pilot

    def test_comes_after_references_and_before_the_other_proxies(self, pilot):
        self.add(pilot, 12, 0.90, 0.96)
        d = pilot.decide()
        assert (d["endpoint"], d["method"], d["verdict"]) == ("predicted_dice", "deepseg", "clear")
        assert d["difference"] == pytest.approx(0.06, abs=0.005)
        assert any("edges favour propseg" in text for text in d["cautions"])
        assert pilot.decide(primary="composite")["endpoint"] == "composite"
        for row in pilot.metrics[:10]:
            row.values["dice"] = 0.9
        assert pilot.decide()["endpoint"] == "dice"

    def test_an_error_that_a_method_shares_keeps_small_differences_from_being_clear(self, pilot):
        self.add(pilot, 12, 0.95, 0.965)
        assert pilot.decide(systematic_predicted_dice=0.0)["verdict"] == "clear"
        d = pilot.decide(systematic_predicted_dice=0.03)
        assert (d["verdict"], d["method"]) == ("undecided", "deepseg")
        assert d["pilots"]["further_needed"] is None  # more people do not help against it
        assert 0.4 < d["probability"]["deepseg"] < 0.8

    def test_ranks_and_mean_must_agree_to_be_clear(self, pilot):
        self.add(pilot, 11, 0.90, 0.96)
        assert pilot.decide()["verdict"] == "clear"
        pilot.metrics[1].values["predicted_dice"] = 0.4  # one person in whom the better method fails
        d = pilot.decide()
        assert d["probability"]["deepseg"] >= 0.9
        assert (d["verdict"], d["method"]) == ("undecided", "deepseg")
        assert any("most participants favour deepseg" in note for note in d["notes"])

    def test_rare_failures_are_no_equivalence(self, pilot):
        self.add(pilot, 11, 0.95, 0.95)
        pilot.add("99", {"propseg": {"predicted_dice": 0.0, "status": "empty"}, "deepseg": {"predicted_dice": 0.95}})
        d = pilot.decide(systematic_predicted_dice=0.0, max_fail=0.5)
        assert (d["verdict"], d["method"]) == ("undecided", "deepseg")

    def test_flagged_images_are_named_and_the_prediction_is_checked_where_it_can_be(self, pilot):
        self.add(pilot, 8, 0.90, 0.96)
        for n, row in enumerate(pilot.metrics[:6]):
            row.values["dice"] = row.values["predicted_dice"] - (0.02 if row.method == "propseg" else 0.0)
            row.values["predicted_dice_low"] = 0.95 if n == 0 else 0.5
        pilot.metrics[1].values["flagged"] = 1
        d = pilot.decide()
        assert d["flagged"] == {"propseg": [], "deepseg": ["sub-00_T2w"]}
        check = d["prediction_against_truth"]
        assert (check["n"], check["covered"]) == (6, pytest.approx(5 / 6))
        assert check["bias"] == {"propseg": pytest.approx(0.02), "deepseg": pytest.approx(0)}
        assert check["mean_abs_error"] == pytest.approx(0.01)
        text = write_report(d)
        assert "Look first at the images on which the mask of deepseg is probably wrong" in text
        assert "Predicted against measured Dice, 6 masks" in text
        assert d["proxies_against_truth"]["predicted_dice"]["spearman"] > 0.5


class TestDocument:
    KEYS = (
        *("dataset", "method", "verdict", "endpoint", "probability", "difference", "ci95", "n_participants"),
        *("n_images", "failures", "per_contrast", "excluded", "parameters", "versions", "weights_sha256"),
        *("config_sha256", "seed"),
    )

    def test_keys_of_the_contract(self, pilot):
        d = with_dice(pilot, 8, 0.02).decide()
        assert set(self.KEYS) <= set(d)
        json.dumps(d, allow_nan=False)

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

    def test_no_time_stands_in_it(self, pilot):
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

    def test_other_seed_other_stream_same_verdict(self, pilot):
        with_dice(pilot, 10, 0.03)
        one, two = pilot.decide(seed=1), pilot.decide(seed=2)
        assert one["verdict"] == two["verdict"] == "clear"
        assert one["ci95"] != two["ci95"]

    def test_secondary_and_contrasts(self, pilot):
        rng = np.random.default_rng(0)
        for s in range(8):
            for suffix, contrast, gap in (("T1w", "t1", 0.05), ("T2w", "t2", 0.03)):
                base = 0.85 + 0.01 * rng.standard_normal()
                masks = {"propseg": {"dice": base}, "deepseg": {"dice": base + gap, "coverage": 0.99}}
                pilot.add(f"{s}", masks, suffix=suffix, contrast=contrast)
        d = pilot.decide()
        assert d["per_contrast"]["t1"]["difference"] == pytest.approx(0.05)
        assert d["per_contrast"]["t2"]["p_holm"] >= d["per_contrast"]["t2"]["p_wilcoxon"]
        assert d["secondary"]["coverage"]["better"] == "propseg"
        assert d["agreement"][0]["dice"] == pytest.approx(0.9)
        text = write_report(d)
        assert "## By contrast" in text
        assert "nan" not in text.lower()
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
        params, code = DecisionParams.from_config(FAST), {"measures": "m" * 64}
        question = Question(methods=["propseg", "deepseg"], params=params, code=code)
        d = decide_from_files(metrics, table=pilot.folder.images, question=question)
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
            ({"rope_dice": float("inf")}, "'decision.rope_dice': expected a finite number, found inf"),
            ({"primary": "size"}, "'decision.primary': expected one of auto, dice"),
            ({"seed": "one"}, "'decision.seed': expected a whole number from 0"),
            ({"seed": 1.0}, "'decision.seed': expected a whole number from 0"),
            ({"rope_dice": True}, "'decision.rope_dice': expected a number from 0"),
            ({"rope_dice": "0.1"}, "'decision.rope_dice': expected a number from 0"),
            ({"one_method_for_all": 1}, "'decision.one_method_for_all': no such key"),
            ({"one_method_for_all": True}, "'decision.one_method_for_all': no such key"),
            ({"n_bootstrap": 1.5}, "'decision.n_bootstrap': expected a whole number"),
            ({"n_bootstrap": 10**400}, "'decision.n_bootstrap': expected a whole number"),
            ({"perturbations": 21}, "'decision.perturbations': expected a whole number from 0 to 20"),
            ({"training_subjects": "01"}, "'decision.training_subjects': expected a list of subjects"),
            ({"training_subjects": [1]}, "'decision.training_subjects"),
            ({"prefer": 3}, "'decision.prefer': expected a method, or null"),
            ({"prefer": "third"}, "'decision.prefer': expected one of methods, found 'third'"),
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

    def test_every_endpoint_is_a_measure_with_a_direction_and_a_rope(self):
        assert set(ORDER) <= set(KINDS) <= set(MEASURES)
        assert set(PRIMARY_CHOICES) == {"auto", *KINDS}
        for key, kind in KINDS.items():
            assert kind.measure.higher_is_better is not None
            assert hasattr(DecisionParams(), f"rope_{key}")

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


def test_self_agreement_decides_where_it_is_asked_for_only(pilot):
    rng = np.random.default_rng(5)
    for person in range(8):
        shaky, steady = 3 + rng.random(), 0.5 + 0.2 * rng.random()
        pilot.add(f"{person:02d}", {"propseg": {"perturb_csa_cv": shaky}, "deepseg": {"perturb_csa_cv": steady}})
    usual = pilot.decide()
    assert usual["endpoint"] == "composite"
    assert usual["secondary"]["perturb_csa_cv"]["better"] == "deepseg"
    asked = pilot.decide(primary="perturb_csa_cv")
    assert (asked["endpoint"], asked["verdict"], asked["method"]) == ("perturb_csa_cv", "clear", "deepseg")
    assert asked["unit"] == "%"
    assert "Measures precision, not truth" in write_report(asked)


def test_images_that_look_like_another_contrast_are_named(pilot):
    for person in range(6):
        doubt = {"contrast_doubt": "looks like t1/dwi, not t2: ..."} if person == 3 else {}
        pilot.add(f"{person:02d}", {"propseg": doubt, "deepseg": doubt})
    decision = pilot.decide()
    words = "1 image looks like another contrast than taken for: sub-03_T2w"
    assert any(note.startswith(words) for note in decision["notes"])
    assert words in write_report(decision)
