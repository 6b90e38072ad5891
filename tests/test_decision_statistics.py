"""The statistics against independent implementations, and their cost."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import proportion_confint

from spineseg.decision.bland_altman import bland_altman
from spineseg.decision.comparison import ratio_margin, ratio_points
from spineseg.decision.reliability import intraclass_correlation
from spineseg.decision.shares import binomial_limits, paired_share_limits, paired_share_probabilities
from spineseg.decision.statistics import (
    Strata,
    log_ratio_strata,
    mean_strata,
    sd_limits,
)
from spineseg.decision.study_size import people_per_group

ONE = np.ones(1)


def rng(seed=0):
    return np.random.default_rng(seed)


def mean_of(values, sites=None, floor=0.0):
    return mean_strata(np.asarray(values, float).reshape(len(values), -1), ONE).estimate(sites, floor)


class TestMean:
    def test_without_skewness_the_interval_is_students(self):
        x = np.array([-3.0, -1, 0, 0.5, -0.5, 1, 3]) + 0.4
        found = mean_of(x)
        expected = stats.ttest_1samp(x, 0).confidence_interval(0.90)
        assert found.interval(0.90) == pytest.approx((expected.low, expected.high))
        one_sided = stats.ttest_1samp(x, 0.1, alternative="greater").pvalue
        assert found.probabilities(0.1)[0] == pytest.approx(1 - one_sided)
        assert sum(found.probabilities(0.1)) == pytest.approx(1)

    def test_the_long_tail_widens_its_own_side_only(self):
        x = np.r_[np.full(18, 0.02), -0.3, -0.25] + rng().normal(0, 0.005, 20)
        plain = stats.ttest_1samp(x, 0).confidence_interval(0.90)
        low, high = mean_of(x).interval(0.90)
        assert low < plain.low - 0.01
        assert high == pytest.approx(plain.high)

    def test_covers_the_mean_of_skewed_values(self):
        """Lower limits of exponential differences, whose Student's interval misses on one side in 12 of 100."""
        draws = [1 - rng(seed).exponential(1, 12) for seed in range(1000)]
        missed = np.mean([mean_of(x).interval(0.90)[0] > 0 for x in draws])
        plain = np.mean([stats.ttest_1samp(x, 0).confidence_interval(0.90).low > 0 for x in draws])
        assert missed < 0.09 < plain

    def test_spread_has_a_floor(self):
        found = mean_of(np.full(9, 0.02), floor=0.03)
        assert found.se == pytest.approx(0.01)
        assert found.df == 8

    def test_separate_people_in_two_contrasts_are_welchs(self):
        a, b = rng(1).normal(1, 1, 7), rng(2).normal(0, 4, 12)
        values = np.full((19, 2), np.nan)
        values[:7, 0], values[7:, 1] = a, -b
        found = mean_strata(values, np.ones(2)).estimate()
        expected = stats.ttest_ind(a, b, equal_var=False)
        assert 2 * found.value == pytest.approx(a.mean() - b.mean())
        assert found.df == pytest.approx(expected.df)
        assert found.value / found.se == pytest.approx(expected.statistic)

    def test_the_same_people_in_two_contrasts_are_one_sample(self):
        values = rng(3).normal(size=(10, 2)) + rng(4).normal(size=(10, 1))
        found = mean_strata(values, np.ones(2)).estimate()
        expected = stats.ttest_1samp(values.mean(axis=1), 0)
        assert found.value / found.se == pytest.approx(expected.statistic)
        assert found.df == 9

    def test_contrasts_of_two_people_are_left_out_beside_larger_ones(self):
        values = np.full((8, 2), 1.0)
        values[:, 0] += rng(5).normal(size=8)
        values[2:, 1] = np.nan
        found = mean_strata(values, np.ones(2)).estimate()
        assert found.value == pytest.approx(values[:, 0].mean())

    def test_people_of_one_site_err_together(self):
        site = np.arange(100) % 5
        x = np.array([0.0, 1, 2, 3, 4])[site] + rng(6).normal(0, 0.1, 100)
        found = mean_of(x, site)
        means = np.array([x[site == s].mean() for s in range(5)])
        assert found.se == pytest.approx(means.std(ddof=1) / 5**0.5, rel=0.01)
        assert found.df == pytest.approx(4)
        assert mean_of(x).se < found.se / 3

    def test_one_large_site_is_few_sites(self):
        site = np.r_[np.zeros(90, int), np.arange(1, 11)]
        assert mean_of(rng(7).normal(size=100), site).df < 0.5

    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few_people(self, n):
        found = mean_of(np.ones(n)) if n else mean_of(np.full(3, np.nan))
        assert not found.is_known
        assert np.isnan(found.interval()).all()
        assert np.isnan(found.probabilities(1)).all()

    def test_cost_grows_with_the_people(self):
        def seconds(n):
            values = rng().normal(size=(n, 4))
            start = time.perf_counter()
            for _ in range(5):
                mean_strata(values, np.ones(4)).estimate(np.arange(n) % 20).interval()
            return time.perf_counter() - start

        seconds(1000)
        assert seconds(200_000) < 100 * max(seconds(10_000), 0.005)


