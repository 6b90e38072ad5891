"""Mutation testing: make small changes to the code and count how many of them the tests notice.

    pip install -e '.[mutation]'
    python benchmarks/mutation_check.py metrics curve decision -work DIR

Each area is a few modules with their fast tests (`AREAS`). ``mutmut`` makes one mutant per operator, number, text,
argument and keyword of a function, runs the tests that reach the function, and records whether one fails. Not mutated
are the wording of messages (`MESSAGES`), decorated functions, and constants of modules, whose tests are written by
hand. The program prints the share of mutants caught, by module, and writes each survivor as one line to
``DIR/survivors-AREA.txt``.

The same command continues a run that was stopped, and repeats what has changed since. An area takes about 30 minutes
on one core. `tests/` is copied with a hypothesis profile that draws the same examples each time.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

DECIDING = ("rule", "comparison", "endpoints", "evidence", "statistics", "shares", "stability")
"""Modules of the decision that compute; the others write its report."""

AREAS = {
    "metrics": (
        ["spineseg/metrics/*.py"],
        ["tests/test_metrics_exact.py", "tests/test_metrics.py", "tests/test_levels_line.py"],
    ),
    "curve": (
        ["spineseg/centerline/curve.py", "spineseg/centerline/path.py", "spineseg/centerline/spline.py"],
        ["tests/test_centerline_exact.py", "tests/test_centerline_curve.py", "tests/test_centerline_path.py"],
    ),
    "decision": (
        [f"spineseg/decision/{name}.py" for name in DECIDING],
        ["tests/test_decision*.py"],
    ),
}
"""Area to its modules and its tests."""

SLOW = "tilted_ellipse or properties or every_orientation or curved or same_as or noise or cost_grows"
"""Tests that take most of the time and check what others check as well; they are left out here."""

MESSAGES = [r"raise \w+Error\(", r"^\s+f?\"[^\"]*\",?$"]
"""Patterns of lines that are not mutated: they contain messages, whose wording no test should fix."""

PROFILE = """
from hypothesis import HealthCheck, settings
settings.register_profile(
    "mutation", derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)
settings.load_profile("mutation")
"""
"""Profile of hypothesis. One process runs the tests many times in the same way, so that no mutant is caught by
chance."""

SAME = (
    (r"\['nan' -> 'NAN'\]$", "NaN however it is spelt"),
    (r"strict=True -> strict=(None|False)\]$|, strict=True -> \]$", "zip of equal lengths"),
    (r"\[(, )?(dtype=)?np\.(float64|uint8|int32|int64|intp) -> (dtype=None|None)?\]$", "numpy takes it by itself"),
)  # fmt: skip
"""Patterns of mutants that are equivalent to the code, and the reason."""

CAUGHT, SURVIVED, NO_TEST = "caught", "survived", "no test"
OUTCOMES = {0: SURVIVED, 5: NO_TEST, 33: NO_TEST}
"""Outcome by exit status of the tests under a mutant. Any other status is a failure, a crash or an endless loop: the
mutant was noticed."""


def copy_tree(work: Path) -> None:
    """Copy the files under version control if they changed, so that finished mutants need not be repeated."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().splitlines():
        source, target = ROOT / name, work / name
        if source.is_file() and not (target.is_file() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())


