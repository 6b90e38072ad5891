"""Everything that decision.json holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.endpoints import Endpoint, compute_endpoint
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.reliability import summarise_reliability
from spineseg.decision.rule import (
    STAGE_BOOTSTRAP,
    STAGE_CONTRAST,
    STAGE_PILOTS,
    Judgement,
    decide_by_endpoint,
    discordant_people,
    doubt_of_proxies,
    failing_people,
    judge,
    leave_one_out,
    mcnemar,
    stream,
)
from spineseg.decision.secondary import (
    check_prediction,
    compare_secondary,
    proxy_truth,
    summarise_agreement,
    summarise_methods,
)
from spineseg.decision.statistics import (
    Posterior,
    bootstrap_mean,
    holm,
    pilots_for_verdict,
    wilcoxon_exact,
    wilson_interval,
)
from spineseg.errors import InputError


@dataclass(frozen=True)
class Context:
    """What the decision is about, beside the evidence.

    Parameters
    ----------
    dataset : str
    override : dict or None
        ``{"method", "reason", "by"}``: a person's choice, which replaces the rule's.
    versions : dict
    code_sha256 : dict
        Digest of the code by method, and of the code that measures and decides.
    weights_sha256 : dict
    config_sha256 : str
    """

    dataset: str
    override: Mapping[str, str] | None
    versions: Mapping[str, str]
    code_sha256: Mapping[str, str]
    weights_sha256: Mapping[str, Any]
    config_sha256: str


def build_decision(evidence: Evidence, params: DecisionParams, context: Context) -> dict[str, Any]:
    """Decide, and gather what is known about the decision.

    Parameters
    ----------
    evidence : Evidence
    params : DecisionParams
    context : Context

    Returns
    -------
    dict
        Ready for JSON: numbers rounded, no NaN, no time; the same evidence gives the same dict.

    Raises
    ------
    InputError
        If the override or `prefer` names a method that is not compared.
    """
    _check_names(evidence, params, context.override)
    judgement, endpoint, notes = decide_by_endpoint(evidence, params)
    methods = evidence.methods
    kept = None if judgement.method is None else methods[judgement.method]
    override = context.override
    document = {
        "dataset": context.dataset,
        "method": override["method"] if override else kept,
        "verdict": "override" if override else judgement.verdict,
        "computed": {"method": kept, "verdict": judgement.verdict, "basis": judgement.basis},
        "override": dict(override) if override else None,
        "methods": list(methods),
        "endpoint": _endpoint_name(judgement, endpoint),
        "endpoint_words": endpoint.kind.measure.words if judgement.basis == "endpoint" else None,
        "unit": "" if judgement.basis == "failures" else endpoint.kind.measure.unit,
        "rope": endpoint.rope if judgement.basis == "endpoint" else None,
        **_comparison(evidence, judgement, endpoint, params),
        "n_participants": int(evidence.people.size),
        "n_images": int(evidence.image_id.size),
        "failures": _failures(evidence),
        "mcnemar_p": _mcnemar(evidence, judgement),
        "per_contrast": _per_contrast(evidence, endpoint, judgement, params),
        "secondary": compare_secondary(evidence, judgement, endpoint.kind.key),
        "summary": summarise_methods(evidence, endpoint),
        "agreement": summarise_agreement(evidence),
        "reliability": summarise_reliability(evidence),
        "proxies_against_truth": proxy_truth(evidence),
        "prediction_against_truth": check_prediction(evidence),
        "flagged": _flagged(evidence),
        "stability": leave_one_out(evidence, endpoint, params),
        "pilots": _pilots(judgement, endpoint, params),
        "cautions": _cautions(judgement, endpoint),
        "notes": notes + _general_notes(evidence, endpoint, judgement, params),
        "excluded": [*evidence.excluded, *_uncompared(judgement, endpoint)],
        "parameters": asdict(params),
        "versions": dict(context.versions),
        "code_sha256": dict(context.code_sha256),
        "weights_sha256": dict(context.weights_sha256),
        "config_sha256": context.config_sha256,
        "seed": params.seed,
    }
    return jsonable(document)


def jsonable(value: Any) -> Any:
    """Make a value ready for JSON: plain types, NaN as None, floats with six significant digits."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        # beyond 9 decimals and 6 digits lies the rounding of sums, which differs between machines
        return float(f"{round(value, 9):.6g}") + 0.0 if math.isfinite(value) else None
    return value


