"""Kill a study at random moments, fill its disk, limit its memory, and compare its final results.

    python benchmarks/chaos_study.py -n 12 -kills 5 -seed 1 [-fast]

A study of synthetic people is run twice: undisturbed, and killed again and again at seeded random moments (Snakemake
itself, one of its jobs, all of them at once), once with a full file system and once under a memory limit. The same
command is then repeated until the study is finished. Tables, masks and the decision must be the same bytes, and no
temporary file of ours may be left. The moments lie within the time that the undisturbed study took here. If the
study finishes before all kills have landed, it is compared, and another starts with shorter waits. The process
exits with 1 if anything differs, or if not all kills landed in one study.

A full file system is a small tmpfs if the user may mount one, and otherwise a limit on the size of files.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from spineseg.phantom.dataset import write_dataset

SNAKEFILE = Path(__file__).parents[1] / "Snakefile"

FAST = ["propseg", {"name": "wide", "method": "propseg", "options": {"radius": 5}}]
"""Two methods that take a second per image, for tests."""

MEMORY_BYTES = 500 << 20
"""Address space of each process under the memory limit: enough for Snakemake to start, too little for the methods."""

FILE_BYTES = 4 << 10
"""Largest file if no small file system can be mounted: too small for a mask or a table of images."""

ATTEMPTS = 6
"""Number of calls of the same command after which the study must be finished."""

STUDIES, SHORTER = 4, 0.6
"""Number of studies that are started until all kills land in one, and factor by which waits are shorter in the next."""


def snakemake(folder: Path, *options: str, limit: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    """Start the study in a separate process group."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--cores", "2"]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*command, "--configfile", "config.yaml", "--set-scatter", "images_per_job=3", *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=limit,
        )


def finish(folder: Path) -> int:
    """Repeat the same command until the study is finished; return the number of calls."""
    for attempt in range(1, ATTEMPTS + 1):
        if snakemake(folder).wait() == 0:
            return attempt
        snakemake(folder, "--unlock").wait()
    raise SystemExit(f"{folder}: not finished after {ATTEMPTS} attempts; see {folder / 'log.txt'}")


def jobs_of(parent: int) -> list[int]:
    """Return the descendants of a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [parent]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def wait_for_job(process: subprocess.Popen[bytes]) -> list[int]:
    """Wait until a job of the study runs; return the descendants of Snakemake, none if it ended before."""
    while process.poll() is None:
        jobs = jobs_of(process.pid)
        if any("spineseg" in command_of(pid) for pid in jobs):
            return jobs
        time.sleep(0.05)
    return []


def command_of(pid: int) -> str:
    """Return the command line of a process, empty if it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return " ".join(Path(word.decode(errors="replace")).name for word in words)


def kill_at_random(
    folder: Path, process: subprocess.Popen[bytes], seconds: float, whom: str, rng: np.random.Generator
) -> str:
    """Kill a running study, or a part of it, after some seconds of its work; return a description.

    A study whose job was killed continues by itself, and the next kill hits it then.
    """
    wait_for_job(process)
    try:
        process.wait(seconds)
        return "finished before"
    except subprocess.TimeoutExpired:
        pass
    jobs = jobs_of(process.pid)
    if whom == "job" and jobs:
        os.kill(int(rng.choice(jobs)), signal.SIGKILL)
        return f"killed a job after another {seconds:.1f} s of work"
    if whom == "main":
        process.kill()
        process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in jobs):  # the jobs continue, so the next run must wait
            time.sleep(0.2)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    snakemake(folder, "--unlock").wait()
    return f"killed {whom} after another {seconds:.1f} s of work"


