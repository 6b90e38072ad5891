"""The statistics of the decision: paired, by participant, seeded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK = 4096
"""Posterior draws handled at a time; bounds the memory to a few MB for 100 participants."""

DIGITS = 12
"""Decimals to which sums are rounded before they are compared with a limit: sums of tenths differ in the 16th."""


N_ERRORS = 20
"""Sizes at which an error that all differences share is tried: the outermost stand for 5 %."""


@dataclass(frozen=True)
class Posterior:
    """Probabilities that the difference is practically positive, none, negative; they sum to 1."""

    better: float
    equivalent: float
    worse: float


def wilson_interval(n_events: int, n: int) -> tuple[float, float]:
    """Compute the Wilson 95 % confidence interval of a share; NaN for n = 0."""
    from scipy.stats import binomtest

    if n == 0:
        return float("nan"), float("nan")
    interval = binomtest(n_events, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Compute the exact two-sided McNemar p from the discordant counts; 1 where there are none."""
    from scipy.stats import binomtest

    total = only_a + only_b
    return float(binomtest(only_a, total, 0.5).pvalue) if total else 1.0


def bootstrap_mean(differences: ArrayLike, rng: np.random.Generator, n_resamples: int) -> tuple[float, float]:
    """Compute the BCa bootstrap 95 % confidence interval of a mean.

    Parameters
    ----------
    differences : (n,) array_like
        One per participant.
    rng : numpy.random.Generator
    n_resamples : int

    Returns
    -------
    low, high : float
        NaN for n < 2; both equal to the mean where all differences are equal; the percentile interval
        where BCa is not defined.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    values = np.asarray(differences, np.float64)
    if values.size < 2:
        return float("nan"), float("nan")
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return float(values.mean()), float(values.mean())
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DegenerateDataWarning)
            interval = bootstrap(
                (values,), np.mean, n_resamples=n_resamples, method=method, rng=rng, batch=1000
            ).confidence_interval
        if np.isfinite(interval).all():
            break
    return float(interval.low), float(interval.high)


def wilcoxon_exact(differences: ArrayLike) -> float:
    """Compute the exact two-sided Wilcoxon signed-rank p, with ties, zeros by Pratt.

    All values are ranked by magnitude, zeros included; the zeros' ranks are then left out. The null
    distribution flips the sign of every other value, and is summed exactly whatever the ties.

    Parameters
    ----------
    differences : (n,) array_like

    Returns
    -------
    float
        1 where nothing differs from zero, NaN for n = 0.

    References
    ----------
    .. [1] Pratt 1959, JASA 54:655-667. scipy's exact method takes neither ties nor zeros.
    """
    from scipy.stats import rankdata

    values = np.round(np.asarray(differences, np.float64), DIGITS)
    if not values.size:
        return float("nan")
    doubled = np.rint(2 * rankdata(np.abs(values))).astype(int)  # ties have half ranks
    moving = values != 0
    if not moving.any():
        return 1.0
    doubled, positive = doubled[moving], values[moving] > 0
    chance = np.zeros(int(doubled.sum()) + 1)
    chance[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(chance)
        shifted[rank:] = chance[: chance.size - rank]
        chance = (chance + shifted) / 2
    observed = int(doubled[positive].sum())
    tail = min(chance[: observed + 1].sum(), chance[observed:].sum())
    return float(min(1.0, 2 * tail))


def bayes_signed_rank(
    differences: ArrayLike,
    rope: float,
    rng: np.random.Generator,
    n_samples: int = 50_000,
    prior_strength: float = 0.5,
    systematic_sd: float = 0.0,
) -> Posterior:
    """Compute the Bayesian signed-rank test with a region of practical equivalence.

    Parameters
    ----------
    differences : (n,) array_like
        One per participant; positive favours the first method.
    rope : float
        Differences within it count as none.
    rng : numpy.random.Generator
    n_samples : int
        Draws from the posterior.
    prior_strength : float
        Weight of a pseudo-observation at zero; a participant weighs 1.
    systematic_sd : float
        SD of an unknown error that all differences share; the probabilities are averaged over it.

    Returns
    -------
    Posterior
        For n = 0 the prior speaks: equivalent with probability 1.

    Notes
    -----
    The posterior of the share of pairs (i, j) whose mean lies right of, within and left of the region
    is drawn through Dirichlet weights w: sum w_i w_j [d_i + d_j > 2 rope], and so on; pairs on the limit
    count half on either side. The probability of a region is the share of draws in which it is largest.

    References
    ----------
    .. [1] Benavoli et al. 2014, A Bayesian Wilcoxon signed-rank test based on the Dirichlet process, ICML.
    .. [2] Benavoli et al. 2017, Time for a change, JMLR 18(77).
    """
    if systematic_sd > 0:
        return _average_over_error(differences, rope, rng, n_samples, prior_strength, systematic_sd)
    values = np.concatenate([[0.0], np.asarray(differences, np.float64)])
    right, left = _pair_matrices(values, rope)
    wins = np.zeros(3, np.int64)
    shape = np.concatenate([[prior_strength], np.ones(values.size - 1)])
    for start in range(0, n_samples, CHUNK):
        n = min(CHUNK, n_samples - start)
        weights = rng.standard_gamma(shape, (n, values.size))
        weights /= weights.sum(axis=1, keepdims=True)
        share_right = ((weights @ right) * weights).sum(axis=1)
        share_left = ((weights @ left) * weights).sum(axis=1)
        shares = np.stack([share_right, 1.0 - share_right - share_left, share_left])
        wins += np.bincount(shares.argmax(axis=0), minlength=3)
    better, equivalent, worse = (wins / n_samples).tolist()
    return Posterior(better, equivalent, worse)


def _average_over_error(
    differences: ArrayLike, rope: float, rng: np.random.Generator, n_samples: int, prior_strength: float, sd: float
) -> Posterior:
    """Average `bayes_signed_rank` over a normal error that all differences share, at equally probable sizes."""
    from scipy.stats import norm

    values = np.asarray(differences, np.float64)
    errors = sd * norm.ppf((np.arange(N_ERRORS) + 0.5) / N_ERRORS)
    n_each = max(1, n_samples // N_ERRORS)
    parts = [bayes_signed_rank(values - error, rope, rng, n_each, prior_strength) for error in errors]
    means = [float(np.mean([getattr(p, name) for p in parts])) for name in ("better", "equivalent", "worse")]
    return Posterior(*means)


def _pair_matrices(values: NDArray, rope: float) -> tuple[NDArray, NDArray]:
    """Say for each pair whether its sum lies right or left of the region, (n, n) each; a half on the limit."""
    sums = np.round(values[:, None] + values[None, :], DIGITS)
    limit = round(2 * rope, DIGITS)
    if limit == 0:  # the limit is one point, which belongs to neither side
        return (sums > 0).astype(float), (sums < 0).astype(float)
    right = (sums > limit) + 0.5 * (sums == limit)
    left = (sums < -limit) + 0.5 * (sums == -limit)
    return right, left


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p values by Holm's step-down method.

    Parameters
    ----------
    p_values : (n,) array_like
        NaN stays NaN and does not count.

    Returns
    -------
    (n,) ndarray of float64
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def bland_altman(differences: ArrayLike) -> dict[str, float]:
    """Compute bias and 95 % limits of agreement, each with its 95 % confidence interval.

    Parameters
    ----------
    differences : (n,) array_like
        One per participant.

    Returns
    -------
    dict of float
        n; bias, bias_low, bias_high (t-based); loa_low and loa_high, each with its own ``_low`` and ``_high``
        (exact, by the noncentral t distribution [1]_); sd. NaN where n is too small.

    References
    ----------
    .. [1] Carkeet 2015, Exact parametric confidence intervals for Bland-Altman limits of agreement, Optom Vis Sci 92.
    """
    from scipy.stats import nct, t

    values = np.asarray(differences, np.float64)
    values = values[np.isfinite(values)]
    n = values.size
    bias = float(values.mean()) if n else float("nan")
    sd = float(values.std(ddof=1)) if n > 1 else float("nan")
    half = float(t.ppf(0.975, n - 1)) * sd / n**0.5 if n > 1 else float("nan")
    # how far, in SD, the true limit may lie from the bias on its own side: nearer, farther
    near, far = nct.ppf([0.025, 0.975], n - 1, 1.96 * n**0.5) / n**0.5 if n > 1 else (float("nan"),) * 2
    return {
        "n": n,
        "bias": bias,
        "bias_low": bias - half,
        "bias_high": bias + half,
        "loa_low": bias - 1.96 * sd,
        "loa_low_low": bias - float(far) * sd,
        "loa_low_high": bias - float(near) * sd,
        "loa_high": bias + 1.96 * sd,
        "loa_high_low": bias + float(near) * sd,
        "loa_high_high": bias + float(far) * sd,
        "sd": sd,
    }


def pilots_for_verdict(
    differences: ArrayLike,
    rope: float,
    rng: np.random.Generator,
    *,
    probability: float,
    power: float,
    n_min: int,
    n_max: int,
    n_simulations: int,
    systematic_sd: float = 0.0,
) -> int | None:
    """Find the smallest number of participants that would reach a verdict, by simulation.

    Pilots of n participants are drawn from the observed differences with replacement; a pilot reaches a
    verdict where one of the three probabilities is at least `probability`.

    Parameters
    ----------
    differences : (n,) array_like
    rope : float
    rng : numpy.random.Generator
    probability, power : float
    n_min, n_max : int
        Range to search, by doubling and bisection.
    n_simulations : int
    systematic_sd : float
        As for `bayes_signed_rank`.

    Returns
    -------
    int or None
        Total number of participants; None where not even `n_max` would do, or with fewer than two
        differences, from which nothing can be drawn.
    """
    values = np.asarray(differences, np.float64)
    if values.size < 2:
        return None

    def reaches(n: int) -> bool:
        hits_left = power * n_simulations
        misses_left = n_simulations - hits_left
        while hits_left > 0 and misses_left >= 0:
            # 300 draws: one probability is known to 0.02, little beside the spread between pilots
            p = bayes_signed_rank(rng.choice(values, n), rope, rng, 300, systematic_sd=systematic_sd)
            is_hit = max(p.better, p.equivalent, p.worse) >= probability
            hits_left, misses_left = hits_left - is_hit, misses_left - (not is_hit)
        return hits_left <= 0

    low = high = n_min
    while not reaches(high):  # double, so that small answers are cheap
        if high >= n_max:
            return None
        low, high = high + 1, min(2 * high, n_max)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low