def _check_names(evidence: Evidence, params: DecisionParams, override: Mapping[str, str] | None) -> None:
    """Refuse names of methods that are not compared."""
    known = ", ".join(evidence.methods)
    if params.prefer is not None and params.prefer not in evidence.methods:
        raise InputError(f"decision.prefer: expected one of {known}, found {params.prefer!r}")
    if override is None:
        return
    if missing := [key for key in ("method", "reason", "by") if not override.get(key)]:
        raise InputError(f"override.{missing[0]}: missing; an override needs method, reason and by")
    if override["method"] not in evidence.methods:
        raise InputError(f"override.method: expected one of {known}, found {override['method']!r}")


def _endpoint_name(judgement: Judgement, endpoint: Endpoint) -> str | None:
    """Name what the verdict rests on."""
    if judgement.basis == "failures":
        return "failure_rate"
    return endpoint.kind.key if judgement.basis == "endpoint" else None


def _comparison(evidence: Evidence, judgement: Judgement, endpoint: Endpoint, params: DecisionParams) -> dict[str, Any]:
    """Probabilities, difference, interval and p of the best method against its runner-up."""
    empty: dict[str, Any] = {"best": None, "runner_up": None, "probability": None, "difference": None, "ci95": None}
    if judgement.rival is None:
        return empty | {"p_wilcoxon": None, "n_compared": judgement.n}
    methods = evidence.methods
    advantage = endpoint.advantage(judgement.best, judgement.rival)
    if judgement.basis == "failures":  # the share of a person's images that fail more by the rival
        failed = evidence.person_mean(evidence.failed[:, [judgement.rival, judgement.best]].astype(float))
        advantage = failed[:, 0] - failed[:, 1]
    low, high = bootstrap_mean(advantage, stream(params, STAGE_BOOTSTRAP), params.n_bootstrap)
    return {
        "best": methods[judgement.best],
        "runner_up": methods[judgement.rival],
        "probability": _probability(judgement.posterior, judgement.best, judgement.rival, methods),
        "difference": float(advantage.mean()) if advantage.size else None,
        "ci95": [low, high],
        "p_wilcoxon": wilcoxon_exact(advantage),
        "n_compared": judgement.n,
    }


def _probability(posterior: Posterior | None, best: int, rival: int, methods: tuple[str, ...]) -> dict[str, Any]:
    """Probability per method of the pair and of equivalence, four decimals; others are null."""
    named: dict[str, Any] = dict.fromkeys(methods)
    if posterior is None:
        return named | {"equivalent": None}
    return named | {
        methods[best]: round(posterior.better, 4),
        methods[rival]: round(posterior.worse, 4),
        "equivalent": round(posterior.equivalent, 4),
    }


def _failures(evidence: Evidence) -> dict[str, Any]:
    """Failures by method: counts, rate with Wilson interval, people, images."""
    people = failing_people(evidence)
    n = len(evidence.image_id)
    return {
        method: {
            "n_failed": int(evidence.failed[:, m].sum()),
            "n_images": n,
            "rate": float(evidence.failed[:, m].mean()) if n else None,
            "ci95": list(wilson_interval(int(evidence.failed[:, m].sum()), n)),
            "n_participants": int(people[:, m].sum()) if n else 0,
            "images": evidence.image_id[evidence.failed[:, m]].tolist(),
        }
        for m, method in enumerate(evidence.methods)
    }


