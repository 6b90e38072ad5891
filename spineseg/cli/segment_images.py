"""Code that the commands propseg and deepseg share: options, file names, the loop over images."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spineseg.cli.sct_flags import add_sct_flags
from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
from spineseg.errors import InputError, SpinesegError, one_line
from spineseg.parameters import output_file
from spineseg.writing import check_writable, file_stem, shell_word

if TYPE_CHECKING:
    from spineseg.methods.protocol import Method
    from spineseg.methods.segment_file import ImageResult, ImageTask
    from spineseg.progress import Progress


def parse_contrast(text: str) -> str:
    """Return one of t1, t2, t2s, dwi; BIDS suffixes such as T2star are accepted."""
    contrast = SUFFIX_CONTRAST.get(text, text)
    if contrast not in CONTRASTS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(CONTRASTS)}, found {text!r}")
    return contrast


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both methods have."""
    files = parser.add_argument_group("images")
    files.add_argument("-i", nargs="+", required=True, metavar="IMG", type=Path, help="one or more NIfTI images")
    files.add_argument(
        "-c",
        required=True,
        type=parse_contrast,
        metavar="CONTRAST",
        help="t1, t2, t2s or dwi; for others the one that looks most similar (cord darker than the fluid: t2)",
    )
    files.add_argument("-bval", type=Path, metavar="FILE", help="b-values of a 4-D series; default: beside the image")
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o",
        type=output_file,
        metavar="FILE",
        help="mask to write, for one image only; default: <img>_seg.nii.gz in this folder",
    )
    out.add_argument(
        "-ofolder", type=Path, metavar="DIR", help="folder for the masks, created if missing; default: this folder"
    )
    out.add_argument(
        "-soft",
        nargs="?",
        const=1,
        default=0,
        type=int,
        choices=(0, 1),
        metavar="0|1",
        help="1: write values between 0 and 1 (float32) instead of a binary mask; default 0",
    )
    out.add_argument(
        "-overwrite",
        type=int,
        choices=(0, 1),
        default=0,
        metavar="0|1",
        help="1: replace an existing mask even if it was edited or another program wrote it; default 0",
    )
    out.add_argument("-qc", type=Path, metavar="DIR", help="add the images to the quality-control page in DIR")
    out.add_argument("-qc-dataset", metavar="NAME", help="dataset shown in the quality-control page")
    out.add_argument("-qc-subject", metavar="NAME", help="subject shown in the quality-control page")
    out.add_argument("-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="0: silent; default 1")
    out.add_argument("--json", action="store_true", help="print the results as JSON")
    add_sct_flags(parser)
    parser.add_argument("-threads", type=int, default=0, metavar="N", help="CPU threads; default: all this job may use")


def available_threads(asked: int) -> int:
    """Return the requested number of threads; for 0, the number of cores that this process may run on.

    Raises
    ------
    InputError
        If it is negative.
    """
    if asked < 0:
        raise InputError(f"-threads: expected 0 or more, found {asked}")
    return asked or len(os.sched_getaffinity(0))


def output_path(image: Path, args: argparse.Namespace) -> Path:
    """Return the mask's path: -o, or <img>_seg.nii.gz in -ofolder or the current folder."""
    if args.o is None:
        return (args.ofolder or Path()) / f"{file_stem(image)}_seg.nii.gz"
    path = args.o if args.o.name.endswith((".nii", ".nii.gz")) else args.o.with_name(f"{args.o.name}.nii.gz")
    return args.ofolder / path if args.ofolder and not path.is_absolute() else path


def segment_images(
    args: argparse.Namespace,
    name: str,
    params: Any,
    *,
    centerline: Path | None = None,
    masks: dict[str, Path] | None = None,
) -> int:
    """Segment every image given with -i and print what was written.

    Parameters
    ----------
    args : argparse.Namespace
        Options of `add_common_arguments` and of the command.
    name : {"propseg", "deepseg"}
    params : dataclass
        Parameters of the method.
    centerline : Path, optional
        Curve to follow, NIfTI or CSV.
    masks : dict of str to Path, optional
        Other files that the user has drawn on the image's grid, by the method's name for them.

    Returns
    -------
    int
        0, or 2 if an image could not be used; the other images are still processed.
    """
    from spineseg.methods.declared import DeclaredMethod
    from spineseg.methods.registry import OWN_METHODS
    from spineseg.methods.segment_file import ImageTask
    from spineseg.progress import Progress

    outputs = [output_path(image, args) for image in args.i]
    _check_outputs(args, outputs)
    weights = {OWN_METHODS[name].weights_option: str(args.weights)} if args.weights else {}
    method = DeclaredMethod(name, name, options=weights).prepare(
        device=getattr(args, "device", "cpu"), threads=available_threads(args.threads), params=params
    )
    progress = Progress(len(args.i), verbosity=args.v)
    tasks = [
        ImageTask(image, output, args.c, args.bval, centerline, masks or {}, bool(args.soft))
        for image, output in zip(args.i, outputs, strict=True)
    ]
    results = [_segment_one(args, task, method, progress) for task in tasks]
    if args.qc and any(result["status"] != "failed" for result in results):
        from spineseg.report.qc_page import PAGE, build_index

        build_index(args.qc)  # once, after all images have been drawn
        if args.v and not args.json:
            print(f"xdg-open {shell_word(args.qc / PAGE)}")
    if args.json:
        print(json.dumps(results, indent=2))
    return 2 if any(result["status"] == "failed" for result in results) else 0


def _segment_one(args: argparse.Namespace, task: ImageTask, method: Method, progress: Progress) -> dict[str, Any]:
    """Segment one image, print the result and return it ready for JSON."""
    from spineseg.methods.segment_file import segment_file

    try:
        result = segment_file(task, method, progress)
    except SpinesegError as error:
        progress.end_image("failed")
        print(f"spineseg {method.name}: error: {error}", file=sys.stderr)
        return {"image": str(task.image), "status": "failed", "message": str(error), "files": []}
    page = _add_to_qc(args, result) if args.qc else None
    if not args.json:
        _print_result(args, result)
    return {
        "image": str(task.image),
        "status": result.sidecar.status,
        "message": result.sidecar.message,
        "warnings": list(result.sidecar.notes),
        "files": [str(file) for file in result.files],
        "seconds": result.sidecar.seconds,
        "qc": str(page) if page else None,
    }


def _check_outputs(args: argparse.Namespace, outputs: list[Path]) -> None:
    """Refuse outputs that would overwrite each other, the input, or a mask that a person has edited."""
    from spineseg.studyfolder.corrections import is_corrected

    if args.o is not None and len(args.i) > 1:
        raise InputError(f"-o {args.o}: names one file, found {len(args.i)} images; use -ofolder")
    for position, path in enumerate(outputs):
        if path in outputs[:position]:
            raise InputError(f"{path}: two of the images would be written there; segment them into two folders")
        check_writable(path, *args.i)
        if not args.overwrite and is_corrected(path):
            raise InputError(
                f"{path}: expected no mask, or one as spineseg wrote it, found one that was changed since or that"
                " another program wrote; -overwrite 1 replaces it, -o or -ofolder keeps both"
            )
    if args.qc:
        check_writable(args.qc / "index.html")


def _add_to_qc(args: argparse.Namespace, result: ImageResult) -> Path:
    """Draw one image for the QC page from the arrays in memory; return the page's path (it is built at the end)."""
    from spineseg.report.pictures import MASK_THRESHOLD
    from spineseg.report.qc import add_image
    from spineseg.report.qc_page import PAGE
    from spineseg.report.review import MethodResult

    task, sidecar, image, segmentation = result.task, result.sidecar, result.image, result.segmentation
    if image is None or segmentation is None:  # only a result of another process has neither
        raise TypeError(f"{task.image}: expected the arrays of a segmentation that was just made")
    add_image(
        args.qc,
        task.image,
        image.volume,
        image.grid,
        segmentation.cord_prob >= MASK_THRESHOLD if task.soft else segmentation.cord_mask,
        MethodResult(
            sidecar.method,
            sidecar.status,
            sidecar.message,
            task.output,
            sidecar.mask_sha256,
            sidecar.seconds,
            sidecar.peak_mb,
            sidecar.notes,
        ),
        contrast=args.c,
        dataset=args.qc_dataset,
        subject=args.qc_subject,
        command=args.command_line,
    )
    return Path(args.qc) / PAGE


def _print_result(args: argparse.Namespace, result: ImageResult) -> None:
    """Print status, files and the line that opens them."""
    task, sidecar = result.task, result.sidecar
    if sidecar.status == "empty":
        print(f"spineseg: warning: {one_line(task.image)}: no cord found, the mask is empty", file=sys.stderr)
    if not args.v:
        return
    for note in sidecar.notes:
        print(f"  {note}")
    print(one_line(f"{task.image.name}: {sidecar.status}; wrote " + ", ".join(map(str, result.files))))
    color = "YlOrRd" if args.soft else "red"
    image, mask = (shell_word(path) for path in (task.image, task.output))
    print(f"fsleyes {image} -cm greyscale {mask} -cm {color} -a 70.0 &")
