"""``spineseg centerline``: options and files; the work is in `spineseg.centerline`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spineseg.cli.sct_flags import add_sct_flags
from spineseg.cli.segment_images import parse_contrast
from spineseg.errors import InputError, one_line
from spineseg.parameters import output_file
from spineseg.writing import all_or_none, check_writable, shell_word

if TYPE_CHECKING:
    from spineseg.centerline.curve import Centerline
    from spineseg.centerline.detector import Detector

SUMMARY = "Find the centerline of the cord in an image (optic), or take it from a segmentation (fitseg)."

SUFFIXES = (".nii.gz", ".nii", ".csv")
OUTPUT_SUFFIXES = (".nii.gz", ".csv")

NOT_HERE = {
    "viewer": "there is no viewer here: mark points in FSLeyes or ITK-SNAP, one voxel each, and give the file to"
    " propseg -init-centerline, deepseg -centerline or csa -centerline",
}
"""Methods of SCT that this command does not have, and what to do instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("-i", nargs="+", required=True, type=Path, metavar="IMG", help="one or more NIfTI images")
    parser.add_argument(
        "-c", type=parse_contrast, metavar="CONTRAST", help="t1, t2, t2s or dwi; needed by -method optic"
    )
    parser.add_argument(
        "-method",
        choices=("optic", "fitseg", *NOT_HERE),
        default="optic",
        metavar="optic|fitseg",
        help="optic: detect the cord (default); fitseg: -i are masks, take the middle of each slice",
    )
    parser.add_argument(
        "-o",
        type=output_file,
        metavar="FILE",
        help="file to write, extension optional; for one image only; default: <img>_centerline.nii.gz and .csv in this"
        " folder",
    )
    parser.add_argument("-ofolder", type=Path, metavar="DIR", help="folder to write to, created if missing")
    parser.add_argument(
        "-detector", type=Path, metavar="FILE", help="another detector: .safetensors, or OptiC's OpenCV *_model.yml"
    )
    parser.add_argument(
        "-smooth",
        type=float,
        metavar="MM",
        help="fitseg: smooth away waves of the curve shorter than this, mm; default 20; 0: no smoothing",
    )
    parser.add_argument("-label", type=int, metavar="N", help="fitseg: label of the cord, if masks have several labels")
    parser.add_argument(
        "-extrapolation",
        type=int,
        choices=(0, 1),
        default=0,
        metavar="0|1",
        help="1: extend in straight lines to the first and last slice of the image; default 0",
    )
    parser.add_argument(
        "-centerline-soft",
        type=int,
        choices=(0, 1),
        default=0,
        metavar="0|1",
        help="1: spread each point over its four nearest voxels (float32) so that its position is exact; default 0:"
        " mark one voxel",
    )
    parser.add_argument(
        "-space",
        choices=("pix", "phys"),
        default="pix",
        help="coordinates in the .csv: voxel indices of the file (default), or scanner coordinates in mm (RAS+)",
    )
    parser.add_argument("-qc", type=Path, metavar="DIR", help="add the images to the quality-control page in DIR")
    parser.add_argument("-qc-dataset", metavar="NAME", help="dataset shown in the quality-control page")
    parser.add_argument("-qc-subject", metavar="NAME", help="subject shown in the quality-control page")
    parser.add_argument("-bval", type=Path, metavar="FILE", help="b-values of a 4-D series; default: beside the image")
    parser.add_argument("-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="0: silent; default 1")
    add_sct_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the centerline of each image; return 2 if one could not be used (the others are still processed)."""
    _check_options(args)
    detector = _load_detector(args)
    results = []
    for image in args.i:
        try:
            results.append(_process_image(image, args, detector))
        except InputError as error:
            print(f"spineseg centerline: error: {error}", file=sys.stderr)
            results.append({"image": str(image), "status": "failed", "message": str(error), "files": []})
            continue
        if args.v and not args.json:
            _print_result(image, results[-1])
    if args.qc and any(result["status"] in ("ok", "partial") for result in results):
        from spineseg.report.qc_page import build_index

        page = build_index(args.qc)  # once, after all images have been drawn
        if args.v and not args.json:
            print(f"xdg-open {shell_word(page)}")
    if args.json:
        print(json.dumps(results, indent=2))
    return 2 if any(result["status"] == "failed" for result in results) else 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if args.method in NOT_HERE:
        raise InputError(f"-method {args.method}: expected optic or fitseg; {NOT_HERE[args.method]}")
    if args.method == "optic" and args.c is None:
        raise InputError("-c: expected t1, t2, t2s or dwi for -method optic, found none")
    if args.label is not None and args.method != "fitseg":
        raise InputError(f"-label {args.label}: expected with -method fitseg alone; images have no labels")
    if args.o is not None and len(args.i) > 1:
        raise InputError(f"-o {args.o}: names one file, found {len(args.i)} images; use -ofolder")
    stems = [output_stem(image, args) for image in args.i]
    for position, stem in enumerate(stems):
        if stem in stems[:position]:
            raise InputError(f"{stem}: two of the images would be written there; write them to two folders")
        for suffix in OUTPUT_SUFFIXES:
            check_writable(stem.with_name(f"{stem.name}{suffix}"), *args.i)


def output_stem(image: Path, args: argparse.Namespace) -> Path:
    """Return the path of the output without extension."""
    if args.o is None:
        name = image.name.removesuffix(".gz").removesuffix(".nii")
        return (args.ofolder or Path()) / f"{name}_centerline"
    name = args.o.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    path = args.o.with_name(name)
    return args.ofolder / path if args.ofolder and not path.is_absolute() else path


def _load_detector(args: argparse.Namespace) -> Detector | None:
    from spineseg.centerline.detector import load_detector

    return load_detector(args.c, args.detector) if args.method == "optic" else None


def _process_image(image: Path, args: argparse.Namespace, detector: Detector | None) -> dict[str, Any]:
    """Find and write one centerline; return the result ready for JSON."""
    import numpy as np

    from spineseg.centerline.curve import extend_centerline, save_centerline, save_centerline_csv
    from spineseg.volume import to_canonical

    line, grid = _find_centerline(image, args, detector)
    canonical = to_canonical(np.zeros(grid.shape3, dtype=np.uint8), grid.affine)
    n_slices = canonical.shape[2]
    slices = [int(k) for k in line.slices]
    score = line.score[np.isfinite(line.score)]
    if args.extrapolation and not line.is_empty:
        line = extend_centerline(line, canonical.zooms, np.arange(n_slices))
    stem = output_stem(image, args)
    files = [stem.with_name(f"{stem.name}{suffix}") for suffix in OUTPUT_SUFFIXES]
    with all_or_none():
        save_centerline(files[0], line, grid, soft=bool(args.centerline_soft))
        save_centerline_csv(files[1], line, grid, space=args.space)
    if args.qc and not line.is_empty:
        _add_to_qc(args, image, files[0])
    return {
        "image": str(image),
        "status": "empty" if line.is_empty else "ok" if len(slices) == n_slices else "partial",
        "slices": [slices[0], slices[-1]] if slices else [],
        "n_slices": n_slices,
        "score_median": round(float(np.median(score)), 3) if len(score) else None,
        "files": [str(file) for file in files],
    }


def _add_to_qc(args: argparse.Namespace, image: Path, centerline: Path) -> None:
    """Draw an image with its centerline for the quality-control page."""
    from spineseg.provenance import sha256_file
    from spineseg.report.qc import add_image
    from spineseg.report.review import MethodResult
    from spineseg.volume import load_image, load_mask

    volume, grid = load_image(image, contrast=args.c, bval=args.bval)
    mask = load_mask(centerline, like=grid, any_positive=True)[0].data > 0
    result = MethodResult("centerline", "ok", "", centerline, sha256_file(centerline))
    contrast, more = args.c or "", {"dataset": args.qc_dataset, "subject": args.qc_subject}
    add_image(args.qc, image, volume, grid, mask, result, contrast=contrast, command=args.command_line, **more)


def _find_centerline(image: Path, args: argparse.Namespace, detector: Detector | None) -> tuple[Centerline, Any]:
    """Return the centerline, detected or from the middle of a mask, and the image's grid."""
    from spineseg.centerline.curve import SMOOTHING_MM, centerline_from_mask
    from spineseg.centerline.estimate import estimate_centerline
    from spineseg.volume import load_image, load_mask

    if args.method == "optic":
        volume, grid = load_image(image, contrast=args.c, bval=args.bval)
        return estimate_centerline(volume, args.c, detector=detector), grid
    mask, grid = load_mask(image, label=args.label)
    for note in grid.notes if args.v else ():
        print(f"spineseg centerline: warning: {one_line(note)}", file=sys.stderr)
    smoothing = SMOOTHING_MM if args.smooth is None else args.smooth
    return centerline_from_mask(mask.data, mask.zooms, smoothing_mm=smoothing), grid


def _print_result(image: Path, result: dict[str, Any]) -> None:
    """Print the result, the files and the command that opens them."""
    if result["status"] == "empty":
        print(f"spineseg: warning: {one_line(image)}: no cord found, the centerline is empty", file=sys.stderr)
    elif result["status"] == "partial":
        first, last = result["slices"]
        print(f"  cord in slices {first} to {last} of 0 to {result['n_slices'] - 1} (from below)")
    print(one_line(f"{image.name}: {result['status']}; wrote " + ", ".join(result["files"])))
    print(f"fsleyes {shell_word(image)} -cm greyscale {shell_word(result['files'][0])} -cm red -a 70.0 &")
