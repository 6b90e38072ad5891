"""Fit the prediction of quality on cases with known Dice.

Curve and flag are fitted on held-out people, intervals on held-out kinds of image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.methods.registry import OWN_METHODS
from spineseg.quality.predictor import TRANSFORMS, DicePredictor, Term, dice_of_extent

Floats = NDArray[np.float64]

FEATURES: tuple[tuple[str, str, int], ...] = (
    ("weakest", "loss", 1),
    ("network_overlap", "loss", 1),
    ("network_relative", "loss", 1),
    ("network_ceiling", "loss", 1),
    ("network_worst", "loss", 1),
    ("network_area", "above", -1),
    ("network_area", "below", -1),
    ("edge_dice", "loss", 1),
    ("edge_offset_mm", "above", -1),
    ("edge_offset_mm", "below", -1),
    ("edge_share", "plain", 1),
    ("symmetry", "loss", 1),
    ("steadiness", "loss", 1),
    ("line_distance_mm", "plain", -1),
    ("line_away", "plain", -1),
    ("contrast_to_noise", "log", 1),
    ("csa_jump", "log", -1),
    ("plausible", "plain", 1),
    ("solidity", "plain", 1),
)
"""Features: name, transform, and 1 if a larger value means a better mask, -1 if a worse one. Twice as many features,
among them roughness, gaps and pieces, did not improve the prediction for held-out people. Features that describe the
acquisition are left out: echo-planar imaging shifts whole slices (`centre_roughness`) and darkens one side
(`ring_spread`). With these two, a fit without echo-planar images predicted the Dice of echo-planar phantoms 0.043 too
low; without them 0.017 too low, and other kinds no worse."""

OWN_KINDS = tuple(OWN_METHODS)
"""Kinds of cases that are masks of a method, not masks with an added fault."""

N_KNOTS = 6
"""Knots of a piecewise linear function, at quantiles of the cases; more would fit noise."""

RIDGE = 10.0
"""Penalty on the steps of the lines, in units of cases. A factor of three either way changes the held-out error by less
than its noise."""

WITHIN = 10.0
"""Weight of the differences between the methods' masks of one image, relative to the errors of single masks. These
differences are small, but the comparison of methods depends on them. A factor of three either way changes little. For
pairs of phantom masks that differ by a Dice of 0.01 or more, the better mask was found in 69 % without this term and in
79 % with it."""

N_CURVE = 15
"""Points of the curve from score to Dice, each the mean of an equal share of the held-out cases."""

LEVEL = 0.90
"""Coverage of the prediction intervals."""

BAD, GOOD = 0.70, 0.90
"""Dice below which every mask should be flagged, and Dice above which hardly any mask should be."""


@dataclass(frozen=True)
class Cases:
    """Masks with known Dice."""

    features: Mapping[str, Floats]  # dict of (n,)
    dice: Floats  # (n,)
    group: NDArray[np.int_]  # (n,) of int: number of the person; a person is never fitted and scored at once
    # (n,) of int: methods' own masks of one image have one number and are compared with each other too; any other mask
    # has a separate number
    rivals: NDArray[np.int_]
    kind: NDArray[np.int_]  # (n,) of int: number of the kind of image: contrast, echo-planar means apart
    weight: Floats  # (n,)

    def subset(self, keep: NDArray[np.bool_]) -> Cases:
        """Return some of the cases."""
        features = {name: values[keep] for name, values in self.features.items()}
        rest = (self.dice[keep], self.group[keep], self.rivals[keep], self.kind[keep], self.weight[keep])
        return Cases(features, *rest)


def fit_dice_predictor(cases: Cases, provenance: Mapping[str, Any], n_folds: int = 10) -> DicePredictor:
    """Fit lines on all cases, curve and flag on held-out people, and intervals on held-out kinds of image.

    Parameters
    ----------
    n_folds : number of folds, split by person
    """
    dice, curve = predict_held_out(cases, n_folds)
    spread = fit_spread(dice, np.abs(cases.dice - dice), cases.weight)
    low, high = _find_limits(cases, dice, spread, n_folds)
    terms, intercept = fit_terms(cases)
    return DicePredictor(terms, intercept, curve, spread, low, high, choose_flag(dice, cases.dice), dict(provenance))


def _find_limits(cases: Cases, dice: Floats, spread: Floats, n_folds: int) -> tuple[float, float]:
    """Return the limits of errors relative to their spread.

    The errors are those of held-out kinds of image, or of held-out people if there is only one kind.
    """
    kinds = np.unique(cases.kind)
    weight = cases.weight
    if len(kinds) > 1:
        dice = predict_kinds_held_out(cases, n_folds)
        weight = weight / np.bincount(np.searchsorted(kinds, cases.kind), weight)[np.searchsorted(kinds, cases.kind)]
    return conformal_limits((cases.dice - dice) / np.interp(dice, *spread), weight)


def predict_kinds_held_out(cases: Cases, n_folds: int = 10) -> Floats:
    """Predict each case by lines and a curve that were fitted without its kind of image, (n,)."""
    dice = np.empty(len(cases.dice))
    for kind in np.unique(cases.kind):
        others, own = cases.subset(cases.kind != kind), cases.subset(cases.kind == kind)
        terms, intercept = fit_terms(others)
        score = intercept + sum(t.contribute(own.features[t.feature]) for t in terms)
        curve = predict_held_out(others, n_folds)[1]
        dice[cases.kind == kind] = dice_of_extent(own.features) * np.interp(score, *curve)
    return dice


def predict_held_out(cases: Cases, n_folds: int = 10) -> tuple[Floats, Floats]:
    """Predict each case by lines that were fitted without its person.

    Returns
    -------
    dice : (n,) ndarray
    curve : (2, k) ndarray; from score to Dice along the mask, of all cases
    """
    score, factor = held_out_scores(cases, n_folds), dice_of_extent(cases.features)
    curve = fit_curve(score, np.minimum(cases.dice / factor, 1.0), cases.weight)
    return factor * np.interp(score, *curve), curve


def shared_error(difference: Floats, group: NDArray[np.int_]) -> float:
    """Return the SD of the part of errors that all images of a group share.

    Parameters
    ----------
    difference : (n,) ndarray; error of the predicted difference between two methods, one per image
    group : (n,) ndarray of int; images that are alike, as those of one study are

    Returns
    -------
    float
        Square root of the mean square of the groups' means, after subtracting the part that random differences
        between images cause; 0 if nothing remains.
    """
    count = np.bincount(group)
    several = count > 1
    if not several.any():
        return 0.0
    mean = np.bincount(group, difference) / np.maximum(count, 1)
    within = np.bincount(group, (difference - mean[group]) ** 2)[several].sum() / (count[several] - 1).sum()
    return float(np.sqrt(max(0.0, np.mean(mean[several] ** 2 - within / count[several]))))


def held_out_scores(cases: Cases, n_folds: int) -> Floats:
    """Return each case's score by the lines that were fitted without its person, (n,)."""
    fold = cases.group % n_folds
    score = np.empty(len(cases.dice))
    for number in np.unique(fold):
        terms, intercept = fit_terms(cases.subset(fold != number))
        held_out = {name: values[fold == number] for name, values in cases.features.items()}
        score[fold == number] = intercept + sum(t.contribute(held_out[t.feature]) for t in terms)
    return score


