"""The statistics against independent implementations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from spineseg.decision.reliability import intraclass_correlation
from spineseg.decision.statistics import (
    bayes_signed_rank,
    bland_altman,
    bootstrap_mean,
    holm,
    mcnemar_exact,
    pilots_for_verdict,
    wilcoxon_exact,
    wilson_interval,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 5), (3, 10), (10, 10), (17, 40)])
def test_wilson(k, n):
    assert wilson_interval(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"))


def test_wilson_of_nothing():
    assert np.isnan(wilson_interval(0, 0)).all()


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 1), (10, 2), (6, 6)])
def test_mcnemar(b, c):
    assert mcnemar_exact(b, c) == pytest.approx(mcnemar([[5, b], [c, 7]], exact=True).pvalue)


def test_intraclass_correlation():
    """The example of Shrout and Fleiss 1979, table 2: ICC(2,1) = 0.29, 95 % interval 0.02 to 0.76."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert intraclass_correlation(ratings) == pytest.approx((0.2898, 0.0188, 0.7611), abs=1e-3)
    assert np.isnan(intraclass_correlation([[1, 2], [3, 4]])).all()
    assert np.isnan(intraclass_correlation(np.ones((5, 2)))).all()


class TestWilcoxon:
    @settings(deadline=None)
    @given(st.lists(st.integers(-8, 8), min_size=1, max_size=9))
    def test_every_sign_flip(self, values):
        """Ties and zeros (Pratt) against all 2^n sign flips, one by one."""
        d = np.array(values, float)
        ranks = stats.rankdata(np.abs(d))[d != 0]
        signs = np.sign(d)[d != 0]
        if not ranks.size:
            assert wilcoxon_exact(d) == 1
            return
        observed = ranks[signs > 0].sum()
        null = np.array([ranks[np.array(flip) > 0].sum() for flip in product((-1, 1), repeat=ranks.size)])
        expected = min(1, 2 * min(np.mean(null <= observed), np.mean(null >= observed)))
        assert wilcoxon_exact(d) == pytest.approx(expected)

    @pytest.mark.parametrize("n", [5, 12, 25, 40])
    def test_scipy_without_ties(self, n):
        d = rng(n).standard_normal(n) + 0.3
        assert wilcoxon_exact(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)

    def test_five_cannot_go_below(self):
        assert wilcoxon_exact([1, 2, 3, 4, 5]) == pytest.approx(0.0625)

    def test_rounding_does_not_break_ties(self):
        assert wilcoxon_exact([0.1 + 0.2, 0.3, -0.3]) == wilcoxon_exact([0.3, 0.3, -0.3])

    def test_nothing(self):
        assert np.isnan(wilcoxon_exact([]))
        assert wilcoxon_exact([0, 0, 0]) == 1


class TestBayes:
    def independent(self, d, rope, n_samples, seed):
        """The definition, draw by draw and pair by pair."""
        draws = rng(seed)
        z = [0.0, *d]
        wins = np.zeros(3)
        for weights in draws.dirichlet([0.5] + [1.0] * len(d), n_samples):
            share = np.zeros(3)
            for i, zi in enumerate(z):
                for j, zj in enumerate(z):
                    w, s = weights[i] * weights[j], zi + zj
                    share[0 if s > 2 * rope else 2 if s < -2 * rope else 1] += w
            wins[share.argmax()] += 1
        return wins / n_samples

    @pytest.mark.parametrize("shift", [0.0, 0.01, 0.03])
    def test_independent_implementation(self, shift):
        d = rng(5).normal(shift, 0.02, 7)
        got = bayes_signed_rank(d, 0.01, rng(1), 50_000)
        expected = self.independent(d, 0.01, 4000, 2)
        np.testing.assert_allclose([got.better, got.equivalent, got.worse], expected, atol=0.03)

    def test_one_participant_in_closed_form(self):
        # d beyond twice the region: right = 1 - w0², w0 ~ Beta(1/2, 1), largest when w0² < 1/2
        expected = stats.beta.cdf(np.sqrt(0.5), 0.5, 1)
        assert bayes_signed_rank([1.0], 0.01, rng(), 200_000).better == pytest.approx(expected, abs=0.005)

    def test_shared_error(self):
        # far from the region only the shared error is left: P(0.05 + e > 0.01), e normal
        expected = stats.norm.sf(0.01, loc=0.05, scale=0.04)
        got = bayes_signed_rank(np.full(40, 0.05), 0.01, rng(), 20_000, systematic_sd=0.04)
        assert got.better == pytest.approx(expected, abs=0.03)
        assert got.better + got.equivalent + got.worse == pytest.approx(1)

    def test_clear_cases(self):
        assert bayes_signed_rank(np.full(10, 0.1), 0.01, rng()).better > 0.999
        assert bayes_signed_rank(np.zeros(10), 0.01, rng()).equivalent == 1
        assert bayes_signed_rank([], 0.01, rng()).equivalent == 1

    def test_difference_at_the_limit_is_none(self):
        assert bayes_signed_rank([0.1 + 0.2] * 8, 0.3, rng(), 2000).equivalent == 1
        assert bayes_signed_rank([0.3001] * 8, 0.3, rng(), 2000).better > 0.9

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.floats(0, 0.5))
    def test_sums_to_one_and_mirrors(self, d, rope):
        p = bayes_signed_rank(d, rope, rng(), 2000)
        q = bayes_signed_rank([-x for x in d], rope, rng(), 2000)
        assert p.better + p.equivalent + p.worse == pytest.approx(1)
        assert (p.better, p.worse) == pytest.approx((q.worse, q.better), abs=0.06)


