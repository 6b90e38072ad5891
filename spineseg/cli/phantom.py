"""``spineseg phantom``: a BIDS dataset of synthetic people."""

from __future__ import annotations

import argparse
import json
import sys

SUMMARY = "Write a BIDS dataset of synthetic people: T1w, T2w, T2star and dwi with exact cord masks."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", metavar="DIR", help="dataset's folder, made if missing")
    parser.add_argument("--subjects", "-subjects", type=int, default=8, metavar="N", help="number of people [8]")
    parser.add_argument("--seed", "-seed", type=int, default=1, metavar="S", help="same seed, same bytes [1]")
    parser.add_argument(
        "--contrasts", "-contrasts", nargs="+", metavar="C", help="some of T1w T2w T2star dwi bold [the first four]"
    )
    parser.add_argument(
        "--hard",
        "-hard",
        choices=("some", "none"),
        default="some",
        help="some: every second person is made hard for a method; none: nobody [some]",
    )
    parser.add_argument("--rescan", "-rescan", action="store_true", help="scan everybody in two sessions")
    parser.add_argument(
        "--discs", "-discs", action="store_true", help="also write labels of discs, C1/C2 and below, and levels"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the dataset; one line per image on standard error."""
    from spineseg.errors import InputError
    from spineseg.phantom.dataset import SUFFIXES, write_dataset

    if args.seed < 0:
        raise InputError(f"--seed: expected 0 or more, found {args.seed}")
    images = write_dataset(
        args.folder,
        args.subjects,
        args.seed,
        contrasts=args.contrasts or SUFFIXES,
        hard=args.hard,
        rescan=args.rescan,
        discs=args.discs,
        report=lambda path: print(path, file=sys.stderr),
    )
    if args.json:
        print(json.dumps({"folder": args.folder, "images": [str(path) for path in images]}))
    else:
        print(f"{len(images)} images of {args.subjects} people written to {args.folder}")
    return 0
