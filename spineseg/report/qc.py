"""The quality-control page: one folder with a JSON entry and pictures per image, and one index.html.

Layout of the folder::

    index.html                  the page, complete; opens from a disk without network or server
    entries/<entry>.json        all that is known about an image; the index is rebuilt from these
    images/<entry>/*.webp       sheet of axial tiles, sagittal strip, preview
    images/<entry>/detail.js    outlines and areas by slice, loaded when the image is opened
    report_id.txt               keeps the reviewer's marks when the page is built again

Every file appears whole or not at all. Any number of processes may add images at the same time; those that
add masks of the same image wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError, find_shortage
from spineseg.measures import ADULTS, PlausibleLimits
from spineseg.methods.registry import OWN_METHODS, sort_methods
from spineseg.metrics.overlap import compute_overlap
from spineseg.provenance import sha256_file
from spineseg.reading import read_json
from spineseg.report import palette, pictures
from spineseg.report.flags import find_flags
from spineseg.report.review import (
    MethodResult,
    ReviewImage,
    StudyView,
    collect_reviews,
    read_stage,
)
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.sidecars import NO_CORD, read_sidecar
from spineseg.studyfolder.tables import AgreementRow, Identity
from spineseg.version import find_version
from spineseg.volume import NativeGrid, Volume, load_image
from spineseg.writing import file_stem, write_json

SCHEMA = 3
"""Version of the entries; the index skips entries of another version."""

MASK_MEASURES = ("csa_mean_mm2", "predicted_dice", "dice")
"""Measures shown with each mask, in this order."""

PAIR_MEASURES = ("dice", "csa_difference_mm2")
"""Measures shown with each pair of masks."""

IDENTITY = ("image_id", "subject", "session", "run", "suffix", "contrast", "path")


def entry_name(text: str) -> str:
    """Return a name that is safe as a file and in a link; distinct texts keep distinct names."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"
    return safe if safe == text else f"{safe}-{_short_digest(text)}"


def _short_digest(name: str) -> str:
    """Return 8 digits that distinguish names, including names that are not UTF-8."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]


def write_entry(
    qc_dir: Path,
    review: ReviewImage,
    limits: PlausibleLimits | None,
    *,
    name: str,
    dataset: str,
    stage: str = "",
    command: str = "",
    layers: pictures.Layers | None = None,
) -> Path:
    """Render an image into the folder and write its entry, the JSON last.

    Image and masks are loaded unless `layers` has them. An image that cannot be read gets an entry without pictures
    but with the reason.

    Returns
    -------
    path : Path
        The entry's JSON file.
    """
    try:
        layers = layers or pictures.load_layers(review)
        picture, problems = pictures.draw_image(review, layers, qc_dir, name), layers.problems
    except InputError as error:
        picture, problems = None, (str(error),)
    except Exception as error:  # one bad image must not prevent the page of all others
        if shortage := find_shortage(error):
            raise shortage from error
        traceback.print_exc(file=sys.stderr)
        picture, problems = None, (f"the pictures could not be drawn ({type(error).__name__}: {error})",)
    flags = find_flags(review, limits, problems)
    entry = {
        "schema": SCHEMA,
        "id": name,
        "dataset": dataset,
        "study": bool(stage),  # marks name a study's images by their id there, others by their entry
        "command": command,
        "version": find_version(),
        **{key: getattr(review.image, key) for key in IDENTITY},
        "file": _file_name(review.image),
        "image_sha256": _digest(review.image.path),
        "methods": [_method_entry(result) | {"corrected": review.corrected} for result in review.methods],
        "agreement": [
            {"method_a": pair.method_a, "method_b": pair.method_b} | _shown(pair.values, PAIR_MEASURES)
            for pair in review.agreement
        ],
        "picture": picture,
        "flags": [vars(flag) for flag in flags],
    }
    path = qc_dir / "entries" / f"{name}.json"
    write_json(path, entry)
    return path


def read_entry(path: Path) -> dict[str, Any] | None:
    """Return an entry, or None if it is gone or of another version."""
    try:
        entry = read_json(path, "an entry of the page")
    except InputError:
        return None
    return entry if entry.get("schema") == SCHEMA else None


def _file_name(image: StudyImage) -> str:
    """Return the image's file name, or its name in the study where the file name does not identify it."""
    name = Path(image.path).name
    return name if file_stem(name) == image.image_id else image.image_id


