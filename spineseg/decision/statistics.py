"""Intervals and probabilities that the decision rests on. Their cost is linear in the number of people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RULE, REPORT = 0.90, 0.95
"""Level of the rule's two-sided intervals (each side is tested at 5 %), and of the reported ones."""

FLOOR_MARGINS = 3.0
"""Least SD between people, in margins, that intervals assume. A small pilot without spread may have missed the tail: a
method that is better by 0.015 in 88 % of people and worse by 0.235 in the rest looks perfectly steady in half of the
pilots of six people. Three margins are an ordinary spread (0.03 Dice)."""

TINY_SD = 0.02
"""Least SD of an area error, in margins; masks made of voxels can show no SD this small."""

LONG_TAIL = 1.5
"""Factor on a sample's skewness, which underestimates a long tail (lognormal: 5.3 % wrong at n 20 without it)."""

SQUARES = 1.3
"""Factor on the variance of a log ratio of SDs, because squares are skewed. Without it 6 to 8 % are wrong on the
margin; with 1.2 repeats of two contrasts are wrong in 5.2 %."""

SWAPS, SWAP_LEVEL = 399, 0.95
"""Number of random exchanges of the methods within people, and the level at which these must exclude equal SDs. Without
them, a few people with large errors by only one method look like a clear difference (equal methods, errors of 30 % in
3 % of the people: 38 % wrong at n 12). The test is two-sided at 5 %: both sides together are wrong in at most that."""

MIN_STRATUM = 3
"""Least number of people for a contrast to be a stratum of its own: two people do not show a spread."""


@dataclass(frozen=True)
class Estimate:
    """An estimated advantage with what is needed for intervals and probabilities.

    Parameters
    ----------
    value : float
        NaN where nothing is known.
    se : float
        Standard error; NaN below two people.
    df : float
        Degrees of freedom of `se`.
    skew : float
        Skewness of the estimate.
    n : int
        People.
    """

    value: float
    se: float
    df: float
    skew: float
    n: int

    @property
    def is_known(self) -> bool:
        """Whether there is an interval; values that are all the same have no spread to compute one from."""
        return bool(np.isfinite(self.se) and self.se > 0 and self.df > 0)

    def widened(self, shared_sd: float) -> Estimate:
        """Return the estimate with a further error that all people share, of known SD."""
        if not shared_sd or not self.is_known:
            return self
        se = float(np.hypot(self.se, shared_sd))
        return replace(self, se=se, df=self.df * (se / self.se) ** 4, skew=self.skew * (self.se / se) ** 3)

    def reaching(self, limit: float) -> Estimate:
        """Return the estimate with its error increased until the rule's interval no longer lies beyond a limit."""
        from scipy.special import stdtrit

        if not self.is_known:
            return self
        least = 1.0001 * max(0.0, abs(self.value) - limit) / float(stdtrit(self.df, 0.5 + RULE / 2))  # beyond rounding
        return replace(self, se=max(self.se, least), skew=0.0)

    def interval(self, level: float = RULE) -> tuple[float, float]:
        """Return the two-sided interval: the wider, on each side, of Student's t and of t corrected for skewness.

        References
        ----------
        .. [1] Hall 1992, On the removal of skewness by transformation, J R Stat Soc B 54:221-228.
        """
        from scipy.special import stdtrit

        if not self.is_known:
            return float("nan"), float("nan")
        q = float(stdtrit(self.df, 0.5 + level / 2))
        low, high = -q, q
        if abs(self.skew) > 1e-9:
            low, high = min(low, -_untransform(q, self.skew)), max(high, -_untransform(-q, self.skew))
        return self.value + low * self.se, self.value + high * self.se

    def probabilities(self, margin: float) -> tuple[float, float, float]:
        """Return the probabilities that the true value lies above, within and below the margin (flat prior)."""
        from scipy.special import stdtr

        if not self.is_known:
            return (float("nan"),) * 3
        above = float(stdtr(self.df, (self.value - margin) / self.se))
        below = float(stdtr(self.df, (-margin - self.value) / self.se))
        return above, max(0.0, 1.0 - above - below), below


def _untransform(y: float, a: float) -> float:
    """Invert Hall's transformation t + a t²/3 + a² t³/27 + a/6, which removes skewness a."""
    return float(3 * (np.cbrt(1 + a * (y - a / 6)) - 1) / a)