def _flagged(evidence: Evidence) -> dict[str, list[str]]:
    """Images by method whose predicted Dice asks for a look, the lowest first."""
    flagged, dice = evidence.values["flagged"], evidence.values["predicted_dice"]
    return {
        method: [str(evidence.image_id[n]) for n in np.argsort(dice[:, m], kind="stable") if flagged[n, m] == 1]
        for m, method in enumerate(evidence.methods)
    }


def _mcnemar(evidence: Evidence, judgement: Judgement) -> float | None:
    """Exact McNemar p of the pair's failures; it informs and does not gate."""
    if judgement.rival is None or not len(evidence.image_id):
        return None
    return mcnemar(evidence, judgement.best, judgement.rival)


def _per_contrast(
    evidence: Evidence, endpoint: Endpoint, judgement: Judgement, params: DecisionParams
) -> dict[str, Any]:
    """The same comparison within each contrast, with Holm's correction; descriptive."""
    contrasts = np.unique(evidence.contrast).tolist()
    rows = {c: _one_contrast(evidence, c, n, endpoint, judgement, params) for n, c in enumerate(contrasts)}
    adjusted = holm([math.nan if row["p_wilcoxon"] is None else row["p_wilcoxon"] for row in rows.values()])
    for row, p in zip(rows.values(), adjusted, strict=True):
        row["p_holm"] = float(p)
    return rows


def _one_contrast(
    evidence: Evidence, contrast: str, number: int, endpoint: Endpoint, judgement: Judgement, params: DecisionParams
) -> dict[str, Any]:
    """Compare the overall pair in one contrast, and judge that contrast by itself."""
    part = evidence.subset(evidence.contrast == contrast)
    # contrasts of one person cannot be compared within one contrast
    key = "composite" if endpoint.kind.key == "inter_contrast_sd" else endpoint.kind.key
    inner = compute_endpoint(part, key, params)
    pair = range(len(part.methods)) if judgement.rival is None else (judgement.best, judgement.rival)
    if key != "composite" and inner.n_participants(pair) == 0:
        key, inner = "composite", compute_endpoint(part, "composite", params)
    alone = judge(part, inner, params, stream(params, STAGE_CONTRAST, number))
    row: dict[str, Any] = {
        "n_images": int(part.image_id.size),
        "n_participants": int(part.people.size),
        "n_failed": {m: int(part.failed[:, i].sum()) for i, m in enumerate(part.methods)},
        "endpoint": key,
        "means": _method_means(inner, part.methods),
        "method": None if alone.method is None else part.methods[alone.method],
        "verdict": alone.verdict,
        "difference": None,
        "ci95": None,
        "probability": None,
        "p_wilcoxon": None,
    }
    if judgement.rival is None:
        return row
    advantage = inner.advantage(judgement.best, judgement.rival)
    rng = stream(params, STAGE_CONTRAST, number, 1)
    posterior = inner.compare(judgement.best, judgement.rival, params, rng)
    return row | {
        "difference": float(advantage.mean()) if advantage.size else None,
        "ci95": list(bootstrap_mean(advantage, rng, params.n_bootstrap)),
        "probability": _probability(
            posterior if advantage.size else None, judgement.best, judgement.rival, part.methods
        ),
        "p_wilcoxon": wilcoxon_exact(advantage) if advantage.size else None,
    }


def _method_means(endpoint: Endpoint, methods: tuple[str, ...]) -> dict[str, float]:
    """Mean over participants by method, of those in whom all methods are known."""
    known: NDArray = endpoint.means[np.isfinite(endpoint.means).all(axis=1)]
    return {m: float(known[:, i].mean()) if len(known) else math.nan for i, m in enumerate(methods)}


