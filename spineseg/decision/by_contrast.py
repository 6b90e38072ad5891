"""The rule applied to each contrast alone, and the verdict of the dataset where each contrast keeps its own method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from spineseg.decision.comparison import Comparison
from spineseg.decision.description import count_with_references, list_flagged
from spineseg.decision.evidence import Evidence
from spineseg.decision.pair_numbers import describe_parts, describe_ruling
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import Judgement, judge_with_doubt
from spineseg.decision.settling import settle_choice


def judge_contrasts(evidence: Evidence, params: DecisionParams) -> dict[str, Judgement]:
    """Apply the rule to each contrast alone; if there is only one contrast, only where the plan asks for it."""
    if (evidence.contrasts.size < 2 and params.by != "contrast") or len(evidence.methods) < 2:
        return {}
    return {
        str(contrast): judge_with_doubt(evidence.subset(evidence.contrast == contrast), params)[0]
        for contrast in evidence.contrasts
    }


def conclude(judged: Mapping[str, Judgement]) -> tuple[int | None, str]:
    """Return the method that most contrasts keep (of several, the first of the list), and the least sure verdict."""
    kept = [one.method for one in judged.values() if one.method is not None]
    method = max(sorted(set(kept)), key=kept.count, default=None)
    verdicts = {one.verdict for one in judged.values()}
    if method is not None and "none" in verdicts:
        return method, "undecided"
    return method, next((v for v in ("undecided", "equivalent", "clear") if v in verdicts), "none")


def describe_contrasts(
    evidence: Evidence, main: Comparison | None, judged: Mapping[str, Judgement], params: DecisionParams
) -> dict[str, Any]:
    """Describe each contrast: what the rule says there, and the numbers of the overall pair there."""
    inside, rows = describe_parts(evidence, main, "by_contrast"), {}
    for contrast in evidence.contrasts.tolist():
        keep = evidence.contrast == contrast
        alone = judged.get(contrast)
        rows[contrast] = {
            "n_images": int(keep.sum()),
            "n_participants": int(np.unique(evidence.subject[keep]).size),
            "n_failed": {m: int(evidence.failed[keep, i].sum()) for i, m in enumerate(evidence.methods)},
            "method": None if alone is None or alone.method is None else evidence.methods[alone.method],
            "verdict": None if alone is None else alone.verdict,
            "endpoint": None if alone is None else alone.ruling,
            "alone": None if alone is None else _alone(evidence.subset(keep), alone, params),
            "probability": None,
            "difference": None,
            "ci90": None,
            "ci95": None,
            "favours": None,
            "n": 0,
        } | inside.get(contrast, {})
        one = None if main is None else main.by_contrast.get(contrast)
        if one is not None and not math.isnan(one.probability[1]):
            first, second = (evidence.methods[m] for m in one.pair)
            better, equal, worse = (round(p, 4) for p in one.probability)
            rows[contrast]["probability"] = {first: better, second: worse, "equivalent": equal}
    return rows


def _alone(evidence: Evidence, judgement: Judgement, params: DecisionParams) -> dict[str, Any]:
    """Describe the rule's conclusion in one contrast, under the same keys as the whole decision."""
    kept = None if judgement.method is None else evidence.methods[judgement.method]
    return {
        "computed": {"method": kept, "verdict": judgement.verdict, "basis": judgement.basis},
        **describe_ruling(evidence, judgement, judgement.comparison()),
        "references": {"n_participants": count_with_references(evidence)},
        "contradictions": list(judgement.contradictions),
        "reasons": list(judgement.reasons),
        "pilots": settle_choice(evidence, judgement, params) if params.by == "contrast" else None,
        "kept_failed": [] if kept is None else evidence.image_id[evidence.failed[:, judgement.method]].tolist(),
        "kept_flagged": [] if kept is None else list_flagged(evidence)[kept],
    }