def write_settings(work: Path, modules: list[str], tests: list[str]) -> None:
    """Add mutmut's settings to the copy of pyproject.toml, and the profile to the copy of the tests."""
    values = {
        "source_paths": ["spineseg"],
        "only_mutate": modules,
        "also_copy": ["config", "docs", "rules", "workflow", "Snakefile", "README.md"],
        "pytest_add_cli_args_test_selection": sorted(str(p.relative_to(ROOT)) for t in tests for p in ROOT.glob(t)),
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:xdist", "-k", f"not ({SLOW})"],
        "do_not_mutate_patterns": MESSAGES,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    lines += ["use_git_change_detection = false", "track_dependencies = false"]
    text = (ROOT / "pyproject.toml").read_text() + "\n[tool.mutmut]\n" + "\n".join(lines) + "\n"
    (work / "pyproject.toml").write_text(text)
    (work / "tests" / "conftest.py").write_text(PROFILE)


def run_mutmut(work: Path, children: int, sample: int | None, patterns: list[str]) -> None:
    """Run the remaining mutants, or those of a sample that is the same each time."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = ["nice", sys.executable, "-m", "mutmut", "run", "--max-children", str(children)]
    with (work / "mutmut.log").open("a") as log:
        names: list[str] = []
        if sample:
            # no mutant has this name, so mutants are generated but not run
            subprocess.run([*command, "none"], cwd=work, env=environment, stdout=log, stderr=log, check=False)
            modules = sorted(path for pattern in patterns for path in (work / "mutants").glob(pattern))
            made = [key for module in modules for key in read_statuses(module)]
            names = random.Random(0).sample(made, min(sample, len(made)))
        done = subprocess.run([*command, *names], cwd=work, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit(f"mutmut failed; see {log.name}")


def read_statuses(module: Path) -> dict[str, int | None]:
    """Return the exit status of the tests under each mutant of a module; None if it was not run."""
    return json.loads(module.with_name(module.name + ".meta").read_text())["exit_code_by_key"]


def describe(original: str, mutant: str) -> str:
    """Return what a mutant changes, with the words before it."""
    old, new = (re.findall(r"'[^']*'|[\w.]+(?:=[\w.]+)?|\s+|.", text) for text in (original, mutant))
    start = _equal(old, new)
    end = _equal(old[: start - len(old) - 1 : -1], new[: start - len(new) - 1 : -1])
    before, after = ("".join(words[start : len(words) - end]) for words in (old, new))
    return " ".join(f"{''.join(old[max(0, start - 12) : start])} [{before} -> {after}]".split())


def _equal(one: list[str], other: list[str]) -> int:
    """Count the equal words at the beginning of both."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def read_outcomes(module: Path) -> dict[str, tuple[str, str]]:
    """Return outcome and change of each mutant of a module, by name."""
    tree = ast.parse(module.read_text())
    texts = {node.name: ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    outcomes = {}
    for key, status in read_statuses(module).items():
        name = key.rsplit(".", 1)[1]
        head, number = name.rsplit("__mutmut_", 1)
        original, mutant = (texts[f"{head}__mutmut_{n}"].split("(", 1)[1] for n in ("orig", number))
        change = describe(original, mutant)
        outcomes[f"{head.removeprefix('x_')} {number}"] = (
            "not run" if status is None else OUTCOMES.get(status, CAUGHT),
            change,
        )
    return outcomes


def report(work: Path, area: str) -> None:
    """Print the table of an area and write its survivors."""
    rows, survivors = [], []
    for module in sorted(path for pattern in AREAS[area][0] for path in (work / "mutants").glob(pattern)):
        outcomes = read_outcomes(module)
        equal, counts = 0, dict.fromkeys((CAUGHT, SURVIVED, NO_TEST, "not run"), 0)
        for name, (outcome, change) in outcomes.items():
            counts[outcome] += 1
            if outcome in (SURVIVED, NO_TEST):
                reason = next((why for pattern, why in SAME if re.search(pattern, change)), "")
                equal += bool(reason)
                survivors.append("\t".join((module.stem, name, outcome, change, reason)))
        rows.append((module.stem, sum(counts.values()) - counts["not run"], counts[CAUGHT], equal, counts["not run"]))
    (work / f"survivors-{area}.txt").write_text("\n".join(survivors) + "\n")
    rows.append(("all of " + area, *(sum(row[n] for row in rows) for n in range(1, 5))))
    print("module | mutants | caught | share | of the others, the same code in other words")
    for name, n, caught, equal, left in rows:
        if n:
            to_do = f" | {left} to do" if left else ""
            print(f"{name} | {n} | {caught} | {100 * caught / n:.1f} % | {equal}{to_do}")


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", nargs="+", choices=AREAS)
    parser.add_argument("-work", type=Path, required=True, help="folder for the mutants, kept between runs")
    parser.add_argument("-children", type=int, default=1, help="processes at the same time")
    parser.add_argument("-sample", type=int, help="only so many mutants, drawn at random with a fixed seed")
    parser.add_argument("-report", action="store_true", help="only report what was run")
    args = parser.parse_args()
    for area in args.area:
        work = args.work.resolve() / area
        if not args.report:
            copy_tree(work)
            write_settings(work, *AREAS[area])
            run_mutmut(work, args.children, args.sample, AREAS[area][0])
        report(work, area)


if __name__ == "__main__":
    main()
