"""``spineseg lock``: hold a study to one method, version, weights and parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = """Begin a study by the decided method, or check that it goes on as it was begun.

Writes study/lock.json in the results folder. A change that the configuration does not accept is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-config", type=Path, required=True, metavar="FILE", help="the study's configuration")
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument("-decision", type=Path, required=True, metavar="JSON", help="decision.json of the dataset")


def run(args: argparse.Namespace) -> int:
    """Check and write the lock."""
    from spineseg.study.configuration import read_configuration
    from spineseg.study.keep import read_decided_method
    from spineseg.study.lock import lock_study

    lock = lock_study(read_configuration(args.config), args.results, read_decided_method(args.decision))
    print(f"the study is by {lock['method']}, version {lock['facts']['version']}")
    return 0
