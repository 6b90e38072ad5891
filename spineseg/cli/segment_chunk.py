"""``spineseg segment``: one chunk of a study's images, one method."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Segment a chunk of a study's images with one method and write the chunk's manifest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-table", type=Path, required=True, metavar="TSV", help="the study's images.tsv")
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-method", metavar="NAME", help="propseg, deepseg, or a method that the configuration declares")
    which.add_argument("-decision", type=Path, metavar="JSON", help="take the method that this decision keeps")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-chunk", metavar="ID", help="chunk of images, column chunk of the table")
    what.add_argument(
        "-exceptions",
        action="store_true",
        help="the images that the configuration excepts, by their own methods; writes study/exceptions.json",
    )
    parser.add_argument("-manifest", type=Path, metavar="JSON", help="with -chunk: manifest to write")
    parser.add_argument(
        "-config", type=Path, metavar="FILE", help="the study's configuration, which declares methods and options"
    )
    parser.add_argument("-device", default="auto", choices=("auto", "cpu", "cuda"), help="deepseg only; default auto")
    parser.add_argument("-threads", type=int, default=0, metavar="N", help="CPU threads; default: all this job may use")


def run(args: argparse.Namespace) -> int:
    """Read the table, segment the chunk, write the manifest."""
    from spineseg.cli.segment_images import available_threads
    from spineseg.errors import InputError
    from spineseg.study.configuration import complete_configuration, read_configuration
    from spineseg.study.declared import declared_methods, prepare_declared
    from spineseg.study.keep import read_decided_method
    from spineseg.study.segment import segment_chunk, segment_exceptions
    from spineseg.writing import write_json

    if args.chunk and not args.manifest:
        raise InputError("-manifest: expected the manifest to write, found none")
    name = read_decided_method(args.decision) if args.decision else args.method
    config = read_configuration(args.config) if args.config else complete_configuration({"dataset": args.results.name})
    declared = declared_methods(config)
    if name not in declared:
        raise InputError(f"method {name!r}: expected one of {', '.join(declared)}; others are declared by -config")
    threads = available_threads(args.threads)
    if args.exceptions:
        segment_exceptions(config, args.table, args.results, name, threads=threads)
        return 0
    method = prepare_declared(declared[name], device=args.device, threads=threads)
    write_json(args.manifest, segment_chunk(args.table, args.results, method, args.chunk))
    return 0
