"""The composite of proxies: in how many of them one method beats another, participant by participant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.measures import MEASURES

COMPONENTS = {
    "coverage": ("band_coverage", False),
    "csa_roughness": ("band_roughness", True),
    "n_components": ("band_components", False),
    "plausible": ("band_plausible", False),
    "centre_roughness": ("band_roughness", True),
}
"""Measure to name of its band in the settings, and whether the band is relative.
How well the edge fits is not among them: propseg optimises just that."""

WITHOUT_SMOOTHNESS = ("coverage", "n_components", "plausible")
"""Proxies that no method meets just by smoothing."""


def composite_differences(
    evidence: Evidence, params: DecisionParams, components: Sequence[str] = tuple(COMPONENTS)
) -> NDArray[np.float64]:
    """Score each pair of methods in each participant by the signs of the proxies' differences.

    Parameters
    ----------
    evidence : Evidence
    params : DecisionParams
    components : sequence of str
        Proxies to count.

    Returns
    -------
    (M, M, P) ndarray of float64, -1 to 1
        ``[a, b]``: mean over the proxies of +1 where a is better, -1 where b is, 0 within the band. A proxy
        that only one method has (the other failed everywhere) counts for that one; a proxy that neither
        has does not count; NaN where none counts.
    """
    n_methods, n_people = len(evidence.methods), evidence.people.size
    scores = np.zeros((n_methods, n_methods, n_people))
    for a in range(n_methods):
        for b in range(a):
            signs = np.stack([_signs(evidence, name, a, b, params) for name in components])
            counted = np.isfinite(signs).sum(axis=0)
            total = np.nansum(signs, axis=0)
            score = np.divide(total, counted, out=np.full(n_people, np.nan), where=counted > 0)
            scores[a, b], scores[b, a] = score, -score
    return scores


def _signs(evidence: Evidence, name: str, a: int, b: int, params: DecisionParams) -> NDArray[np.float64]:
    """Which of two methods is better in one proxy, per participant, (P,): 1, 0, -1 or NaN."""
    band_name, is_relative = COMPONENTS[name]
    higher_is_better = MEASURES[name].higher_is_better
    values = evidence.values[name][:, [a, b]]
    if name == "n_components":
        values = np.where(values > 0, values, np.nan)  # no component at all is no merit
    both = evidence.person_mean(values)
    gap = both[:, 0] - both[:, 1]
    band = getattr(params, band_name) * (both.mean(axis=1) if is_relative else 1.0)
    sign = np.where(np.abs(gap) <= band + 1e-12, 0.0, np.sign(gap)) * (1.0 if higher_is_better else -1.0)
    sign[np.isnan(gap)] = np.nan
    alone = [np.isfinite(evidence.person_mean(values[:, [n]])[:, 0]) for n in (0, 1)]
    only = alone[0].astype(float) - alone[1].astype(float)
    return np.where(np.isnan(sign) & (only != 0), only, sign)