def fill_disk(folder: Path) -> str:
    """Run the study on a full file system, then provide space; return a description."""
    results = folder / "results"
    results.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", results], capture_output=True, check=False
    )
    if mounted.returncode:
        process = snakemake(folder, limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES)))
        code = process.wait()
        how = f"a limit of {FILE_BYTES} bytes for files"
    else:
        code = snakemake(folder).wait()
        subprocess.run(["mount", "-o", "remount,size=1g", results], check=True)
        how = "a file system of 64 kB"
    snakemake(folder, "--unlock").wait()
    if code == 0:
        raise SystemExit(f"{folder}: finished on {how}")
    return how


def digests(folder: Path) -> dict[str, str]:
    """Return the checksums of a study's final files, without times and memory, which differ from run to run."""
    root = folder / "results" / "chaos"
    files = [*root.glob("sub-*/**/*.nii.gz"), *root.glob("**/tables/*.ts*")]
    files += [root / name for name in ("decision.json", "decision.md", "images.tsv")]
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.name != "timings.tsv"
    }


def disturb(place: Path, work: float, kills: int, rng: np.random.Generator, say: Callable[[str], None]) -> int:
    """Fill the disk of a study, limit its memory and kill it; return how many kills landed.

    `work` is the time, in seconds, over which the moments of all kills are distributed.
    """
    say(f"full disk: {fill_disk(place)}")
    limited = snakemake(place, limit=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)))
    say(f"memory limit of {MEMORY_BYTES >> 20} MiB: exit code {limited.wait()}")
    snakemake(place, "--unlock").wait()
    process = snakemake(place)
    for number in range(kills):
        if process.poll() is not None:
            process = snakemake(place)
        seconds = float(rng.uniform(0, 2 * work / (kills - number + 1)))
        work = max(0.0, work - seconds)
        done = kill_at_random(place, process, seconds, ("group", "job", "main")[number % 3], rng)
        say(done)
        if not done.startswith("killed"):
            return number
    if process.wait():
        snakemake(place, "--unlock").wait()
    return kills


def run_chaos(
    folder: Path, n: int, kills: int, seed: int, methods: list, say: Callable[[str], None] = print
) -> list[str]:
    """Run a study undisturbed and disturbed; return the files that differ and those left behind."""
    write_dataset(folder / "bids", n, seed, contrasts=("T2star",))
    config = {"dataset": "chaos", "bids_dir": str(folder / "bids"), "contrasts": ["T2star"], "methods": methods}
    rng, work, odd = np.random.default_rng(seed), 0.0, []
    for name in ("calm", *(f"chaos-{number}" for number in range(1, STUDIES + 1))):
        place = folder / name
        place.mkdir()
        (place / "config.yaml").write_text(yaml.safe_dump(config))
        if name == "calm":
            process = snakemake(place)
            wait_for_job(process)
            start = time.monotonic()
            if process.wait():
                raise SystemExit(f"{place}: failed undisturbed; see {place / 'log.txt'}")
            work, expected = time.monotonic() - start, digests(place)
            say(f"undisturbed: {work:.0f} s from its first job on")
            continue
        try:
            landed = disturb(place, work, kills, rng, say)
            say(f"{landed} of {kills} kills landed; then finished by call {finish(place)}")
            found = digests(place)
            left = [str(path) for path in place.rglob(".*") if path.name.endswith("-tmp")]
        finally:
            subprocess.run(["umount", "-l", place / "results"], capture_output=True, check=False)
        differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        say(f"{len(expected)} files compared, {len(differing)} differ, {len(left)} temporary files left")
        odd += [f"{place.name}: {name}" for name in sorted(differing)] + left
        if landed == kills:
            return odd
        work *= SHORTER
    return [*odd, f"no study took {kills} kills before its end"]


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=12)
    parser.add_argument("-kills", type=int, default=5)
    parser.add_argument("-seed", type=int, default=1)
    parser.add_argument("-fast", action="store_true", help="propseg against itself, in place of both methods")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        odd = run_chaos(Path(folder), args.n, args.kills, args.seed, FAST if args.fast else ["propseg", "deepseg"])
        for name in odd:
            print("does not hold:", name)
        return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
