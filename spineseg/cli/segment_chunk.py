"""``spineseg segment``: one chunk of a study's images, one method."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.cli.study_folder import add_folder, study_config, study_folder

SUMMARY = "Segment a chunk of a study's images with one method and write the chunk's manifest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-method", metavar="NAME", help="a method of the configuration")
    which.add_argument("-decision", type=Path, metavar="JSON", help="take the method that this decision keeps")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-chunk", metavar="ID", help="chunk of images, such as pilot-0001")
    what.add_argument(
        "-exceptions",
        action="store_true",
        help="the images that the configuration excepts, by their own methods; writes study/exceptions.json",
    )
    parser.add_argument("-device", default="auto", choices=("auto", "cpu", "cuda"), help="deepseg only; default auto")
    parser.add_argument("-threads", type=int, default=0, metavar="N", help="CPU threads; default: all this job may use")


def run(args: argparse.Namespace) -> int:
    """Segment the chunk, write its timings and then its manifest."""
    from spineseg.cli.segment_images import available_threads
    from spineseg.errors import InputError
    from spineseg.study.segment import segment_chunk, segment_exceptions
    from spineseg.studyfolder.decisions import decided_method, write_exceptions
    from spineseg.studyfolder.manifests import write_manifest, write_timings

    folder, config = study_folder(args), study_config(args)
    name = decided_method(args.decision) if args.decision else args.method
    if name not in config.methods:
        listed = ", ".join(config.methods)
        raise InputError(f"method {name!r}: expected one of {listed}; others are declared by -config")
    threads = available_threads(args.threads)
    if args.exceptions:
        chosen = config.exceptions_to(name)
        write_exceptions(folder, segment_exceptions(folder, chosen, config.methods, name, threads=threads))
        return 0
    method = config.methods[name].prepare(device=args.device, threads=threads)
    manifest, timings = segment_chunk(folder, method, args.chunk)
    write_timings(folder.chunk_timings(name, args.chunk), timings)
    write_manifest(folder.manifest(name, args.chunk), manifest)
    return 0
