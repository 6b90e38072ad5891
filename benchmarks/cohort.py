"""Measure the cost of a cohort: images per hour, processor seconds per image and step, compared with another commit.

    python benchmarks/cohort.py -before 23bf0f4
    python benchmarks/cohort.py -n 50 -before 23bf0f4  # some 20 minutes on 2 idle cores: 20 s an image and 2 minutes
    python benchmarks/cohort.py -n 10 -cores 1

The cohort is n synthetic people with a T2w each (1.2 x 0.8 x 0.8 mm, about 135 axial slices; every second person is
hard) and exact references. Each run is the whole study by both methods, `snakemake` without a target, in a separate
folder; the runs of both commits alternate. Images per hour use wall time, so nothing else should run. Processor
seconds (user and system, start-up included) are those that each process of a step reports when it ends; other work on
the machine changes them by a fifth or so. The masks of both commits are compared as well.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from spineseg.volume import load_mask

ROOT = Path(__file__).parents[1]
SEED = 17
DATASET = "cohort"

ACCOUNT = '''"""Write what this process and those it has waited for have used."""
import atexit, json, os, resource, sys, time

def write():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    path = os.path.join(os.environ["COHORT_LOG"], f"{os.getpid()}-{time.time_ns()}.json")
    with open(path, "w") as file:
        json.dump([sys.argv, *(u.ru_utime + u.ru_stime for u in used)], file)

if "--multiprocessing-fork" not in sys.orig_argv:  # its parent has waited for it
    atexit.register(write)
'''
"""A `sitecustomize` module, which every Python process of a run loads."""

STEPS = {"measure": "measuring", "qc": "drawing"}
"""Command of a step to its row. Segmentation has a row per method; other commands are in the row of the rest."""

ROWS = ("propseg", "deepseg", "measuring", "drawing", "the rest", "Snakemake")


@dataclass
class Run:
    """One study: wall seconds, and processor seconds of all its images by step."""

    folder: Path
    wall: float
    steps: Counter[str] = field(default_factory=Counter)


def step_of(argv: list[str]) -> str:
    """Return the row that a process belongs to."""
    if Path(argv[0]).name != "spineseg":
        return "Snakemake"
    if argv[1] == "segment" and "-method" in argv:
        return argv[argv.index("-method") + 1]
    return STEPS.get(argv[1], "the rest")


def run_study(code: Path, images: Path, cores: int, folder: Path) -> Run:
    """Run the study of the images by a checkout's code."""
    account, log = folder / "account", folder / "log"
    for each in (account, log):
        each.mkdir(parents=True)
    (account / "sitecustomize.py").write_text(ACCOUNT)
    config = folder / "study.yaml"
    config.write_text(f"dataset: {DATASET}\nbids_dir: {images}\ncontrasts: [T2w]\n")
    command = [sys.executable, "-m", "snakemake", "-s", str(code / "Snakefile"), "--cores", str(cores)]
    paths = {"PYTHONPATH": f"{code}{os.pathsep}{account}", "COHORT_LOG": str(log), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    with (folder / "snakemake.log").open("w") as output:
        done = subprocess.run(
            [*command, "--configfile", str(config)],
            cwd=folder,
            env=os.environ | paths,
            stdout=output,
            stderr=output,
            check=False,
        )
    run = Run(folder, time.perf_counter() - start)
    if done.returncode:
        raise SystemExit(f"snakemake failed; see {folder / 'snakemake.log'}")
    for file in log.iterdir():
        argv, own, waited = json.loads(file.read_text())
        if argv[0] == "-c":  # multiprocessing's tracker of resources, which its parent has waited for
            continue
        step = step_of(argv)
        run.steps[step] += own if step == "Snakemake" else own + waited  # its jobs report on their own
    return run


def compare_masks(before: Run, now: Run) -> list[str]:
    """Return a line per method on the differences of the masks."""
    lines = []
    for method in ("propseg", "deepseg"):
        pattern = f"sub-*/**/*_desc-{method}_label-SC_seg.nii.gz"
        masks = sorted((before.folder / "results" / DATASET).glob(pattern))
        equal, voxels, areas = 0, [0.0], [0.0]
        for mask in masks:
            other = now.folder / mask.relative_to(before.folder)
            if other.read_bytes() == mask.read_bytes():
                equal += 1
                continue
            old, new = (load_mask(path)[0].data >= 0.5 for path in (mask, other))
            size = max(1, int(old.sum()))
            voxels.append(100 * int((old != new).sum()) / size)
            areas.append(100 * abs(int(new.sum()) - size) / size)
        line = f"{method}: {equal} of {len(masks)} masks byte for byte the same"
        if len(voxels) > 1:
            line += (
                f"; of the others at most {max(voxels):.3f} % of the voxels and {max(areas):.3f} % of the volume differ"
            )
        lines.append(line)
    return lines


def export(commit: str, folder: Path) -> Path:
    """Write the tree of a commit into a folder."""
    content = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        # Python 3.11.3 and earlier have no filter; 3.12 warns if none is given
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


def least(runs: list[Run], step: str, n: int) -> float:
    """Return the processor seconds per image of a step, the least of several runs, because other work only adds."""
    return min(run.steps[step] for run in runs) / n


def main() -> None:
    """Make the cohort, run it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, metavar="N", help="images; default 200")
    parser.add_argument("-cores", type=int, nargs="+", default=[1, 2], metavar="N", help="default 1 2")
    parser.add_argument("-before", metavar="COMMIT", help="compare with this commit; default: this checkout alone")
    parser.add_argument("-repeat", type=int, default=1, metavar="N", help="runs of each; the fastest counts")
    parser.add_argument(
        "-work", type=Path, help="keep the cohort and the runs in this folder, new; default: none is kept"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = (args.work or Path(name)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        images = work / "bids"
        command = ["phantom", str(images), "-subjects", str(args.n), "-seed", str(SEED), "-contrasts", "T2w"]
        subprocess.run([sys.executable, "-m", "spineseg", *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        codes = {args.before: export(args.before, work / "code")} if args.before else {}
        codes["now"] = ROOT
        runs: dict[tuple[str, int], list[Run]] = {}
        for turn in range(args.repeat):
            for cores in args.cores:
                for label, code in codes.items():
                    folder = work / f"{label}-{cores}cores-{turn}"
                    runs.setdefault((label, cores), []).append(run_study(code, images, cores, folder))
                    print(f"{label}, {cores} core(s): {runs[label, cores][-1].wall:.0f} s", flush=True)
        print(f"\n{args.n} images, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at the end\n")
        columns = [f"{label}, {cores} core{'s' * (cores > 1)}" for label, cores in runs]
        print(f"| | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
        hourly = (f"{3600 * args.n / min(run.wall for run in each):.0f}" for each in runs.values())
        print(f"| images per hour | {' | '.join(hourly)} |")
        for step in ROWS:
            print(f"| {step}, s | {' | '.join(f'{least(each, step, args.n):.2f}' for each in runs.values())} |")
        sums = (f"{sum(least(each, step, args.n) for step in ROWS):.2f}" for each in runs.values())
        print(f"| all, s | {' | '.join(sums)} |\n")
        if args.before:
            first = args.cores[0]
            print("\n".join(compare_masks(runs[args.before, first][0], runs["now", first][0])))


if __name__ == "__main__":
    main()
