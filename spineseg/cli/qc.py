"""``spineseg qc``: make the quality-control page of a study or of one image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spineseg.cli.report import study_view
from spineseg.cli.study_folder import STAGES, study_folder

SUMMARY = """Make the quality-control page.

one image    spineseg qc -i IMG -s SEG -c t2 -p propseg -qc DIR
a study      spineseg qc -results results/DATASET
in parts     spineseg qc -results results/DATASET -chunk ID -manifest FILE   (any number at once)
             spineseg qc -results results/DATASET -index                     (when all parts are done)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    study = parser.add_argument_group("a study")
    study.add_argument("-results", type=Path, metavar="DIR", help="results folder of the dataset")
    study.add_argument("-stage", default="all", choices=STAGES, help="images to show; default all")
    study.add_argument("-o", type=Path, metavar="DIR", help="folder of the page; default: qc in the results folder")
    study.add_argument("-chunk", nargs="+", metavar="ID", help="draw these chunks of images only, without the page")
    study.add_argument(
        "-manifest", type=Path, metavar="JSON", help="with -chunk: write the list of the entries to this file"
    )
    study.add_argument("-index", action="store_true", help="build the page from the entries that have been drawn")
    study.add_argument(
        "-drawn", type=Path, metavar="DIR", help="with -index: folder of the entries, if not that of the page"
    )
    image = parser.add_argument_group("one image")
    image.add_argument("-i", type=Path, metavar="IMG", help="image")
    image.add_argument("-s", type=Path, metavar="SEG", help="its mask")
    image.add_argument("-d", type=Path, metavar="REF", help="a reference mask to show with it")
    image.add_argument("-label", type=int, metavar="N", help="label of the cord, if SEG has several labels")
    image.add_argument("-label-d", type=int, metavar="N", help="label of the cord, if REF has several labels")
    image.add_argument("-c", default="", metavar="CONTRAST", help="t1, t2, t2s or dwi")
    image.add_argument("-p", default="mask", metavar="NAME", help="method that made the mask; default: mask")
    image.add_argument("-qc", type=Path, default=Path("qc"), metavar="DIR", help="folder of the page; default qc")
    image.add_argument(
        "-plane",
        type=str.lower,
        choices=("axial", "sagittal"),
        help="as in SCT; the page always shows every axial slice and the sagittal plane along the cord",
    )
    image.add_argument("-qc-dataset", metavar="NAME", help="dataset shown in the page")
    image.add_argument("-qc-subject", metavar="NAME", help="subject shown in the page")


def run(args: argparse.Namespace) -> int:
    """Draw the images and print which page to open."""
    from spineseg.errors import InputError
    from spineseg.report import qc, qc_page

    if args.i or args.s:
        page = _add_image(args)
    elif args.results is None:
        raise InputError("expected -results DIR for a study, or -i IMG -s SEG for one image, found neither")
    elif args.chunk:
        return _draw_chunks(args)
    else:
        view, folder = study_view(args), _page_folder(args)
        if not args.index:
            qc.render_study(view, folder, command=args.command_line)
        page, missing = qc_page.index_study(view, folder, args.drawn)
        if missing:
            listed = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            print(f"spineseg qc: warning: {len(missing)} images are not drawn yet: {listed}", file=sys.stderr)
    print(f"xdg-open {page}")
    return 0


def _page_folder(args: argparse.Namespace) -> Path:
    """Return the folder of a study's page."""
    from spineseg.studyfolder.layout import Stage

    return args.o or study_folder(args).qc(Stage.ALL)


def _add_image(args: argparse.Namespace) -> Path:
    """Add one image with its mask to a page."""
    from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
    from spineseg.errors import InputError
    from spineseg.report.qc import add_files
    from spineseg.report.qc_page import build_index

    if not (args.i and args.s):
        raise InputError("expected both -i IMG and -s SEG, found one of them")
    contrast = SUFFIX_CONTRAST.get(args.c, args.c)
    if contrast and contrast not in CONTRASTS:
        raise InputError(f"-c: expected one of {', '.join(CONTRASTS)}, found {args.c!r}")
    add_files(
        args.qc,
        args.i,
        args.s,
        method=args.p,
        contrast=contrast,
        reference=args.d,
        label=args.label,
        reference_label=args.label_d,
        dataset=args.qc_dataset,
        subject=args.qc_subject,
        command=args.command_line,
    )
    return build_index(args.qc)


def _draw_chunks(args: argparse.Namespace) -> int:
    """Draw some chunks' images and list their entries, for a workflow to gather."""
    from spineseg.report import qc
    from spineseg.writing import write_json

    folder = _page_folder(args)
    entries = qc.render_study(study_view(args), folder, chunks=args.chunk, command=args.command_line)
    if args.manifest:
        names = [entry.relative_to(folder).as_posix() for entry in entries]
        write_json(args.manifest, {"stage": args.stage, "chunks": args.chunk, "entries": names})
    return 0