class TestBootstrap:
    def test_covers_as_promised(self):
        draws = rng(0)
        hits = 0
        for _ in range(200):
            low, high = bootstrap_mean(draws.normal(1, 1, 20), draws, 500)
            hits += low <= 1 <= high
        assert 0.88 <= hits / 200 <= 0.98

    def test_degenerate(self):
        assert np.isnan(bootstrap_mean([], rng(), 100)).all()
        assert np.isnan(bootstrap_mean([1.0], rng(), 100)).all()
        assert bootstrap_mean([0.3] * 5, rng(), 100) == pytest.approx((0.3, 0.3))
        low, high = bootstrap_mean([0.0, 1.0], rng(), 100)
        assert 0 <= low <= high <= 1

    def test_seeded(self):
        d = rng(1).standard_normal(9)
        assert bootstrap_mean(d, rng(3), 500) == bootstrap_mean(d, rng(3), 500)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_holm(n):
    p = np.round(rng(n).beta(0.5, 2, n), 2)  # ties included
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)


def test_holm_leaves_unknown_out():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.03]), [0.02, np.nan, 0.03])


def test_bland_altman():
    d = rng(2).normal(1.5, 2, 30)
    got = bland_altman([*d, np.nan])
    interval = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert (got["bias_low"], got["bias_high"]) == pytest.approx((interval.low, interval.high))
    assert got["loa_high"] - got["loa_low"] == pytest.approx(2 * 1.96 * d.std(ddof=1))
    assert np.isnan(bland_altman([1.0])["sd"])
    assert got["n"] == 30


def test_intervals_of_the_limits_of_agreement_cover_them():
    draws = rng(4).normal(1.5, 2, (400, 8))
    limits = [bland_altman(d) for d in draws]
    for side, true in (("loa_low", 1.5 - 1.96 * 2), ("loa_high", 1.5 + 1.96 * 2)):
        covered = np.mean([one[f"{side}_low"] <= true <= one[f"{side}_high"] for one in limits])
        assert covered == pytest.approx(0.95, abs=0.033)  # three standard errors of 400 draws


LIMITS = {"probability": 0.9, "power": 0.8, "n_min": 6, "n_max": 100, "n_simulations": 60}


class TestPilots:
    def test_strong_effects_need_few(self):
        assert pilots_for_verdict(np.full(8, 0.1), 0.01, rng(), **LIMITS) == 6

    def test_weak_effects_need_more(self):
        d = rng(1).normal(0.02, 0.03, 12)
        few = pilots_for_verdict(d, 0.01, rng(), **LIMITS)
        many = pilots_for_verdict(d - 0.005, 0.01, rng(), **LIMITS)
        assert few >= 6
        assert many is None or many > few

    def test_differences_at_the_limit_are_never_settled(self):
        d = np.array([0.0, 0.02] * 10)
        assert pilots_for_verdict(d, 0.01, rng(), **LIMITS) is None

    def test_one_participant_says_nothing(self):
        assert pilots_for_verdict([0.1], 0.01, rng(), **LIMITS) is None
