"""``spineseg train quality``: fit the prediction of a mask's Dice."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "fit the prediction of a mask's Dice, by which masks are flagged and methods compared without references"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "-data",
        required=True,
        type=Path,
        metavar="TSV",
        help="labelled images: columns image contrast reference subject",
    )
    parser.add_argument(
        "-folds",
        required=True,
        type=Path,
        metavar="DIR",
        help="deepseg's networks that have not seen the people of their fold: fold0, fold1, ...",
    )
    parser.add_argument(
        "-recipe",
        type=Path,
        metavar="TSV",
        help="columns subject image table: learn from just these images of the tables, whatever else these hold",
    )
    parser.add_argument("-o", required=True, type=Path, metavar="FILE", help="model to write (.json)")
    parser.add_argument(
        "-phantoms", type=int, default=48, metavar="N", help="synthetic images to learn from; default 48"
    )
    parser.add_argument("-cases", type=Path, metavar="TSV", help="keep the cases there, and use them where still good")
    parser.add_argument("-seed", type=int, default=1, help="of all random draws; default 1")
    parser.add_argument("-jobs", type=int, default=1, metavar="N", help="images worked on at once; default 1")
    parser.add_argument("-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="0: silent; default 1")


def run(args: argparse.Namespace) -> int:
    """Fit and write the model; some minutes per core."""
    from spineseg.training.quality.train import train_quality

    train_quality(
        args.data,
        args.folds,
        args.o,
        n_phantoms=args.phantoms,
        seed=args.seed,
        recipe=args.recipe,
        jobs=args.jobs,
        cases_file=args.cases,
        log=(lambda line: print(line, flush=True)) if args.v else lambda line: None,
    )
    if args.v:
        print(f"wrote {args.o}")
    return 0
