"""Pools of masks with their true and predicted Dice, and pilots drawn from them, for `decision_validation.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from simulated_pilots import make_evidence

from spineseg.decision.evidence import USELESS_DICE, Evidence
from spineseg.quality.predictor import load_dice_predictor
from spineseg.training.quality.fit import as_cases, fit_dice_predictor
from spineseg.training.quality.train import weigh_cases

OWN = ("propseg", "deepseg")
FAMILIES = ("real, faults", "real, as they are", "phantoms, faults", "phantoms, as they are")


@dataclass(frozen=True)
class Pool:
    """Masks of one source with their true and predicted Dice.

    Parameters
    ----------
    rows : list of dict
    dice, error, predicted, low, high : (n,) ndarray
        The error of the area is in percent, NaN for an empty mask.
    flagged : (n,) ndarray of bool
    """

    rows: list[dict]
    dice: NDArray
    error: NDArray
    predicted: NDArray
    low: NDArray
    high: NDArray
    flagged: NDArray

    def __post_init__(self) -> None:
        index: dict[tuple[str, str], dict[str, list[int]]] = {}
        for number, row in enumerate(self.rows):
            index.setdefault((row["image"], row["variant"]), {}).setdefault(row["kind"], []).append(number)
        whole = {key: kinds for key, kinds in index.items() if set(OWN) <= set(kinds)}
        object.__setattr__(self, "index", whole)


def join_pools(pools: list[Pool]) -> Pool:
    """Join pools to one."""
    arrays = {
        n: np.concatenate([getattr(p, n) for p in pools])
        for n in ("dice", "error", "predicted", "low", "high", "flagged")
    }
    return Pool([row for p in pools for row in p.rows], **arrays)


def predict(rows: list[dict], train: list[dict] | None) -> Pool:
    """Predict the Dice of masks by the shipped model, or by models fitted on `train` without the mask's group.

    See `held_out_with` for the groups.
    """
    n = len(rows)
    out = {name: np.zeros(n) for name in ("predicted", "low", "high")} | {"flagged": np.ones(n, bool)}
    known = np.array([row["status"] == "ok" for row in rows])
    people = np.array([held_out_with(row) for row in rows])
    for person in np.unique(people) if train else [None]:
        mine = known if person is None else known & (people == person)
        if not mine.any():
            continue
        model = load_dice_predictor()
        if train:
            rest = [row for row in train if held_out_with(row) != person and row["status"] == "ok"]
            model = fit_dice_predictor(as_cases(rest, weigh_cases(rest)), {})
        cases = as_cases([row for row, keep in zip(rows, mine, strict=True) if keep], np.ones(mine.sum()))
        dice = model.predict_dice(cases.features)
        out["predicted"][mine], out["flagged"][mine] = dice, dice < model.flag_below
        out["low"][mine], out["high"][mine] = model.interval(dice)
    dice = np.array([float(row["dice"]) for row in rows])
    error = np.array([float(row.get("csa_error_pct") or "nan") for row in rows])
    return Pool(rows, dice, error, **out)


def held_out_with(row: dict) -> str:
    """Return the group of masks that are held out together: those of a person, or of every eighth phantom."""
    if row["source"] == "real":
        return str(row["person"])
    return f"phantoms {int(row['person'].split('-')[2].split('_')[0]) % 8}"


@dataclass(frozen=True)
class Method:
    """A method of a simulated dataset: real masks of a method, and in a share of the people masks with some fault."""

    own: str
    fault: str | None
    share: float

    def candidates(self, kinds: dict[str, list[int]]) -> list[int]:
        """Return the faulty masks that it may give for an image."""
        if self.fault == "any":
            return [n for kind, numbers in kinds.items() if kind not in (*OWN, "reference") for n in numbers]
        return kinds.get(self.fault or "", [])


def draw_methods(family: str, faults: list[str], rng: np.random.Generator) -> tuple[Method, Method]:
    """Draw two methods."""
    if "as they are" in family:
        return Method("propseg", None, 0.0), Method("deepseg", None, 0.0)

    def one() -> Method:
        kind = str(rng.choice([*faults, "any"])) if rng.random() < 0.8 else None
        return Method(str(rng.choice(OWN)), kind, float(rng.choice([1.0, rng.uniform(0.1, 1.0)])) if kind else 0.0)

    first, second = one(), one()
    while first == second:
        second = one()
    return first, second


@dataclass(frozen=True)
class Expected:
    """Results of two methods on people: mean Dice, SD of the area's error (percent), failures."""

    dice: NDArray
    error_sd: NDArray
    failures: NDArray


