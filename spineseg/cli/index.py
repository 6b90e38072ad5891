"""``spineseg index``: list the images of a study once."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "List the images of a BIDS dataset or a table: each is included, or the reason why not is given."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-config", type=Path, metavar="FILE", help="study configuration, YAML or JSON")
    source.add_argument("-bids", type=Path, metavar="DIR", help="a BIDS dataset, with everything else at its default")
    parser.add_argument(
        "-o", type=Path, required=True, metavar="TSV", help="table to write, results/<dataset>/images.tsv"
    )
    parser.add_argument(
        "-chunk-size", type=int, default=10, metavar="N", help="most images that one job takes; default 10"
    )


def run(args: argparse.Namespace) -> int:
    """Write images.tsv, its dictionary, the README and the description of the results."""
    from spineseg.errors import InputError
    from spineseg.study.chunks import load_membership, save_membership
    from spineseg.study.configuration import check_sources, complete_configuration, read_configuration
    from spineseg.study.describe import describe_results, summarise_index
    from spineseg.study.images import write_images
    from spineseg.study.index import index_images

    if args.chunk_size < 1:
        raise InputError(f"-chunk-size: expected 1 or more, found {args.chunk_size}")
    results = args.o.parent
    if args.config:
        config = read_configuration(args.config)
    else:
        name = args.bids.resolve().name
        config = complete_configuration({"dataset": name, "bids_dir": str(args.bids)})
    check_sources(config)
    membership_file = results / "chunks" / "membership.json"
    rows, membership = index_images(config, args.chunk_size, load_membership(membership_file))
    save_membership(membership_file, membership)
    describe_results(results, config, rows)
    write_images(args.o, rows)
    print(summarise_index(rows))
    return 0
