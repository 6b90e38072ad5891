"""``spineseg propseg``: options and their meaning; the work is in `spineseg.propseg.segment`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.cli import segment_images

if TYPE_CHECKING:
    from spineseg.propseg.segment import PropsegParams

SUMMARY = "Segment the spinal cord with a deformable tube that is propagated along the centerline."

BYPRODUCT_FLAGS = {
    "mesh": "write the surface as <img>_mesh.vtk (world coordinates, RAS+, mm)",
    "low-resolution-mesh": "write the surface before refinement as <img>_mesh_low_resolution.vtk",
    "init-tube": "write the initial tube as <img>_init_tube.vtk",
    "centerline-coord": "write the centre of each slice as <img>_centerline.txt (world x y z, mm, from bottom to top)",
    "cross": "write areas across the cord as <img>_cross_sectional_areas.txt (slice, mm²)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    segment_images.add_common_arguments(parser)
    _add_start(parser.add_argument_group("where to start"))
    _add_propagation(parser.add_argument_group("propagation"))
    _add_results(parser.add_argument_group("results"))


def _add_start(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-init-centerline",
        type=Path,
        metavar="FILE",
        help="centerline to follow: NIfTI, CSV or text with x y z per line (voxels); default: found by OptiC",
    )
    group.add_argument(
        "-init-mask",
        type=Path,
        metavar="FILE",
        help="NIfTI with three voxels in the cord, 5 to 15 mm apart along it: start at the middle one, "
        "directions to the others; no centerline is needed then",
    )
    group.add_argument(
        "-init",
        type=float,
        metavar="N",
        help="start of the propagation: fraction of the centerline up to 1, above it a slice (0-based, from below); "
        "default 0.5, or the nearest place where a cord shows",
    )
    group.add_argument(
        "-radius", type=float, default=4.0, metavar="MM", help="approximate radius of the cord, mm; default 4"
    )
    group.add_argument(
        "-detector",
        dest="weights",
        type=Path,
        metavar="FILE",
        help="your own detector for OptiC: a file of spineseg train optic, or a *_model.yml (HOG and linear SVM);"
        " default: the one of the package",
    )


def _add_propagation(group: argparse._ArgumentGroup) -> None:
    options = {
        "-max-area": (float, 120.0, "MM2", "area of the cross-section at which propagation stops, mm²; default 120"),
        "-max-deformation": (float, 2.5, "MM", "mean shift of a new band at which it is not believed, mm; default 2.5"),
        "-min-contrast": (float, 50.0, "C", "least contrast of cord and fluid, 0 to 1000 of the image; default 50"),
        "-d": (float, None, "D", "price of distance, 0 to 50 (more: stay near); default: by the local contrast"),
        "-alpha": (float, 25.0, "A", "stiffness, no unit: how much the shape of the cord before is kept; default 25"),
        "-distance-search": (int, 15, "N", "search for the edge on either side, steps of 0.2 mm; default 15 (3 mm)"),
        "-nbiter": (int, 200, "N", "most bands (6 mm each) per direction; default 200"),
        "-down": (int, None, "K", "lowest slice of the mask, 0-based from below; default: the first"),
        "-up": (int, None, "K", "highest slice of the mask, 0-based from below; default: the last"),
        "-rescale": (float, 1.0, "F", "multiplies the voxel size inside: 2 where a cord is half as thick; default 1"),
    }
    for flag, (kind, default, metavar, text) in options.items():
        group.add_argument(flag, type=kind, default=default, metavar=metavar, help=text)
    group.add_argument(
        "-mask-correction",
        type=Path,
        metavar="FILE",
        help="NIfTI whose voxels lie on the cord's surface: edges within 2 mm of one are moved to it",
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-CSF", action="store_true", help="segment the fluid as well: <img>_CSF_seg.nii.gz")
    group.add_argument(
        "-correct-seg",
        type=int,
        choices=(0, 1),
        default=1,
        metavar="0|1",
        help="1: check each slice against its neighbours, repair or drop what does not fit; default 1",
    )
    for flag, text in BYPRODUCT_FLAGS.items():
        group.add_argument(f"-{flag}", action="store_true", help=text)


def params_from(args: argparse.Namespace) -> PropsegParams:
    """Return the parameters that the options ask for."""
    from spineseg.propseg.segment import PropsegParams

    asked = tuple(name for name in (flag.replace("-", "_") for flag in BYPRODUCT_FLAGS) if getattr(args, name))
    return PropsegParams(
        init=args.init,
        radius_mm=args.radius,
        max_area_mm2=args.max_area,
        max_deformation_mm=args.max_deformation,
        min_contrast=args.min_contrast,
        distance_weight=args.d,
        alpha=args.alpha,
        distance_search=args.distance_search,
        nbiter=args.nbiter,
        down=args.down,
        up=args.up,
        rescale=args.rescale,
        csf=args.CSF,
        correct_seg=bool(args.correct_seg),
        byproducts=("centerline", *asked),
    )


def run(args: argparse.Namespace) -> int:
    """Segment the images."""
    masks = {"correction": args.mask_correction, "init_mask": args.init_mask}
    return segment_images.segment_images(
        args,
        "propseg",
        params_from(args),
        centerline=args.init_centerline,
        masks={name: path for name, path in masks.items() if path},
    )
