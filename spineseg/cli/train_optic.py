"""``spineseg train optic``: train the OptiC detectors from labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.contrasts import CONTRASTS

SUMMARY = "train the detector of the cord that the centerline is found with"


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
        "-extra",
        nargs="+",
        default=[],
        type=Path,
        metavar="TSV",
        help="more such tables; images named before are not taken twice",
    )
    parser.add_argument(
        "-add",
        nargs=3,
        action="append",
        default=[],
        metavar=("IMG", "MASK", "CONTRAST"),
        help="one more labelled image, such as a template; its slices without mask must hold no cord; repeatable",
    )
    parser.add_argument("-c", nargs="+", choices=CONTRASTS, default=list(CONTRASTS), help="contrasts; default all")
    parser.add_argument(
        "-recipe",
        type=Path,
        metavar="TSV",
        help="columns subject image table: learn from just these images of the tables, whatever else these hold",
    )
    parser.add_argument("-exclude", nargs="+", default=[], metavar="SUBJECT", help="people to leave out")
    parser.add_argument(
        "-ofolder",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for optic_<contrast>.safetensors; default: here",
    )
    parser.add_argument("-seed", type=int, default=0, help="of all random draws; default 0")
    parser.add_argument("-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="0: silent; default 1")


def run(args: argparse.Namespace) -> int:
    """Train and write one file per contrast; minutes on one core."""
    from spineseg.training.optic.fit import TrainingParams
    from spineseg.training.optic.train import train_detectors

    files = train_detectors(
        [args.data, *args.extra],
        args.ofolder,
        added=args.add,
        contrasts=args.c,
        exclude=args.exclude,
        recipe=args.recipe,
        params=TrainingParams(seed=args.seed),
        log=print if args.v else lambda line: None,
    )
    if args.v:
        print("wrote " + ", ".join(map(str, files)))
    return 0
