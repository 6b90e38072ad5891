"""Validate the predicted Dice and the choice without references, on people and phantoms that were not in the training.

    python benchmarks/decision_validation.py [-data TSV] [-work DIR] [-jobs 2] [-figures docs/images]

Masks: labelled images and phantoms, unchanged and in harder copies, are segmented by propseg and by deepseg (networks
of the fold that was trained without the person). References with added faults are used too. The evidence of all masks
is kept in -work. The Dice of a real person's masks is predicted by a model fitted without the person. The phantoms are
new, and their Dice is predicted by the shipped model. With -phantoms 0, in half the time, they are the phantoms of the
training, predicted by models that are each fitted without an eighth of them.

Datasets: 6 to 20 people are drawn from these, with two methods and hidden references. The kept method is compared with
the other on the population from which they were drawn. A method is propseg or deepseg, or one of them with a particular
fault in a share of the people. There are datasets of real people and of phantoms, with and without faults.

Right: among datasets whose methods differ by more than 0.01 in mean Dice, the kept method has the higher mean Dice, or
one within 0.005 of it. Regret: the amount by which the kept method is worse than the better one in the SD of the CSA
error (of masks with a Dice of 0.7 or more) and in failures (the other masks). Both are computed over the population
(all images that could be drawn, weighted by how often they are drawn) and over the part that was not drawn, which has
more of the rarer kinds.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mask_pools import FAMILIES, OWN, Expected, Pool, draw_dataset, join_pools, predict
from numpy.typing import NDArray
from scipy.stats import spearmanr

from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import judge_with_doubt
from spineseg.quality.predictor import load_dice_predictor
from spineseg.training.labelled_images import load_tables
from spineseg.training.quality.train import collect_cases, describe_origin, load_cases, save_cases

FOLDS = Path(__file__).parent / "folds"
RECIPE = Path(__file__).with_name("recipe.tsv")
PHANTOM_SEED = 202
"""Seed of the phantoms; it differs from that of the training."""

ROPE, TOLERANCE = 0.01, 0.005
"""True differences of mean Dice above the first value count; a choice that loses no more than the second is right."""


@dataclass(frozen=True)
class Outcome:
    """One dataset: family, verdict, kept method, probabilities (a better, equal, b better), truths (a minus b)."""

    family: str
    verdict: str
    method: int
    probability: NDArray
    gap: float
    population: Expected
    outside: Expected

    @property
    def expected_gap(self) -> float:
        """Difference of the mean Dice over the population."""
        return float(self.population.dice[0] - self.population.dice[1])

    @property
    def outside_gap(self) -> float:
        """Difference of the mean Dice on the people who were not drawn."""
        return float(self.outside.dice[0] - self.outside.dice[1])

    def lost(self, gap: float) -> float:
        """Return the Dice by which the kept method is worse than the better one, if the first is better by `gap`."""
        return max(0.0, -gap if self.method == 0 else gap)

    def lost_by_references(self) -> float:
        """The same over the population, if the references of the people drawn had been used."""
        return max(0.0, -self.expected_gap if self.gap >= 0 else self.expected_gap)

    def regret(self, of: NDArray) -> float:
        """Return the amount by which the kept method is worse than the better one in a value that should be small."""
        return float(np.nan_to_num(of[self.method] - np.nanmin(of)))


def decide(pool: Pool, family: str, params: DecisionParams, rng: np.random.Generator) -> Outcome | None:
    """Draw a dataset and decide without references; return None if every method failed."""
    evidence, truth, population, outside = draw_dataset(pool, family, rng)
    judgement, _ = judge_with_doubt(evidence, params)
    main = judgement.comparison()
    if judgement.method is None or main is None:
        return None
    probability = np.array(main.of(0).probability)
    mean = truth.mean(axis=0)
    gap = float(mean[0] - mean[1])
    return Outcome(family, judgement.verdict, judgement.method, probability, gap, population, outside)


def calibration(outcomes: list[Outcome], n_bins: int = 10) -> tuple[float, NDArray]:
    """Return the expected calibration error of the three probabilities; by bin: mean probability, share true, count."""
    probability = np.concatenate([o.probability for o in outcomes])
    gaps = np.array([o.expected_gap for o in outcomes])
    true = np.stack([gaps > ROPE, np.abs(gaps) <= ROPE, gaps < -ROPE], axis=1).ravel()
    number = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    rows = []
    for k in np.unique(number):
        inside = number == k
        rows.append((probability[inside].mean(), true[inside].mean(), inside.sum()))
    table = np.array(rows)
    return float((np.abs(table[:, 0] - table[:, 1]) * table[:, 2]).sum() / table[:, 2].sum()), table


def summarise(outcomes: list[Outcome]) -> str:
    """Return the table by family."""
    lines = [
        "| datasets | n | right for the population | so by references of the people drawn | right for the people not"
        " drawn | for the people drawn | regret in CSA error SD, mean (95th percentile): population | not drawn"
        " | regret in failures: population | not drawn | clear | wrong of these | calibration error |",
        "|" + " --- |" * 13,
    ]
    for family in (*FAMILIES, "all"):
        mine = [o for o in outcomes if family in (o.family, "all")]
        wide = [o for o in mine if abs(o.expected_gap) > ROPE]
        clear = [o for o in mine if o.verdict == "clear"]
        cells = [family, str(len(mine))]
        cells += [f"{_share([o.lost(o.expected_gap) <= TOLERANCE for o in wide])} of {len(wide)}"]
        cells += [_share([o.lost_by_references() <= TOLERANCE for o in wide])]
        cells += [_share([o.lost(o.outside_gap) <= TOLERANCE for o in mine if abs(o.outside_gap) > ROPE])]
        cells += [_share([o.lost(o.gap) <= TOLERANCE for o in mine if abs(o.gap) > ROPE])]
        for kind in ("population", "outside"):
            sd = np.array([o.regret(getattr(o, kind).error_sd) for o in mine])
            cells.append(f"{sd.mean():.2f} % ({np.quantile(sd, 0.95):.1f})")
        for kind in ("population", "outside"):
            failures = np.array([o.regret(getattr(o, kind).failures) for o in mine])
            cells.append(f"{100 * failures.mean():.1f} points")
        wrong = [o.lost(o.expected_gap) > TOLERANCE for o in clear]
        cells += [_share([o.verdict == "clear" for o in mine]), _share(wrong)]
        lines.append("| " + " | ".join([*cells, f"{calibration(mine)[0]:.3f}"]) + " |")
    return "\n".join(lines)


def _share(flags: list[bool]) -> str:
    """Return a share in percent."""
    return f"{100 * np.mean(flags):.1f} %" if flags else "-"


def summarise_prediction(pools: dict[str, Pool]) -> str:
    """Return the table of the predicted Dice by source."""
    lines = [
        "| masks | n | Spearman | mean error | mean size of the error | 90 % interval covers | below 0.7: flagged "
        "| above 0.9: flagged | bias of propseg | of deepseg |",
        "|" + " --- |" * 10,
    ]
    for name, p in (pools | {"both": join_pools(list(pools.values()))}).items():
        seen = np.array([row["status"] == "ok" for row in p.rows])
        error = p.predicted - p.dice
        bad, good = p.dice < 0.7, p.dice > 0.9
        cells = [name, str(seen.sum()), f"{spearmanr(p.predicted[seen], p.dice[seen]).statistic:.3f}"]
        cells += [f"{error[seen].mean():+.3f}", f"{np.abs(error[seen]).mean():.3f}"]
        cells += [_share(((p.dice >= p.low) & (p.dice <= p.high))[seen].tolist())]
        cells += [f"{(bad & p.flagged).sum()} of {bad.sum()}", _share(p.flagged[good].tolist())]
        for kind in OWN:
            mine = seen & np.array([row["kind"] == kind for row in p.rows])
            cells.append(f"{error[mine].mean():+.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_figures(folder: Path, pools: dict[str, Pool], outcomes: list[Outcome]) -> None:
    """Draw predicted against true Dice, the share of right decisions, and the calibration of the probabilities."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(1, len(pools), figsize=(8, 4), sharey=True, layout="constrained")
    colors = {"propseg": "#B97A00", "deepseg": "#2A7FB8", "made faults": "#8A8F98"}
    for axes, (name, p) in zip(panels, pools.items(), strict=True):
        kinds = np.array([row["kind"] if row["kind"] in OWN else "made faults" for row in p.rows])
        axes.plot([0, 1], [0, 1], color="#9AA5B1", linewidth=1)
        order = np.argsort(p.predicted)
        axes.fill_between(p.predicted[order], p.low[order], p.high[order], color="#5F6B7A", alpha=0.12, linewidth=0)
        for kind in ("made faults", *OWN):
            mine = kinds == kind
            axes.scatter(p.predicted[mine], p.dice[mine], s=9, alpha=0.6, linewidths=0, color=colors[kind], label=kind)
        axes.set(title=f"{name} ({len(p.rows)} masks)", xlabel="predicted Dice", xlim=(0, 1), ylim=(0, 1))
    panels[0].set_ylabel("true Dice")
    panels[0].legend(frameon=False, loc="upper left", markerscale=2)
    figure.savefig(folder / "predicted_dice.png", dpi=110)
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    error, table = calibration(outcomes)
    panels[0].plot([0, 1], [0, 1], color="#9AA5B1", linewidth=1)
    panels[0].scatter(table[:, 0], table[:, 1], s=12 + 120 * table[:, 2] / table[:, 2].max(), color="#2A7FB8")
    panels[0].set(title=f"probabilities: error {error:.3f}", xlabel="stated", ylabel="true in")
    edges = np.array([0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 1.0])
    for family, color in zip(FAMILIES, ("#2A7FB8", "#B97A00", "#009E73", "#CC79A7"), strict=True):
        mine = [o for o in outcomes if o.family == family and abs(o.expected_gap) > ROPE]
        gap, right = (
            np.array([abs(o.expected_gap) for o in mine]),
            np.array([o.lost(o.expected_gap) <= TOLERANCE for o in mine]),
        )
        bins = np.digitize(gap, edges) - 1
        shown = [k for k in range(len(edges) - 1) if (bins == k).sum() >= 5]
        share = [100 * right[bins == k].mean() for k in shown]
        panels[1].plot(shown, share, marker="o", color=color, label=family)
    labels = [f"{a:g}-{b:g}" for a, b in pairwise(edges)]
    panels[1].set_xticks(range(len(labels)), labels, fontsize=7)
    panels[1].axhline(95, color="#9AA5B1", linewidth=1, linestyle="--")
    panels[1].set(title="kept the better method, %", xlabel="true difference in mean Dice", ylim=(0, 103))
    panels[1].legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(folder / "decision_validation.png", dpi=110)


