"""Join the tables of all chunks into the study's tables, and check every mask against its manifest."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.study.images import read_included
from spineseg.writing import write_text

STAGES = ("all", "pilot", "study")
TABLE_FOLDER = {"all": "tables", "pilot": "pilot/tables", "study": "study/tables"}
"""Stage to the folder of its tables, below the results of the dataset."""

TABLES = ("metrics.tsv", "agreement.tsv", "slices.tsv.gz")


def stage_images(table: str | Path, stage: str) -> list[dict[str, str]]:
    """Return the included images of a stage, in the order of the table."""
    return [row for row in read_included(table) if stage != "pilot" or row["pilot"] == "true"]


def part_path(results: Path, stage: str, chunk: str, name: str) -> Path:
    """Return the table of one chunk; the stages all and pilot share theirs, for they run the same methods."""
    return results / "chunks" / "measures" / ("study" if stage == "study" else "") / f"{chunk}.{name}"


def gather_tables(
    table: str | Path,
    results: str | Path,
    stage: str,
    methods: Sequence[str],
    exceptions: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write the tables of a stage, rows in the order of images.tsv.

    Parameters
    ----------
    table : path
        images.tsv of the study.
    results : path
        The dataset's results folder.
    stage : {"all", "pilot", "study"}
    methods : sequence of str
        Methods whose masks must be there.
    exceptions : mapping, optional
        Image to entry of exceptions.json.

    Returns
    -------
    folder : Path
        Where metrics.tsv, agreement.tsv and slices.tsv.gz now are.

    Raises
    ------
    InputError
        If a mask, an image's row or a chunk's table is missing or differs from what its manifest says.
    """
    results = Path(results)
    images = stage_images(table, stage)
    for method in methods:
        check_masks(results, method, images)
        check_alike(results, method, images)
    folder = results / TABLE_FOLDER[stage]
    for name in TABLES:
        lines = _ordered_lines(images, results, stage, name)
        if name.endswith(".gz"):
            _write_gzip(folder / name, lines)
        else:
            write_text(folder / name, "".join(lines))
    _check_complete(folder / "metrics.tsv", results, images, methods, exceptions or {})
    return folder


def check_alike(results: Path, method: str, images: Iterable[dict[str, str]]) -> None:
    """Refuse chunks that were made by different versions, parameters or weights, as by a cluster's unequal nodes.

    Raises
    ------
    InputError
        Naming two chunks that differ, and in what.
    """
    first: tuple[Path, dict[str, Any]] | None = None
    for chunk in dict.fromkeys(image["chunk"] for image in images):
        path = results / "chunks" / method / f"{chunk}.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        made_by = {key: manifest.get(key) for key in ("version", "parameters_sha256", "weights")}
        first = first or (path, made_by)
        if made_by != first[1]:
            differ = ", ".join(key.partition("_")[0] for key in made_by if made_by[key] != first[1][key])
            raise InputError(
                f"{path}: was made by other {differ} than {first[0]}; such masks do not compare; {_mend(path)}"
            )


def read_manifest(results: Path, method: str, chunk: str) -> dict[str, dict[str, Any]]:
    """Return image to entry of a chunk's manifest.

    Raises
    ------
    InputError
        If the manifest is missing or damaged.
    """
    path = results / "chunks" / method / f"{chunk}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {entry["image_id"]: entry for entry in content["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected the manifest of a chunk, found none that is whole; {_mend(path)}"
        ) from error


def check_masks(results: Path, method: str, images: Iterable[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """Check that every image has its entry and every mask the content that its manifest says.

    Returns
    -------
    entries : dict
        Image to manifest entry, in the order of `images`.

    Raises
    ------
    InputError
        For the first mask that is gone or changed, with the command that mends it.
    """
    manifests: dict[str, dict[str, dict[str, Any]]] = {}
    entries = {}
    for image in images:
        chunk = image["chunk"]
        if chunk not in manifests:
            manifests[chunk] = read_manifest(results, method, chunk)
        path = results / "chunks" / method / f"{chunk}.json"
        entry = manifests[chunk].get(image["image_id"])
        if entry is None:
            raise InputError(f"{path}: has no entry for {image['image_id']}; {_mend(path)}")
        if entry["mask"] is not None:
            _check_mask(results / entry["mask"], entry["mask_sha256"], path)
        entries[image["image_id"]] = entry
    return entries


def _check_mask(mask: Path, expected: str, manifest: Path) -> None:
    """Refuse a mask that is gone or has other content than its manifest says."""
    if not mask.is_file():
        raise InputError(f"{mask}: the mask is in {manifest} but the file is gone; {_mend(manifest)}")
    if sha256_file(mask) != expected:
        raise InputError(
            f"{mask}: the mask has changed since it was made (a corrected mask belongs in derivatives/labels);"
            f" {_mend(manifest)}"
        )


def _mend(manifest: Path) -> str:
    """Return what to do about a manifest that does not hold any more."""
    return f"to redo what is missing: rm {manifest}, then the same snakemake command"


def _ordered_lines(images: list[dict[str, str]], results: Path, stage: str, name: str) -> Iterator[str]:
    """Yield the heading and then each image's lines, whatever chunk they come from."""
    parts: dict[str, dict[str, list[str]]] = {}
    heading = None
    for image in images:
        chunk = image["chunk"]
        if chunk not in parts:
            found, parts[chunk] = _read_part(part_path(results, stage, chunk, name))
            if heading is None:
                heading = found
                yield heading
            if found != heading:
                raise InputError(
                    f"{part_path(results, stage, chunk, name)}: its columns differ from the other chunks';"
                    " delete it and run the same snakemake command"
                )
        yield from parts[chunk].pop(image["image_id"], ())


def _read_part(path: Path) -> tuple[str, dict[str, list[str]]]:
    """Return the heading of a chunk's table and its lines by image."""
    if not path.is_file():
        raise InputError(f"{path}: no such table; run spineseg measure for its chunk")
    try:
        raw = path.read_bytes()
        heading, *lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().splitlines(keepends=True)
        column = heading.rstrip("\n").split("\t").index("image_id")
        by_image: dict[str, list[str]] = {}
        for line in lines:
            by_image.setdefault(line.rstrip("\n").split("\t")[column], []).append(line)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise InputError(f"{path}: not a whole table; delete it and run the same snakemake command") from error
    return heading, by_image


def _check_complete(
    table: Path,
    results: Path,
    images: list[dict[str, str]],
    methods: Sequence[str],
    exceptions: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse a table that lacks an image by a method, or has one twice."""
    with table.open(newline="", encoding="utf-8") as stream:
        found = Counter((row["image_id"], row["method"]) for row in csv.DictReader(stream, delimiter="\t"))
    names = [image["image_id"] for image in images]
    expected = Counter((name, method) for name in names if name not in exceptions for method in methods)
    expected.update((name, exceptions[name]["method"]) for name in names if name in exceptions)
    odd = sorted((expected - found) + (found - expected))
    if odd:
        image, method = odd[0]
        raise InputError(
            f"{table}: expected one row for each image and method; {image} by {method} has {found[odd[0]]};"
            f" to measure anew: rm -r {results / 'chunks' / 'measures'}, then the same snakemake command"
        )


def _write_gzip(path: Path, lines: Iterable[str]) -> None:
    """Write lines compressed, without a time stamp, as they come: the slices of a cohort fill memory otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with (
            os.fdopen(handle, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
        ):
            text.writelines(lines)
        Path(name).chmod(0o644)  # mkstemp makes files that only the owner can read
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
