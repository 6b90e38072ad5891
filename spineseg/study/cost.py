"""Estimate the cost of a run before it starts: images, jobs, processor time, memory and disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from spineseg.errors import InputError
from spineseg.study.configuration import StudyConfig
from spineseg.study.pace import word_duration
from spineseg.study.standing import MaskCount
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import read_timings

SECONDS = {"propseg": 3.0, "deepseg": 7.0}
"""Time of one core for one image by method; the start-up is shared by the images of a job. It is README.md's 2.2 s and
4.5 s (measured on a fast day with a full field of view), plus about half for slower machines."""

SECONDS_OF_A_PROGRAM = 60.0
"""Time for one image by an external program, whose cost is unknown before the pilot."""

SECONDS_AROUND = 3.0
"""Time of one core to measure, compare and draw one mask."""

START_UP_S = 6.0
"""Time of one core to start one job: Python, libraries, networks."""

JOBS_OF_A_STAGE = 9
"""Jobs that a stage has once: index, tables, decision, kept masks, areas, pages, report."""

MIB_PER_JOB = 3000
"""Memory that a job asks for (rules/inputs.smk), MB."""

KIB_PER_MASK = 400
"""Disk space for one mask with its sidecar, its pictures on the QC page and its rows in tables."""


@dataclass(frozen=True)
class Cost:
    """Cost of the work that remains.

    Parameters
    ----------
    n_images, n_masks, n_done : int
        Images of the stage, masks that it needs, and masks that exist.
    n_jobs : int
        Jobs, about as many as Snakemake will count.
    core_hours : float
    memory_mib : int
        Memory of all jobs that run at the same time.
    disk_mib : int
    measured : tuple of str
        Methods whose time was measured on images that are done; for others it is a rule of thumb.
    """

    n_images: int
    n_masks: int
    n_done: int
    n_jobs: int
    core_hours: float
    memory_mib: int
    disk_mib: int
    measured: tuple[str, ...]

    def lines(self, cores: int, free_mib: int) -> list[str]:
        """Return the cost in a few lines for people."""
        todo = self.n_masks - self.n_done
        if not todo:
            return [f"images: {self.n_images}; masks: {self.n_masks}, all done; tables and pages are updated if needed"]
        basis = f"as measured for {', '.join(self.measured)}" if self.measured else "roughly, until the pilot has run"
        return [
            f"images: {self.n_images}; masks: {self.n_masks} ({self.n_done} done, {todo} to make)",
            f"jobs:   about {self.n_jobs}",
            f"time:   {self.core_hours:.2g} core-hours, {word_duration(3600 * self.core_hours / cores)} on {cores}"
            f" cores ({basis})",
            f"memory: {self.memory_mib / 1024:.1f} GiB for {cores} jobs at a time",
            f"disk:   {self.disk_mib} MiB more; {free_mib} MiB are free in {Path.cwd()}",
        ]


def estimate_cost(folder: StudyFolder, config: StudyConfig, count: MaskCount, cores: int) -> Cost:
    """Estimate the cost of a run.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    count : MaskCount
        Count of the masks that the run needs.
    cores : int
        Jobs that run at the same time.
    """
    wanted = count.wanted
    seconds = _seconds_by_method(folder, config)
    missing = [one for one in wanted if not count.status_of(one)]
    chunks = {(one.method, count.chunk_of.get(one.image.image_id, "")) for one in missing}
    parts = {chunk for _, chunk in chunks}
    copies = 1 + config.decision.perturbations
    busy = 0.0
    for one in missing:
        again = copies if one.image.pilot and config.methods[one.method].kind != "files" else 1
        busy += again * seconds.get(one.method, _unknown(config, one.method)) + SECONDS_AROUND
    n_jobs = len(chunks) + 2 * len(parts) + (JOBS_OF_A_STAGE if missing else 0)
    if config.decision.perturbations:
        n_jobs += len({key for key in chunks if key[1].startswith("pilot")})
    busy += START_UP_S * n_jobs
    at_a_time = max(1, min(cores, len(chunks)))
    return Cost(
        n_images=len({one.image.image_id for one in wanted}),
        n_masks=len(wanted),
        n_done=len(wanted) - len(missing),
        n_jobs=n_jobs,
        core_hours=busy / 3600,
        memory_mib=at_a_time * MIB_PER_JOB if missing else 0,
        disk_mib=-(-len(missing) * KIB_PER_MASK // 1024),
        measured=tuple(name for name in config.methods if name in seconds),
    )


def free_mib(folder: Path) -> int:
    """Return the free space of a folder's disk, MiB."""
    return shutil.disk_usage(folder).free >> 20


def check_space(cost: Cost, folder: Path) -> None:
    """Refuse a run whose results will not fit on the disk.

    Raises
    ------
    InputError
    """
    free = free_mib(folder)
    if free < cost.disk_mib:
        raise InputError(
            f"{folder.resolve()}: expected {cost.disk_mib} MiB of free space for {cost.n_masks - cost.n_done} masks and"
            f" their pictures, found {free}; free space, or put the configuration into a folder of another disk"
        )


def _unknown(config: StudyConfig, method: str) -> float:
    """Return the seconds for one image by a method that has not run here."""
    declared = config.methods[method]
    if declared.kind == "files":
        return 0.0
    return SECONDS.get(declared.kind, SECONDS_OF_A_PROGRAM)


def _seconds_by_method(folder: StudyFolder, config: StudyConfig) -> Mapping[str, float]:
    """Return the mean seconds of the images that are done, by method."""
    means = {}
    for method in config.methods:
        seconds: list[float] = []
        for path in (folder.chunks / method).glob("*.timings.tsv"):
            try:
                seconds += [one.seconds for one in read_timings(path) if one.seconds is not None]
            except InputError:  # it is being written, or damaged; the other files are enough
                continue
        if seconds:
            means[method] = mean(seconds)
    return means
