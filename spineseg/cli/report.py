"""``spineseg report``: the study on one page, with its figures."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Write the report of a study: the decision and why, the evidence, figures, every image, what to do next."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument("-stage", default="all", choices=("all", "pilot", "study"), help="tables to show; default all")
    parser.add_argument("-o", type=Path, metavar="HTML", help="report to write; default report.html in the folder")
    parser.add_argument("-decision", type=Path, metavar="JSON", help="default: decision.json in the results folder")
    parser.add_argument("-figures", type=Path, metavar="DIR", help="folder of the figures; default: beside the report")
    parser.add_argument("-qc", type=Path, metavar="DIR", help="quality control to link to; default: beside the report")


def run(args: argparse.Namespace) -> int:
    """Write the report and say how to open it."""
    from spineseg.report.page import ReportPaths, write_report

    page = args.o or args.results / "report.html"
    paths = ReportPaths(
        args.results,
        page,
        args.figures or page.parent / "figures",
        args.qc or page.parent / "qc",
        args.decision or args.results / "decision.json",
    )
    print(f"xdg-open {write_report(paths, args.stage)}")
    return 0
