"""``spineseg lock``: hold a study to one method, code, weights and parameters."""

from __future__ import annotations

import argparse

from spineseg.cli.study_folder import add_folder, study_config, study_folder

SUMMARY = """Start a study by the decided method, or by one for each contrast, or check that
it goes on as it was started.

Writes study/lock.json in the results folder. A change that the configuration does not accept is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-check", action="store_true", help="only check, before the decision is there; write nothing")


def run(args: argparse.Namespace) -> int:
    """Check, and write the lock."""
    from spineseg.study.lock import check_study, lock_study
    from spineseg.studyfolder.decisions import read_decision

    folder = study_folder(args)
    if args.check:
        check_study(study_config(args), folder, to_study=True)
        return 0
    lock = lock_study(study_config(args), folder, read_decision(folder.decision).kept)
    print(f"the study is by {lock.kept.words()}")
    for method, made in lock.made_by.items():
        print(f"{method}: version {made.version}, code {made.code[:12]}")
    return 0
