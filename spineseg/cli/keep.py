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


def run(args: argparse.Namespace) -> int:
    """Keep the masks and list what became of each image."""
    from collections import Counter

    from spineseg.study.keep import keep_masks, write_kept

    rows = keep_masks(args.table, args.results, args.stage, args.decision)
    path = write_kept(rows, args.results, args.stage)
    counts = Counter(row["status"] for row in rows)
    print(f"{path}: {', '.join(f'{count} {status}' for status, count in sorted(counts.items()))}")
    for row in rows:
        if row["status"] == "failed":
            print(f"failed: {row['image_id']}: {row['message']}")
    return 0
