"""``spineseg gather``: join the chunks' tables and check every file."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Join the tables of all chunks of a stage, after checking every mask against its manifest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-table", type=Path, required=True, metavar="TSV", help="the study's images.tsv")
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument("-stage", choices=("all", "pilot", "study"), default="all", help="default all")
    parser.add_argument("-methods", nargs="+", required=True, metavar="NAME", help="methods of the stage")
    parser.add_argument("-exceptions", type=Path, metavar="JSON", help="the study's exceptions.json")


def run(args: argparse.Namespace) -> int:
    """Check, join, and say where the tables are."""
    from spineseg.study.exceptions import read_exceptions
    from spineseg.study.gather import gather_tables

    exceptions = read_exceptions(args.exceptions)
    print(gather_tables(args.table, args.results, args.stage, args.methods, exceptions))
    return 0
