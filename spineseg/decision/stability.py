"""How much the conclusion depends on single people, and on choosing and testing with the same people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import Judgement, judge

N_FOLDS = 10

MOST_DROPS = 50
"""Most people who are left out one at a time. Of more people, those who move the estimate most are chosen, so that the
cost stays linear."""


def leave_one_out(evidence: Evidence, judgement: Judgement, params: DecisionParams) -> dict[str, Any]:
    """Say how often the conclusion changes when one of the people who have the ruling endpoint is left out.

    Returns
    -------
    dict
        n_people (who have the endpoint), n_drops (people left out in turn), n_flips (changed conclusions), participants
        (those whose absence changes the kept method or the verdict). `min_participants` is ignored here, because
        dropping one of six people would always break it.
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

    The winner's advantage is overestimated on the people by whom it was chosen (Kriegeskorte 2009). Here a tenth of the
    people is left out in turn; the others choose the method, and its advantage is taken from that tenth.

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
