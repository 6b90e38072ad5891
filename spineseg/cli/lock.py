"""``spineseg lock``: record the method, code, weights and parameters that a study must use."""

from __future__ import annotations

import argparse

from spineseg.cli.study_folder import add_folder, study_config, study_folder

SUMMARY = """Lock a study to the decided method (or to one method per contrast), or check that
it still matches its lock.

Writes study/lock.json in the results folder. A change that the configuration does not accept is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-check", action="store_true", help="only check; needs no decision, writes nothing")


def run(args: argparse.Namespace) -> int:
    """Check, and write the lock."""
    from spineseg.study.lock import check_study, lock_study
    from spineseg.studyfolder.decisions import read_decision

    folder = study_folder(args)
    if args.check:
        check_study(study_config(args), folder, to_study=True)
        return 0
    lock = lock_study(study_config(args), folder, read_decision(folder.decision).kept)
    print(f"the study uses {lock.kept.words()}")
    for method, made in lock.made_by.items():
        print(f"{method}: version {made.version}, code {made.code[:12]}")
    return 0
