"""Join the tables of all chunks into the study's tables, and check every mask against its manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from spineseg.errors import InputError
from spineseg.study.choices import find_exceptions
from spineseg.study.configuration import StudyConfig
from spineseg.studyfolder.decisions import Exceptions, read_exceptions, read_membership
from spineseg.studyfolder.files import MEND
from spineseg.studyfolder.images import read_images
from spineseg.studyfolder.layout import TABLES, Stage, StudyFolder, stage_images
from spineseg.studyfolder.locks import KeptMethods, find_lock
from spineseg.studyfolder.manifests import (
    ManifestEntry,
    Timing,
    mend_manifest,
    read_entries,
    read_manifest,
    read_timings,
    write_timings,
)
from spineseg.studyfolder.tables import count_filled_slices, join_chunk_tables, read_agreement, read_metrics
from spineseg.writing import sweep


def gather_tables(
    folder: StudyFolder,
    stage: Stage,
    methods: Sequence[str],
    exceptions: Exceptions | None = None,
    kept: KeptMethods | None = None,
) -> None:
    """Write the tables of a stage, rows in the order of ``images.tsv``; delete files that killed runs have left.

    Parameters
    ----------
    folder : StudyFolder
    stage : Stage
    methods : sequence of str
        Methods whose masks must exist.
    exceptions : Exceptions, optional
        Images whose mask is kept by another method.
    kept : KeptMethods, optional
        If given, each image has only the method that is kept for its contrast; by default all methods.

    Raises
    ------
    InputError
        If a mask, an image's row or a chunk's table is missing or differs from its manifest.
    """
    for place, _, _ in os.walk(folder.root):
        sweep(place)
    listed = stage_images(read_images(folder.images), stage)
    images = [image.image_id for image in listed]
    of_method = {
        method: [image.image_id for image in listed if kept is None or kept.of(image.contrast) == method]
        for method in methods
    }
    chunk_of = read_membership(folder).chunks
    order = {image: position for position, image in enumerate(images)}
    timings: list[Timing] = []
    for method, own in of_method.items():
        read_entries(folder, method, own, chunk_of, check=True)
        chunks, named = list(dict.fromkeys(chunk_of[image] for image in own)), set(own)
        check_alike(folder, method, chunks)
        timings += [t for c in chunks for t in read_timings(folder.chunk_timings(method, c)) if t.image_id in named]
    for name in TABLES:
        join_chunk_tables(folder, stage, name, images, chunk_of)
    write_timings(folder.timings(stage), sorted(timings, key=lambda t: (order[t.image_id], methods.index(t.method))))
    again = f"to measure again: rm -r {folder.chunk_table(stage, 'x', 'y').parent}, then run the study again"
    _check_complete(folder, stage, of_method, exceptions.entries if exceptions else {}, again)


def check_tables(folder: StudyFolder, stage: Stage, config: StudyConfig) -> None:
    """Refuse a stage's tables in which rows were lost or duplicated since they were gathered.

    Readers of the tables rely on them as complete.

    Raises
    ------
    InputError
        With the name of the table, and how to restore it.
    """
    listed = stage_images(read_images(folder.images), stage)
    lock = find_lock(folder) if stage == Stage.STUDY else None
    if stage == Stage.STUDY and lock is None:  # tables that a person has put together
        return
    of_method = {
        method: [image.image_id for image in listed if lock is None or lock.kept.of(image.contrast) == method]
        for method in config.methods
    }
    is_excepted = lock is not None and bool(find_exceptions(config, lock.kept, listed))
    excepted = read_exceptions(folder.exceptions).entries if is_excepted else {}
    _check_complete(folder, stage, of_method, excepted, MEND)


def check_alike(folder: StudyFolder, method: str, chunks: Sequence[str]) -> None:
    """Refuse chunks made by different code, parameters or weights, for example on different nodes of a cluster.

    Raises
    ------
    InputError
        With two chunks that differ, and how.
    """
    paths = [folder.manifest(method, chunk) for chunk in chunks]
    first = None
    for path in paths:
        made_by = read_manifest(path).made_by
        first = first or made_by
        if changes := first.changes_to(made_by):
            raise InputError(
                f"{path}: was not made as {paths[0]} ({', '.join(changes)}); such masks cannot be compared;"
                f" {mend_manifest(path)}"
            )


def _check_complete(
    folder: StudyFolder,
    stage: Stage,
    of_method: Mapping[str, Sequence[str]],
    excepted: Mapping[str, ManifestEntry],
    again: str,
) -> None:
    """Refuse tables that lack an image by a method, a pair of methods or a slice of cord, or have one twice."""
    metrics, agreement, slices = (folder.table(stage, name) for name in TABLES)
    rows = read_metrics(metrics)
    found = Counter((row.image.image_id, row.method) for row in rows)
    pairs = [(image, method) for method, own in of_method.items() for image in own]
    expected = Counter(pair for pair in pairs if pair[0] not in excepted)
    expected.update((image, excepted[image].method) for image in {image for image, _ in pairs} & excepted.keys())
    if odd := sorted((expected - found) + (found - expected)):
        image, method = odd[0]
        raise InputError(
            f"{metrics}: expected one row for each image and method; {image} by {method} has {found[odd[0]]}; {again}"
        )

    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(row.image.image_id, []).append(row.method)
    compared = Counter((row.image.image_id, row.method_a, row.method_b) for row in read_agreement(agreement))
    due = Counter((image, a, b) for image, own in methods.items() for a, b in combinations(own, 2))
    if unlike := sorted((due - compared) + (compared - due)):
        image, a, b = unlike[0]
        raise InputError(
            f"{agreement}: expected one row for each image and pair of methods; {image} by {a} and {b} has"
            f" {compared[unlike[0]]}; {again}"
        )

    filled = count_filled_slices(slices)
    for row in rows:
        n, known = filled.pop((row.image.image_id, row.method), 0), row.values.get("n_slices")
        if n != (known or 0):
            raise InputError(
                f"{slices}: expected {known or 0:.0f} slices with cord of {row.image.image_id} by {row.method}, as in"
                f" {metrics.name}, found {n}; {again}"
            )
