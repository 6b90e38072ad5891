"""Put the masks of the decided method where the field's tools look for them, and leave people's corrections alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spineseg import __version__
from spineseg.bids import derivative_path, sidecar_path
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.study.exceptions import EXCEPTIONS, exceptions_from, read_exceptions, word_exception
from spineseg.study.gather import TABLE_FOLDER, check_masks, stage_images
from spineseg.study.lock import read_lock
from spineseg.writing import write_bytes, write_json, write_text

LABELS = Path("derivatives") / "labels"
COLUMNS = ("image_id", "subject", "session", "contrast", "method", "status", "mask", "source", "sha256", "message")
CORRECTED = "corrected"
"""Status of a kept mask that a person has changed since."""


def keep_masks(
    table: str | Path,
    results: str | Path,
    stage: str,
    decision_file: str | Path,
    config: Mapping[str, Any] | None = None,
) -> list[dict[str, str]]:
    """Copy the decided method's masks to ``derivatives/labels``, or those of the method that the study was begun by.

    A kept mask that a person has changed is not overwritten: it has another checksum than its sidecar
    says. Kept masks of images that are no longer in the study are removed unless they were changed.

    Parameters
    ----------
    table : path
        images.tsv of the study.
    results : path
        The dataset's results folder.
    stage : {"all", "study"}
    decision_file : path
        decision.json.
    config : dict, optional
        The study's configuration, whose exceptions are kept by another method.

    Returns
    -------
    rows : list of dict
        What became of each image; `write_kept` writes them.

    Raises
    ------
    InputError
        If a mask differs from its manifest.
    """
    results = Path(results)
    images = stage_images(table, stage)
    decision = json.loads(Path(decision_file).read_text(encoding="utf-8"))
    decided, lock = decision["method"], read_lock(results)
    # what a study was begun by is not replaced in passing
    method = lock["method"] if lock else decided
    if method is None:
        rows = [_row(image, "", "none", message="no method was good enough to be kept") for image in images]
    else:
        entries = check_masks(results, method, images)
        entries |= _exceptions(config, results, stage, method, images)
        rows = [_keep(image, entries[image["image_id"]], results, method, decision) for image in images]
        if decided != method:
            words = f"the study was begun by {method}; the decision would now keep {decided or 'no method'}"
            rows = [row | {"message": "; ".join(filter(None, (words, row["message"])))} for row in rows]
    _remove_stale(results, {row["mask"] for row in rows})
    _describe(results, method)
    return rows


def _exceptions(
    config: Mapping[str, Any] | None, results: Path, stage: str, method: str, images: list[dict[str, str]]
) -> dict[str, dict[str, Any]]:
    """Return the entries of images that another method's mask is kept of, with that method and why."""
    chosen = exceptions_from(config, method) if config else {}
    if stage == "study":
        return read_exceptions(results / EXCEPTIONS) if chosen else {}
    entries = {}
    for image in images:
        if exception := chosen.get(image["image_id"]):
            found = check_masks(results, exception["method"], [image])[image["image_id"]]
            words = word_exception(exception, method)
            entries[image["image_id"]] = {**found, "method": exception["method"], "exception": words}
    return entries


def read_decided_method(decision_file: str | Path) -> str:
    """Return the method that a decision keeps.

    Raises
    ------
    InputError
        If the decision keeps none.
    """
    method = json.loads(Path(decision_file).read_text(encoding="utf-8"))["method"]
    if method is None:
        raise InputError(
            f"{decision_file}: keeps no method; read decision.md, or choose one by the config key override"
        )
    return method


def write_kept(rows: list[dict[str, str]], results: str | Path, stage: str) -> Path:
    """Write ``kept.tsv``, one row per image of the stage."""
    lines = ["\t".join(COLUMNS), *("\t".join(row[name] or "n/a" for name in COLUMNS) for row in rows)]
    path = Path(results) / TABLE_FOLDER[stage] / "kept.tsv"
    write_text(path, "\n".join(lines) + "\n")
    return path


def _row(image: dict[str, str], method: str, status: str, **more: str) -> dict[str, str]:
    """Return a row of kept.tsv."""
    base = {name: image.get(name, "") for name in COLUMNS}
    return base | {"method": method, "status": status} | more


def _keep(
    image: dict[str, str], entry: dict[str, Any], results: Path, method: str, decision: dict[str, Any]
) -> dict[str, str]:
    """Copy one mask and its sidecar, unless a person's correction is in its place."""
    kept = LABELS / derivative_path(image)
    target = results / kept
    method = entry.get("method", method)  # an exception's own
    message = "; ".join(" ".join(text.split()) for text in (entry.get("exception"), entry["message"]) if text)
    if _is_corrected(target):
        return _row(
            image, "", CORRECTED, mask=str(kept), sha256=sha256_file(target), message="changed by hand; left alone"
        )
    if entry["mask"] is None:
        _remove(target)
        return _row(image, method, entry["status"], mask="", message=message)
    if not target.is_file() or sha256_file(target) != entry["mask_sha256"]:
        write_bytes(target, (results / entry["mask"]).read_bytes())
    sidecar = json.loads((results / entry["sidecar"]).read_text(encoding="utf-8"))
    sidecar |= {
        "MaskSHA256": entry["mask_sha256"],
        "KeptFrom": entry["mask"],
        "Decision": {key: decision.get(key) for key in ("method", "verdict", "override")},
    } | ({"Exception": entry["exception"]} if "exception" in entry else {})
    write_json(sidecar_path(target), sidecar)
    return _row(
        image,
        method,
        entry["status"],
        mask=str(kept),
        source=entry["mask"],
        sha256=entry["mask_sha256"],
        message=message,
    )


def _is_corrected(mask: Path) -> bool:
    """Tell whether a kept mask has other content than we wrote; without our sidecar it is a person's."""
    if not mask.is_file():
        return False
    try:
        return json.loads(sidecar_path(mask).read_text(encoding="utf-8"))["MaskSHA256"] != sha256_file(mask)
    except (OSError, ValueError, KeyError):
        return True


def _remove(mask: Path) -> None:
    """Remove a kept mask with its sidecar."""
    mask.unlink(missing_ok=True)
    sidecar_path(mask).unlink(missing_ok=True)


def _remove_stale(results: Path, kept: set[str]) -> None:
    """Remove the masks that an earlier run kept and this one does not."""
    for mask in sorted((results / LABELS).glob("sub-*/**/*_label-SC_seg.nii.gz")):
        if str(mask.relative_to(results)) not in kept and not _is_corrected(mask):
            _remove(mask)


def _describe(results: Path, method: str | None) -> None:
    """Write the dataset_description.json of the kept masks."""
    write_json(
        results / LABELS / "dataset_description.json",
        {
            "Name": f"{results.name}: spinal cord masks",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "spineseg", "Version": __version__, "Description": f"kept method: {method}"}],
        },
    )
