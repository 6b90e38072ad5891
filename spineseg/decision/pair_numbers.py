"""The numbers of a pair of methods, in the form of decision.json."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spineseg.decision.comparison import Comparison
from spineseg.decision.evidence import Evidence
from spineseg.decision.rule import Judgement
from spineseg.decision.stability import advantage_on_people_left_out

MAX_LOG_RATIO = 60.0
"""Largest logarithm of a ratio that is reported; a larger one only says that nothing is known."""


def describe(comparison: Comparison, methods: tuple[str, ...]) -> dict[str, Any]:
    """Return a comparison in the endpoint's unit; for SDs the difference, with the ratio beside it."""
    scale = comparison.in_unit
    found = {
        "endpoint": comparison.key,
        "words": comparison.kind.words,
        "unit": comparison.kind.unit,
        "methods": [methods[m] for m in comparison.pair],
        "means": dict(zip([methods[m] for m in comparison.pair], comparison.means, strict=True)),
        "difference": scale(comparison.estimate),
        "ci90": [scale(limit) for limit in comparison.interval],
        "ci95": [scale(limit) for limit in comparison.interval95],
        "margin": scale(comparison.margin),
        # a larger area is not a better one
        "favours": None if comparison.winner is None or comparison.key == "bias" else methods[comparison.winner],
        "is_within_margin": comparison.is_within,
        "n": comparison.n,
        "n_sites": comparison.n_sites,
    }
    if comparison.kind.is_ratio:
        logs = [comparison.estimate, *comparison.interval]
        ratio, *limits = np.exp(np.clip(logs, -MAX_LOG_RATIO, MAX_LOG_RATIO)).tolist()
        found |= {"ratio": ratio, "ratio_ci90": limits}
    return found


def describe_ruling(evidence: Evidence, judgement: Judgement, main: Comparison | None) -> dict[str, Any]:
    """Describe the pair that the verdict is about, by the ruling endpoint."""
    methods = evidence.methods
    names = {
        "best": None if judgement.best is None else methods[judgement.best],
        "runner_up": None if judgement.rival is None else methods[judgement.rival],
    }
    keys = ("difference", "ci90", "ci95", "margin")
    if main is None:
        nothing = dict.fromkeys(("endpoint", "endpoint_words", *keys, "probability", "advantage_on_people_left_out"))
        return names | nothing | {"unit": "", "n_compared": 0}
    found = describe(main, methods)
    left_out = advantage_on_people_left_out(judgement)
    left_out = None if left_out is None else main.in_unit(left_out)
    probability = dict.fromkeys(methods) | {"equivalent": round(main.probability[1], 4)}
    probability |= {
        methods[main.pair[0]]: round(main.probability[0], 4),
        methods[main.pair[1]]: round(main.probability[2], 4),
    }
    return names | {
        "endpoint": main.key if main.key != "failures" else "failure_rate",
        "endpoint_words": main.kind.words,
        "unit": main.kind.unit,
        **{key: found[key] for key in keys},
        "probability": None if math.isnan(main.probability[1]) else probability,
        "advantage_on_people_left_out": left_out,
        "n_compared": main.n,
    }


def describe_parts(evidence: Evidence, main: Comparison | None, name: str) -> dict[str, Any]:
    """Describe the ruling comparison in each contrast or site."""
    parts = {} if main is None else getattr(main, name)
    keys = ("difference", "ci90", "ci95", "favours", "n")
    found = {label: describe(one, evidence.methods) for label, one in parts.items()}
    rows = {label: {key: row[key] for key in keys} for label, row in found.items()}
    for label, one in parts.items():
        if one.kind.is_ratio and one.n < 2:
            rows[label]["difference"] = None  # one person has no SD
    return rows
