"""``spineseg csa``: cross-sectional area and shape of a mask, slice by slice."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

SUMMARY = """Measure cross-sectional area and shape of masks, per slice and on average, as TSV.

Slices count from 0 at the inferior end, whatever the file's orientation. Areas are
corrected for the angle between cord and slice; a slice whose angle is beyond 30 degrees
is flagged in the column 'tilted'. Soft masks count by their partial volumes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-i", type=Path, nargs="+", required=True, metavar="SEG", help="masks, binary or soft")
    parser.add_argument("-o", type=Path, metavar="FILE", help="write the table here instead of printing it")
    parser.add_argument("-z", metavar="A:B", help="slices to use, both ends included, such as 5:23 or 2,5,8:10")
    parser.add_argument("-perslice", type=int, choices=(0, 1), default=1, help="0: mean and SD only; default 1")
    parser.add_argument("-angle-corr", type=int, choices=(0, 1), default=1, help="0: area in the slice; default 1")
    parser.add_argument("-exact", action="store_true", help="project exactly, not by the product of two cosines")
    parser.add_argument("--json", action="store_true", help="print JSON; null where a value is not defined")


def run(args: argparse.Namespace) -> int:
    """Measure each mask, print or write the table."""
    from spineseg.metrics.table import TABLE_COLUMNS, shape_rows, summary_rows
    from spineseg.studyfolder.files import format_table
    from spineseg.writing import write_text

    correction = "none" if not args.angle_corr else "exact" if args.exact else "product"
    rows = []
    for path in args.i:
        slices = shape_rows(path, correction, args.z)
        rows += [*(slices if args.perslice else []), *summary_rows(path, slices)]
    if args.json:
        rows = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
        text = json.dumps(rows, indent=2) + "\n"
    else:
        text = format_table(TABLE_COLUMNS, rows)
    if args.o:
        write_text(args.o, text)
        print(f"wrote {args.o}")
    else:
        print(text, end="")
    return 0