class TestRatioOfSpreads:
    @pytest.mark.parametrize(("df", "n"), [(np.inf, 8), (np.inf, 40), (5, 20)])
    def test_covers_the_true_ratio(self, df, n):
        missed = 0
        for seed in range(600):
            r = rng(seed)
            e = r.standard_normal((n, 2)) @ np.linalg.cholesky([[1, 0.5], [0.5, 1]]).T * [1, 2]
            if np.isfinite(df):
                e *= np.sqrt((df - 2) / r.chisquare(df, (n, 1)))
            strata = log_ratio_strata(e[:, :1], e[:, 1:], ONE, about_zero=False, margin=0.01)
            low, high = strata.estimate().interval(0.90)
            missed += not low < np.log(2) < high
        assert missed / 600 < 0.14

    def test_bias_counts_about_zero_only(self):
        e = rng(1).normal(0, 1, (30, 1))
        centred = log_ratio_strata(e + 5, e * 2, ONE, about_zero=False, margin=0.01).estimate().value
        whole = log_ratio_strata(e + 5, e * 2, ONE, about_zero=True, margin=0.01).estimate().value
        assert centred == pytest.approx(np.log(2))
        assert whole < 0

    def test_points_and_logarithms(self):
        assert ratio_points(np.log(6 / 4), 4, 6) == pytest.approx(2)
        assert ratio_points(ratio_margin(1.25, 4, 6), 4, 6) == pytest.approx(1.25)
        assert ratio_points(-np.log(6 / 4), 4, 6) == pytest.approx(-2)

    def test_unknown_values_stay_unknown(self):
        assert np.isnan(ratio_points(float("nan"), 4, 6))

    @pytest.mark.parametrize("size", [0.0, 1.0])
    @pytest.mark.parametrize("n", [5, 12])
    def test_equal_errors_have_no_ratio_but_an_interval(self, n, size):
        e = size * rng(2).normal(size=(n, 1))
        found = log_ratio_strata(e, e, ONE, about_zero=False, margin=0.01).estimate()
        low, high = found.interval()
        assert found.value == 0
        assert low == pytest.approx(-high)
        assert 0 < high < (0.01 if size else 2)  # of nothing but zeros nothing is known

    @pytest.mark.parametrize(("n_off", "found"), [(0, False), (1, False), (3, False), (7, True)])
    @pytest.mark.parametrize("about_zero", [False, True])
    def test_a_few_people_do_not_make_a_difference(self, n_off, found, about_zero):
        e = rng(3).normal(size=(20, 2))
        e[:n_off, 0] += 15
        a, b = (np.repeat(e[:, [m]], 2, axis=1) for m in (0, 1))
        for one, other in ((a, b), (b, a)):
            strata = log_ratio_strata(one, other, np.ones(2), about_zero=about_zero, margin=1.0)
            assert strata.exceeds_exchanges(0.0, 0.95) == strata.only(1).exceeds_exchanges(0.0, 0.95) == found
            for limit in (0.0, 0.2):
                low, high = strata.estimate().reaching(limit).interval()
                assert low < strata.estimate().value < high
                assert max(low, -high) <= limit
        assert mean_strata(a, np.ones(2)).exceeds_exchanges(0.0, 0.95)

    @pytest.mark.parametrize(("limit", "found"), [(0.0, True), (0.5, True), (1.2, False)])
    def test_a_factor_beyond_the_limit_is_seen(self, limit, found):
        e = rng(5).normal(size=(40, 2)) * [1, 3]
        for pair in (e, e[:, ::-1]):
            strata = log_ratio_strata(pair[:, [0]], pair[:, [1]], ONE, about_zero=False, margin=1.0)
            assert strata.exceeds_exchanges(limit, 0.90) == found

    def test_a_bias_is_no_difference_of_spreads(self):
        e = rng(4).normal(size=(30, 2))
        for about_zero in (False, True):
            strata = log_ratio_strata(e[:, [0]] + 10, e[:, [1]], ONE, about_zero=about_zero, margin=1.0)
            assert strata.exceeds_exchanges(0.0, 0.95) == about_zero


