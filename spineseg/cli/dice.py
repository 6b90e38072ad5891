"""``spineseg dice``: compare two masks of one image."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from spineseg.cli.sct_flags import add_sct_flags
from spineseg.errors import InputError
from spineseg.measures import MEASURES
from spineseg.parameters import output_file

SUMMARY = "Compare two masks: Dice, surface distances (mm) and cross-sectional area."

LINES = (
    ("dice", "3D Dice coefficient", ".6f"),
    ("jaccard", "Jaccard index", ".6f"),
    ("precision", "precision (share of -i inside -d)", ".6f"),
    ("recall", "recall (share of -d inside -i)", ".6f"),
    ("dice_labelled", "Dice within the slices of -d", ".6f"),
    ("min_slice_dice", "smallest Dice of a slice with both", ".6f"),
    ("hd_mm", "Hausdorff distance, mm", ".4f"),
    ("hd95_mm", MEASURES["hd95_mm"].heading, ".4f"),
    ("assd_mm", MEASURES["assd_mm"].heading, ".4f"),
    ("nsd", "surface within the tolerance", ".6f"),
    ("nsd_tolerance_mm", MEASURES["nsd_tolerance_mm"].heading, ".4f"),
    ("csa_a_mm2", f"mean CSA of -i, {MEASURES['csa_mean_mm2'].unit}", ".4f"),
    ("csa_b_mm2", f"mean CSA of -d, {MEASURES['csa_mean_mm2'].unit}", ".4f"),
    ("csa_difference_mm2", f"CSA of -i minus -d in common slices, {MEASURES['csa_difference_mm2'].unit}", ".4f"),
    ("volume_difference_pct", "volume of -i minus -d, percent of -d", ".3f"),
)
"""Per line of the output: key in JSON, words on the terminal, number format."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-i", type=Path, required=True, metavar="MASK", help="first mask")
    parser.add_argument("-d", type=Path, required=True, metavar="MASK", help="second mask, on the same grid")
    parser.add_argument("-o", type=output_file, metavar="FILE", help="also write the text (or the JSON) to a file")
    parser.add_argument("-label", type=int, metavar="N", help="label of the cord, if -i has several labels")
    parser.add_argument("-label-d", type=int, metavar="N", help="label of the cord, if -d has several labels")
    parser.add_argument(
        "-tolerance",
        type=float,
        metavar="MM",
        help="tolerance of the surface; default: the larger of 0.5 mm and one in-plane voxel",
    )
    parser.add_argument(
        "-2d-slices",
        dest="per_slice",
        type=int,
        nargs="?",
        const=-1,
        choices=(0, 1, 2),
        metavar="0|1|2",
        help="also print the Dice of each slice along this axis of the file, numbered as in the file; without a number:"
        " of each axial slice, numbered from below",
    )
    parser.add_argument("-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="0: no warnings; default 1")
    add_sct_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON; null where a value is not defined")


def run(args: argparse.Namespace) -> int:
    """Load both masks, compare them, print."""
    import numpy as np

    from spineseg.metrics.compare import describe_pair
    from spineseg.metrics.overlap import compute_slice_dice
    from spineseg.volume import load_mask, to_native
    from spineseg.writing import check_writable, write_text

    if args.o:
        check_writable(args.o, args.i, args.d)
    if args.tolerance is not None and not 0 <= args.tolerance < math.inf:
        raise InputError(f"-tolerance {args.tolerance:g}: expected a length of 0 mm or more")
    first, grid = load_mask(args.i, label=args.label)
    second, second_grid = load_mask(args.d, like=grid, label=args.label_d)
    for note in (*grid.notes, *second_grid.notes) if args.v else ():
        print(f"spineseg dice: warning: {note}", file=sys.stderr)
    values, slice_dice = describe_pair(first.data, second.data, first.zooms, tolerance_mm=args.tolerance)
    if args.per_slice is not None and args.per_slice >= 0:
        slice_dice = compute_slice_dice(
            *(np.moveaxis(to_native(one.data, grid), args.per_slice, 2) for one in (first, second))
        ).tolist()
    if args.json:
        content: dict[str, Any] = {key: _null(value) for key, value in values.items()}
        if args.per_slice is not None:
            content["slice_dice"] = {str(k): _null(v) for k, v in enumerate(slice_dice) if not math.isnan(v)}
        text = json.dumps(content, indent=2) + "\n"
    else:
        text = "".join(f"{words} = {values[key]:{form}}\n" for key, words, form in LINES)
        if args.per_slice is not None:
            text += "2D Dice coefficient by slice:\n"
            text += "".join(f"{k} {value:.6f}\n" for k, value in enumerate(slice_dice) if not math.isnan(value))
    print(text, end="")
    if args.o:
        write_text(args.o, text)
    return 0


def _null(value: float) -> float | None:
    """Return None for NaN, because JSON has no NaN; otherwise the number rounded to six digits."""
    return None if math.isnan(value) else round(value, 6)