Statistic = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Computes, from a contrast's values by person, the statistic and each person's influence on it."""


@dataclass(frozen=True)
class Strata:
    """A statistic by contrast with each person's influence on it.

    Parameters
    ----------
    values : (C,) ndarray
        The statistic in each contrast.
    influence : (P, C) ndarray
        A person's share in its error, n times the jackknife's; NaN where the person has no such contrast.
    weights : (C,) ndarray
        Weight of each contrast.
    errors : (P, C, 2) ndarray, optional
        For a log ratio of SDs, each person's two errors; NaN as in `influence`.
    about_zero : bool
        Whether `errors` are squared as they are, rather than their distances from the mean.
    """

    values: NDArray[np.float64]
    influence: NDArray[np.float64]
    weights: NDArray[np.float64]
    errors: NDArray[np.float64] | None = None
    about_zero: bool = True

    def contributions(self) -> NDArray[np.float64]:
        """Return each person's share in the error of the combined statistic, (P,); NaN for people without a value."""
        known = np.isfinite(self.influence)
        n_in = known.sum(axis=0)
        used = n_in >= 2
        if not used.any():
            return np.full(len(known), np.nan)
        weights = self.weights[used] / self.weights[used].sum()
        parts = np.where(known[:, used], self.influence[:, used], 0.0) * (weights / n_in[used])
        return np.where(known[:, used].any(axis=1), parts.sum(axis=1), np.nan)

    def only(self, contrast: int) -> Strata:
        """Return the part of one contrast."""
        keep = slice(contrast, contrast + 1)
        errors = None if self.errors is None else self.errors[:, keep]
        return Strata(self.values[keep], self.influence[:, keep], np.ones(1), errors, self.about_zero)

    def exceeds_exchanges(self, limit: float, level: float, sites: NDArray[np.intp] | None = None) -> bool:
        """Whether a log ratio of SDs lies further from a limit than after random exchanges of the methods in people.

        If both methods' errors differ only by a factor, each person's two errors may be exchanged once that factor is
        removed. If the ratio rests on a few large errors by one method, one in 2, 4, 8 ... exchanges gives a ratio as
        large, which no formula for the standard error shows. Always true for other statistics.

        Parameters
        ----------
        limit : float
            Logarithm of the factor, 0 or more, by which the worse method may be worse.
        level : float
            Share of the exchanges that must give less.
        sites : (P,) ndarray of int, optional
            Number of each person's site. Errors of one site's people go together, so they are exchanged together.
        """
        if self.errors is None:
            return True
        used = np.isfinite(self.influence).sum(axis=0) >= 2
        errors, count = np.nan_to_num(self.errors[:, used]), np.isfinite(self.influence[:, used]).sum(axis=0)
        worse = int(float((self.values * self.weights)[used].sum()) > 0)
        errors[:, :, worse] *= np.exp(-limit)
        rng = np.random.default_rng(0)  # the same exchanges each time
        units = np.arange(len(errors)) if sites is None else sites
        swapped = rng.integers(0, 2, (SWAPS + 1, int(units.max(initial=0)) + 1)).astype(np.float64)[:, units]
        swapped[0] = 0.0  # the first is the observed arrangement

        def exchange(values: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            """Sum over people, for each method, after each exchange: twice (SWAPS + 1, C)."""
            moved = swapped @ (values[:, :, 1] - values[:, :, 0])
            return values[:, :, 0].sum(axis=0) + moved, values[:, :, 1].sum(axis=0) - moved

        logs = []
        for squares, sums in zip(exchange(errors**2), exchange(errors), strict=True):
            spread = squares if self.about_zero else squares - sums**2 / count
            logs.append(np.log(np.maximum(spread, 1e-12 * (errors**2).sum(axis=(0, 2)) + 1e-300)))
        ratios = np.abs((logs[1] - logs[0]) @ self.weights[used])
        return bool((ratios >= ratios[0] * (1 - 1e-9)).mean() <= 1 - level)

    def estimate(self, sites: NDArray[np.intp] | None = None, floor_sd: float = 0.0) -> Estimate:
        """Combine contrasts and people.

        Parameters
        ----------
        sites : (P,) ndarray of int, optional
            Number of each person's site; errors of one site's people go together.
        floor_sd : float
            Least SD between people.

        Returns
        -------
        Estimate
            Its degrees of freedom are those of Welch and Satterthwaite over contrasts, at most the number of people
            minus one. With sites they are at most the effective number of sites (of equal size) minus one.
        """
        known = np.isfinite(self.influence)
        n_in = known.sum(axis=0)
        used = n_in >= 2
        people = known[:, used].any(axis=1)
        n = int(people.sum())
        if not used.any():
            return Estimate(
                _weighted(self.values, self.weights * (n_in > 0)), float("nan"), 0.0, 0.0, int(known.any(axis=1).sum())
            )
        n_in, weights = n_in[used], self.weights[used] / self.weights[used].sum()
        share = weights / n_in
        bessel = np.sqrt(n_in / (n_in - 1))
        parts = np.where(known[:, used], self.influence[:, used], 0.0)[people] * share * bessel
        u = parts.sum(axis=1)
        variance = float((u**2).sum())
        by_contrast = (parts**2).sum(axis=0)
        spread = float((by_contrast**2 / (n_in - 1)).sum())
        df = min(n - 1.0, float(by_contrast.sum()) ** 2 / spread) if spread > 0 else float(n_in.min() - 1)
        small = LONG_TAIL * (n * (n - 1)) ** 0.5 / (n - 2) if n > 2 else 1.0
        skew = small * float((u**3).sum()) / variance**1.5 if variance > 0 else 0.0
        least = floor_sd**2 * float(((known[:, used][people] * share).sum(axis=1) ** 2).sum())
        if least > variance > 0:
            skew *= (variance / least) ** 1.5  # skewness relative to the widened error
        variance = max(variance, least)
        if sites is not None and np.unique(sites[people]).size > 1:
            between, df_sites = _between_sites(u, sites[people])
            variance, df = max(variance, between), min(df, df_sites)
            skew = 0.0  # too few sites to estimate it
        return Estimate(_weighted(self.values[used], weights), variance**0.5, df, skew, n)


def _weighted(values: NDArray, weights: NDArray) -> float:
    """Weighted mean; NaN if all weights are 0."""
    return float((values * weights)[weights > 0].sum() / weights.sum()) if weights.sum() > 0 else float("nan")


def _between_sites(u: NDArray, sites: NDArray) -> tuple[float, float]:
    """Variance of the sum of `u`, and its degrees of freedom, with sites as clusters."""
    _, index, counts = np.unique(sites, return_inverse=True, return_counts=True)
    totals = np.bincount(index, u)
    effective = counts.sum() ** 2 / float((counts.astype(float) ** 2).sum())
    return float((totals**2).sum()) * effective / (effective - 1), effective - 1


def mean_strata(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Strata:
    """Return the mean of (P, C) values by contrast."""
    return _strata(values, weights, lambda x: (float(x.mean()), x - x.mean()))


def log_ratio_strata(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray, *, about_zero: bool, margin: float
) -> Strata:
    """Return ln(SD of b / SD of a) by contrast, positive where a is more precise.

    Parameters
    ----------
    a, b : (P, C) ndarray
        Errors of two methods in the same people.
    weights : (C,) ndarray
    about_zero : bool
        Use the root mean square instead of the SD, so that the mean error counts.
    margin : float
        Difference of SDs that counts as none; smaller SDs than `TINY_SD` times it count as that.

    Notes
    -----
    For normal errors of correlation r, the log ratio has the variance (1 - r²)/(n - 1) (Pitman and Morgan). The margin
    as a ratio depends on the geometric mean of both SDs, whose logarithm has the variance (1 + r²)/(4(n - 1)). A sample
    may show less by chance, so the influences are widened to these values.
    """

    def one(pair: NDArray) -> tuple[float, NDArray]:
        n = len(pair)
        centre = np.zeros(2) if about_zero else pair.mean(axis=0)
        squares = (pair - centre) ** 2
        variance = np.maximum(squares.sum(axis=0) / max(1, n - (not about_zero)), (TINY_SD * margin) ** 2)
        scatter, total = float(((pair - centre).prod(axis=1)).sum()) ** 2, float(squares.sum(axis=0).prod())
        r2 = scatter / total if total > 0 else 0.0
        r2 = max(0.0, 1 - (1 - r2) * (n - 1) / (n - 2)) if n > 2 else 0.0
        return float(0.5 * np.log(variance[1] / variance[0])), ratio_influence(
            squares / variance, variance, n - 1.0, r2, margin
        )

    pairs = np.stack([a, b], axis=-1)
    found = _strata(pairs, weights, one, fewest=MIN_STRATUM)  # two people lie equally far from their mean
    errors = np.where(np.isfinite(found.influence)[:, :, None], pairs, np.nan)
    if not about_zero:  # the bias does not count; outliers do not move the median
        has = np.isfinite(errors).any(axis=(0, 2))
        errors[:, has] -= np.nanmedian(errors[:, has], axis=0)
    return replace(found, errors=errors, about_zero=about_zero)


def ratio_influence(
    relative: NDArray[np.float64], variance: NDArray[np.float64], df: float, r2: float, margin: float
) -> NDArray[np.float64]:
    """Compute each person's influence on the log ratio of two SDs, widened as `log_ratio_strata` says.

    Parameters
    ----------
    relative : (n, 2) ndarray
        Each person's share in the two variances, mean 1.
    variance : (2,) ndarray
    df : float
        Degrees of freedom of the variances.
    r2 : float
        Squared correlation of the two errors.
    margin : float
        Difference of SDs.
    """
    n = len(relative)
    influence, size = 0.5 * (relative[:, 1] - relative[:, 0]), 0.25 * relative.sum(axis=1)
    influence, size = influence - influence.mean(), size - size.mean()
    seen, seen_size = (float((x**2).sum()) / max(1, n * (n - 1)) for x in (influence, size))
    half = margin / (2 * float(variance.prod()) ** 0.25)
    slope = 2 * half / (1 + half**2) ** 0.5
    wanted = SQUARES * (max(seen, (1 - r2) / df) + slope**2 * max(seen_size, (1 + r2) / (4 * df)))
    if seen > 1e-18:
        return influence * (wanted / seen) ** 0.5
    signs = np.resize([1.0, -1.0], n)  # people do not differ: spread the formula's error over them
    signs[n - n % 2 :] = 0.0
    return signs * (wanted * max(1, n * (n - 1)) / float((signs**2).sum())) ** 0.5


def _strata(values: NDArray, weights: NDArray, statistic: Statistic, fewest: int = 1) -> Strata:
    """Apply a statistic to the people of each contrast, leaving out contrasts with too few (see `enough_people`)."""
    known = np.isfinite(values) if values.ndim == 2 else np.isfinite(values).all(axis=-1)
    found, influence = np.full(values.shape[1], np.nan), np.full(known.shape, np.nan)
    for c in np.flatnonzero(enough_people(known.sum(axis=0), fewest)):
        found[c], influence[known[:, c], c] = statistic(values[known[:, c], c])
    return Strata(found, influence, weights)


def enough_people(counts: NDArray[np.intp], fewest: int = 1) -> NDArray[np.bool_]:
    """Whether each contrast has enough people to count, (C,).

    It needs `MIN_STRATUM` people if any contrast has that many, else `fewest`.
    """
    return counts >= (MIN_STRATUM if (counts >= MIN_STRATUM).any() else fewest)


def pool_sds(sds: NDArray[np.float64], df: NDArray[np.float64], weights: NDArray) -> tuple[float, float]:
    """Return the weighted geometric mean of the contrasts' SDs, with the df of an SD that is known as precisely.

    The logarithm of an SD has the variance 1 / (2 df). Contrasts without an SD do not take part; if one SD is 0, the
    result is 0.
    """
    used = np.isfinite(sds) & (df > 0) & (weights > 0)
    if not used.any():
        return float("nan"), 0.0
    share = weights[used] / weights[used].sum()
    free = 1 / float((share**2 / df[used]).sum())
    if (sds[used] <= 0).any():
        return 0.0, free
    return float(np.exp((share * np.log(sds[used])).sum())), free


def sd_limits(sd: float, df: float, level: float = REPORT) -> tuple[float, float]:
    """Compute the interval of a standard deviation by the chi-square distribution; NaN where nothing varies."""
    from scipy.stats import chi2

    if not df > 0 or not 0 < sd < np.inf:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = sd * (df / chi2.ppf([1 - tail, tail], df)) ** 0.5
    return float(low), float(high)