class TestShares:
    @pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 5), (3, 10), (10, 10), (17, 40)])
    def test_exact(self, k, n):
        assert binomial_limits(k, n, 0.9) == pytest.approx(proportion_confint(k, n, 0.1, method="beta"), nan_ok=True)

    def test_nobody_on_either_side(self):
        low, high = paired_share_limits(0, 0, 59)
        assert high == pytest.approx(1 - 0.05 ** (1 / 59))
        assert (low, high < 0.05) == (-high, True)

    @pytest.mark.parametrize(("p", "q"), [(0.1, 0.1), (0.02, 0.02), (0.3, 0.05), (0.6, 0.3)])
    @pytest.mark.parametrize("n", [6, 20, 100])
    def test_covers(self, p, q, n):
        draws = rng(1).multinomial(n, [p, q, 1 - p - q], 1000)
        limits = [paired_share_limits(a, b, n) for a, b, _ in draws]
        above, below = (np.mean([low > p - q for low, _ in limits]), np.mean([high < p - q for _, high in limits]))
        assert max(above, below) < 0.065

    def test_probabilities(self):
        better, equal, worse = paired_share_probabilities(9, 1, 20, 0.05)
        draws = rng().dirichlet([9.5, 1.5, 10.5], 200_000)
        gap = draws[:, 0] - draws[:, 1]
        assert (better, worse) == pytest.approx(((gap > 0.05).mean(), (gap < -0.05).mean()), abs=0.003)
        assert better + equal + worse == pytest.approx(1)


def test_limits_of_a_standard_deviation_cover_it():
    sds = [rng(seed).normal(size=10).std(ddof=1) for seed in range(2000)]
    assert np.mean([low < 1 < high for low, high in (sd_limits(sd, 9) for sd in sds)]) == pytest.approx(0.95, abs=0.015)
    assert np.isnan(sd_limits(1.0, 0)).all()


@pytest.mark.parametrize("sd", [4.0, 8.0, 15.0])
def test_people_per_group_are_those_of_the_t_test(sd):
    expected = TTestIndPower().solve_power(5 / sd, alpha=0.05, power=0.8)
    assert people_per_group(sd, 5, 0.8) == pytest.approx(expected, abs=0.6)
    assert people_per_group(sd, 5, 0.8, failures=0.5) == pytest.approx(2 * people_per_group(sd, 5, 0.8))


def test_contributions_add_up_to_the_error():
    values = rng(8).normal(size=(15, 3))
    values[:7, 2] = np.nan
    strata = mean_strata(values, np.array([2.0, 1, 1]))
    assert isinstance(strata, Strata)
    pseudo = strata.estimate().value + 15 * strata.contributions()
    assert pseudo.mean() == pytest.approx(strata.estimate().value)


def test_intraclass_correlation():
    """The example of Shrout and Fleiss 1979, table 2: ICC(2,1) = 0.29, 95 % interval 0.02 to 0.76."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert intraclass_correlation(ratings) == pytest.approx((0.2898, 0.0188, 0.7611), abs=1e-3)
    assert np.isnan(intraclass_correlation([[1, 2], [3, 4]])).all()
    assert np.isnan(intraclass_correlation(np.ones((5, 2)))).all()


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
