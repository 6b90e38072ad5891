"""``spineseg deepseg``: segment the cord by neural networks."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.cli import segment_images

SUMMARY = "Segment the spinal cord by neural networks (all contrasts, one model)."


NOT_FILES = {
    "svm": "without -centerline the cord is found by the detector (SCT's svm) and the first network together",
    "cnn": "without -centerline the cord is found by the first network (SCT's cnn) and the detector together",
    "viewer": "there is no viewer here: mark points in FSLeyes or ITK-SNAP, one voxel each, and give that file",
    "file": "give the file itself (SCT: -centerline file -file_centerline FILE)",
}
"""Words that SCT accepts in place of a file, and what to do here instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command; the parameters of the method give their own options."""
    from spineseg.deepseg.parameters import DeepsegParams
    from spineseg.parameters import add_flags

    segment_images.add_common_arguments(parser)
    add_flags(parser, DeepsegParams)
    group = parser.add_argument_group("networks")
    group.add_argument(
        "-centerline", type=Path, metavar="FILE", help="curve to follow (NIfTI or CSV) in place of a detected one"
    )
    group.add_argument(
        "-weights",
        type=Path,
        metavar="FILE",
        help="your own weights: .safetensors, SCT's .h5 or .onnx, or a folder of them; default: those of the package",
    )
    group.add_argument(
        "-device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: a GPU if torch finds one; default auto",
    )


def run(args: argparse.Namespace) -> int:
    """Segment the images."""
    from spineseg.deepseg.parameters import DeepsegParams
    from spineseg.errors import InputError
    from spineseg.parameters import params_from_args

    if str(args.centerline) in NOT_FILES:
        raise InputError(f"-centerline {args.centerline}: expected a file; {NOT_FILES[str(args.centerline)]}")
    return segment_images.segment_images(
        args, "deepseg", params_from_args(DeepsegParams, args), centerline=args.centerline
    )
