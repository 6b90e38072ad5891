"""Options that the steps of a study share: the results folder and the configuration in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spineseg.study.configuration import StudyConfig
    from spineseg.studyfolder.layout import StudyFolder

STAGES = ("all", "pilot", "study")
"""Values of `spineseg.studyfolder.layout.Stage`, repeated here so that help does not import that module."""


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the results folder and the configuration."""
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument(
        "-config", type=Path, metavar="FILE", help="the study's configuration; default: study.json in the folder"
    )


def study_folder(args: argparse.Namespace) -> StudyFolder:
    """Return the results folder."""
    from spineseg.studyfolder.layout import StudyFolder

    return StudyFolder(args.results)


def study_config(args: argparse.Namespace) -> StudyConfig:
    """Read the configuration; without one, return the default settings.

    Raises
    ------
    InputError
        If the configuration cannot be used.
    """
    from spineseg.errors import InputError
    from spineseg.study.configuration import make_configuration, read_configuration
    from spineseg.studyfolder.files import MEND

    folder = study_folder(args)
    if args.config:
        return read_configuration(args.config)
    if not folder.configuration.is_file():
        return make_configuration({"dataset": folder.name})
    try:
        return read_configuration(folder.configuration)
    except InputError as error:  # nobody edits this copy, so an error means that it is damaged
        path = folder.configuration
        raise InputError(f"{str(error) if str(path) in str(error) else f'{path}: {error}'}; {MEND}") from error
