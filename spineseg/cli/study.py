"""``spineseg study ACTION``: a whole study by one command, from any folder."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from contextlib import nullcontext
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from spineseg.study.configuration import StudyConfig
    from spineseg.study.standing import MaskCount
    from spineseg.studyfolder.layout import Stage, StudyFolder

SUMMARY = """Run a study: first 'init', then 'pilot', then 'run'.

The configuration is study.yaml in this folder unless -config names another. Results and logs lie in its folder."""

ACTIONS = {
    "init": "look at a dataset and write a commented configuration",
    "plan": "estimate what a run will cost: images, jobs, time, memory, disk; nothing runs",
    "pilot": "run every method on the pilot, then decide and write the pages",
    "run": "everyone by the chosen method: areas, pages, report; runs the pilot first if it is missing",
    "status": "show the progress of the study, and what to do next",
    "report": "update the pages and the report, and print where they are",
}
"""Action to its line in the help."""

DEFAULT = "study.yaml"
"""Name of the configuration if -config is not given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command per action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{" + ",".join(ACTIONS) + "}")
    for action, summary in ACTIONS.items():
        sub = actions.add_parser(action, help=summary, description=summary)
        if action == "init":
            sub.add_argument("bids", type=Path, metavar="BIDS", help="folder of the dataset, with folders sub-*")
            names = ("-o", "-config", "--config")
            text = f"configuration to write; default {DEFAULT}"
            sub.add_argument(*names, dest="o", type=Path, default=Path(DEFAULT), metavar="FILE", help=text)
            sub.add_argument(
                "-dataset", "--dataset", metavar="NAME", help="name of the study; default: the folder's name"
            )
            text = "also copy a shipped profile, such as slurm, to profiles/ beside the configuration, to fill in"
            sub.add_argument("-profile", "--profile", metavar="NAME", help=text)
            continue
        text = f"configuration; default {DEFAULT}"
        sub.add_argument(
            "-config", "--config", "--configfile", type=Path, default=Path(DEFAULT), metavar="FILE", help=text
        )
        if action == "status":
            continue
        sub.add_argument("-cores", "--cores", metavar="N", help="processors; default all, or as the profile says")
        text = "how jobs run: slurm, or a folder with a profile.yaml (profiles/README.md)"
        sub.add_argument("-profile", "--profile", default="", metavar="NAME", help=text)
        if action in ("plan", "run"):
            text = "every image by every method, not only by the chosen one"
            sub.add_argument("-all-methods", "--all-methods", action="store_true", help=text)
        if action == "plan":
            sub.add_argument("-pilot", "--pilot", action="store_true", help="the pilot only")
            continue
        text = "first unlock the folder, after a run was killed and while none is running"
        sub.add_argument("-unlock", "--unlock", action="store_true", help=text)
        sub.add_argument(
            "-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="2: all of Snakemake's output"
        )
        text = "options for Snakemake, after --"
        sub.add_argument("extra", nargs="*", metavar="-- OPTION", help=text)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    if args.action == "init":
        return _init(args)
    _refuse_bare_words(getattr(args, "extra", []))
    config, folder = _open_study(args)
    return {"status": _status, "plan": _plan}.get(args.action, _run)(args, config, folder)


def _refuse_bare_words(extra: list[str]) -> None:
    """Raise an error if an extra word is neither an option nor after ``--``.

    This runs before the configuration is looked for: the word may be the configuration, given without -config.
    """
    from spineseg.errors import InputError

    if extra and not extra[0].startswith("-"):
        raise InputError(
            f"{extra[0]}: expected no word here; name a configuration by -config, and put options of Snakemake after --"
        )


def _init(args: argparse.Namespace) -> int:
    """Write a configuration."""
    from spineseg.errors import InputError
    from spineseg.study.draft import draft_configuration
    from spineseg.study.workflow_files import copy_profile
    from spineseg.writing import write_text

    target = args.o / DEFAULT if args.o.is_dir() else args.o
    if target.exists():
        raise InputError(f"{target}: exists already; edit it, or name another file by -o")
    beside = target.parent.resolve()
    bids = args.bids.resolve()
    # a dataset inside the study's folder gets a relative path, so that the two can move together
    shown = bids.relative_to(beside) if bids.is_relative_to(beside) and bids != beside else bids
    text, found = draft_configuration(args.bids, str(shown), args.dataset)
    profile = copy_profile(args.profile, beside) if args.profile else None
    write_text(target, text)
    print("\n".join(found))
    print(f"written: {target}")
    if profile:
        print(f"written: {profile}; write your partition and account into it")
    options = f" -profile {shlex.quote(args.profile)}" if args.profile else ""
    print(f"next:    read {target}, then: {_typed('plan', target)}, {_typed('pilot', target, options)}")
    return 0


