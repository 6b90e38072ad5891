"""``spineseg index``: list the images of a study."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "List the images of a BIDS dataset or a table. Images that are left out are listed with the reason."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-config", type=Path, metavar="FILE", help="study configuration, YAML or JSON")
    source.add_argument("-bids", type=Path, metavar="DIR", help="a BIDS dataset, to use with the default configuration")
    parser.add_argument(
        "-results", type=Path, required=True, metavar="DIR", help="results folder of the dataset, created if missing"
    )
    parser.add_argument(
        "-chunk-size", type=int, default=10, metavar="N", help="largest number of images per job; default 10"
    )


def run(args: argparse.Namespace) -> int:
    """Write images.tsv, its dictionary, the README and the description of the results."""
    from spineseg.decision.plan import Scope, fix_plan
    from spineseg.errors import InputError
    from spineseg.file_digests import FileDigests
    from spineseg.study.configuration import make_configuration, read_configuration
    from spineseg.study.describe import describe_results
    from spineseg.study.index import (
        check_columns,
        digest_sources,
        find_idle_exclusions,
        find_pilot_gaps,
        find_unlisted_people,
        find_unseen_strata,
        index_images,
        summarise_index,
    )
    from spineseg.study.lock import find_frozen_pilot
    from spineseg.study.sources import check_sources, describe_references, list_references
    from spineseg.studyfolder.decisions import find_membership, write_membership
    from spineseg.studyfolder.images import write_images
    from spineseg.studyfolder.layout import StudyFolder
    from spineseg.studyfolder.references import write_references

    if args.chunk_size < 1:
        raise InputError(f"-chunk-size: expected 1 or more, found {args.chunk_size}")
    folder = StudyFolder(args.results)
    if args.config:
        config = read_configuration(args.config)
    else:
        config = make_configuration({"dataset": args.bids.resolve().name, "bids_dir": str(args.bids)})
    check_sources(config)
    check_columns(config)
    earlier = find_membership(folder)
    images, membership = index_images(config, args.chunk_size, earlier, find_frozen_pilot(config, folder, earlier))
    digests = FileDigests(folder.file_digests)
    digests.save(folder.file_digests, digest_sources(config, images, digests))
    write_membership(folder, membership)
    is_started = any(any(folder.manifest(method, "any").parent.glob("*.json")) for method in config.methods)
    scope = Scope(list(config.methods), config.reference_kinds)
    fix_plan(folder, config.decision, scope, is_started=is_started)
    references = list_references(config, images)
    write_references(folder.references, references)
    write_images(folder.images, images)
    describe_results(folder, config, images)  # after the tables that it describes
    idle = find_idle_exclusions(config, images) + find_unlisted_people(config, images)
    idle += find_pilot_gaps(config, images)
    idle += [f"warning: nobody in the pilot is of {name}" for name in find_unseen_strata(config, images)]
    print("\n".join([summarise_index(images), *idle, *describe_references(references)]))
    return 0
