"""``spineseg perturb``: run a method again on slightly changed images and compare."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = """Run a method again on slightly changed copies of a chunk's images and say how far it agrees with itself.

Each copy has noise of 2 %, a turn of 1 degree, a shift of half a voxel and a bias field of 10 %."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-config", type=Path, required=True, metavar="FILE", help="the study's configuration")
    parser.add_argument("-table", type=Path, required=True, metavar="TSV", help="the study's images.tsv")
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    parser.add_argument("-method", required=True, metavar="NAME", help="a method of the configuration")
    parser.add_argument("-chunk", required=True, metavar="ID", help="chunk of images, column chunk of the table")
    parser.add_argument("-manifest", type=Path, required=True, metavar="JSON", help="file to write")
    parser.add_argument(
        "-n", type=int, metavar="N", help="copies of each image; default: decision.perturbations of the configuration"
    )
    parser.add_argument("-threads", type=int, default=0, metavar="N", help="CPU threads; default: all this job may use")


def run(args: argparse.Namespace) -> int:
    """Segment the changed images, write the chunk's agreements."""
    from spineseg.cli.segment_images import available_threads
    from spineseg.decision.params import params_from_config
    from spineseg.errors import InputError
    from spineseg.study.configuration import read_configuration
    from spineseg.study.declared import declared_methods, prepare_declared
    from spineseg.study.perturb import perturb_chunk
    from spineseg.writing import write_json

    config = read_configuration(args.config)
    declared = declared_methods(config)
    if args.method not in declared or declared[args.method].kind == "files":
        raise InputError(f"-method: expected a method that can be run again, found {args.method!r}")
    n = params_from_config(config["decision"]).perturbations if args.n is None else args.n
    if n < 1:
        raise InputError(f"-n: expected 1 or more, found {n}")
    method = prepare_declared(declared[args.method], threads=available_threads(args.threads))
    images = perturb_chunk(args.table, args.results, method, args.chunk, n)
    write_json(args.manifest, {"method": args.method, "chunk": args.chunk, "n": n, "images": images})
    return 0