def _open_study(args: argparse.Namespace) -> tuple[StudyConfig, StudyFolder]:
    """Read and check the configuration, and change to its folder: its paths are relative to that folder."""
    from spineseg.errors import InputError
    from spineseg.study.configfiles import naming_file
    from spineseg.study.configuration import read_configuration
    from spineseg.study.index import check_before_jobs
    from spineseg.studyfolder.layout import StudyFolder

    if not args.config.is_file():
        found = "a folder" if args.config.is_dir() else "none"
        raise InputError(
            f"{args.config}: expected the study's configuration, found {found}; write one: spineseg study init BIDS,"
            " or name yours by -config"
        )
    args.shown, args.config = args.config, args.config.resolve()
    is_here = args.config.parent == Path.cwd()
    os.chdir(args.config.parent)
    with naming_file(args.shown):
        config = read_configuration(args.config)
    # printed paths must open from the folder in which the command was typed
    folder = StudyFolder((Path() if is_here else Path.cwd()) / "results" / config.dataset)
    with naming_file(args.shown):
        check_before_jobs(config, folder)
    return config, folder


def _typed(action: str, config: Path, options: str = "") -> str:
    """Return a command as the user types it."""
    named = "" if str(config) == DEFAULT else f" -config {shlex.quote(str(config))}"
    return f"spineseg study {action}{named}{options}"


def _command(args: argparse.Namespace) -> Callable[[Stage], str]:
    """Return a function from a stage to the command that runs it, with the options of this call."""
    from spineseg.studyfolder.commands import STAGE_ACTIONS

    profile, cores = getattr(args, "profile", ""), getattr(args, "cores", None)
    options = f" -profile {shlex.quote(profile)}" if profile else f" -cores {cores}" if cores else ""
    return lambda stage: _typed(STAGE_ACTIONS[stage], args.shown, options)


def _plan(args: argparse.Namespace, config: StudyConfig, folder: StudyFolder) -> int:
    """Print the estimated cost of a run."""
    from spineseg.study.cost import estimate_cost, free_mib
    from spineseg.study.index import find_pilot_gaps
    from spineseg.study.standing import list_images
    from spineseg.studyfolder.layout import Stage

    stages = [Stage.PILOT] if args.pilot else [Stage.ALL] if args.all_methods else [Stage.PILOT, Stage.STUDY]
    cores = _cores(args)
    for stage in stages:
        count, method = _count(config, folder, stage)
        cost = estimate_cost(folder, config, count, cores)
        print(f"{_command(args)(stage)}")
        if stage == Stage.STUDY and method is None:
            print(f"  not decided yet; estimated with {list(config.methods)[-1]} for people who are not in the pilot")
        print("\n".join(f"  {line}" for line in cost.lines(cores, free_mib(Path()))))
    for line in find_pilot_gaps(config, list_images(folder, config)[0]):
        print(line)
    return 0


def _status(args: argparse.Namespace, config: StudyConfig, folder: StudyFolder) -> int:
    """Print the progress of the study."""
    from spineseg.errors import InputError
    from spineseg.study.lock import check_study
    from spineseg.study.notices import list_notices
    from spineseg.study.outcome import describe_failures, describe_result
    from spineseg.study.standing import latest_stage
    from spineseg.studyfolder.layout import Stage

    for stage in (Stage.PILOT, Stage.STUDY):
        count, method = _count(config, folder, stage)
        statuses = count.statuses()
        by_status = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items())) or "none yet"
        who = "pilot" if stage == Stage.PILOT else f"study ({method or 'method not decided'})"
        print(f"{who}: {sum(statuses.values())} of {len(count.wanted)} masks ({by_status})")
    reached = latest_stage(folder)
    lines = describe_result(folder, config, reached, _command(args)) if reached else []
    known = [*describe_failures(folder, config), *list_notices(folder, config, reached)]
    try:
        check_study(config, folder, to_study=False)
    except InputError as error:  # masks by other code or settings are not counted above
        known_lines = takewhile(lambda line: not line.startswith("next:"), lines)
        lines = [*known_lines, f"next:    nothing can run until this is resolved: {error}"]
    print("\n".join([*known, *(lines or [f"next:    {_command(args)(Stage.PILOT)}"])]))
    return 0