def fit_terms(cases: Cases) -> tuple[tuple[Term, ...], float]:
    """Fit the lines by least squares, with steps of one sign only.

    Returns
    -------
    terms : tuple of Term
    intercept : float

    Notes
    -----
    The line of a feature is a sum of ramps between its knots with nonnegative coefficients
    (times its sign), so it is always monotone. A ridge penalty distributes the effect between
    features with the same information.
    """
    from scipy.optimize import lsq_linear

    knots = [_knots(TRANSFORMS[t](_known(cases.features[name]))) for name, t, _ in FEATURES]
    blocks = [
        sign * _ramps(TRANSFORMS[t](cases.features[name]), k)
        for (name, t, sign), k in zip(FEATURES, knots, strict=True)
    ]
    target = TRANSFORMS["loss"](cases.dice / dice_of_extent(cases.features))
    design = np.hstack(blocks)
    known = np.isfinite(design)
    weight = cases.weight / cases.weight.mean()
    means = (np.where(known, design, 0) * weight[:, None]).sum(0) / (known * weight[:, None]).sum(0)
    middle = float((target * weight).sum() / weight.sum())
    root = np.sqrt(weight)
    matrix, right = np.where(known, design - means, 0.0), target - middle
    # differences within an image do not depend on its difficulty or on the style of its reference
    within = np.sqrt(WITHIN) * root
    rows = [matrix * root[:, None], (matrix - _rival_means(matrix, cases)) * within[:, None]]
    values = [right * root, (right - _rival_means(right[:, None], cases)[:, 0]) * within]
    matrix = np.vstack([*rows, np.sqrt(RIDGE) * np.eye(matrix.shape[1])])
    right = np.concatenate([*values, np.zeros(design.shape[1])])
    steps = lsq_linear(matrix, right, bounds=(0, np.inf)).x
    ends = np.cumsum([block.shape[1] for block in blocks])
    terms = []
    for (name, transform, sign), k, end in zip(FEATURES, knots, ends, strict=True):
        own = slice(end - len(k) + 1, end)
        line = sign * np.concatenate([[0.0], np.cumsum(steps[own])])
        offset = float(steps[own] @ means[own])
        terms.append(Term(name, transform, k, line - offset, 0.0))
    return tuple(terms), middle


def _rival_means(columns: Floats, cases: Cases) -> Floats:
    """Weighted means of columns over each case and its rivals, (n, c)."""
    total = np.bincount(cases.rivals, cases.weight)
    sums = np.stack([np.bincount(cases.rivals, cases.weight * column) for column in columns.T], axis=1)
    return (sums / np.where(total > 0, total, 1.0)[:, None])[cases.rivals]


