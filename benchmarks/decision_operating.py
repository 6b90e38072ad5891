"""Error rates and power of the decision rule on simulated pilots with known truth.

    python benchmarks/decision_operating.py [-pilots 1000] [-jobs 2] [-docs docs/decision.md]

Every pilot goes through `spineseg.decision.rule.judge_with_doubt`, which is what `spineseg decide` calls. "Wrong
clear": the verdict is clear, and the kept method is not better by more than the margin. "Wrong equivalent": the
verdict is equivalent, and one method is better by more than the margin. Each rate has its upper 95 % limit. The exit
code is 1 if a rate is above 5 % or its limit above 7 %, or if the power is too low.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from simulated_pilots import (
    Draw,
    area_disasters,
    area_errors,
    area_errors_at_sites,
    area_errors_of_contrasts,
    at_sites,
    bias_or_rare_errors,
    disasters,
    failing,
    failing_alike,
    failing_beside,
    failing_by_contrast,
    lognormal,
    normal,
    predicted,
    rare_errors,
    rare_repeats,
    rated,
    rated_at_sites,
    rated_by_contrast,
    repeated,
    repeated_by_contrast,
    sessions_with_references,
    skewed,
    tied,
    unequal_contrasts,
)

from spineseg.decision.params import DecisionParams, Repeats
from spineseg.decision.rule import judge_with_doubt
from spineseg.decision.shares import binomial_limits

BEGIN, END = "<!-- table of decision_operating.py -->", "<!-- end of the table -->"
MOST, MOST_LIMIT = 0.05, 0.07
TWO_CHANCES = 2 * MOST
"""Failures and the ruling endpoint may each make a verdict clear; a method on both margins has two chances."""
RARE_ERRORS = 0.10
"""If bias counts, pilots in which rare errors do not show look clear: a known limit (docs/decision.md, Statistics)."""
SIZES = (6, 8, 12, 20, 50, 200)

USUAL, RUNS = DecisionParams(), DecisionParams(repeats=Repeats(by_run=True))
CHANGE, ABSOLUTE = DecisionParams(aim="change"), DecisionParams(aim="absolute")


@dataclass(frozen=True)
class Cell:
    """One kind of pilot.

    Parameters
    ----------
    name : str
    draw : callable
    sizes : tuple of int
    better : int or None
        Number of the method that is truly better by more than the margin.
    least : dict of (int, str) to float
        Share of a verdict that a number of people must reach.
    params : DecisionParams
    most : float
        Largest rate of wrong verdicts, and `MOST_LIMIT` above `MOST` for its upper limit.
    """

    name: str
    draw: Draw
    sizes: tuple[int, ...] = SIZES
    better: int | None = None
    least: dict[tuple[int, str], float] = field(default_factory=dict)
    params: DecisionParams = USUAL
    most: float = MOST


CELLS = (
    Cell("no difference, SD 0.03", normal(0, 0.03), (*SIZES, 64), least={(64, "equivalent"): 0.60}),
    Cell("no difference, SD 0.06", normal(0, 0.06)),
    Cell("mean 0.005, within the margin", normal(0.005, 0.03)),
    Cell("mean 0.01, on the margin", normal(0.01, 0.03)),
    Cell("mean 0.011, just beyond the margin", normal(0.011, 0.03), (*SIZES, 64), better=0),
    Cell("mean 0.02", normal(0.02, 0.03), (*SIZES, 64), better=0),
    Cell("mean 0.03", normal(0.03, 0.03), (6, 8, 12, 20), better=0, least={(20, "clear"): 0.80}),
    Cell("better by 0.015, worse by 0.235 in 12 %; SD 0.03", disasters(0.015, 0.12, 0.235, 0.03), better=1),
    Cell("the same; SD 0.01", disasters(0.015, 0.12, 0.235, 0.01), better=1),
    Cell("the same; no other spread", disasters(0.015, 0.12, 0.235, 0.0), better=1),
    Cell("equal, but worse by 0.3 in 5 %; SD 0.01", disasters(0.0, 0.05, 0.3, 0.01), better=1),
    Cell("long tail, mean 0, SD 0.03", skewed(0, 0.03)),
    Cell("long tail, mean 0, SD 0.06", skewed(0, 0.06)),
    Cell("long tail, mean 0.01, on the margin", skewed(0.01, 0.03)),
    Cell("long tail, mean -0.012", skewed(-0.012, 0.03), better=1),
    Cell("lognormal tail, mean 0.005, SD 0.06", lognormal(0.005, 0.06)),
    Cell("ties: 0 in 70 %, else 0.03 either way", tied((-0.03, 0.0, 0.03), (0.15, 0.7, 0.15))),
    Cell("ties: 0.02 in half, -0.1 in 10 %", tied((-0.1, 0.0, 0.02), (0.1, 0.4, 0.5))),
    Cell("2 sites, spread 0.02", at_sites(2, 0, 0.02)),
    Cell("3 sites, spread 0.02", at_sites(3, 0, 0.02)),
    Cell("4 sites, spread 0.02", at_sites(4, 0, 0.02), (*SIZES, 100)),
    Cell("4 unequal sites, mean -0.015, spread 0.02", at_sites(4, -0.015, 0.02, equal=False), better=1),
    Cell("6 unequal sites, spread 0.02", at_sites(6, 0, 0.02, equal=False), (12, 20, 50, 200)),
    Cell("6 sites, mean 0.015, spread 0.02", at_sites(6, 0.015, 0.02), (12, 20, 50, 200), better=0),
    Cell("unequal contrasts, mean 0", unequal_contrasts(0, 0.009)),
    Cell("unequal contrasts, mean on the margin", unequal_contrasts(0.01, 0.004)),
    Cell("unequal contrasts, mean 0.015", unequal_contrasts(0.015, 0.004), better=0),
    Cell("area errors, SD 4 % both", area_errors(4, 4)),
    Cell("area errors, SD 2 % both, little correlated", area_errors(2, 2, r=0.1)),
    Cell("area errors, SD 4 and 5 %, within the margin", area_errors(4, 5)),
    Cell("area errors, SD 4 % both, heavy tails", area_errors(4, 4, df=5)),
    Cell("area errors, SD 1 and 2.25 %, on the margin", area_errors(1, 2.25)),
    Cell("area errors, SD 2 and 4 %", area_errors(2, 4), better=0),
    Cell("area errors, SD 2 % both, one biased by 10 %", area_errors(2, 2, bias=10), better=1),
    Cell("area errors of 20 % in 10 % of people by the steadier method", area_disasters(3, 0.1, 20), better=1),
    Cell("area errors of 30 % in 3 % of people by either method", rare_errors(0.03, 0.03, 30)),
    Cell("area errors of 20 % in 10 % of people by either method", rare_errors(0.1, 0.1, 20)),
    Cell("area errors of 20 % in 3 and 6 % of people, on the margin", rare_errors(0.03, 0.0596, 20)),
    Cell("area errors of 20 % in 5 % of people by the second", rare_errors(0, 0.05, 20), (*SIZES, 64), better=0),
    Cell("failures: 10 % both", failing(0.10, 0.10)),
    Cell("failures: 10 and 15 %, on the margin", failing(0.10, 0.15)),
    Cell("failures: 2 and 20 %", failing(0.02, 0.20), better=0),
    Cell("failures: 10 % both, area errors alike", failing_alike(0.10, 0.10)),
    Cell("failures: 2 and 20 %, area errors alike", failing_alike(0.02, 0.20), better=0),
    Cell("ratings: 30 % either way", rated(0.3, 0.3)),
    Cell("ratings: 45 and 35 %, on the margin", rated(0.45, 0.35)),
    Cell("ratings: 70 and 10 %", rated(0.7, 0.1), better=0),
    Cell("repeats: SD 2 % both", repeated(2, 2), params=RUNS),
    Cell("repeats: SD 1 and 2.25 %, on the margin", repeated(1, 2.25), params=RUNS),
    Cell("repeats: SD 1 and 4 %", repeated(1, 4), better=0, params=RUNS),
    Cell("repeats: areas of 30 % more in 3 % of the images by either", rare_repeats(0.03, 30), params=RUNS),
    Cell("sites: 6, area SDs of 1 and 5 % change places", area_errors_at_sites(6, 1, 5), (12, 20, 50, 60)),
    Cell("sites: 8, area SDs of 1 and 5 % change places", area_errors_at_sites(8, 1, 5), (20, 50, 200)),
    Cell("sites: 6, ratings, 80 % of a site alike", rated_at_sites(6, 0.8), (12, 20, 50, 180)),
    Cell("sites: 6, ratings, 95 % of a site alike", rated_at_sites(6, 0.95), (12, 20, 50, 180)),
    Cell("contrasts: area SD 4 % both", area_errors_of_contrasts(((4, 4), (4, 4)))),
    Cell("contrasts: area SDs 1 and 4, 4 and 1 %", area_errors_of_contrasts(((1, 4), (4, 1)))),
    Cell("contrasts: area SDs 1 and 2.25 % in either, on the margin", area_errors_of_contrasts(((1, 2.25), (1, 2.25)))),
    Cell("contrasts: area SDs 2 and 4 % in either", area_errors_of_contrasts(((2, 4), (2, 4))), better=0),
    Cell("contrasts: failures 10 % both", failing_by_contrast(((0.1, 0.1), (0.1, 0.1)))),
    Cell("contrasts: failures 5 and 10, 10 and 15 %, on the margin", failing_by_contrast(((0.05, 0.1), (0.1, 0.15)))),
    Cell("contrasts: failures 2 and 20 % in either", failing_by_contrast(((0.02, 0.2), (0.02, 0.2))), better=0),
    Cell("contrasts: failures 2 and 20, 20 and 2 %", failing_by_contrast(((0.02, 0.2), (0.2, 0.02)))),
    Cell("contrasts: ratings 45 and 35 % in either, on the margin", rated_by_contrast(((0.45, 0.35), (0.45, 0.35)))),
    Cell("contrasts: ratings 70 and 20, 20 and 70 %", rated_by_contrast(((0.7, 0.2), (0.2, 0.7)))),
    Cell("contrasts: ratings 70 and 10 % in either", rated_by_contrast(((0.7, 0.1), (0.7, 0.1))), better=0),
    Cell("contrasts: repeats, SD 2 % both", repeated_by_contrast((2, 2), (2, 2)), params=RUNS),
    Cell("contrasts: repeats, 1 and 2.25 %, on the margin", repeated_by_contrast((1, 2.25), (1, 2.25)), params=RUNS),
    Cell("contrasts: repeats, 1 and 4, 4 and 1 %", repeated_by_contrast((1, 4), (4, 1)), params=RUNS),
    Cell("contrasts: repeats, 1 and 4 % in either", repeated_by_contrast((1, 4), (1, 4)), better=0, params=RUNS),
    Cell("prediction biased by 0.03", predicted(0.03)),
    Cell("change: errors within people 1 and 2.25 %, on the margin", sessions_with_references(1, 2.25), params=CHANGE),
    Cell("change: errors within people 1 and 4 %", sessions_with_references(1, 4), better=0, params=CHANGE),
    Cell(
        "absolute: a bias, and errors of 20 % in 3 %, of one root mean square",
        bias_or_rare_errors(12**0.5, 0.03, 20),
        params=ABSOLUTE,
        most=RARE_ERRORS,
    ),
    Cell(
        "absolute: a bias of 6.3 %, and errors of 20 % in 9 %, within the margin",
        bias_or_rare_errors(6.3, 0.09, 20),
        params=ABSOLUTE,
        most=RARE_ERRORS,
    ),
    Cell("absolute: SD 2 and 1 %, the first biased by 8 %", area_errors(2, 1, bias=8), better=1, params=ABSOLUTE),
    Cell(
        "two margins: failures 10 and 15 %, area SDs 1 and 2.25 %",
        failing_beside(0.1, 0.15, area_errors(1, 2.25)),
        (20, 60, 200),
        most=TWO_CHANCES,
    ),
    Cell(
        "two margins: failures 10 and 15 %, ratings 45 and 35 %",
        failing_beside(0.1, 0.15, rated(0.45, 0.35)),
        (20, 60, 200),
        most=TWO_CHANCES,
    ),
)


@dataclass(frozen=True)
class Result:
    """Counts of a cell at one size."""

    cell: int
    size: int
    pilots: int
    clear: int
    equivalent: int
    wrong_clear: int
    wrong_equivalent: int


def run_cell(number: int, size: int, pilots: int, seed: int) -> Result:
    """Simulate the pilots of one cell and size."""
    cell = CELLS[number]
    rng = np.random.default_rng([seed, number, size])
    clear = equivalent = wrong_clear = wrong_equivalent = 0
    for _ in range(pilots):
        judgement, _ = judge_with_doubt(cell.draw(rng, size), cell.params)
        is_clear, is_equivalent = judgement.verdict == "clear", judgement.verdict == "equivalent"
        clear, equivalent = clear + is_clear, equivalent + is_equivalent
        wrong_clear += is_clear and judgement.method != cell.better
        wrong_equivalent += is_equivalent and cell.better is not None
    return Result(number, size, pilots, clear, equivalent, wrong_clear, wrong_equivalent)


def faults(result: Result) -> list[str]:
    """Return the requirements that a result does not meet."""
    cell, found = CELLS[result.cell], []
    for name, count in (("clear", result.wrong_clear), ("equivalent", result.wrong_equivalent)):
        rate, limit = count / result.pilots, binomial_limits(count, result.pilots)[1]  # two-sided 90: upper 95 %
        if rate > cell.most or limit > cell.most + MOST_LIMIT - MOST:
            found.append(f"wrong {name} {100 * rate:.1f} % (limit {100 * limit:.1f} %)")
    for (size, verdict), least in cell.least.items():
        share = (result.clear if verdict == "clear" else result.equivalent) / result.pilots
        if size == result.size and share < least:
            found.append(f"{verdict} {100 * share:.1f} %, expected {100 * least:.0f} %")
    return found


def format_results(results: list[Result]) -> str:
    """Return the table: by cell the largest error rates, and by size how often the rule decides."""
    lines = [
        "| pilots | better | wrong `clear`, most of all n (upper 95 % limit) | wrong `equivalent` | `clear` by n | "
        "`equivalent` by n |",
        "|" + " --- |" * 6,
    ]
    for number, cell in enumerate(CELLS):
        mine = [r for r in results if r.cell == number]
        cells = [cell.name, "-" if cell.better is None else ("first", "second")[cell.better]]
        for counts in ([r.wrong_clear for r in mine], [r.wrong_equivalent for r in mine]):
            worst = int(np.argmax(counts))
            limit = binomial_limits(counts[worst], mine[worst].pilots)[1]
            share = f"{100 * counts[worst] / mine[worst].pilots:.1f} % ({100 * limit:.1f})"
            cells.append(f"{share}, n {mine[worst].size}" if counts[worst] else "0")
        for name in ("clear", "equivalent"):
            cells.append(
                ", ".join(f"{r.size}: {100 * getattr(r, name) / r.pilots:.0f}" for r in mine if getattr(r, name))
                or "never"
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Simulate every cell, print the table, and insert it into the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-pilots", type=int, default=1000, help="of each cell and number of people")
    parser.add_argument("-jobs", type=int, default=2)
    parser.add_argument("-seed", type=int, default=1)
    parser.add_argument("-only", default="", help="cells whose name has this text")
    parser.add_argument("-docs", type=Path, help="Markdown file with the marks of the table")
    args = parser.parse_args()
    start = time.monotonic()
    tasks = [(number, size) for number, cell in enumerate(CELLS) if args.only in cell.name for size in cell.sizes]
    with ProcessPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(run_cell, number, size, args.pilots, args.seed) for number, size in tasks]
        results = []
        for job in jobs:
            results.append(job.result())
            r = results[-1]
            print(
                f"{CELLS[r.cell].name}, n {r.size}: clear {r.clear}, equivalent {r.equivalent}, wrong "
                f"{r.wrong_clear}, {r.wrong_equivalent} of {r.pilots}",
                *faults(r),
                flush=True,
            )
    wrong = [f"{CELLS[r.cell].name}, n {r.size}: {text}" for r in results for text in faults(r)]
    minutes = (time.monotonic() - start) / 60
    if not args.only:
        text = f"{format_results(results)}\n\n{args.pilots} pilots of each kind and number of people, seed {args.seed}."
        print(text)
        if args.docs:
            before, rest = args.docs.read_text().split(BEGIN)
            args.docs.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (spent.ru_utime + spent.ru_stime) / 60
    print(f"{minutes:.1f} minutes, {busy:.1f} of processor time; {len(wrong)} faults", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
