"""Simulated pilots with known truth, in the form that the rule receives: evidence of two methods, `a` and `b`.

Every function that returns a `Draw` makes pilots of one kind; their truth is in `decision_operating.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.evidence import Evidence
from spineseg.measures import METRICS
from spineseg.studyfolder.marks import Preference

SD = 0.03
"""Usual SD, between people, of a difference of Dice."""

Draw = Callable[[np.random.Generator, int], Evidence]
"""Function that makes the evidence of a pilot with a number of people."""


def make_evidence(
    values: dict[str, NDArray],
    contrasts: NDArray | None = None,
    sites: NDArray | None = None,
    failed: NDArray | None = None,
) -> Evidence:
    """Arrange (P, C, 2) values of two methods, NaN if a person lacks the contrast, like the reader of the tables."""
    first = next(iter(values.values()))
    n, n_contrasts = first.shape[:2]
    known = np.isfinite(first).all(axis=2) if contrasts is None else contrasts
    person, contrast = np.nonzero(known)
    names = np.char.add("p", np.char.zfill(np.arange(n).astype(str), 4))
    subject = names[person]
    images = np.char.add(np.char.add(subject, "_"), contrast.astype(str))
    empty = np.full(len(images), "", dtype="<U8")
    table = {name: np.full((len(images), 2), np.nan) for name in METRICS}
    table |= {name: value[person, contrast] for name, value in values.items()}
    site = empty if sites is None else sites.astype("<U8")[person]
    lost = np.zeros((len(images), 2), bool) if failed is None else failed[person, contrast]
    kind = np.array(["t1", "t2", "t2s", "dwi"])[contrast] if n_contrasts > 1 else np.full(len(images), "t2")
    return Evidence(("a", "b"), images, subject, empty, empty, kind, lost, table, empty, empty, site)


def dice_of(difference: NDArray, rng: np.random.Generator) -> NDArray:
    """Dice of both methods with a given difference, (P, C, 2)."""
    difference = difference if difference.ndim == 2 else difference[:, None]
    base = 0.85 + 0.02 * rng.standard_normal(difference.shape)
    return np.stack([base + difference / 2, base - difference / 2], axis=2)


def by_difference(draw: Callable[[np.random.Generator, int], NDArray]) -> Draw:
    """Pilots whose references give only the overlap: the difference of two Dice by person."""
    return lambda rng, n: make_evidence({"dice": dice_of(draw(rng, n), rng)})


def normal(mean: float, sd: float) -> Draw:
    """Normal differences."""
    return by_difference(lambda rng, n: rng.normal(mean, sd, n))


def disasters(gain: float, share: float, loss: float, sd: float) -> Draw:
    """Better by `gain`, but worse by `loss` in a share of the people."""
    return by_difference(lambda rng, n: np.where(rng.random(n) < share, -loss, gain) + rng.normal(0, sd, n))


def skewed(mean: float, sd: float) -> Draw:
    """Differences with a long tail against the first method (exponential)."""
    return by_difference(lambda rng, n: mean + sd * (1 - rng.exponential(1, n)))


def lognormal(mean: float, sd: float) -> Draw:
    """The same with a heavier tail: a lognormal of unit log SD, whose own SD is 2.16."""
    return by_difference(lambda rng, n: mean + sd * (np.exp(0.5) - np.exp(rng.normal(0, 1, n))) / 2.16)


def tied(steps: tuple[float, ...], shares: tuple[float, ...]) -> Draw:
    """Differences that take only a few values."""
    return by_difference(lambda rng, n: rng.choice(steps, n, p=shares))


def at_sites(n_sites: int, mean: float, spread: float, *, equal: bool = True) -> Draw:
    """People of several sites; the mean difference varies between sites with an SD of `spread`."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        share = np.arange(1, n_sites + 1) / np.arange(1, n_sites + 1).sum()
        site = np.arange(n) % n_sites if equal else rng.choice(n_sites, n, p=share)
        difference = mean + rng.normal(0, spread, n_sites)[site] + rng.normal(0, SD, n)
        return make_evidence({"dice": dice_of(difference, rng)}, sites=site)

    return draw


def unequal_contrasts(mean: float, gap: float) -> Draw:
    """Two contrasts with different means; three people in ten have the second."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        both = mean + np.array([gap, -gap]) + rng.normal(0, 0.02, (n, 1)) + rng.normal(0, SD, (n, 2))
        known = np.ones((n, 2), bool)
        known[:, 1] = rng.random(n) < 0.3
        return make_evidence({"dice": dice_of(both, rng)}, contrasts=known)

    return draw


def area_errors(sd_a: float, sd_b: float, *, r: float = 0.5, df: float = np.inf, bias: float = 0.0) -> Draw:
    """Pilots with references: correlated area errors in percent with tails of Student's t; equal Dice."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        e = rng.standard_normal((n, 2)) @ np.linalg.cholesky([[1, r], [r, 1]]).T
        if np.isfinite(df):
            e *= np.sqrt((df - 2) / rng.chisquare(df, (n, 1)))
        errors = e * [sd_a, sd_b] + [bias, 0.0]
        dice = dice_of(rng.normal(0, 0.005, n), rng)
        return make_evidence({"csa_error_pct": errors[:, None, :], "dice": dice})

    return draw


