"""Run the real workflow in a separate folder."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import yaml

from spineseg.studyfolder.decisions import read_membership
from spineseg.studyfolder.layout import StudyFolder

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


class Study:
    """A working folder with a configuration, in which snakemake is called as users call it."""

    def __init__(self, folder: Path, **keys: object) -> None:
        self.folder = folder
        self.config: dict[str, object] = {"dataset": "tiny"} | keys
        self.results = folder / "results" / str(self.config["dataset"])
        self.snakefile = ROOT / "Snakefile"
        self.environment: dict[str, str] = {}
        self.printed = ""  # output of the run of a fixture

    def command(self, *targets: str, options: tuple[str, ...] = ()) -> list[str]:
        """Write the configuration and return the command line."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        return [
            *(sys.executable, "-m", "snakemake", *targets, "--snakefile", str(self.snakefile)),
            *("--cores", "2", "--configfile", "config.yaml", *options),
        ]

    def call(self, *targets: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Call snakemake and return what it printed, in `stdout`."""
        return subprocess.run(
            self.command(*targets, options=options),
            cwd=self.folder,
            env=clean_environment() | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def run(self, *targets: str, options: tuple[str, ...] = ()) -> str:
        """Call snakemake, expecting success; return what it printed."""
        done = self.call(*targets, options=options)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def plan(self, *targets: str, options: tuple[str, ...] = ()) -> dict[str, int]:
        """Number of jobs by rule that snakemake would run."""
        return count_jobs(self.run(*targets, options=("--dry-run", "--quiet", "rules", *options)))

    def index(self, chunk_size: int | None = None) -> list[dict[str, str]]:
        """Let the workflow write the table of images; return its rows."""
        table = self.results / "images.tsv"
        self.run(f"results/{self.results.name}/images.tsv", options=chunk_option(chunk_size) if chunk_size else ())
        return read_table(table)

    def chunks(self) -> dict[str, str]:
        """Image to chunk."""
        return dict(read_membership(StudyFolder(self.results)).chunks)

    def sidecars(self) -> list[Path]:
        """Sidecars of the methods' masks; the sidecar of an image is its last file."""
        return sorted(self.results.glob("sub-*/**/*_desc-*_label-SC_seg.json"))

    def table(self, name: str, stage: str = "") -> list[dict[str, str]]:
        """Rows of a gathered table."""
        return read_table(self.results / stage / "tables" / name)


def chunk_option(size: int) -> tuple[str, ...]:
    return ("--set-scatter", f"images_per_job={size}")


def clean_environment() -> dict[str, str]:
    """The environment without an activated virtual environment: the workflow must find its own programs."""
    inside = str(Path(sys.executable).parent)
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != inside)
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def count_jobs(output: str) -> dict[str, int]:
    """Read snakemake's table of jobs."""
    if "Job stats:" not in output:
        assert "Nothing to be done" in output, output[-3000:]
        return {}
    lines = iter(output.split("Job stats:", 1)[1].splitlines()[3:])
    counts = {}
    for line in lines:
        if not line.strip():
            break
        name, count = line.split()
        counts[name] = int(count)
    del counts["total"]
    return counts
