"""Intervals and probabilities of shares of people: failures and preferences."""

from __future__ import annotations

import numpy as np

from spineseg.decision.statistics import RULE


def binomial_limits(hits: float, n: float, level: float = RULE) -> tuple[float, float]:
    """Compute the exact (Clopper-Pearson) two-sided interval of a share; `hits` of `n` may be a sum of shares."""
    from scipy.special import betaincinv

    if n <= 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def paired_share_limits(better: float, worse: float, n: float, level: float = RULE) -> tuple[float, float]:
    """Compute the interval of the difference of two exclusive shares of n people.

    Parameters
    ----------
    better, worse : float
        People (or a sum of shares of people) on either side; the others are on neither.
    n : float
        All people.

    Returns
    -------
    low, high : float
        Limits of ``(better - worse) / n``.

    Notes
    -----
    The exact limits of both shares are combined by their squares [1]_ with the correlation of exclusive shares. If
    nobody of n people is on either side, the interval reaches 1 - 0.05^(1/n) to each side, which is exact. The interval
    excludes 0 only where the exact sign test does.

    References
    ----------
    .. [1] Newcombe 1998, Improved confidence intervals for the difference between binomial proportions based on paired
       data, Stat Med 17:2635-2650.
    """
    if n <= 0:
        return -1.0, 1.0
    p, q = better / n, worse / n
    (p_low, p_high), (q_low, q_high) = binomial_limits(better, n, level), binomial_limits(worse, n, level)
    spread = p * (1 - p) * q * (1 - q)
    phi = -p * q / spread**0.5 if spread > 0 else 0.0

    def reach(x: float, y: float) -> float:
        return float(max(0.0, x**2 + y**2 - 2 * phi * x * y) ** 0.5)

    low, high = p - q - reach(p - p_low, q_high - q), p - q + reach(p_high - p, q - q_low)
    side_low, side_high = binomial_limits(better, better + worse, level)  # the sign test
    return low if side_low > 0.5 else min(low, 0.0), high if side_high < 0.5 else max(high, 0.0)


def paired_share_probabilities(better: float, worse: float, n: float, margin: float) -> tuple[float, float, float]:
    """Return the probabilities that the difference of two exclusive shares lies above, within and below a margin.

    They follow from the posterior with Jeffreys' prior. A share s of all people is on either side, and a share r of
    these is on the better side; both have Beta distributions. The difference is s (2 r - 1), summed over 200 equally
    probable values of s.
    """
    from scipy.special import betainc, betaincinv

    if n <= 0:
        return (float("nan"),) * 3
    places = (np.arange(200) + 0.5) / 200
    s = betaincinv(better + worse + 1.0, max(0.0, n - better - worse) + 0.5, places)
    limit = np.minimum(1.0, margin / np.maximum(s, 1e-300))
    above = float(1.0 - betainc(better + 0.5, worse + 0.5, (1 + limit) / 2).mean())
    below = float(betainc(better + 0.5, worse + 0.5, (1 - limit) / 2).mean())
    return above, max(0.0, 1.0 - above - below), below
