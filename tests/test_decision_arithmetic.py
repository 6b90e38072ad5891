"""Arithmetic of the decision against values worked out by hand or by enumeration."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import exp, log

import numpy as np
import pytest

from spineseg.decision.comparison import ratio_margin
from spineseg.decision.endpoints import area_margin, compare_failures, compare_pair
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import judge
from spineseg.decision.shares import paired_share_limits, paired_share_probabilities
from spineseg.decision.stability import MOST_DROPS, leave_one_out
from spineseg.decision.statistics import (
    RULE,
    SQUARES,
    Estimate,
    Strata,
    log_ratio_strata,
    pool_sds,
    ratio_influence,
)
from spineseg.studyfolder.marks import Preference

PARAMS = DecisionParams.from_config({})
PAIR = (0, 1)


def make_evidence(n, *, contrasts=("t2",), sites=None, **values):
    """`n` people with one image of each contrast by two methods; values are (n * C, 2), person by person."""
    people = np.repeat([f"{p:03d}" for p in range(n)], len(contrasts))
    contrast = np.tile(contrasts, n)
    blank = np.full(people.size, "")
    unknown = np.full((people.size, 2), np.nan)
    columns = ("dice", "nsd", "csa_error_pct", "csa_mean_mm2", "predicted_dice")
    return Evidence(
        methods=("propseg", "deepseg"),
        image_id=np.char.add(np.char.add(people, "_"), contrast),
        subject=people,
        session=blank,
        run=blank,
        contrast=contrast,
        failed=np.asarray(values.pop("failed", np.zeros((people.size, 2))), bool),
        values={name: np.asarray(values.pop(name, unknown), float) for name in columns},
        reference_from=blank,
        group=blank,
        site=blank if sites is None else np.repeat(sites, len(contrasts)),
        **values,
    )


class TestPooledSds:
    def test_geometric_mean_by_weight(self):
        sd, df = pool_sds(np.array([2.0, 8.0]), np.array([4.0, 9.0]), np.array([3.0, 1.0]))
        assert sd == pytest.approx(2**0.75 * 8**0.25)
        assert df == pytest.approx(1 / (0.75**2 / 4 + 0.25**2 / 9))

    def test_equal_contrasts_add_their_degrees_of_freedom(self):
        assert pool_sds(np.full(3, 2.0), np.full(3, 5.0), np.ones(3)) == pytest.approx((2.0, 15.0))

    def test_unknown_values_are_ignored(self):
        sds, df = np.array([2.0, np.nan, 3.0, 5.0]), np.array([4.0, 4.0, 0.0, 4.0])
        assert pool_sds(sds, df, np.array([1.0, 1.0, 1.0, 0.0])) == pytest.approx((2.0, 4.0))
        nothing, free = pool_sds(sds[1:2], df[1:2], np.ones(1))
        assert np.isnan(nothing)
        assert free == 0

    def test_a_contrast_without_spread(self):
        assert pool_sds(np.array([0.0, 8.0]), np.array([4.0, 4.0]), np.ones(2)) == pytest.approx((0.0, 8.0))


class TestInfluenceOnARatio:
    @pytest.mark.parametrize("r2", [0.0, 0.6])
    @pytest.mark.parametrize("margin", [0.5, 4.0])
    def test_similar_people_have_the_error_of_the_formula(self, margin, r2):
        """Where the margin lies on the scale of ratios is as uncertain as the two SDs from which it follows."""
        n, df, variance = 8, 7.0, np.array([4.0, 9.0])
        influence = ratio_influence(np.ones((n, 2)), variance, df, r2, margin)
        size = float(variance.prod()) ** 0.25
        step = 1e-5
        slope = (ratio_margin(margin, size * (1 + step), size * (1 + step)) - ratio_margin(margin, size, size)) / step
        expected = SQUARES * ((1 - r2) / df + slope**2 * (1 + r2) / (4 * df))
        assert (influence**2).sum() / (n * (n - 1)) == pytest.approx(expected, rel=1e-3)
        assert influence.sum() == pytest.approx(0)

    def test_people_who_differ_have_the_observed_error(self):
        relative = np.array([[4.0, 0.1], [0.2, 3.0], [0.3, 0.4], [0.5, 0.5], [0.0, 1.0]])
        influence = ratio_influence(relative, np.array([4.0, 4.0]), 400.0, 0.0, 1e-9)
        own = 0.5 * (relative[:, 1] - relative[:, 0])
        own -= own.mean()
        assert influence == pytest.approx(own * SQUARES**0.5)


class TestExchanges:
    @staticmethod
    def share_as_large(errors, about_zero, units):
        """Share of all exchanges whose ratio of spreads is as large, contrasts equal, by enumeration."""
        n = len(errors)
        ratios = []
        for swap in product((False, True), repeat=max(units) + 1):
            moved = np.where(np.array(swap)[units][:, None, None], errors[:, :, ::-1], errors)
            spread = (moved**2).sum(axis=0) if about_zero else n * moved.var(axis=0)
            ratios.append(abs(np.log(spread[:, 1] / spread[:, 0]).sum()))
        return np.mean(np.array(ratios) >= ratios[0] - 1e-9)

    @pytest.mark.parametrize("about_zero", [True, False])
    def test_sampled_exchanges_agree_with_all_exchanges(self, about_zero):
        decided = set()
        for seed in range(12):
            rng = np.random.default_rng(seed)
            errors = rng.normal(size=(8, 2, 2)) * rng.choice([1.0, 4.0], 2)
            if not about_zero:
                errors -= np.median(errors, axis=0)
            strata = Strata(np.zeros(2), np.zeros((8, 2)), np.ones(2), errors, about_zero)
            share = self.share_as_large(errors, about_zero, np.arange(8))
            if abs(share - 0.05) > 0.03:  # 400 draws cannot decide closer shares
                decided.add(share <= 0.05)
                assert strata.exceeds_exchanges(0.0, 0.95) == (share <= 0.05), share
        assert decided == {True, False}

    def test_people_of_a_site_change_places_together(self):
        errors = np.random.default_rng(0).normal(size=(12, 1, 2)) * [1.0, 9.0]
        strata = Strata(np.array([log(9)]), np.zeros((12, 1)), np.ones(1), errors)
        assert strata.exceeds_exchanges(0.0, 0.95)
        for sites in (np.arange(12) % 2, np.arange(12) % 4):  # an exchange of all gives the same ratio
            assert not strata.exceeds_exchanges(0.0, 0.95, sites)

    def test_the_same_each_time(self):
        errors = np.random.default_rng(3).normal(size=(14, 1, 2)) * [1.0, 1.9]
        strata = Strata(np.zeros(1), np.zeros((14, 1)), np.ones(1), errors)
        levels = np.linspace(0.5, 0.999, 500)
        answers = [[strata.exceeds_exchanges(0.0, level) for level in levels] for _ in range(2)]
        assert answers[0] == answers[1]
        assert len(set(answers[0])) == 2


class TestShares:
    @staticmethod
    def failures(evidence):
        return compare_failures(evidence, PAIR, PARAMS)

    def test_one_image_each_is_counted(self):
        failed = np.zeros((20, 2))
        failed[:5, 0], failed[3:7, 1] = 1, 1
        found = self.failures(make_evidence(20, failed=failed))
        assert (found.n, found.n_sites, found.means) == (20, 1, pytest.approx((0.25, 0.2)))
        assert found.estimate == pytest.approx(-0.05)
        assert found.interval == pytest.approx(paired_share_limits(2, 3, 20, RULE))

    def test_people_with_both_contrasts_count_once(self):
        """Each person counts once, by the mean over contrasts."""
        failed = np.zeros((40, 2))
        failed[0:6, 0] = 1  # three people in both contrasts
        found = self.failures(make_evidence(20, contrasts=("t1", "t2"), failed=failed))
        assert found.interval == pytest.approx(paired_share_limits(0, 3, 20, RULE))
        assert [one.n for one in found.by_contrast.values()] == [20, 20]
        assert list(found.by_contrast) == ["t1", "t2"]

    def test_sites_that_fail_together_count_as_sites(self):
        """Eight sites of ten people; all of two sites fail: the people count as the sites do."""
        sites = np.repeat([f"s{s}" for s in range(8)], 10)
        failed = np.zeros((80, 2))
        failed[:20, 0] = 1
        found = self.failures(make_evidence(80, sites=sites, failed=failed))
        plain = self.failures(make_evidence(80, failed=failed))
        assert found.n_sites == 8
        assert found.estimate == plain.estimate == pytest.approx(-0.25)
        # of 80 people the variance is p q / 79, of 8 sites p q / 7
        low, high = paired_share_limits(0, 0.25 * 80 * 7 / 79, 80 * 7 / 79, RULE)
        assert found.interval == pytest.approx((low, max(0.0, high)), abs=0.01)
        assert {name: one.estimate for name, one in found.by_site.items()} == pytest.approx(
            {f"s{s}": -1.0 if s < 2 else 0.0 for s in range(8)}
        )

    def test_two_sites_are_two_sites(self):
        sites = np.repeat(["a", "b"], 20)
        failed = np.zeros((40, 2))
        failed[:20, 0] = 1
        found = self.failures(make_evidence(40, sites=sites, failed=failed))
        assert found.n_sites == 2
        assert set(found.by_site) == {"a", "b"}
        assert found.interval == pytest.approx(paired_share_limits(0, 0.5 * 40 / 39, 40 / 39, RULE), abs=0.01)

    @pytest.mark.parametrize(("n_sites", "sides"), [(4, False), (5, False), (8, True)])
    def test_sites_all_on_one_side(self, n_sites, sides):
        """By chance in one of 2^(n-1) cases."""
        sites = np.repeat([f"s{s}" for s in range(n_sites)], 10)
        failed = np.zeros((sites.size, 2))
        failed[::2, 0] = 1
        found = self.failures(make_evidence(sites.size, sites=sites, failed=failed))
        assert (found.interval[1] < 0) == sides


class TestAreas:
    def test_the_margin_is_that_of_the_raters_if_larger(self):
        evidence = make_evidence(3)
        small = replace(PARAMS, effect_pct=2.0)
        assert area_margin(evidence, small) == small.margin_csa_pct == pytest.approx(0.5)
        assert area_margin(replace(evidence, rater_error={"csa": 3.0}), small) == 3.0

    def test_gap_of_a_pair_in_either_order(self):
        areas = np.array([[70.0, 66.0], [60.0, 61.0], [50.0, 40.0]])
        failed = [[0, 0], [0, 0], [0, 1]]
        pairs = {("propseg", "deepseg"): {"csa_difference_mm2": np.array([4.0, -1.0, 10.0])}}
        evidence = make_evidence(3, csa_mean_mm2=areas, failed=failed, pairs=pairs)
        expected = [100 * 4 / 68, -100 * 1 / 60.5, np.nan]
        assert evidence.area_gap(0, 1) == pytest.approx(expected, nan_ok=True)
        assert evidence.area_gap(1, 0) == pytest.approx([-x for x in expected], nan_ok=True)
        assert replace(evidence, pairs={}).area_gap(0, 1) is None


class TestAPair:
    def test_each_endpoint_as_computed_by_hand(self):
        rng = np.random.default_rng(8)
        dice = rng.uniform(0.9, 0.95, (12, 2))
        errors = rng.normal(0, [2.0, 5.0], (12, 2))
        evidence = make_evidence(12, dice=dice, nsd=dice, predicted_dice=dice, csa_error_pct=errors)
        found = compare_pair(evidence, *PAIR, PARAMS)
        assert list(found) == ["failures", "csa_error", "bias", "dice", "nsd", "predicted_dice"]
        sds = errors.std(axis=0, ddof=1)
        assert exp(found["csa_error"].estimate) == pytest.approx(sds[1] / sds[0])
        assert found["csa_error"].means == pytest.approx(sds)
        assert found["csa_error"].margin == pytest.approx(ratio_margin(PARAMS.margin_csa_pct, *sds))
        assert found["bias"].means == pytest.approx(errors.mean(axis=0))
        for key in ("dice", "nsd", "predicted_dice"):
            assert found[key].estimate == pytest.approx((dice[:, 0] - dice[:, 1]).mean())
            assert found[key].means == pytest.approx(dice.mean(axis=0))
        wider, plain = (np.ptp(found[key].interval) for key in ("predicted_dice", "dice"))
        assert wider > plain  # an error that all masks of a method share
        assert found["dice"].pseudo == pytest.approx(dice[:, 0] - dice[:, 1])

    def test_exchanging_the_methods_mirrors_the_result(self):
        rng = np.random.default_rng(9)
        sites = np.repeat([f"s{s}" for s in range(6)], 4)
        errors = rng.normal(0, [2.0, 5.0], (48, 2))
        failed = rng.random((48, 2)) < 0.1
        evidence = make_evidence(24, contrasts=("t1", "t2"), sites=sites, csa_error_pct=errors, failed=failed)
        there, back = compare_pair(evidence, 0, 1, PARAMS), compare_pair(evidence, 1, 0, PARAMS)
        for key, one in there.items():
            assert_same(one.of(1), back[key])
            assert_same(one.of(1).of(0), one)
            assert one.of(0) is one


def assert_same(one, other):
    """Assert that two comparisons have the same numbers, also by contrast and site."""
    assert (one.key, one.pair, one.n, one.n_sites) == (other.key, other.pair, other.n, other.n_sites)
    for name in ("estimate", "interval", "interval95", "margin", "probability", "means", "pseudo"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True, abs=1e-9), name
    for parts, others in ((one.by_contrast, other.by_contrast), (one.by_site, other.by_site)):
        assert parts.keys() == others.keys()
        for name in parts:
            assert_same(parts[name], others[name])


def test_a_ratio_by_contrast_is_of_its_own_people():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (9, 2)), rng.normal(0, 3, (9, 2))
    a[6:, 1] = np.nan
    strata = log_ratio_strata(a, b, np.ones(2), about_zero=False, margin=0.01)
    expected = [log(b[:rows, c].std(ddof=1) / a[:rows, c].std(ddof=1)) for c, rows in ((0, 9), (1, 6))]
    assert strata.values == pytest.approx(expected)
    assert strata.estimate().value == pytest.approx(np.mean(expected))


def test_a_further_error_of_all_people_adds_in_squares():
    wide = Estimate(value=1.0, se=3.0, df=10.0, skew=0.5, n=11).widened(4.0)
    assert wide.se == pytest.approx(5.0)
    assert wide.df == pytest.approx(10.0 * (5 / 3) ** 4)  # Welch and Satterthwaite, with the shared error known
    assert wide.skew == pytest.approx(0.5 * (3 / 5) ** 3)  # the third moment stays, the variance grows
    assert (wide.value, wide.n) == (1.0, 11)


class TestPreference:
    @staticmethod
    def preferred(*answers):
        """Shares of one person who is rated so, among seven others who are all rated for the first method."""
        rated = [("000_t2", *answer) for answer in answers] + [(f"{p:03d}_t2", "r1", "propseg") for p in range(1, 8)]
        ratings = tuple(
            Preference(image=image, rater=rater, x="propseg", y="deepseg", choice="xy"[answer == "deepseg"])
            for image, rater, answer in rated
        )
        return compare_pair(make_evidence(8, ratings=ratings), *PAIR, PARAMS)["preference"].pseudo[0]

    def test_a_persons_majority_counts_once(self):
        assert self.preferred(("r1", "deepseg"), ("r2", "deepseg"), ("r3", "propseg")) == pytest.approx(-1)
        assert self.preferred(("r1", "propseg"), ("r2", "propseg"), ("r3", "deepseg")) == pytest.approx(1)

    def test_without_a_majority_neither_is_preferred(self):
        assert self.preferred(("r1", "propseg"), ("r2", "deepseg")) == pytest.approx(0)

    def test_missing_images_contribute_nothing(self):
        rated = [Preference(f"{p:03d}_t2", "propseg", "deepseg", "x", "r1") for p in range(9)]
        found = compare_pair(make_evidence(8, ratings=tuple(rated)), *PAIR, PARAMS)["preference"]
        assert found.n == 8


class TestMargins:
    @pytest.mark.parametrize("n", [PARAMS.min_references - 1, PARAMS.min_references])
    def test_bias_is_of_errors_from_the_least_number_of_references_on(self, n):
        errors = np.random.default_rng(4).normal(0, [2.0, 5.0], (8, 2))
        errors[n:] = np.nan
        assert ("bias" in compare_pair(make_evidence(8, csa_error_pct=errors), *PAIR, PARAMS)) == (
            n == PARAMS.min_references
        )

    def test_raters_who_differ_by_more_widen_the_margin_of_overlap(self):
        dice = np.random.default_rng(5).uniform(0.9, 0.95, (8, 2))
        plain, rated = (
            compare_pair(make_evidence(8, dice=dice, nsd=dice, rater_error=error), *PAIR, PARAMS)
            for error in ({}, {"dice": 0.05})
        )
        assert (plain["dice"].margin, rated["dice"].margin) == (PARAMS.margin_dice, 0.05)
        assert plain["nsd"].margin == rated["nsd"].margin


def test_a_persons_mean_is_over_the_contrasts_that_are_known():
    areas = np.array([[70.0, 66.0], [np.nan, 62.0], [50.0, 40.0], [52.0, 44.0]])  # half a pair is ignored
    evidence = make_evidence(2, contrasts=("t1", "t2"))
    assert evidence.person_mean(areas) == pytest.approx(np.array([[70.0, 66.0], [51.0, 42.0]]))


@pytest.mark.parametrize(("better", "worse", "n"), [(0, 0, 4), (3, 1, 9), (1, 6, 30)])
def test_probabilities_of_shares_are_those_of_the_posterior(better, worse, n):
    prior = np.array([better, worse, n - better - worse]) + 0.5  # Jeffreys
    draws = np.random.default_rng(3).dirichlet(prior, 200_000)
    ahead = draws[:, 0] - draws[:, 1]
    expected = [(ahead > 0.05).mean(), (np.abs(ahead) <= 0.05).mean(), (ahead < -0.05).mean()]
    assert paired_share_probabilities(better, worse, n, 0.05) == pytest.approx(expected, abs=0.01)


class TestLeavingOnePersonOut:
    @staticmethod
    def left_out(dice, **asked):
        params = replace(PARAMS, **asked)
        evidence = make_evidence(len(dice), dice=dice)
        return leave_one_out(evidence, judge(evidence, params), params)

    @pytest.mark.parametrize("outlier", [0, 59])
    def test_with_many_people_only_the_most_influential_are_left_out(self, outlier):
        gain = np.full(60, 0.03) + np.linspace(-0.004, 0.004, 60)
        gain[outlier] = -0.9  # without this person the first method is clearly better
        found = self.left_out(np.column_stack([np.full(60, 0.9), 0.9 - gain]))
        assert found == {"n_people": 60, "n_drops": MOST_DROPS, "n_flips": 1, "participants": [f"{outlier:03d}"]}

    @pytest.mark.parametrize("n", [2, 3])
    def test_leaving_one_of_two_people_out_leaves_too_few(self, n):
        found = self.left_out(np.linspace([0.93, 0.90], [0.95, 0.91], n), min_references=2)
        assert (found["n_people"], found["n_drops"]) == (n, 0 if n == 2 else n)

    def test_an_endpoint_without_people_has_nobody_to_leave_out(self):
        found = self.left_out(np.full((8, 2), np.nan))
        assert found == {"n_people": 0, "n_drops": 0, "n_flips": 0, "participants": []}
