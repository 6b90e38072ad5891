"""Build the content of decision.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from spineseg.decision.area_errors import summarise_errors
from spineseg.decision.by_contrast import conclude, describe_contrasts, judge_contrasts
from spineseg.decision.common_stretch import repeat_variances
from spineseg.decision.comparison import Comparison
from spineseg.decision.contradictions import is_of_enough
from spineseg.decision.description import (
    check_prediction,
    count_with_references,
    list_flagged,
    predict_area_errors,
    summarise_agreement,
    summarise_methods,
)
from spineseg.decision.differential_bias import find_differential_bias, untested_bias
from spineseg.decision.endpoints import failure_shares
from spineseg.decision.evidence import LEVEL_AREA, Evidence
from spineseg.decision.pair_numbers import describe, describe_parts, describe_ruling
from spineseg.decision.params import OBSOLETE, DecisionParams
from spineseg.decision.plan import NO_SCOPE, Scope, describe_plan
from spineseg.decision.raters import summarise_ratings
from spineseg.decision.reliability import summarise_reliability
from spineseg.decision.rule import Judgement, failure_rates, judge_with_doubt
from spineseg.decision.settling import settle_choice
from spineseg.decision.shares import binomial_limits
from spineseg.decision.stability import leave_one_out
from spineseg.decision.statistics import MIN_STRATUM, REPORT, enough_people
from spineseg.decision.study_size import plan_study
from spineseg.decision.training import PREDICTION, Taught
from spineseg.decision.wording import people
from spineseg.errors import InputError
from spineseg.spelling import name_some
from spineseg.studyfolder.decisions import Plan

WITHIN_PEOPLE = ("change_error", "repeats")
"""Endpoints in which errors that a person has at every scan cancel, as they do in a change."""


@dataclass(frozen=True)
class Context:
    """What a decision records beside the evidence.

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
    plan : Plan, optional
        The plan that was written before the pilot.
    scope : Scope
        What the plan covers beside the settings of the rule.
    fitted : frozenset of str
        Methods on whose masks the prediction of Dice was fitted.
    taught : Taught
        People on whom the shipped networks were trained.
    notes : tuple of str
        What a reader must know about the tables.
    """

    dataset: str
    override: Mapping[str, str] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    code_sha256: Mapping[str, str] = field(default_factory=dict)
    weights_sha256: Mapping[str, Any] = field(default_factory=dict)
    config_sha256: str = ""
    plan: Plan | None = None
    scope: Scope = NO_SCOPE
    fitted: frozenset[str] = frozenset()
    taught: Taught = field(default_factory=Taught)
    notes: tuple[str, ...] = ()


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
        Ready for JSON: numbers are rounded, NaN is None, and no time is stored, so that the same evidence gives the
        same dict.

    Raises
    ------
    InputError
        If the override or `prefer` names a method that is not compared.
    """
    _check_names(evidence, params, context.override)
    evidence = replace(evidence, repeats=repeat_variances(evidence, params.repeats))
    judgement, without = judge_with_doubt(evidence, params)
    judgement = _judge_without_taught(evidence, judgement, params, context.taught)
    by_contrast = judge_contrasts(evidence, params)
    methods = evidence.methods
    override = context.override
    main = judgement.comparison()
    planned = by_contrast if params.by == "contrast" else {}
    separate = {} if override else planned
    method, verdict = conclude(planned or {"all": judgement})
    kept = None if method is None else methods[method]
    pair = None if judgement.best is None or judgement.rival is None else (judgement.best, judgement.rival)
    document = {
        "dataset": context.dataset,
        "method": override["method"] if override else kept,
        "verdict": "override" if override else verdict,
        "computed": {"method": kept, "verdict": verdict, "basis": judgement.basis} | _by_contrast(methods, planned),
        "override": dict(override) if override else None,
        "methods": list(methods),
        "method_by_contrast": {c: None if one.method is None else methods[one.method] for c, one in separate.items()},
        "plan": describe_plan(context.plan, params, context.scope),
        **describe_ruling(evidence, judgement, main),
        "endpoints": _endpoints(evidence, judgement, params),
        "contradictions": [] if separate else list(judgement.contradictions),
        "reasons": [] if separate else list(judgement.reasons),
        "n_participants": int(evidence.people.size),
        "n_images": int(evidence.image_id.size),
        "failures": _failures(evidence),
        "per_contrast": describe_contrasts(evidence, main, by_contrast, params),
        "per_site": describe_parts(evidence, main, "by_site"),
        "references": _references(evidence, without) | {"taught": _taught(evidence, main, context.taught)},
        "ratings": summarise_ratings(evidence),
        "area_errors": summarise_errors(evidence, pair),
        "differential_bias": find_differential_bias(evidence, params),
        "summary": summarise_methods(evidence),
        "agreement": summarise_agreement(evidence),
        "reliability": summarise_reliability(evidence, params, pair),
        "prediction_against_truth": check_prediction(_of_others(evidence, context.taught.prediction)),
        "prediction_fitted_for": [method for method in methods if method in context.fitted],
        "predicted_area_error_pct": predict_area_errors(evidence),
        "flagged": list_flagged(evidence),
        "stability": leave_one_out(evidence, judgement, params),
        "pilots": settle_choice(evidence, judgement, params),
        "study": plan_study(evidence, params),
        "cautions": _cautions(judgement, main),
        "notes": [*context.notes, *_notes(evidence, judgement, params, separate)],
        "excluded": [*evidence.excluded, *_uncompared(evidence, judgement, main)],
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
        # further digits are rounding errors of sums, which differ between machines
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


def _endpoints(evidence: Evidence, judgement: Judgement, params: DecisionParams) -> list[dict[str, Any]]:
    """Every endpoint of every pair, the best method first where it takes part, and whether enough people have it."""
    rows = []
    for pair, known in judgement.pairs.items():
        first = judgement.best if judgement.best in pair else pair[0]
        for one in known.values():
            enough = is_of_enough(one, params)
            rows.append(describe(one.of(first), evidence.methods) | {"is_known_of_enough": enough})
    return rows


def _failures(evidence: Evidence) -> dict[str, Any]:
    """Failures by method: counts, rate over people with an exact interval, images."""
    n, people = len(evidence.image_id), evidence.people.size
    rates = failure_rates(evidence)
    return {
        method: {
            "n_failed": int(evidence.failed[:, m].sum()),
            "n_images": n,
            "rate": float(rates[m]) if n else None,
            "ci95": list(binomial_limits(float(rates[m]) * people, people, REPORT)),
            "n_participants": int(np.unique(evidence.subject[evidence.failed[:, m]]).size),
            "images": evidence.image_id[evidence.failed[:, m]].tolist(),
        }
        for m, method in enumerate(evidence.methods)
    }


def _references(evidence: Evidence, without: Judgement | None) -> dict[str, Any]:
    """Count people with references, and references corrected from a method's output; the verdict without the latter."""
    has = np.isfinite(evidence.values["dice"]).any(axis=1)
    corrected = has & (evidence.reference_from != "")
    sources, counts = np.unique(evidence.reference_from[corrected], return_counts=True)
    found: dict[str, Any] = {
        "n_images": int(has.sum()),
        "n_participants": count_with_references(evidence),
        "corrected_from": dict(zip(sources.tolist(), counts.tolist(), strict=True)),
        "without_corrected": None,
        "rater_error": dict(evidence.rater_error),
    }
    if without is not None:
        kept = None if without.method is None else evidence.methods[without.method]
        found["without_corrected"] = {"method": kept, "verdict": without.verdict, "endpoint": without.ruling}
    return found


def _of_others(evidence: Evidence, who: frozenset[str]) -> Evidence:
    """The evidence of all but some people."""
    mine = np.isin(evidence.subject, sorted(who))
    return evidence.subset(~mine) if mine.any() else evidence


def _judge_without_taught(
    evidence: Evidence, judgement: Judgement, params: DecisionParams, taught: Taught
) -> Judgement:
    """Withdraw a verdict that does not hold without the people on whom the kept method was trained."""
    kept = None if judgement.method is None else evidence.methods[judgement.method]
    others = _of_others(evidence, taught.by_method.get(kept or "", frozenset()))
    if judgement.verdict not in ("clear", "equivalent") or others is evidence:
        return judgement
    without = judge_with_doubt(others, params)[0]
    if (without.verdict, without.method) == (judgement.verdict, judgement.method):
        return judgement
    why = f"the verdict rests on people who taught {kept}; without them it does not hold"
    return replace(judgement, verdict="undecided", contradictions=(*judgement.contradictions, why))


def _taught(evidence: Evidence, main: Comparison | None, taught: Taught) -> dict[str, Any]:
    """People on whom each method and the prediction were trained, and how many of them the ruling endpoint compares."""
    nobody = np.zeros(evidence.people.size, bool)
    compared = np.isfinite(main.pseudo) if main is not None and main.pseudo.size else nobody
    found = {}
    for name, who in {**taught.by_method, PREDICTION: taught.prediction}.items():
        mine = np.isin(evidence.people, sorted(who))
        if mine.any():
            found[name] = {"participants": evidence.people[mine].tolist(), "n_compared": int((mine & compared).sum())}
    return found


def _cautions(judgement: Judgement, main: Comparison | None) -> list[str]:
    """Whom the ruling endpoint may favour, and that the pilot's people cannot test the chosen method again."""
    if main is None or judgement.basis == "failures":
        return []
    chose = "The pilot chose the method: do not test the method's quality on the same people again."
    return [text for text in (main.kind.caution, chose) if text]


def _notes(
    evidence: Evidence, judgement: Judgement, params: DecisionParams, separate: Mapping[str, Judgement]
) -> list[str]:
    """What a reader must know about how the verdict was reached."""
    notes = [f"{c}: {text}" for c, one in separate.items() for text in (*one.contradictions, *one.reasons)]
    notes = notes if separate else [*judgement.contradictions, *judgement.reasons]
    dropped = [m for i, m in enumerate(evidence.methods) if i not in judgement.eligible]
    if dropped and judgement.eligible:
        notes.append(
            f"not kept for failing in more than {100 * params.max_fail:g} % of the images: {', '.join(dropped)}"
        )
    if np.unique(evidence.run).size > 1 and not params.repeats.is_declared:
        notes.append(
            "some people have several runs of one image: if these are repeated scans of the same cord, declare them "
            "by the config key decision.repeats, because they show each method's precision"
        )
    if (
        params.repeats.is_declared
        and (main := judgement.pairs)
        and not any("repeats" in each for each in main.values())
    ):
        notes.append("no declared repeats could be compared on the same stretch of cord (table of slices, or levels)")
    ruling = judgement.comparison() if judgement.basis == "endpoint" and not separate else None
    if params.aim == "change" and ruling is not None and ruling.key not in WITHIN_PEOPLE:
        notes.append(
            f"the study wants to see change, but the choice rests on {ruling.kind.words}, which includes errors that a "
            "person has at every scan and that cancel in a change: repeats of six people, or references of two "
            "sessions of five, would show each method's precision within people"
        )
    if params.level:
        notes.append(_level_note(evidence, judgement, params.level))
    notes += _left_out(evidence)
    notes += untested_bias(evidence, params)
    blank = evidence.of_person(evidence.site) == ""
    if blank.any() and not blank.all():
        notes.append(
            f"the {params.site} of {people(int(blank.sum()))} is not known and counts as one more (participants.tsv)"
        )
    if names := _short_masks(evidence, params):
        notes.append(
            f"counted as failed for covering less than {params.coverage_limit:g} of the slices on which any method "
            f"found cord: {name_some(names)}; look whether the longer mask is cord"
        )
    if params.by == "contrast":
        notes.append(
            "one method is kept for each contrast (decision.by): areas of different contrasts cannot be compared"
        )
    return notes + [f"config key decision.{key} is no longer used: {OBSOLETE[key]}" for key in params.obsolete]


def _by_contrast(methods: Sequence[str], planned: Mapping[str, Judgement]) -> dict[str, Any]:
    """The rule's own method and verdict of each contrast, where the plan wants one for each."""
    found = {
        contrast: {"method": None if one.method is None else methods[one.method], "verdict": one.verdict}
        for contrast, one in planned.items()
    }
    return {"by_contrast": found} if found else {}


def _level_note(evidence: Evidence, judgement: Judgement, level: str) -> str:
    """Say of how many images the area at the plan's level is known, and what the others count for."""
    areas = evidence.values.get(LEVEL_AREA, np.zeros((0, 1)))
    wanted = [m for m in (judgement.best, judgement.rival) if m is not None] or list(range(areas.shape[1]))
    n, whole = int(np.isfinite(areas[:, wanted]).all(axis=1).sum()) if len(areas) else 0, len(evidence.image_id)
    text = f"the area at {level} is known of {n} of {whole} images"
    if n == whole:
        return text
    if not n or (count_with_references(evidence) and not evidence.area_errors(wanted)[2]):
        return f"{text}: fewer than half of the people, so that areas over whole masks are compared instead"
    return f"{text}: areas are compared in these alone"


def _left_out(evidence: Evidence) -> list[str]:
    """Name the contrasts that count in no comparison because too few people have them."""
    people = np.isfinite(failure_shares(evidence)).all(axis=2).sum(axis=0)
    small = evidence.contrasts[~enough_people(people)].tolist()
    if not small:
        return []
    return [
        f"fewer than {MIN_STRATUM} people show {' or '.join(small)}: no comparison of all contrasts counts such images"
    ]


def _short_masks(evidence: Evidence, params: DecisionParams) -> list[str]:
    """Images in which a method's mask is too short."""
    coverage = evidence.values["coverage"]
    short = evidence.failed & (coverage < params.coverage_limit) & (coverage > 0)
    return evidence.image_id[short.any(axis=1)].tolist()


def _uncompared(evidence: Evidence, judgement: Judgement, main: Comparison | None) -> list[dict[str, str]]:
    """Participants in whom the pair could not be compared by the endpoint."""
    if main is None or not main.pseudo.size or judgement.basis == "failures":
        return []
    name = {"csa_error": "csa_error_pct", "csa_error_rms": "csa_error_pct"}.get(main.key, main.key)
    values = evidence.values.get(name, np.full(evidence.failed.shape, np.nan))[:, list(main.pair)]
    if name == "csa_error_pct":
        values = evidence.area_errors(main.pair)[0]
    has_value = np.asarray(np.isfinite(evidence.person_mean(values)).all(axis=1))
    reasons = {
        True: f"fewer than {MIN_STRATUM} people with {main.kind.words} in their contrast",
        False: f"not known: {main.kind.words}",
    }
    if main.n >= has_value.sum():  # a single person who was compared has no contribution to the spread either
        reasons.pop(True)
    people = zip(evidence.people.tolist(), has_value.tolist(), np.isnan(main.pseudo).tolist(), strict=True)
    return [
        {"participant": person, "reason": reasons[has]}
        for person, has, is_missing in people
        if is_missing and has in reasons
    ]
