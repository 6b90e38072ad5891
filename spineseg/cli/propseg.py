"""``spineseg propseg``: options and their meaning; the work is in `spineseg.propseg.segment`."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.cli import segment_images

SUMMARY = "Segment the spinal cord with a deformable tube that is propagated along the centerline."

BYPRODUCT_FLAGS = {
    "mesh": "write the surface as <img>_mesh.vtk (world coordinates, RAS+, mm)",
    "low-resolution-mesh": "write the surface before refinement as <img>_mesh_low_resolution.vtk",
    "init-tube": "write the initial tube as <img>_init_tube.vtk",
    "centerline-coord": "write the centre of each slice as <img>_centerline.txt (world x y z, mm, from bottom to top)",
    "cross": "write areas across the cord as <img>_cross_sectional_areas.txt (slice, mm²)",
}

DRAWINGS = {
    "-init-centerline": "centerline to follow: NIfTI, CSV or text with x y z per line (voxels); default: found by"
    " OptiC",
    "-init-mask": "NIfTI with three voxels in the cord, 5 to 15 mm apart along it: the tube starts at the middle one,"
    " the others give its two directions; no centerline is needed",
    "-mask-correction": "NIfTI with voxels on the cord's surface: edges within 2 mm of one are moved to it",
}
"""Options for files that the user has drawn on the image's grid, with their help."""


NOT_FILES = {
    "viewer": "there is no viewer here: mark points in FSLeyes or ITK-SNAP, one voxel each, and give that file",
    **dict.fromkeys(
        ("hough", "svm", "optic", "cnn"), "without -init-centerline the cord is found by OptiC, so leave it out"
    ),
}
"""Words that SCT accepts in place of a file, and what to do here instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command; the parameters of the method give their own options."""
    from spineseg.parameters import add_flags
    from spineseg.propseg.parameters import PropsegParams

    segment_images.add_common_arguments(parser)
    add_flags(parser, PropsegParams)
    files = parser.add_argument_group("files to start from")
    for flag, text in DRAWINGS.items():
        files.add_argument(flag, type=Path, metavar="FILE", help=text)
    files.add_argument(
        "-detector",
        dest="weights",
        type=Path,
        metavar="FILE",
        help="your own detector for OptiC: a file of spineseg train optic, or a *_model.yml (HOG and linear SVM);"
        " default: the one of the package",
    )
    further = parser.add_argument_group("further files to write")
    for name, text in BYPRODUCT_FLAGS.items():
        further.add_argument(f"-{name}", action="store_true", help=text)


def run(args: argparse.Namespace) -> int:
    """Segment the images."""
    from spineseg.errors import InputError
    from spineseg.parameters import params_from_args
    from spineseg.propseg.parameters import PropsegParams

    for flag, path in (("-init-centerline", args.init_centerline), ("-init-mask", args.init_mask)):
        if why := NOT_FILES.get(str(path)):
            raise InputError(f"{flag} {path}: expected a file; {why}")
    asked = tuple(name for name in (flag.replace("-", "_") for flag in BYPRODUCT_FLAGS) if getattr(args, name))
    masks = {"correction": args.mask_correction, "init_mask": args.init_mask}
    return segment_images.segment_images(
        args,
        "propseg",
        params_from_args(PropsegParams, args, byproducts=("centerline", *asked)),
        centerline=args.init_centerline,
        masks={name: path for name, path in masks.items() if path},
    )
