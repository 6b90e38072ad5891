"""What the decision is made by: endpoints, when the data allow them, and their values per participant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.composite import WITHOUT_SMOOTHNESS, composite_differences
from spineseg.decision.contrast_spread import inter_contrast_sd
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.statistics import Posterior, bayes_signed_rank
from spineseg.measures import MEASURES, Measure


@dataclass(frozen=True)
class EndpointKind:
    """One way to judge methods: a measure, and what to know of it.

    Parameters
    ----------
    key : str
        Of `spineseg.measures.MEASURES`.
    is_truth : bool
        Whether it compares with reference masks.
    caution : str
        Whom it may favour, and what it cannot see.
    """

    key: str
    is_truth: bool
    caution: str

    @property
    def measure(self) -> Measure:
        """Words, unit and direction."""
        return MEASURES[self.key]


KINDS = {
    kind.key: kind
    for kind in (
        EndpointKind(
            "dice",
            True,
            "A method trained on masks of the same style, or a reference drawn by a similar rule, is favoured; Dice "
            "hides a bias of the area.",
        ),
        EndpointKind("nsd", True, "A method trained on masks of the same style is favoured."),
        EndpointKind(
            "predicted_dice",
            False,
            "Predicted, not measured: image edges favour propseg, which follows them, and the network that judges "
            "favours deepseg, whose network it is; the prediction was learned on masks of both so that neither gains, "
            "and what is left counts as an error that all masks of a method share.",
        ),
        EndpointKind(
            "scan_rescan_cov",
            False,
            "Measures precision, not truth: a method that is wrong the same way each time looks good, and smoothing "
            "methods are favoured.",
        ),
        EndpointKind("inter_contrast_sd", False, "Measures consistency, not truth; smoothing methods are favoured."),
        EndpointKind(
            "perturb_csa_cv",
            False,
            "Measures precision, not truth: a method that is wrong the same way each time looks good, smoothing "
            "methods are favoured, and so are networks trained on images changed in these ways.",
        ),
        EndpointKind(
            "composite",
            False,
            "Made of proxies, no truth: smoothness favours methods that smooth by construction (propseg's surface), "
            "coverage favours methods that go on where no cord is seen.",
        ),
    )
}
"""In the order in which `choose_endpoint` tries them."""

ORDER = ("dice", "predicted_dice", "scan_rescan_cov", "inter_contrast_sd", "composite")
"""Endpoints of ``primary: auto``: truth first, then its prediction, then consistency in the cord's own unit (a method
that is wrong in the same way each time is consistent), then proxies that do not see the image."""


ONE_SIDED_95 = 1.645
"""Standard errors by which a normal mean exceeds zero with 95 % certainty."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint with its values in a dataset.

    Parameters
    ----------
    kind : EndpointKind
    rope : float
        Differences within it count as none.
    people : (P,) ndarray of str
    means : (P, M) ndarray
        Per participant in the endpoint's unit; for the composite, the mean score against the others.
    differences : (M, M, P) ndarray
        ``differences[a, b]``: advantage of method a over b, positive where a is better; NaN where unknown.
    guard : (M, M, P) ndarray, optional
        Differences in the proxies without smoothness, which must favour the method that wins clearly.
    systematic_sd : float
        SD of the error that all of a pair's differences share; 0 where there is none.
    """

    kind: EndpointKind
    rope: float
    people: NDArray[np.str_]
    means: NDArray[np.float64]
    differences: NDArray[np.float64]
    guard: NDArray[np.float64] | None = None
    systematic_sd: float = 0.0

    def advantage(self, a: int, b: int) -> NDArray[np.float64]:
        """Known advantages of method a over b, one per participant, (n,)."""
        values = self.differences[a, b]
        return values[np.isfinite(values)]

    def n_participants(self, methods: Sequence[int]) -> int:
        """Participants in whom all pairs of the given methods can be compared."""
        pairs = [self.differences[a, b] for a, b in combinations(methods, 2)]
        return int(np.isfinite(pairs).all(axis=0).sum()) if pairs else 0

    def without(self, person: str) -> Endpoint:
        """Return the endpoint without one participant; values of the others do not depend on that one."""
        keep = self.people != person
        return replace(
            self,
            people=self.people[keep],
            means=self.means[keep],
            differences=self.differences[:, :, keep],
            guard=None if self.guard is None else self.guard[:, :, keep],
        )

    def compare(
        self, a: int, b: int, params: DecisionParams, rng: np.random.Generator, n_samples: int | None = None
    ) -> Posterior:
        """Return the probabilities that method a is better than b, equal in practice, or worse."""
        n_samples = n_samples or params.n_posterior
        return bayes_signed_rank(
            self.advantage(a, b), self.rope, rng, n_samples, params.prior_strength, self.systematic_sd
        )

    def is_beyond_error(self, a: int, b: int) -> bool:
        """Whether the mean advantage of method a is more than chance and the shared error explain.

        True where no error is shared. A few people in whom a method fails move the mean and not the ranks, and what
        is predicted of them is least certain: mean and ranks must agree then.
        """
        if not self.systematic_sd:
            return True
        known = self.advantage(a, b)
        if known.size < 2:
            return False
        return bool(known.mean() > ONE_SIDED_95 * np.hypot(known.std(ddof=1) / known.size**0.5, self.systematic_sd))

    def is_backed(self, a: int, b: int) -> bool:
        """Whether more than smoothness favours method a over b; True where nothing guards."""
        if self.guard is None:
            return True
        known = self.guard[a, b][np.isfinite(self.guard[a, b])]
        return bool(known.size and known.mean() > 1e-12)


def compute_endpoint(evidence: Evidence, key: str, params: DecisionParams) -> Endpoint:
    """Compute an endpoint from the evidence.

    Parameters
    ----------
    evidence : Evidence
    key : str
        A key of `KINDS`.
    params : DecisionParams

    Returns
    -------
    Endpoint
        With NaN in participants for whom the endpoint is not defined.
    """
    kind, guard = KINDS[key], None
    if key == "composite":
        differences = composite_differences(evidence, params)
        guard = composite_differences(evidence, params, WITHOUT_SMOOTHNESS)
        n_methods = len(evidence.methods)
        with np.errstate(invalid="ignore"):
            means = (differences.sum(axis=1) / max(1, n_methods - 1)).T
    else:
        means = _scalar_means(evidence, key)
        sign = 1.0 if kind.measure.higher_is_better else -1.0
        differences = sign * (means.T[:, None, :] - means.T[None, :, :])
    systematic = params.systematic_predicted_dice if key == "predicted_dice" else 0.0
    return Endpoint(kind, getattr(params, f"rope_{key}"), evidence.people, means, differences, guard, systematic)


def choose_endpoint(evidence: Evidence, params: DecisionParams, eligible: Sequence[int]) -> tuple[Endpoint, list[str]]:
    """Choose the endpoint that the settings name, or the first that the data of the eligible methods allow.

    Returns
    -------
    endpoint : Endpoint
    notes : list of str
        Why a better endpoint could not be used.
    """
    wanted = ORDER if params.primary == "auto" else (params.primary, *(k for k in ORDER if k != params.primary))
    notes: list[str] = []
    for key in wanted:
        endpoint = compute_endpoint(evidence, key, params)
        needed = _needed(key, params)
        n = endpoint.n_participants(eligible)
        if n >= needed:
            return endpoint, notes
        if n or params.primary == key:
            notes.append(f"not decided by {KINDS[key].measure.words}: known for {n} participants, {needed} needed")
    return endpoint, notes


def _needed(key: str, params: DecisionParams) -> int:
    """Participants from which on an endpoint decides; the composite always can."""
    if key in ("dice", "nsd"):
        return max(1, params.min_references)
    if key == "predicted_dice":
        return 1  # with fewer than a verdict needs it is still the best that is known
    return 0 if key == "composite" else max(1, params.min_repeats)


def _scalar_means(evidence: Evidence, key: str) -> NDArray[np.float64]:
    """Values per participant and method in the endpoint's own unit, (P, M)."""
    if key in ("dice", "nsd", "predicted_dice"):
        values = evidence.values[key]
        has_reference = np.isfinite(values).any(axis=1, keepdims=True)
        # a method that failed where a reference exists has found none of it
        return evidence.person_mean(np.where(has_reference & np.isnan(values) & evidence.failed, 0.0, values))
    if key == "perturb_csa_cv":
        return evidence.person_mean(evidence.values[key])
    if key == "scan_rescan_cov":
        return scan_rescan_cov(evidence)
    return inter_contrast_sd(evidence)


def scan_rescan_cov(evidence: Evidence) -> NDArray[np.float64]:
    """Compute the scan-rescan coefficient of variation per participant, (P, M), percent.

    Images that differ in session and run only repeat each other; those count that every method has an area
    of. The variance of the mean CSA within each set of repeats, over its squared mean, is averaged over a
    participant's sets; then the root is taken. NaN with fewer than two such images.
    """
    people, index = np.unique(evidence.subject, return_inverse=True)
    _, group = np.unique(evidence.repeat_key, return_inverse=True)
    csa = evidence.values["csa_mean_mm2"]
    squares, count = np.zeros((people.size, csa.shape[1])), np.zeros(people.size)
    for members in (np.flatnonzero(group == g) for g in range(group.max(initial=-1) + 1)):
        values = csa[members][np.isfinite(csa[members]).all(axis=1)]
        if len(values) < 2:
            continue
        squares[index[members[0]]] += values.var(axis=0, ddof=1) / values.mean(axis=0) ** 2
        count[index[members[0]]] += 1
    mean = np.divide(squares, count[:, None], out=np.full(squares.shape, np.nan), where=count[:, None] > 0)
    return 100.0 * np.sqrt(mean)
