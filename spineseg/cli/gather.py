"""``spineseg gather``: join the chunks' tables and check every file."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.cli.study_folder import STAGES, add_folder, study_folder

SUMMARY = "Join the tables of all chunks of a stage, after checking every mask against its manifest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-stage", choices=STAGES, default="all", help="default all")
    parser.add_argument("-methods", nargs="+", required=True, metavar="NAME", help="methods of the stage")
    parser.add_argument("-exceptions", type=Path, metavar="JSON", help="the study's exceptions.json")


def run(args: argparse.Namespace) -> int:
    """Check, join, and say where the tables are."""
    from spineseg.study.gather import gather_tables
    from spineseg.studyfolder.decisions import read_exceptions
    from spineseg.studyfolder.layout import Stage
    from spineseg.studyfolder.locks import find_lock

    folder, stage = study_folder(args), Stage(args.stage)
    exceptions = read_exceptions(args.exceptions) if args.exceptions else None
    lock = find_lock(folder) if stage == Stage.STUDY else None
    gather_tables(folder, stage, args.methods, exceptions, lock.kept if lock else None)
    print(folder.timings(stage).parent)
    return 0
