"""Limits of agreement."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


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
    # distance of the true limit from the bias, in SDs: the least and the largest
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
