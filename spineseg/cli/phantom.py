"""``spineseg phantom``: write a BIDS dataset of synthetic people."""

from __future__ import annotations

import argparse
import json
import sys

SUMMARY = "Write a BIDS dataset of synthetic people: T1w, T2w, T2star and dwi with exact cord masks."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", metavar="DIR", help="folder of the dataset, created if missing")
    parser.add_argument("--subjects", "-subjects", type=int, default=8, metavar="N", help="number of people [8]")
    parser.add_argument(
        "--seed", "-seed", type=int, default=1, metavar="S", help="random seed; the same seed gives the same bytes [1]"
    )
    parser.add_argument(
        "--contrasts", "-contrasts", nargs="+", metavar="C", help="some of T1w T2w T2star dwi bold [the first four]"
    )
    parser.add_argument(
        "--hard",
        "-hard",
        choices=("some", "none"),
        default="some",
        help="some: every second person has a feature that is hard for a method; none: nobody has one [some]",
    )
    parser.add_argument("--rescan", "-rescan", action="store_true", help="scan everybody in two sessions")
    parser.add_argument(
        "--discs", "-discs", action="store_true", help="also write labels of levels and of discs from C1/C2 down"
    )
    parser.add_argument(
        "--center",
        "-center",
        metavar="LEVELS",
        help="levels or disc in the middle of the fields of view, such as C2-C3 or C2/C3; by default T2star and dwi do"
        " not reach these [C4]",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the dataset; print one line per image to standard error."""
    from spineseg.errors import InputError
    from spineseg.phantom.acquisition import TARGET_S_MM
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
        target_s_mm=TARGET_S_MM if args.center is None else _height_of(args.center),
        report=lambda path: print(path, file=sys.stderr),
    )
    if args.json:
        print(json.dumps({"folder": args.folder, "images": [str(path) for path in images]}))
    else:
        print(f"{len(images)} images of {args.subjects} people written to {args.folder}")
    return 0


def _height_of(center: str) -> float:
    """Return the height of the middle of some levels or of a disc, mm, for `make_image`."""
    from spineseg.errors import InputError
    from spineseg.levels.names import level_name, parse_request
    from spineseg.phantom.discs import FIRST_VALUE, LABEL_S_MM, middle_of

    request = parse_request(center)
    places = [*((first, last + 1) for first, last in request.ranges), *((disc, disc) for disc in request.discs)]
    lowest = FIRST_VALUE + len(LABEL_S_MM) - 1
    if len(places) != 1 or request.points or not FIRST_VALUE <= places[0][0] <= places[0][1] <= lowest:
        raise InputError(
            f"--center {center}: expected levels from {level_name(FIRST_VALUE)} to {level_name(lowest - 1)} or a disc "
            "between them, such as C2-C3 or C2/C3"
        )
    return middle_of(*places[0])