def _digest(path: str) -> str:
    """Return the first digits of an image's SHA-256, by which files of levels name it; empty where it is gone."""
    try:
        return sha256_file(path)[:12]
    except OSError:
        return ""


def _method_entry(result: MethodResult) -> dict[str, Any]:
    """Return what the page shows of one method."""
    return {
        "name": result.name,
        "status": result.status,
        "message": result.message,
        "mask": result.mask.as_posix() if result.mask else None,
        "sha": result.mask_sha256[:12],
        "seconds": result.seconds,
        "peak_mb": result.peak_mb,
        # an empty mask has a predicted Dice of 0 only for the decision; pages do not show it
        "metrics": {} if result.status in NO_CORD else _shown(result.metrics, MASK_MEASURES),
    }


def _shown(values: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return the known values of some measures."""
    return {name: round(values[name], 4) for name in names if name in values}


def render_study(
    view: StudyView, qc_dir: Path, *, chunks: Sequence[str] | None = None, command: str = ""
) -> list[Path]:
    """Render the images of a study, or of some of its chunks; the index is not built.

    Returns
    -------
    entries : list of Path
        One JSON per image.
    """
    return [
        write_entry(
            qc_dir,
            review,
            view.limits,
            name=entry_name(review.image.image_id),
            dataset=view.folder.name,
            stage=view.stage,
            command=command,
        )
        for review in collect_reviews(view, read_stage(view, chunks), chunks)
    ]


def add_image(
    qc_dir: Path,
    image_path: Path,
    volume: Volume,
    grid: NativeGrid,
    mask: NDArray[np.bool_],
    result: MethodResult,
    *,
    contrast: str,
    reference: NDArray[np.bool_] | None = None,
    dataset: str | None = None,
    subject: str | None = None,
    command: str = "",
) -> Path:
    """Draw one image with its mask, both in memory, into the page's folder; `build_index` then builds the page.

    Safe to call from any number of processes at once. Masks of several methods are one entry; a mask that is added
    again replaces the earlier one of the same method.

    Parameters
    ----------
    qc_dir, image_path : Path
    volume, grid : Volume, NativeGrid
        As `load_image` returns them.
    mask : (I, J, K) bool ndarray
        In canonical orientation.
    result : MethodResult
        Method, status, notes, the mask's file and checksum.
    contrast : {"t1", "t2", "t2s", "dwi"}
    reference : (I, J, K) bool ndarray, optional
    dataset, subject : str, optional
        Shown in the list; by default from the image's BIDS name or its folders.
    command : str, optional
        The command line that made the mask.

    Returns
    -------
    entry : Path
        The entry's JSON file.
    """
    stem = file_stem(image_path)
    place = _short_digest(str(image_path.resolve()))
    image = StudyImage(
        stem,
        subject or _entity(stem, "sub") or _folder(image_path, 2),
        _entity(stem, "ses"),
        _entity(stem, "run"),
        stem.rpartition("_")[2],
        contrast=contrast,
        path=str(image_path),
    )
    name = entry_name(f"{stem}_{place}")
    with _sole_writer(qc_dir, name):
        earlier, masks, problems = _earlier_results(qc_dir, name, grid, image_path, result)
        masks[result.name] = mask
        results = [
            replace(one, csa_mm2=pictures.axial_areas(masks[one.name], volume.zooms), csa_corrected=False)
            for one in (*earlier, result)
        ]
        order = sort_methods(masks)
        results.sort(key=lambda one: order.index(one.name))
        layers = {one.name: masks[one.name] for one in results}
        if reference is not None:
            layers[palette.REFERENCE] = reference
        return write_entry(
            qc_dir,
            ReviewImage(image, tuple(results), _agreement(image, layers, results)),
            ADULTS,
            name=name,
            dataset=dataset or _folder(image_path, 3),
            command=command,
            layers=pictures.Layers(volume, grid, layers, tuple(problems)),
        )


@contextmanager
def _sole_writer(qc_dir: Path, name: str) -> Iterator[None]:
    """Lock an entry while another method's mask is added to it."""
    path = qc_dir / "entries" / f".{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        with suppress(OSError):  # without locks the entry of the last writer is kept
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _earlier_results(
    qc_dir: Path, name: str, grid: NativeGrid, image_path: Path, added: MethodResult
) -> tuple[list[MethodResult], dict[str, NDArray[np.bool_]], list[str]]:
    """Return other methods' results for an image that the page already has, with their masks as they are now.

    If the image has changed since, or the mask's file now holds another method's mask, that is listed as a problem.
    """
    results: list[MethodResult] = []
    masks: dict[str, NDArray[np.bool_]] = {}
    problems: list[str] = []
    entry = read_entry(qc_dir / "entries" / f"{name}.json") or {}
    is_same_image = entry.get("image_sha256") == _digest(str(image_path))
    for known in entry.get("methods", []):
        if known["name"] == added.name or known["mask"] is None:
            continue
        path = Path(known["mask"])
        try:
            if not is_same_image:
                raise InputError(f"{image_path} has changed since; run {known['name']} again")
            mask = pictures.load_layer(path, grid)
            checksum = sha256_file(path)
            is_same = checksum.startswith(known["sha"])
            if not is_same and (maker := _maker_of(path, added)) not in ("", known["name"]):
                raise InputError(f"{path} now holds the mask by {maker}; give each method its own -o or -ofolder")
        except InputError as error:
            problems.append(f"{known['name']} is no longer shown: {error}")
            continue
        masks[known["name"]] = mask
        times = (known["seconds"], known["peak_mb"]) if is_same else (None, None)
        results.append(MethodResult(known["name"], known["status"], known["message"], path, checksum, *times))
    return results, masks, problems


def _maker_of(path: Path, added: MethodResult) -> str:
    """Return which method of this package made the mask in a file, as far as is known."""
    if added.mask is not None and added.mask.resolve() == path.resolve():
        return added.name
    try:
        sidecar = read_sidecar(path)
    except InputError:
        return ""
    return sidecar.method if sidecar and sidecar.method in OWN_METHODS else ""


def _agreement(
    image: StudyImage, masks: Mapping[str, NDArray[np.bool_]], results: Sequence[MethodResult]
) -> tuple[AgreementRow, ...]:
    """Return the overlap of each pair of masks of one image."""
    names = [result.name for result in results if masks[result.name].any()]
    return tuple(
        AgreementRow(Identity.of(image), a, b, {"dice": compute_overlap(masks[a], masks[b]).dice})
        for a, b in combinations(names, 2)
    )


def add_files(
    qc_dir: Path,
    image_path: Path,
    seg_path: Path,
    *,
    method: str,
    contrast: str,
    reference: Path | None = None,
    label: int | None = None,
    reference_label: int | None = None,
    dataset: str | None = None,
    subject: str | None = None,
    command: str = "",
) -> Path:
    """Load one image with its mask and call `add_image`; status and notes come from the mask's sidecar.

    Raises
    ------
    InputError
        If the image, the mask or the reference cannot be read, or they do not share a grid.
    """
    volume, grid = load_image(image_path, contrast=contrast or None)
    mask = pictures.load_layer(seg_path, grid, label)
    drawn = None if reference is None else pictures.load_layer(reference, grid, reference_label)
    sidecar = read_sidecar(seg_path)
    status = "empty" if not mask.any() else sidecar.status if sidecar else "ok"
    notes = sidecar.notes if sidecar else ()
    message = notes[-1] if notes and status != "ok" else ""
    result = MethodResult(method, status, message, seg_path, sha256_file(seg_path), warnings=notes)
    return add_image(
        qc_dir,
        image_path,
        volume,
        grid,
        mask,
        result,
        contrast=contrast,
        reference=drawn,
        dataset=dataset,
        subject=subject,
        command=command,
    )


def _entity(stem: str, key: str) -> str:
    """Return the value of a BIDS entity in a file stem, or an empty string."""
    found = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", stem)
    return found[1] if found else ""


def _folder(path: Path, levels: int) -> str:
    """Return the name of the folder `levels` above a file, as SCT names dataset and subject."""
    parents = path.resolve().parents
    return parents[levels - 1].name if levels <= len(parents) else ""