def area_disasters(sd: float, share: float, size: float) -> Draw:
    """The first method is a little more precise, but in a share of the people wrong by `size` percent."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        errors = rng.normal(0, [0.8 * sd, sd], (n, 2))
        errors[:, 0] += size * (rng.random(n) < share)
        return make_evidence({"csa_error_pct": errors[:, None, :], "dice": dice_of(rng.normal(0, 0.005, n), rng)})

    return draw


def rare_errors(share_a: float, share_b: float, size: float, sd: float = 2.0) -> Draw:
    """Equally precise methods, except that each has errors of `size` percent either way in a share of the people."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        errors = rng.normal(0, sd, (n, 2))
        errors += size * rng.choice([-1, 1], (n, 2)) * (rng.random((n, 2)) < [share_a, share_b])
        return make_evidence({"csa_error_pct": errors[:, None, :], "dice": dice_of(rng.normal(0, 0.005, n), rng)})

    return draw


def bias_or_rare_errors(bias: float, share: float, size: float, sd: float = 2.0) -> Draw:
    """The first method has a bias of `bias` percent, the second errors of `size` percent either way in a share."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        errors = rng.normal([bias, 0.0], sd, (n, 2))
        errors[:, 1] += size * rng.choice([-1, 1], n) * (rng.random(n) < share)
        return make_evidence({"csa_error_pct": errors[:, None, :], "dice": dice_of(rng.normal(0, 0.005, n), rng)})

    return draw


def rare_repeats(share: float, size: float) -> Draw:
    """Repeats with an SD of 1 %; in a share of the images of each method, the area is larger by `size` percent."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        plain = repeated(1, 1)(rng, n)
        areas = plain.values["csa_level_mm2"]
        areas *= 1 + size / 100 * (rng.random(areas.shape) < share)
        return plain

    return draw


def area_errors_at_sites(n_sites: int, sd_good: float, sd_bad: float) -> Draw:
    """At each site one method is more precise; both have the same chance to be it."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        site = np.arange(n) % n_sites
        side = rng.integers(0, 2, n_sites)[site]
        sds = np.where(np.stack([side, 1 - side], 1) == 1, sd_bad, sd_good)
        errors = rng.standard_normal((n, 2)) * sds
        return make_evidence({"csa_error_pct": errors[:, None, :], "dice": np.full((n, 1, 2), 0.9)}, sites=site)

    return draw


def rated_at_sites(n_sites: int, share: float) -> Draw:
    """At each site a share of the people prefers one method, chosen at random, and the rest prefers the other."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        site = np.arange(n) % n_sites
        plain = make_evidence({"predicted_dice": np.full((n, 1, 2), 0.9)}, sites=site)
        with_site = rng.random(n) < share
        first = rng.integers(0, 2, n_sites)[site].astype(bool) == with_site
        return replace(plain, ratings=_answers(plain.image_id, np.where(first, "x", "y")))

    return draw


def _answers(images: NDArray, answers: NDArray) -> tuple[Preference, ...]:
    """Blind ratings of images."""
    return tuple(Preference(i, "a", "b", x, "r") for i, x in zip(images.tolist(), answers.tolist(), strict=True))


def _some_have_both(rng: np.random.Generator, n: int, share: float = 0.4) -> NDArray:
    """Return which of two contrasts people have: all have the first, a share (at least three people) the second."""
    known = np.ones((n, 2), bool)
    known[:, 1] = rng.random(n) < share
    known[rng.permutation(n)[:3], 1] = True
    return known


def area_errors_of_contrasts(sds: tuple[tuple[float, float], tuple[float, float]], r: float = 0.5) -> Draw:
    """Errors of the area with SDs by contrast and method; four people in ten have the second contrast."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        mix = np.linalg.cholesky([[1, r], [r, 1]]).T
        errors = rng.standard_normal((n, 2, 2)) @ mix * np.array(sds)
        dice = np.full((n, 2, 2), 0.9)
        return make_evidence({"csa_error_pct": errors, "dice": dice}, contrasts=_some_have_both(rng, n))

    return draw


def failing_by_contrast(shares: tuple[tuple[float, float], tuple[float, float]], together: float = 0.5) -> Draw:
    """Failures by contrast and method; in some of the people both contrasts fail together."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        luck = rng.random((n, 2, 2))
        alike = rng.random(n) < together
        luck[alike, 1] = luck[alike, 0]
        lost = luck < np.array(shares)
        predicted_dice = np.where(lost, 0.0, 0.9)
        return make_evidence({"predicted_dice": predicted_dice}, contrasts=_some_have_both(rng, n), failed=lost)

    return draw


