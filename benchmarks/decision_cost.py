"""Time and memory of ``spineseg decide`` on simulated tables of many people, two images each, with slices.

python benchmarks/decision_cost.py [-people 1000 5000] [-slices 40] [-work DIR]
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spineseg.measures import AGREEMENT, METRICS
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.tables import AgreementRow, ChunkTables, Identity, MetricsRow, SliceRow, write_chunk_tables

METHODS = ("propseg", "deepseg")

RUN = """
import sys
from pathlib import Path
from spineseg.cli import main
code = main(sys.argv[1:])
print(Path("/proc/self/status").read_text())
sys.exit(code)
"""
"""Program that runs a command and prints its peak memory (VmHWM); that of ``getrusage`` would include this process."""


def make_tables(folder: StudyFolder, n_people: int, n_slices: int) -> list[Path]:
    """Write the tables of people with two runs each; a quarter has references."""
    rng = np.random.default_rng(0)
    tables = ChunkTables()
    for person in range(n_people):
        for run in ("1", "2"):
            image = Identity(f"sub-{person:05d}_run-{run}_T2w", f"{person:05d}", run=run, suffix="T2w", contrast="t2")
            for method in METHODS:
                values = dict(zip(METRICS, rng.random(len(METRICS)).tolist(), strict=True))
                values |= {"coverage": 1.0, "csa_mean_mm2": 70 + 5 * rng.standard_normal(), "dice": 0.9}
                values |= {"csa_error_pct": 3 * rng.standard_normal()}
                if person % 4:
                    values = {key: value for key, value in values.items() if key not in ("dice", "csa_error_pct")}
                tables.metrics.append(MetricsRow(image, method, "ok", values))
            tables.agreement.append(AgreementRow(image, *METHODS, dict.fromkeys(AGREEMENT, 0.9)))
            tables.slices.extend(make_slices(image.image_id, n_slices, rng))
    return write_chunk_tables(folder, Stage.ALL, "pilot-0001", tables)


def make_slices(image: str, n_slices: int, rng: np.random.Generator) -> Iterator[SliceRow]:
    """Yield the slices of an image by both methods."""
    for method in METHODS:
        for k, area in enumerate(70 + rng.standard_normal(n_slices)):
            yield SliceRow(image, method, k, {"csa_mm2": float(area), "centroid_z_mm": 2.0 * k})


def main() -> None:
    """Print seconds and peak memory by number of people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-people", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("-slices", type=int, default=40, help="of each mask")
    parser.add_argument("-work", type=Path, default=Path("build/decision_cost"))
    args = parser.parse_args()
    print("| people | images | seconds of processor time | MB |\n| --- | --- | --- | --- |")
    for n in args.people:
        metrics, agreement, slices = make_tables(StudyFolder(args.work / str(n)), n, args.slices)
        config = args.work / "config.yaml"
        config.write_text("dataset: cost\nmethods: [propseg, deepseg]\ndecision: {repeats: {by: run}}\n")
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = ["-c", RUN, "decide", "-metrics", metrics, "-agreement", agreement, "-slices", slices]
        command += ["-config", config, "-o", args.work / "decision.json"]
        said = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", said)[0]) / 1024
        print(f"| {n} | {2 * n} | {seconds:.1f} ({time.monotonic() - start:.0f} in all) | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
