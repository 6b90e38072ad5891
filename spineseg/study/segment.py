"""Segment a chunk of a study's images with one method, and say in a manifest what became of each.

An image is a result whatever happens to it: it is finished, or it failed and why. Only what
is no fault of an image (no disk, no memory, no weights) stops the chunk.
"""

from __future__ import annotations

import csv
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from spineseg import __version__
from spineseg.bids import derivative_path
from spineseg.errors import InputError, ModelError
from spineseg.methods import ImageResult, PreparedMethod, segment_file, sidecar_path
from spineseg.progress import Progress
from spineseg.provenance import build_sidecar, sha256_file, sha256_json
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
        dataset, method, chunk, version, parameters_sha256 and one entry per image.
    """
    results = Path(results)
    rows = [r for r in read_images(table) if r["included"] == "true" and r["chunk"] == chunk]
    progress = progress or Progress(len(rows))
    return {
        "dataset": results.name,
        "method": method.name,
        "chunk": chunk,
        "version": __version__,
        "parameters_sha256": sha256_json(method.parameters),
        "weights": method.weights,
        "images": [_segment_row(row, results, method, progress) for row in rows],
    }


def content_key(row: dict[str, str], method: PreparedMethod) -> str | None:
    """Return a key that changes when the image, the method, its parameters or its weights do."""
    if not Path(row["path"]).is_file():
        return None
    return sha256_json(
        {
            "image": sha256_file(row["path"]),
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
    finished = _finished_entry(row, mask, key, results)
    if finished is not None:
        progress.start_image(row["image_id"])
        progress.end_image(f"{finished['status']}, already done")
        return finished
    try:
        result = segment_file(
            row["path"], mask, method, row["contrast"], bval=row.get("bval") or None, key=key, progress=progress
        )
    except (MemoryError, ModelError):
        raise
    except Exception as error:  # one image must not stop the study; the line and the log say why
        progress.end_image("failed")
        if not isinstance(error, InputError):
            traceback.print_exc(file=sys.stderr)
        message = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        result = ImageResult(Path(row["path"]), "failed", " ".join(message.split()))
        _write_failure(result, row, mask, method, key)
    return _entry(row, result, mask, results)


def _write_failure(
    result: ImageResult, row: dict[str, str], mask: Path, method: PreparedMethod, key: str | None
) -> None:
    """Leave a sidecar without a mask, so that a rerun knows and a reader sees why."""
    mask.unlink(missing_ok=True)
    sidecar = build_sidecar(
        sources=[row["path"]],
        method=method.name,
        contrast=row["contrast"],
        status="failed",
        notes=(result.message,),
        parameters=method.parameters,
        weights=method.weights,
        seconds={},
        peak_mib=0.0,
        device=method.device,
        threads=method.threads,
    )
    write_json(sidecar_path(mask), sidecar | {"ContentKey": key})


def _finished_entry(row: dict[str, str], mask: Path, key: str | None, results: Path) -> dict[str, Any] | None:
    """Return the manifest entry of a result that is whole and still good, else None."""
    try:
        sidecar = json.loads(sidecar_path(mask).read_text())
    except (OSError, ValueError):
        return None
    if key is None or sidecar.get("ContentKey") != key:
        return None
    failed = sidecar["Status"] == "failed"
    if not failed and (not mask.is_file() or sha256_file(mask) != sidecar.get("MaskSHA256")):
        return None
    notes = tuple(sidecar["Notes"])
    result = ImageResult(
        Path(row["path"]),
        sidecar["Status"],
        notes[-1] if notes and sidecar["Status"] != "ok" else "",
        None if failed else mask,
        None if failed else sidecar["MaskSHA256"],
        sidecar["Seconds"],
        sidecar["PeakMB"],
        notes,
    )
    return _entry(row, result, mask, results)


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
