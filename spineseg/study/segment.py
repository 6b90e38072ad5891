"""Segment a chunk of a study's images with one method, and say in a manifest what became of each.

An image is a result whatever happens to it: it is finished, or it failed and why. Only what
is no fault of an image (no disk, no memory, no weights) stops the chunk.
"""

from __future__ import annotations

import csv
import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spineseg import __version__
from spineseg.bids import derivative_path
from spineseg.errors import InputError, ModelError
from spineseg.methods import (
    ImageResult,
    ImageTask,
    PreparedMethod,
    describe_result,
    result_from_sidecar,
    segment_file,
    sidecar_path,
)
from spineseg.progress import Progress
from spineseg.provenance import sha256_file, sha256_json
from spineseg.study.declared import declared_methods, prepare_declared
from spineseg.study.exceptions import EXCEPTIONS, exceptions_from, word_exception
from spineseg.templates import image_names
from spineseg.writing import write_json


def read_images(table: str | Path) -> list[dict[str, str]]:
    """Read images.tsv as one dict per row; ``n/a`` becomes an empty string."""
    path = Path(table)
    if not path.is_file():
        raise InputError(f"{path}: no such table of images; run spineseg index first")
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            {key: "" if value == "n/a" else value for key, value in row.items()}
            for row in csv.DictReader(stream, delimiter="\t")
        ]


def segment_chunk(
    table: str | Path, results: str | Path, method: PreparedMethod, chunk: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Segment the included images of one chunk; finished ones are not done again.

    Parameters
    ----------
    table : path
        images.tsv of the study.
    results : path
        The dataset's results folder; masks go below it.
    method : PreparedMethod
    chunk : str
    progress : Progress, optional

    Returns
    -------
    manifest : dict
        dataset, method, chunk, version, parameters, weights and one entry per image.
    """
    results = Path(results)
    rows = [r for r in read_images(table) if r["included"] == "true" and r["chunk"] == chunk]
    return {
        "dataset": results.name,
        "method": method.name,
        "chunk": chunk,
        "version": __version__,
        "parameters": method.parameters,
        "parameters_sha256": sha256_json(method.parameters),
        "weights": method.weights,
        "images": segment_images(rows, results, method, progress),
    }


def segment_images(
    rows: list[dict[str, str]], results: Path, method: PreparedMethod, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Segment images given by their rows of images.tsv; return one entry each. Finished ones are not done again."""
    progress = progress or Progress(len(rows))
    return [_segment_row(row, results, method, progress) for row in rows]


def segment_exceptions(
    config: Mapping[str, Any], table: str | Path, results: str | Path, method: str, *, threads: int = 1
) -> None:
    """Segment the excepted images by their methods and write ``study/exceptions.json``.

    Finished images are not done again. Each entry is that of a chunk's manifest, with the method
    and the words that flag it.

    Parameters
    ----------
    config : dict
        Complete configuration.
    table : path
        images.tsv.
    results : path
    method : str
        The study's method.
    threads : int
    """
    chosen = exceptions_from(config, method)
    declared = declared_methods(config)
    rows = [row for row in read_images(table) if row["included"] == "true" and row["image_id"] in chosen]
    entries = []
    for name in dict.fromkeys(chosen[row["image_id"]]["method"] for row in rows):
        own = [row for row in rows if chosen[row["image_id"]]["method"] == name]
        for entry in segment_images(own, Path(results), prepare_declared(declared[name], threads=threads)):
            words = word_exception(chosen[entry["image_id"]], method)
            entries.append({**entry, "method": name, "exception": words})
    write_json(Path(results) / EXCEPTIONS, {"instead_of": method, "images": entries})


def content_key(row: dict[str, str], method: PreparedMethod) -> str | None:
    """Return a key that changes when the image, the method, its parameters or its weights do."""
    if not Path(row["path"]).is_file():
        return None
    others = method.foreign.files(image_names(row)) if method.foreign else []
    return sha256_json(
        {
            "image": sha256_file(row["path"]),
            **({"masks": [sha256_file(path) for path in others]} if others else {}),
            "bval": sha256_file(row["bval"]) if row.get("bval") and Path(row["bval"]).is_file() else None,
            "contrast": row["contrast"],
            "method": method.name,
            "parameters": method.parameters,
            "weights": method.weights,
            "version": __version__,
        }
    )


def _segment_row(row: dict[str, str], results: Path, method: PreparedMethod, progress: Progress) -> dict[str, Any]:
    """Segment one image, or reuse its finished result; return its manifest entry."""
    mask = results / derivative_path(row, method.name)
    key = content_key(row, method)
    bval = Path(row["bval"]) if row.get("bval") else None
    task = ImageTask(Path(row["path"]), mask, row["contrast"], bval=bval, key=key, names=image_names(row))
    result = _finished_result(task)
    if result is not None:
        progress.start_image(row["image_id"])
        progress.end_image(f"{result.status}, already done")
        return _entry(row, result, mask, results)
    try:
        result = segment_file(task, method, progress)
    except (MemoryError, ModelError):
        raise
    except Exception as error:  # one image must not stop the study; the line and the log say why
        progress.end_image("failed")
        if not isinstance(error, InputError):
            traceback.print_exc(file=sys.stderr)
        message = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        result = _write_failure(task, method, " ".join(message.split()))
    return _entry(row, result, mask, results)


def _write_failure(task: ImageTask, method: PreparedMethod, message: str) -> ImageResult:
    """Leave a sidecar without a mask, so that a rerun knows and a reader sees why."""
    task.output.unlink(missing_ok=True)
    sidecar = describe_result(task, method, "failed", (message,), parameters={})
    write_json(sidecar_path(task.output), sidecar)
    return result_from_sidecar(task, sidecar)


def _finished_result(task: ImageTask) -> ImageResult | None:
    """Return a result that is whole and still good, else None."""
    try:
        sidecar = json.loads(sidecar_path(task.output).read_text())
    except (OSError, ValueError):
        return None
    if task.key is None or sidecar.get("ContentKey") != task.key:
        return None
    if sidecar["Status"] != "failed" and (
        not task.output.is_file() or sha256_file(task.output) != sidecar.get("MaskSHA256")
    ):
        return None
    return result_from_sidecar(task, sidecar)


def _entry(row: dict[str, str], result: ImageResult, mask: Path, results: Path) -> dict[str, Any]:
    """Return the manifest entry of one image."""
    return {
        "image_id": row["image_id"],
        "status": result.status,
        "message": result.message,
        "mask": str(mask.relative_to(results)) if result.mask else None,
        "mask_sha256": result.mask_sha256,
        "sidecar": str(sidecar_path(mask).relative_to(results)),
        "seconds": result.seconds,
        "peak_mb": result.peak_mib,
        "warnings": list(result.warnings),
    }