def _known(values: Floats) -> Floats:
    """Return the finite values."""
    return values[np.isfinite(values)]


def _knots(values: Floats) -> Floats:
    """Return the knots of a line: quantiles of the values, without duplicates."""
    knots = np.unique(np.quantile(values, np.linspace(0.01, 0.99, N_KNOTS)))
    if len(knots) < N_KNOTS:  # most cases share one value: add quantiles of the others
        others = values[np.abs(values - np.median(values)) > 1e-9]
        knots = (
            np.unique(np.concatenate([knots, np.quantile(others, np.linspace(0.05, 0.95, 4))]))
            if others.size
            else knots
        )
    return knots if len(knots) > 1 else np.array([knots[0], knots[0] + 1.0])


def _ramps(values: Floats, knots: Floats) -> Floats:
    """Ramps from 0 to 1 between neighbouring knots, (n, k - 1); NaN stays NaN."""
    return ((values[:, None] - knots[:-1]) / np.diff(knots)).clip(0, 1)


def fit_curve(score: Floats, dice: Floats, weight: Floats) -> Floats:
    """Fit the rising curve from score to mean Dice: isotonic means of equal shares, (2, k)."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, min(N_CURVE, max(2, len(order) // 10)))
    x = [np.average(score[part], weights=weight[part]) for part in parts]
    y = [np.average(dice[part], weights=weight[part]) for part in parts]
    result = isotonic_regression(y, weights=(sizes := [weight[part].sum() for part in parts]))
    # a block of equal means becomes one point: a flat part of the curve would hide differences in the score
    first, last = result.blocks[:-1], result.blocks[1:]
    x = [np.average(x[a:b], weights=sizes[a:b]) for a, b in zip(first, last, strict=True)]
    rising = result.x[first]
    # beyond the outermost means the curve extends to the best and the worst possible Dice
    ends = (min(score[order[0]], x[0] - 1.0), max(score[order[-1]], x[-1] + 1.0))
    return np.array([[ends[0], *x, ends[1]], [min(0.0, rising[0]), *rising, max(rising[-1], dice.max())]])


def fit_spread(predicted: Floats, error: Floats, weight: Floats) -> Floats:
    """Fit the mean size of the error, falling with the predicted Dice, (2, k)."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(predicted, kind="stable")
    parts = np.array_split(order, min(8, max(2, len(order) // 20)))
    x = [np.average(predicted[part], weights=weight[part]) for part in parts]
    y = [np.average(error[part], weights=weight[part]) for part in parts]
    return np.array([x, isotonic_regression(y, increasing=False).x.clip(0.002)])


def conformal_limits(error: Floats, weight: Floats) -> tuple[float, float]:
    """Return the limits that contain the share `LEVEL` of the held-out errors (relative to their spread).

    Half of the remaining errors lie below the lower limit, half above the upper one.
    """
    order = np.argsort(error)
    share = np.cumsum(weight[order]) / (weight.sum() + weight.mean())
    tail = (1 - LEVEL) / 2
    low = error[order][max(0, int(np.searchsorted(share, tail)) - 1)]
    high = error[order][min(len(order) - 1, int(np.searchsorted(share, 1 - tail)))]
    return float(low), float(high)


def choose_flag(predicted: Floats, dice: Floats) -> float:
    """Return the predicted Dice below which masks are flagged.

    It lies midway between the highest prediction of a bad mask and the 5th percentile of the predictions of good
    masks. If the first is above the second, it lies just above the first, so that every bad mask is flagged.
    """
    bad = float(predicted[dice < BAD].max(initial=0.0))
    good = float(np.quantile(predicted[dice > GOOD], 0.05))
    return (bad + good) / 2 if bad < good else bad + 1e-6


def as_cases(rows: Sequence[Mapping[str, Any]], weight: ArrayLike) -> Cases:
    """Convert rows with person, image, variant, kind, dice and the features to cases."""
    _, group = np.unique([row["person"] for row in rows], return_inverse=True)
    names = sorted({"extent", *(name for name, _, _ in FEATURES)})
    features = {name: np.array([float(row.get(name, np.nan)) for row in rows]) for name in names}
    dice = np.array([float(row["dice"]) for row in rows])
    images = [
        f"{row['image']} {row['variant']}" if row["kind"] in OWN_KINDS else f"mask {number}"
        for number, row in enumerate(rows)
    ]
    _, rivals = np.unique(images, return_inverse=True)
    _, kind = np.unique([kind_of_image(row) for row in rows], return_inverse=True)
    return Cases(features, dice, group, rivals, kind, np.asarray(weight, float))


def kind_of_image(row: Mapping[str, Any]) -> str:
    """Return the contrast of a case, or "epi" for echo-planar means, which share T2w's."""
    return "epi" if str(row["image"]).endswith(("_bold", "_sbref")) else str(row.get("contrast", ""))
