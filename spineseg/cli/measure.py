"""``spineseg measure``: measure and compare the masks of one chunk of a study."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "Measure the masks of a chunk: each alone, against its reference, and method against method."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-table", type=Path, required=True, metavar="TSV", help="the study's images.tsv")
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument("-chunk", required=True, metavar="ID", help="chunk of images, column chunk of the table")
    parser.add_argument("-methods", nargs="+", required=True, metavar="NAME", help="methods to measure, in this order")
    parser.add_argument("-prefix", required=True, metavar="PREFIX", help="writes PREFIX.metrics.tsv and so on")
    parser.add_argument(
        "-bounds", type=Path, metavar="JSON", help="limits of a plausible cord, by name; default: human adults"
    )
    parser.add_argument(
        "-exceptions", type=Path, metavar="JSON", help="the study's exceptions.json: images kept by another method"
    )
    parser.add_argument(
        "-perturbed", type=Path, nargs="*", default=[], metavar="JSON", help="what spineseg perturb wrote of the chunk"
    )


def run(args: argparse.Namespace) -> int:
    """Measure the chunk and write its tables."""
    from spineseg.study.exceptions import read_exceptions
    from spineseg.study.measure import measure_chunk, write_tables
    from spineseg.study.perturb import read_perturbed

    bounds = _read_bounds(args.bounds) if args.bounds else None
    exceptions, perturbed = read_exceptions(args.exceptions), read_perturbed(args.perturbed)
    tables = measure_chunk(args.table, args.results, args.chunk, args.methods, bounds, exceptions, perturbed)
    write_tables(tables, args.prefix)
    return 0


def _read_bounds(path: Path):
    """Read the limits of a plausible cord, refusing names that do not exist."""
    from spineseg.errors import InputError
    from spineseg.metrics.quality import PlausibleBounds

    try:
        return PlausibleBounds(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        known = ", ".join(PlausibleBounds.__dataclass_fields__)
        raise InputError(f"{path}: expected limits by name ({known}); {error}") from error
