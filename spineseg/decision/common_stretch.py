"""Areas of one person's images on the same stretch of cord: between repeats, and between contrasts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.evidence import LEVEL_AREA, Evidence, RepeatSpread
from spineseg.decision.params import Repeats
from spineseg.decision.statistics import enough_people, pool_sds

MIN_OVERLAP_MM = 10.0
"""Shortest common stretch that counts: half a vertebra; a shorter one has too few slices where slices are thick."""

_REPEAT_ENTITIES = re.compile(r"_(ses|run)-[^_]+")


def repeat_groups(evidence: Evidence, repeats: Repeats) -> list[list[NDArray[np.intp]]]:
    """Return sets of images that repeat each other, each a list of repeats of one image or more.

    If runs are declared, the runs of a session repeat each other. If sessions are named, each of them is one repeat; if
    both are declared, so is each of its runs. Images that differ in more than session and run never repeat each other.
    """
    groups: dict[tuple[str, ...], dict[tuple[str, str], list[int]]] = {}
    for n, name in enumerate(evidence.image_id.tolist()):
        session, run = str(evidence.session[n]), str(evidence.run[n])
        is_named = session in repeats.sessions
        if not (is_named or repeats.by_run):
            continue
        key = (_REPEAT_ENTITIES.sub("", name), str(evidence.subject[n]), "" if is_named else session)
        one = (session, run if repeats.by_run else "")
        groups.setdefault(key, {}).setdefault(one, []).append(n)
    return [[np.array(n) for n in each.values()] for each in groups.values() if len(each) > 1]


def contrast_groups(evidence: Evidence) -> Iterator[list[NDArray[np.intp]]]:
    """Yield the images of a person's session by contrast, where it has several."""
    groups: dict[tuple[str, str], dict[str, list[int]]] = {}
    for n, subject in enumerate(evidence.subject.tolist()):
        by_contrast = groups.setdefault((subject, str(evidence.session[n])), {})
        by_contrast.setdefault(str(evidence.contrast[n]), []).append(n)
    for each in groups.values():
        if len(each) > 1:
            yield [np.array(n) for n in each.values()]


def common_areas(evidence: Evidence, parts: Sequence[NDArray[np.intp]]) -> NDArray[np.float64] | None:
    """Return the mean area of each part by method, (k, M), mm², over the same stretch of cord; None where not known.

    The stretch is the plan's level if every image has it. Otherwise it is the heights in the scanner at which every
    method found cord in every image. A method that failed in one of the images does not take part: its areas are NaN.
    """
    images = np.concatenate(parts)
    did_fail = evidence.failed[images].any(axis=0)
    if LEVEL_AREA in evidence.values and np.isfinite(evidence.values[LEVEL_AREA][images][:, ~did_fail]).all():
        at_level = np.stack([evidence.values[LEVEL_AREA][part].mean(axis=0) for part in parts])
        return None if did_fail.all() else np.where(did_fail, np.nan, at_level)
    used = np.flatnonzero(~did_fail).tolist()
    found = {
        (n, m): profile
        for n in images.tolist()
        for m in used
        if (profile := evidence.profiles.get((str(evidence.image_id[n]), evidence.methods[m]))) is not None
        and len(profile)
    }
    if not used or len(found) < len(images) * len(used):
        return None
    low = max(float(profile[:, 0].min()) for profile in found.values())
    high = min(float(profile[:, 0].max()) for profile in found.values())
    if high - low < MIN_OVERLAP_MM:
        return None
    means = {key: _mean_between(profile, low, high) for key, profile in found.items()}
    areas = np.full((len(parts), len(evidence.methods)), np.nan)
    areas[:, used] = [[np.mean([means[n, m] for n in part.tolist()]) for m in used] for part in parts]
    return areas


def _mean_between(profile: NDArray, low: float, high: float) -> float:
    """Mean area between two heights, interpolated linearly between slices so that their thickness does not matter."""
    ordered = profile[np.argsort(profile[:, 0], kind="stable")]
    heights = np.linspace(low, high, 101)  # 101 points: steps far below a slice
    return float(np.interp(heights, ordered[:, 0], ordered[:, 1]).mean())


