"""``spineseg keep``: put the kept masks where other tools look for them."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Copy the decided method's masks to derivatives/labels, leaving masks alone that people have corrected."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-table", type=Path, required=True, metavar="TSV", help="the study's images.tsv")
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument("-decision", type=Path, required=True, metavar="JSON", help="decision.json of the dataset")
    parser.add_argument("-stage", choices=("all", "study"), default="all", help="default all")
    parser.add_argument("-config", type=Path, metavar="FILE", help="the study's configuration, for its exceptions")


def run(args: argparse.Namespace) -> int:
    """Keep the masks and list what became of each image."""
    from collections import Counter

    from spineseg.study.configuration import read_configuration
    from spineseg.study.keep import keep_masks, write_kept

    config = read_configuration(args.config) if args.config else None
    rows = keep_masks(args.table, args.results, args.stage, args.decision, config)
    path = write_kept(rows, args.results, args.stage)
    counts = Counter(row["status"] for row in rows)
    print(f"{path}: {', '.join(f'{count} {status}' for status, count in sorted(counts.items()))}")
    for row in rows:
        if row["status"] == "failed" or row["message"].startswith("exception"):
            print(f"{row['status']}: {row['image_id']}: {row['message']}")
    return 0
