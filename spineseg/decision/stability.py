"""How much the conclusion owes to single people, and to the people who chose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import Judgement, judge

N_FOLDS = 10

MOST_DROPS = 50
"""People left out one at a time; of more, those who move the estimate most, so that the cost stays linear."""


def leave_one_out(evidence: Evidence, judgement: Judgement, params: DecisionParams) -> dict[str, Any]:
    """Say how often the conclusion changes when one of the people who have the ruling endpoint is left out.

    Returns
    -------
    dict
        n_people (who have the endpoint), n_drops (tried), n_flips, participants (those whose absence changes the kept
        method, or the verdict if `min_participants` is set aside: dropping one of six would always break it).
    """
    main = judgement.comparison() if judgement.basis in ("endpoint", "failures") else None
    if main is None:
        return {"n_people": 0, "n_drops": 0, "n_flips": 0, "participants": []}
    known = np.flatnonzero(np.isfinite(main.pseudo))
    far = known[np.argsort(-np.abs(main.pseudo[known] - main.estimate), kind="stable")][:MOST_DROPS]
    relaxed = replace(params, min_participants=2, min_references=2, min_repeats=2)
    whole = judge(evidence, relaxed)
    flips = []
    for person in sorted(evidence.people[far].tolist()) if known.size > 2 else ():
        again = judge(evidence.without(person), relaxed)
        if (again.method, again.verdict) != (whole.method, whole.verdict):
            flips.append(str(person))
    n_drops = far.size if known.size > 2 else 0
    return {"n_people": int(known.size), "n_drops": n_drops, "n_flips": len(flips), "participants": flips}


def advantage_on_people_left_out(judgement: Judgement) -> float | None:
    """Estimate the winner's advantage on people who did not choose it.

    On the people who chose it the winner's advantage is too large (Kriegeskorte 2009). Here tenths of the people are
    left out in turn; the others choose, and the tenth says by how much their choice is better there.

    Returns
    -------
    float or None
        On the comparison's scale; None below ten people.
    """
    main = judgement.comparison()
    if main is None:
        return None
    values = main.pseudo[np.isfinite(main.pseudo)]
    if values.size < N_FOLDS:
        return None
    fold = np.arange(values.size) % N_FOLDS
    sums, count = np.bincount(fold, values), np.bincount(fold)
    chosen = np.sign(values.sum() - sums) / count.size
    return float((chosen * sums / count).sum())
