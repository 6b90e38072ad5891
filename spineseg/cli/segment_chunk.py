"""``spineseg segment``: one chunk of a study's images, one method."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "Segment a chunk of a study's images with one method and write the chunk's manifest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-table", type=Path, required=True, metavar="TSV", help="the study's images.tsv")
    parser.add_argument("-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-method", metavar="NAME", help="propseg or deepseg")
    which.add_argument("-decision", type=Path, metavar="JSON", help="take the method that this decision keeps")
    parser.add_argument("-chunk", required=True, metavar="ID", help="chunk of images, column chunk of the table")
    parser.add_argument("-manifest", type=Path, required=True, metavar="JSON", help="manifest to write")
    parser.add_argument("-params", type=Path, metavar="JSON", help="parameters of the methods, by method and name")
    parser.add_argument("-device", default="auto", choices=("auto", "cpu", "cuda"), help="deepseg only; default auto")
    parser.add_argument("-threads", type=int, default=0, metavar="N", help="CPU threads; default: all this job may use")


def run(args: argparse.Namespace) -> int:
    """Read the table, segment the chunk, write the manifest."""
    from spineseg.cli.segment_images import available_threads
    from spineseg.errors import InputError
    from spineseg.methods import params_from_dict, prepare_method
    from spineseg.study.segment import segment_chunk
    from spineseg.writing import write_json

    name = args.method
    if args.decision:
        name = json.loads(args.decision.read_text())["method"]
        if name is None:
            raise InputError(f"{args.decision}: keeps no method; set override in the config to choose one by hand")
    params = json.loads(args.params.read_text()).get(name, {}) if args.params else {}
    method = prepare_method(
        name, params_from_dict(name, params), device=args.device, threads=available_threads(args.threads)
    )
    write_json(args.manifest, segment_chunk(args.table, args.results, method, args.chunk))
    return 0
