"""`spineseg train WHAT`: train the models that the package ships."""

from __future__ import annotations

import argparse
from importlib import import_module

SUMMARY = "train a model from labelled images"

TRAINERS = {
    "optic": "spineseg.cli.train_optic",
    "detect": "spineseg.cli.train_deepseg",
    "segment": "spineseg.cli.train_deepseg",
    "quality": "spineseg.cli.train_quality",
}
"""What can be trained, and the module that does it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command per model."""
    choices = parser.add_subparsers(dest="stage", required=True, metavar="{" + ",".join(TRAINERS) + "}")
    for stage, name in TRAINERS.items():
        module = import_module(name)
        sub = choices.add_parser(stage, help=module.SUMMARY, description=module.SUMMARY)
        module.add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    """Hand over to the trainer that was chosen."""
    return import_module(TRAINERS[args.stage]).run(args)
