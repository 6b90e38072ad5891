"""``spineseg report``: write the report of a study, one page with figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.cli.study_folder import STAGES, study_folder
from spineseg.parameters import output_file

if TYPE_CHECKING:
    from spineseg.report.review import StudyView

SUMMARY = """Write the report of a study: the decision and its reasons, the evidence, figures, all images and the next
step."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument("-stage", default="all", choices=STAGES, help="tables to show; default all")
    parser.add_argument(
        "-o", type=output_file, metavar="HTML", help="report to write; default report.html in the folder"
    )
    parser.add_argument("-decision", type=Path, metavar="JSON", help="default: decision.json in the results folder")
    parser.add_argument("-figures", type=Path, metavar="DIR", help="folder of the figures; default: beside the report")
    parser.add_argument("-qc", type=Path, metavar="DIR", help="quality control to link to; default: beside the report")


def run(args: argparse.Namespace) -> int:
    """Write the report and say how to open it."""
    from spineseg.report.page import ReportPaths, write_report
    from spineseg.study.configuration import read_configuration
    from spineseg.study.gather import check_tables
    from spineseg.study.steps import digest_step
    from spineseg.studyfolder.layout import Stage

    folder = study_folder(args)
    if folder.configuration.is_file():
        check_tables(folder, Stage(args.stage), read_configuration(folder.configuration))
    page = args.o or folder.report(Stage.ALL)
    paths = ReportPaths(page, args.figures or page.parent / "figures", args.qc or page.parent / "qc")
    print(f"xdg-open {write_report(study_view(args, args.decision), paths, digest_step('report'))}")
    return 0


def study_view(args: argparse.Namespace, decision: Path | None = None) -> StudyView:
    """Return the stage to show, with the settings of the study's configuration if the folder has one.

    Raises
    ------
    InputError
        If the configuration is damaged.
    """
    from spineseg.report.review import StudyView
    from spineseg.study.choices import find_exceptions
    from spineseg.study.configuration import read_configuration
    from spineseg.study.participants import read_participants
    from spineseg.studyfolder.images import read_included
    from spineseg.studyfolder.layout import Stage
    from spineseg.studyfolder.locks import KeptMethods

    folder, stage = study_folder(args), Stage(args.stage)
    if not folder.configuration.is_file():
        return StudyView(folder, stage, decision=decision)
    config = read_configuration(folder.configuration)
    methods = tuple(config.methods)
    exceptions = find_exceptions(config, KeptMethods(None), read_included(folder.images))
    people = read_participants(config.bids_dir).cells if config.bids_dir and config.columns else {}
    columns = {name: {subject: cells.get(name, "") for subject, cells in people.items()} for name in config.columns}
    return StudyView(folder, stage, methods, config.plausible, exceptions, config.marks, decision, columns)
