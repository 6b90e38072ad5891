"""``spineseg keep``: write the kept masks where other tools look for them."""

from __future__ import annotations

import argparse

from spineseg.cli.study_folder import add_folder, study_config, study_folder

SUMMARY = "Copy the masks of the decided method to derivatives/labels. Masks that people have corrected stay."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-stage", choices=("all", "study"), default="all", help="default all")


def run(args: argparse.Namespace) -> int:
    """Keep the masks and list the result of each image."""
    from collections import Counter

    from spineseg.study.keep import keep_masks
    from spineseg.studyfolder.decisions import read_decision, write_kept
    from spineseg.studyfolder.layout import Stage

    folder, stage = study_folder(args), Stage(args.stage)
    rows = keep_masks(folder, stage, read_decision(folder.decision), study_config(args))
    write_kept(folder.kept(stage), rows)
    counts = Counter(row.status for row in rows)
    print(f"{folder.kept(stage)}: {', '.join(f'{count} {status}' for status, count in sorted(counts.items()))}")
    for row in rows:
        if row.status == "failed" or row.message.startswith("exception"):
            print(f"{row.status}: {row.image_id}: {row.message}")
    return 0