def repeat_variances(evidence: Evidence, repeats: Repeats) -> RepeatSpread:
    """Compute the variance of the area over each person's repeats, contrast by contrast.

    A person's sets of repeats of one contrast are averaged by their degrees of freedom.
    """
    if evidence.repeats is not None:
        return evidence.repeats
    people = {name: n for n, name in enumerate(evidence.people.tolist())}
    contrasts = {name: n for n, name in enumerate(evidence.contrasts.tolist())}
    df = np.zeros((len(people), len(contrasts)))
    sums = np.zeros((*df.shape, len(evidence.methods)))
    for parts in repeat_groups(evidence, repeats):
        areas = common_areas(evidence, parts)
        if areas is None:
            continue
        first, free = parts[0][0], len(parts) - 1
        cell = people[str(evidence.subject[first])], contrasts[str(evidence.contrast[first])]
        sums[cell] += free * 1e4 * areas.var(axis=0, ddof=1) / areas.mean(axis=0) ** 2
        df[cell] += free
    return RepeatSpread(evidence.contrasts, _over_freedom(sums, df), df)


def change_error_variances(
    evidence: Evidence, errors: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the variance of errors over each person's sessions; an error that a person has in all of them cancels.

    Images of a session that differ only in their run are averaged. Images that differ in more than session and run
    belong to different sets.

    Parameters
    ----------
    evidence : Evidence
    errors : (N, m) ndarray
        Of m methods, percent. An image counts only where the errors of all m methods are known.

    Returns
    -------
    variance : (P, C, m) ndarray
        NaN for people with fewer than two sessions.
    df : (P, C) ndarray
    """
    sessions = Repeats(sessions=tuple(name for name in np.unique(evidence.session).tolist() if name))
    people = {name: n for n, name in enumerate(evidence.people.tolist())}
    contrasts = {name: n for n, name in enumerate(evidence.contrasts.tolist())}
    known = np.asarray(np.isfinite(errors).all(axis=1))
    df = np.zeros((len(people), len(contrasts)))
    sums = np.zeros((*df.shape, errors.shape[1]))
    for parts in repeat_groups(evidence, sessions):
        means = [errors[part[known[part]]].mean(axis=0) for part in parts if known[part].any()]
        if len(means) > 1:
            first = parts[0][0]
            cell = people[str(evidence.subject[first])], contrasts[str(evidence.contrast[first])]
            sums[cell] += (len(means) - 1) * np.var(means, axis=0, ddof=1)
            df[cell] += len(means) - 1
    return _over_freedom(sums, df), df


def _over_freedom(sums: NDArray[np.float64], df: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide (P, C, m) sums of squares by their degrees of freedom, (P, C); NaN without any."""
    return np.divide(sums, df[:, :, None], out=np.full(sums.shape, np.nan), where=df[:, :, None] > 0)


def pool_repeats(
    spread: RepeatSpread, weights: NDArray[np.float64], methods: Sequence[int], m: int
) -> tuple[NDArray[np.bool_], float, float]:
    """Return who has repeats by all of `methods`, (P, C), and method `m`'s within-person SD in them with its df.

    Contrasts are strata, as in the rule: the SD is the geometric mean of the contrasts' SDs by the plan's weights, and
    contrasts with too few people are left out.
    """
    known = np.isfinite(spread.variance[:, :, list(methods)]).all(axis=2)
    known &= enough_people(known.sum(axis=0), 2)
    df = np.where(known, spread.df, 0.0)
    free = df.sum(axis=0)
    total = (df * np.where(known, spread.variance[:, :, m], 0.0)).sum(axis=0)
    sds = np.sqrt(np.divide(total, free, out=np.full(free.shape, np.nan), where=free > 0))
    return known, *pool_sds(sds, free, weights)


def inter_contrast_sd(evidence: Evidence) -> NDArray[np.float64]:
    """Compute the SD over contrasts of the mean CSA per participant, (P, M), mm², averaged over sessions."""
    people = {name: n for n, name in enumerate(evidence.people.tolist())}
    sums, count = np.zeros((len(people), len(evidence.methods))), np.zeros(len(people))
    for parts in contrast_groups(evidence):
        areas = common_areas(evidence, parts)
        if areas is not None:
            p = people[str(evidence.subject[parts[0][0]])]
            sums[p] += areas.std(axis=0, ddof=1)
            count[p] += 1
    return np.divide(sums, count[:, None], out=np.full(sums.shape, np.nan), where=count[:, None] > 0)
