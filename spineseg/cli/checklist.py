"""``spineseg checklist``: write a reporting checklist for a paper, filled in from a study's results."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.cli.study_folder import study_folder
from spineseg.parameters import output_file

SUMMARY = "Write a reporting checklist (CLAIM's items on segmentation) filled in from a study's results."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument(
        "-o", type=output_file, metavar="FILE", help="Markdown file; default: checklist.md in the folder"
    )


def run(args: argparse.Namespace) -> int:
    """Write the checklist and name it."""
    from spineseg.report.checklist import write_checklist

    folder = study_folder(args)
    print(write_checklist(folder, args.o or folder.checklist))
    return 0