def load_rows(args: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """Make or read the cases: those on which the shipped model was trained, and new phantoms."""
    learned = args.cases or args.work / "learned.tsv"
    origin = load_dice_predictor().provenance
    n, seed = origin["phantoms"]["n"], origin["seed"]
    images, _ = load_tables(args.data, [], RECIPE)
    wanted = describe_origin(images, FOLDS, n, seed)
    rows = load_cases(learned, wanted)
    if rows is None:
        rows = collect_cases(images, FOLDS, n, seed, args.jobs, print)
        save_cases(learned, rows, wanted)
        rows = load_cases(learned, wanted)
    if not args.phantoms:
        return rows, [row for row in rows if row["source"] == "phantom"]
    new = args.work / "new_phantoms.tsv"
    wanted = describe_origin(images, FOLDS, args.phantoms, seed) | {"phantom_seed": PHANTOM_SEED}
    phantoms = load_cases(new, wanted)
    if phantoms is None:
        phantoms = collect_cases([], FOLDS, args.phantoms, seed, args.jobs, print, phantom_seed=PHANTOM_SEED)
        save_cases(new, phantoms, wanted)
        phantoms = load_cases(new, wanted)  # with the decimals of the file, as the next run reads them
    return rows, phantoms


def main() -> None:
    """Predict, decide, print the tables and draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path("../shared/data/labelled.tsv"))
    parser.add_argument(
        "-work", type=Path, default=Path("build/decision_validation"), help="masks' evidence is kept there"
    )
    parser.add_argument("-cases", type=Path, help="cases kept by spineseg train quality -cases")
    parser.add_argument(
        "-phantoms",
        type=int,
        default=48,
        help="new synthetic images; a round of all kinds has 24; 0: those learned from",
    )
    parser.add_argument("-jobs", type=int, default=2)
    parser.add_argument("-datasets", type=int, default=500, help="of each family")
    parser.add_argument("-figures", type=Path, help="folder for the figures")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    learned, phantoms = load_rows(args)
    real = [row for row in learned if row["source"] == "real"]
    pools = {"real people": predict(real, learned), "phantoms": predict(phantoms, None if args.phantoms else learned)}
    print(summarise_prediction(pools), flush=True)
    params = DecisionParams()
    rng = np.random.default_rng(1)
    outcomes = []
    for family in FAMILIES:
        pool = pools["real people" if family.startswith("real") else "phantoms"]
        found = [decide(pool, family, params, rng) for _ in range(args.datasets)]
        outcomes += [o for o in found if o is not None]
    print(summarise(outcomes))
    _, table = calibration(outcomes)
    print("| stated | true in | n |\n| --- | --- | --- |")
    print("\n".join(f"| {p:.2f} | {t:.2f} | {n:.0f} |" for p, t, n in table))
    if args.figures:
        args.figures.mkdir(parents=True, exist_ok=True)
        draw_figures(args.figures, pools, outcomes)


if __name__ == "__main__":
    main()