def draw_dataset(pool: Pool, family: str, rng: np.random.Generator) -> tuple[Evidence, NDArray, Expected, Expected]:
    """Draw people and two methods.

    Returns
    -------
    evidence : Evidence
        Without truth.
    truth : (P, 2) ndarray
        True Dice of the same people.
    population, outside : Expected
        Of all people that could be drawn, and of those that were not.
    """
    names = sorted(pool.index)
    groups = sorted({group_of(pool, name) for name in names})
    favour = dict(zip(groups, rng.dirichlet(np.full(len(groups), 0.5)), strict=True))
    weight = np.array([favour[group_of(pool, name)] for name in names]) + 1e-3
    weight /= weight.sum()
    faults = sorted({row["kind"] for row in pool.rows} - {*OWN, "reference"})
    methods = draw_methods(family, faults, rng)
    n = int(rng.integers(6, 21))
    chosen = np.zeros((n, 2), int)
    drawn = rng.choice(len(names), n, p=weight)
    for p, number in enumerate(drawn):
        kinds = pool.index[names[number]]
        for m, method in enumerate(methods):
            faulty = method.candidates(kinds)
            wrong = bool(faulty) and rng.random() < method.share
            chosen[p, m] = rng.choice(faulty) if wrong else kinds[method.own][0]
    everyone = np.arange(len(names))
    expected = []
    for some in (everyone, np.setdiff1d(everyone, drawn)):
        parts = [_expect(pool, [names[k] for k in some], weight[some], method) for method in methods]
        expected.append(Expected(*np.array(parts).T))
    return _evidence(pool, chosen), pool.dice[chosen], *expected


def group_of(pool: Pool, name: tuple[str, str]) -> str:
    """Return the group of an image: contrast and copy, and for phantoms the difficulty."""
    row = pool.rows[pool.index[name]["propseg"][0]]
    hard = row["image"].split("_")[1] if row["source"] == "phantom" else ""
    return f"{row['contrast']} {row['variant']} {hard}"


def _expect(pool: Pool, names: list, weight: NDArray, method: Method) -> tuple[float, float, float]:
    """Return mean Dice, SD of the area's error and share of failures of a method over images, weighted as drawn."""
    masks, shares = [], []
    for name, w in zip(names, weight, strict=True):
        kinds = pool.index[name]
        faulty = method.candidates(kinds)
        share = method.share if faulty else 0.0
        masks += [kinds[method.own][0], *faulty]
        shares += [w * (1 - share), *[w * share / max(1, len(faulty))] * len(faulty)]
    p = np.array(shares) / np.sum(shares)
    dice, error = pool.dice[masks], pool.error[masks]
    used = (dice >= USELESS_DICE) & np.isfinite(error)
    mean = np.average(error[used], weights=p[used]) if p[used].sum() else np.nan
    sd = np.average((error[used] - mean) ** 2, weights=p[used]) ** 0.5 if p[used].sum() else np.nan
    return float(p @ dice), float(sd), float(p[~used].sum())


def _evidence(pool: Pool, chosen: NDArray) -> Evidence:
    """Return the tables of a pilot as arrays, without the references."""
    failed = np.array([[pool.rows[number]["status"] == "empty" for number in pair] for pair in chosen])[:, None, :]
    values = {"predicted_dice": pool.predicted, "predicted_dice_low": pool.low, "predicted_dice_high": pool.high}
    values |= {"flagged": pool.flagged.astype(float)}
    return make_evidence({name: value[chosen][:, None, :] for name, value in values.items()}, failed=failed)
