"""``spineseg measure``: measure and compare the masks of one chunk of a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.cli.study_folder import add_folder, study_config, study_folder

SUMMARY = "Measure the masks of a chunk and compare them with their references and between methods."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-chunk", required=True, metavar="ID", help="chunk of images, such as pilot-0001")
    parser.add_argument("-stage", choices=("all", "study"), default="all", help="whose tables to write; default all")
    parser.add_argument("-methods", nargs="+", required=True, metavar="NAME", help="methods to measure, in this order")
    parser.add_argument(
        "-exceptions", type=Path, metavar="JSON", help="the study's exceptions.json: images kept by another method"
    )
    parser.add_argument(
        "-perturbed",
        type=Path,
        nargs="*",
        default=[],
        metavar="JSON",
        help="files that spineseg perturb wrote for the chunk",
    )


def run(args: argparse.Namespace) -> int:
    """Measure the chunk and write its tables."""
    from spineseg.study.keep import marked_failed
    from spineseg.study.measure import measure_chunk
    from spineseg.studyfolder.decisions import read_exceptions, read_perturbed
    from spineseg.studyfolder.layout import Stage
    from spineseg.studyfolder.locks import find_lock
    from spineseg.studyfolder.tables import write_chunk_tables

    folder, config = study_folder(args), study_config(args)
    exceptions = read_exceptions(args.exceptions) if args.exceptions else None
    perturbed = [read_perturbed(path) for path in args.perturbed]
    stage = Stage(args.stage)
    lock = find_lock(folder) if stage == Stage.STUDY else None
    tables = measure_chunk(
        folder,
        args.chunk,
        args.methods,
        config.plausible,
        exceptions,
        perturbed,
        corrected=stage == Stage.STUDY,
        failed=marked_failed(config, stage),
        kept=lock.kept if lock else None,
    )
    write_chunk_tables(folder, stage, args.chunk, tables)
    return 0
