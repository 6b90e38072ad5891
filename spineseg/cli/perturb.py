"""``spineseg perturb``: run a method again on slightly changed images and compare."""

from __future__ import annotations

import argparse

from spineseg.cli.study_folder import add_folder, study_config, study_folder

SUMMARY = """Run a method again on slightly changed copies of a chunk's images and measure how well its masks agree.

Each copy has noise of 2 %, a rotation of 1 degree, a shift of half a voxel and a bias field of 10 %."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-method", required=True, metavar="NAME", help="a method of the configuration")
    parser.add_argument("-chunk", required=True, metavar="ID", help="chunk of images, such as pilot-0001")
    parser.add_argument(
        "-n", type=int, metavar="N", help="copies of each image; default: decision.perturbations of the configuration"
    )
    parser.add_argument("-threads", type=int, default=0, metavar="N", help="CPU threads; default: all this job may use")


def run(args: argparse.Namespace) -> int:
    """Segment the changed images and write the agreement of their masks."""
    from spineseg.cli.segment_images import available_threads
    from spineseg.errors import InputError
    from spineseg.study.claim import claimed
    from spineseg.study.perturb import perturb_chunk
    from spineseg.studyfolder.decisions import write_perturbed

    folder, config = study_folder(args), study_config(args)
    if args.method not in config.methods or config.methods[args.method].kind == "files":
        raise InputError(f"-method: expected a method that can be run again, found {args.method!r}")
    n = config.decision.perturbations if args.n is None else args.n
    if n < 1:
        raise InputError(f"-n: expected 1 or more, found {n}")
    method = config.methods[args.method].prepare(threads=available_threads(args.threads))
    target = folder.perturbed(args.method, args.chunk)
    with claimed(target.with_suffix(".claim")):
        write_perturbed(target, perturb_chunk(folder, method, args.chunk, n))
    return 0