def _pilots(judgement: Judgement, endpoint: Endpoint, params: DecisionParams) -> dict[str, Any]:
    """How many further participants a verdict would need; nulls where there is a verdict or no pair."""
    is_sure = judgement.n >= params.min_participants and (
        max(asdict(judgement.posterior).values()) >= params.min_probability if judgement.posterior else False
    )
    # where the probability suffices, something else than their number keeps it from being a verdict
    if judgement.verdict != "undecided" or judgement.basis != "endpoint" or is_sure:
        return {"total_needed": None, "further_needed": None, "searched_up_to": None}
    advantage = endpoint.advantage(judgement.best, judgement.rival)
    total = pilots_for_verdict(
        advantage,
        endpoint.rope,
        stream(params, STAGE_PILOTS),
        probability=params.min_probability,
        power=params.power,
        n_min=params.min_participants,
        n_max=max(params.max_pilots, params.min_participants),
        n_simulations=params.n_simulations,
        systematic_sd=endpoint.systematic_sd,
    )
    further = None if total is None else max(1, total - judgement.n)
    return {"total_needed": total, "further_needed": further, "searched_up_to": params.max_pilots}


def _cautions(judgement: Judgement, endpoint: Endpoint) -> list[str]:
    """Conflicts of interest of what was used, and of what was deliberately not."""
    if judgement.basis != "endpoint":
        return []
    edges = "The fit to image edges is not used: propseg optimises it."
    return [
        endpoint.kind.caution,
        *([] if endpoint.kind.is_truth or endpoint.kind.key == "predicted_dice" else [edges]),
        "The pilot chose the method: do not test the method's quality on the same people again.",
    ]


def _why_undecided(evidence: Evidence, endpoint: Endpoint, judgement: Judgement, params: DecisionParams) -> list[str]:
    """Say what kept a high probability from being a verdict."""
    best, rival = (evidence.methods[m] for m in (judgement.best, judgement.rival))
    doubt = doubt_of_proxies(evidence, endpoint, judgement.best, judgement.rival, params)
    if judgement.posterior.better >= params.min_probability:
        if not endpoint.is_beyond_error(judgement.best, judgement.rival):
            doubt = (
                f"most participants favour {best}, but the mean difference is no more than chance and the error of the "
                "prediction explain"
            )
        return [doubt] if doubt else []
    if judgement.posterior.equivalent < params.min_probability or endpoint.kind.is_truth:
        return []
    dice = evidence.pair_dice(judgement.best, judgement.rival)
    found = "is not known" if math.isnan(dice) else f"is {dice:.2f}"
    return [
        f"the measures used see no difference between {best} and {rival}, but the Dice between their masks {found}; "
        f"they count as equal from {params.min_agreement:g} on, because these measures are blind to size and place"
    ]


def _general_notes(evidence: Evidence, endpoint: Endpoint, judgement: Judgement, params: DecisionParams) -> list[str]:
    """What a reader must know about how the verdict came about."""
    notes = []
    dropped = [m for i, m in enumerate(evidence.methods) if i not in judgement.eligible]
    if dropped and judgement.eligible:
        notes.append(
            f"dropped for failing in more than {100 * params.max_fail:g} % of the images: {', '.join(dropped)}"
        )
    if judgement.basis == "failures":
        only, rival = discordant_people(evidence, judgement.best, judgement.rival)
        notes.append(
            f"{evidence.methods[judgement.rival]} alone failed in {rival} participants, "
            f"{evidence.methods[judgement.best]} alone in {only}"
        )
    if judgement.basis == "endpoint" and judgement.verdict == "undecided":
        notes += _why_undecided(evidence, endpoint, judgement, params)
    if judgement.basis == "endpoint" and judgement.n < params.min_participants:
        notes.append(
            f"{judgement.n} participants could be compared; fewer than {params.min_participants} never give a verdict"
        )
    return notes


def _uncompared(judgement: Judgement, endpoint: Endpoint) -> list[dict[str, str]]:
    """Participants in whom the pair could not be compared by the endpoint."""
    if judgement.basis != "endpoint":
        return []
    missing = np.isnan(endpoint.differences[judgement.best, judgement.rival])
    reason = f"not known: {endpoint.kind.measure.words}"
    return [{"participant": str(person), "reason": reason} for person in endpoint.people[missing]]
