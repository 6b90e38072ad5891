"""``spineseg segment``: segment one chunk of a study's images with one method."""

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
        help="segment the images of a started study that keep another method's mask; writes study/exceptions.json",
    )
    parser.add_argument(
        "-device", default="auto", choices=("auto", "cpu", "cuda"), help="where deepseg computes; default auto"
    )
    parser.add_argument("-threads", type=int, default=0, metavar="N", help="CPU threads; default: all this job may use")


def run(args: argparse.Namespace) -> int:
    """Segment the chunk, write its timings and then its manifest."""
    from spineseg.cli.segment_images import available_threads
    from spineseg.errors import InputError
    from spineseg.study.choices import find_exceptions
    from spineseg.study.claim import claimed
    from spineseg.study.lock import check_study
    from spineseg.study.outcome import stop_if_too_many_failed
    from spineseg.study.segment import chunk_images, except_entry
    from spineseg.study.worker import Segmenter
    from spineseg.studyfolder.decisions import Exceptions, decided_method, write_exceptions
    from spineseg.studyfolder.images import read_included
    from spineseg.studyfolder.locks import KeptMethods, find_lock
    from spineseg.studyfolder.manifests import Manifest, write_manifest, write_timings

    folder, config = study_folder(args), study_config(args)
    name = decided_method(args.decision) if args.decision else args.method
    if name not in config.methods:
        listed = ", ".join(config.methods)
        raise InputError(f"method {name!r}: expected one of {listed}; others are declared by -config")
    check_study(config, folder, to_study=False)
    threads = available_threads(args.threads)
    if args.exceptions:
        lock = find_lock(folder)
        kept = lock.kept if lock else KeptMethods(name)
        images = read_included(folder.images)
        chosen = find_exceptions(config, kept, images)
        images = [image for image in images if image.image_id in chosen]
        entries = []
        for other in dict.fromkeys(chosen[image.image_id].method for image in images):
            own = [image for image in images if chosen[image.image_id].method == other]
            _, found, _ = Segmenter(folder, config.method_named(other), args.device, threads).run(own)
            instead_of = {image.image_id: str(kept.of(image.contrast)) for image in own}
            entries += [except_entry(e, chosen[e.image_id], instead_of[e.image_id]) for e in found]
        write_exceptions(folder, Exceptions(kept.words(), tuple(entries)))
        return 0
    manifest = folder.manifest(name, args.chunk)
    with claimed(manifest.with_suffix(".claim")):
        stop_if_too_many_failed(folder, config, name)
        images = chunk_images(folder, args.chunk)
        made_by, entries, timings = Segmenter(folder, config.methods[name], args.device, threads).run(images)
        write_timings(folder.chunk_timings(name, args.chunk), timings)
        write_manifest(manifest, Manifest(folder.name, name, args.chunk, made_by, tuple(entries)))
    return 0