def _run(args: argparse.Namespace, config: StudyConfig, folder: StudyFolder) -> int:
    """Run a stage and say how it ended."""
    from spineseg.study.cost import check_space, estimate_cost
    from spineseg.study.lock import check_study
    from spineseg.study.notices import list_notices
    from spineseg.study.outcome import GO_ON, describe_failures, describe_result, describe_unfinished
    from spineseg.study.run import DRY_RUN, RunOptions, hold_folder, run_stage, unlock
    from spineseg.study.standing import latest_stage
    from spineseg.study.workflow_files import find_profile
    from spineseg.studyfolder.commands import ACTION, typed_as
    from spineseg.studyfolder.layout import Stage

    if args.action == "report":
        stage = latest_stage(folder) or Stage.PILOT
    elif args.action == "pilot":
        stage = Stage.PILOT
    else:
        stage = Stage.ALL if args.all_methods else Stage.STUDY
    options = RunOptions(args.config, args.cores or "", args.profile, tuple(args.extra))
    if args.profile:
        find_profile(args.profile, Path.cwd())  # a missing profile is reported before anything is written
    check_study(config, folder, to_study=stage == Stage.STUDY)
    count, _ = _count(config, folder, stage)
    check_space(estimate_cost(folder, config, count, _cores(args)), Path())
    is_dry = not DRY_RUN.isdisjoint(args.extra)
    say: Callable[[str], None] = print if args.v and not is_dry else _nothing
    typed = _typed("report", args.shown) if args.action == "report" else _command(args)(stage)
    # a dry run writes nothing, so it may look on while another run is going
    with nullcontext() if is_dry else hold_folder() as holder:
        if args.unlock:
            unlock(stage, options)
        started = _mark_start()
        say(f"{typed}: {len(count.wanted)} masks, results in {folder.root.resolve()}")
        with typed_as(_typed(ACTION, args.shown)):
            end = run_stage(stage, options, folder, config, verbosity=2 if is_dry else args.v, holder=holder)
    failures = describe_failures(folder, config)
    if end.code == 0:
        notices = list_notices(folder, config, stage)
        say("\n".join([*failures, *notices, *describe_result(folder, config, stage, _command(args))]))
        return 0
    if end.is_stopped:
        lines = [f"stopped. {GO_ON}"]
    elif end.is_locked:
        lines = [
            f"{Path.cwd()}: a run was killed, or one by Snakemake or on another machine is using this folder. If none"
            f" is running: {typed} -unlock"
        ]
    else:
        unfinished = describe_unfinished(folder, config, Path("logs") / config.dataset, started)
        refused = [f"the cluster did not take the jobs: {end.refusal}"] if end.refusal else []
        reasons = [*refused, *(unfinished or end.last_lines)]
        lines = [*failures, *reasons, *list_notices(folder, config, stage), GO_ON]
    print("\n".join(lines), file=sys.stderr)
    return 130 if end.is_stopped else 2 if end.is_locked else 1


def _mark_start() -> int:
    """Return the current time of the file system in nanoseconds, to compare with the times of the jobs' logs.

    Raises
    ------
    InputError
        If the configuration's folder, which also holds results and logs, cannot be written to.
    """
    from spineseg.errors import InputError, OutputError
    from spineseg.writing import write_text

    mark = Path(".snakemake") / "spineseg" / "started"
    try:
        write_text(mark, "")
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise InputError(
            f"{Path.cwd()}: expected a folder for results and logs, found one that cannot be written to ({reason}); "
            "put the configuration into a folder that you can write to, and change its paths to match"
        ) from error
    return mark.stat().st_mtime_ns


def _nothing(text: str) -> None:
    """Print nothing."""


def _count(config: StudyConfig, folder: StudyFolder, stage: Stage) -> tuple[MaskCount, str | None]:
    """Return the masks that a stage needs, ready to be counted, and the study's method if it is known."""
    from spineseg.study.standing import MaskCount, coming_methods, list_images, wanted_masks

    images, chunk_of = list_images(folder, config)
    kept = coming_methods(folder, config)
    is_known = kept.method is not None or bool(kept.by_contrast)
    count = MaskCount(folder, config, wanted_masks(images, config, stage, kept), chunk_of, time.time_ns())
    return count, kept.words() if is_known else None


def _cores(args: argparse.Namespace) -> int:
    """Return the number of processors of a run.

    Raises
    ------
    InputError
        If -cores is neither a number above 0 nor ``all``.
    """
    from spineseg.errors import InputError

    if args.cores in (None, "all"):
        return len(os.sched_getaffinity(0))
    if not args.cores.isdigit() or args.cores == "0":
        raise InputError(f"-cores: expected a number of processors or all, found {args.cores!r}")
    return int(args.cores)