def rated_by_contrast(shares: tuple[tuple[float, float], tuple[float, float]], together: float = 0.5) -> Draw:
    """Ratings by contrast: shares of people who prefer either method; some answer the same for both contrasts."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        plain = make_evidence({"predicted_dice": np.full((n, 2, 2), 0.9)}, contrasts=_some_have_both(rng, n))
        luck = rng.random((n, 2))
        alike = rng.random(n) < together
        luck[alike, 1] = luck[alike, 0]
        first, both = np.array(shares)[:, 0], np.array(shares).sum(axis=1)
        answers = np.where(luck < first, "x", np.where(luck < both, "y", "same"))
        contrast = np.searchsorted(["t1", "t2"], plain.contrast)
        return replace(plain, ratings=_answers(plain.image_id, answers[plain.person, contrast]))

    return draw


def repeated_by_contrast(first: tuple[float, float], second: tuple[float, float]) -> Draw:
    """Two runs of each person in two contrasts, with an SD for each contrast."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        one, two = repeated(*first)(rng, n), repeated(*second)(rng, n)
        images = np.char.replace(two.image_id, "T2w", "T1w")
        two = replace(two, image_id=images, contrast=np.full(2 * n, "t1"))
        names = ("image_id", "subject", "session", "run", "contrast", "failed", "reference_from", "group", "site")
        both: dict[str, Any] = {x: np.concatenate([getattr(one, x), getattr(two, x)]) for x in names}
        return replace(one, **both, values={k: np.concatenate([v, two.values[k]]) for k, v in one.values.items()})

    return draw


def failing(p_a: float, p_b: float) -> Draw:
    """Pilots without references in which methods fail in a share of the people."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        lost = rng.random((n, 1, 2)) < [p_a, p_b]
        return make_evidence({"predicted_dice": np.where(lost, 0.0, 0.9)}, failed=lost)

    return draw


def failing_alike(p_a: float, p_b: float) -> Draw:
    """The same, with references that show no difference between methods if neither failed."""
    return failing_beside(p_a, p_b, area_errors(3, 3))


def failing_beside(p_a: float, p_b: float, other: Draw) -> Draw:
    """Pilots of `other` in which each method also fails in a share of the people; their areas and ratings are lost."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        plain = other(rng, n)
        lost = rng.random((n, 2)) < [p_a, p_b]
        values = dict(plain.values)
        if "csa_error_pct" in values:
            values["csa_error_pct"] = np.where(lost, np.nan, values["csa_error_pct"])
        failed = set(plain.image_id[lost.any(axis=1)].tolist())
        ratings = tuple(one for one in plain.ratings if one.image not in failed)
        return replace(plain, failed=lost, values=values, ratings=ratings)

    return draw


def rated(share_a: float, share_b: float) -> Draw:
    """Pilots with blind ratings."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        plain = make_evidence({"predicted_dice": np.full((n, 1, 2), 0.9)})
        answers = rng.choice(["x", "y", "same"], n, p=[share_a, share_b, 1 - share_a - share_b])
        return replace(plain, ratings=_answers(plain.image_id, answers))

    return draw


def repeated(sd_a: float, sd_b: float, r: float = 0.5) -> Draw:
    """Pilots with two runs of each person; areas at a level, with SDs in percent of 70 mm²."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        e = rng.standard_normal((2 * n, 2)) @ np.linalg.cholesky([[1, r], [r, 1]]).T * [sd_a, sd_b]
        person, run = np.repeat(np.arange(n), 2), np.tile(["1", "2"], n)
        subject = np.char.add("p", np.char.zfill(person.astype(str), 4))
        images = np.array([f"{s}_run-{k}_T2w" for s, k in zip(subject, run, strict=True)])
        empty = np.full(2 * n, "", dtype="<U8")
        table = {name: np.full((2 * n, 2), np.nan) for name in METRICS}
        table["csa_level_mm2"] = 70 * (1 + rng.normal(0, 0.1, n).repeat(2)[:, None] + e / 100)
        lost = np.zeros((2 * n, 2), bool)
        return Evidence(("a", "b"), images, subject, empty, run, np.full(2 * n, "t2"), lost, table, empty, empty, empty)

    return draw


def sessions_with_references(sd_a: float, sd_b: float, *, r: float = 0.3, lasting: float = 4.0) -> Draw:
    """Two sessions of each person with references: errors within people and lasting errors, percent."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        plain = repeated(1, 1)(rng, n)
        within = rng.standard_normal((2 * n, 2)) @ np.linalg.cholesky([[1, r], [r, 1]]).T * [sd_a, sd_b]
        errors = rng.normal(0, lasting, (n, 2)).repeat(2, axis=0) + within
        values = {**plain.values, "csa_error_pct": errors, "dice": np.full((2 * n, 2), 0.9)}
        values["csa_mean_mm2"] = 70 * (1 + errors / 100)
        del values["csa_level_mm2"]
        images = np.char.replace(plain.image_id, "run", "ses")
        return replace(plain, image_id=images, session=plain.run, run=plain.session, values=values)

    return draw


def predicted(bias: float) -> Draw:
    """Pilots without references in which the predicted Dice favours one of two equal methods."""

    def draw(rng: np.random.Generator, n: int) -> Evidence:
        return make_evidence({"predicted_dice": dice_of(rng.normal(bias, 0.01, n), rng)})

    return draw
