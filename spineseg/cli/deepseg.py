"""``spineseg deepseg``: segment the cord by neural networks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.cli import segment_images

if TYPE_CHECKING:
    from spineseg.deepseg.segment import DeepsegParams

SUMMARY = "Segment the spinal cord by neural networks (all contrasts, one model)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    segment_images.add_common_arguments(parser)
    group = parser.add_argument_group("deepseg")
    group.add_argument(
        "-centerline", type=Path, metavar="FILE", help="curve to follow (NIfTI or CSV) in place of a detected one"
    )
    group.add_argument(
        "-thr",
        type=float,
        metavar="P",
        help="probability from which a voxel is cord; default 0.5, for t2 0.45 (SCT's weights: their own)",
    )
    group.add_argument(
        "-kernel", choices=("2d", "3d"), default="2d", help="slices alone, or with their neighbours; default 2d"
    )
    group.add_argument(
        "-mirror",
        type=int,
        choices=(0, 1),
        help="average over two to six views, half of them mirrored; 0: one view, faster; default 1 (SCT's weights: 0)",
    )
    group.add_argument(
        "-weights",
        type=Path,
        metavar="FILE",
        help="other weights: .safetensors, SCT's .h5 or .onnx, or a folder of them",
    )
    group.add_argument("-device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")


def params_from(args: argparse.Namespace) -> DeepsegParams:
    """Return the parameters that the options stand for."""
    from spineseg.deepseg.segment import DeepsegParams

    return DeepsegParams(thr=args.thr, kernel=args.kernel, mirror=None if args.mirror is None else bool(args.mirror))


def run(args: argparse.Namespace) -> int:
    """Segment the images."""
    return segment_images.segment_images(args, "deepseg", params_from(args), centerline=args.centerline)
