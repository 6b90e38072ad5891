"""The quality-control page: one folder with a JSON entry and pictures per image, and one index.html.

Layout of the folder::

    index.html                  the page, complete; opens from a disk without network or server
    entries/<entry>.json        what is known of an image; the index is rebuilt from these
    images/<entry>/*.webp       sheet of axial tiles, sagittal strip, preview
    images/<entry>/detail.js    outlines and areas by slice, loaded when the image is opened
    report_id.txt               keeps the reviewer's marks when the page is made again

Every file appears whole or not at all, and no two processes write the same entry, so any
number of them may add images at the same time without a lock.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.measures import ADULTS, PlausibleLimits
from spineseg.provenance import sha256_file
from spineseg.report import palette, pictures
from spineseg.report.flags import badness, find_flags
from spineseg.report.review import (
    MethodResult,
    ReviewImage,
    StudyView,
    collect_reviews,
    read_stage,
)
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.sidecars import read_sidecar
from spineseg.version import find_version
from spineseg.volume import NativeGrid, Volume, load_image
from spineseg.writing import file_stem, write_json

SCHEMA = 1
"""Version of the entries; the index skips entries of another."""

MASK_MEASURES = ("csa_mean_mm2", "predicted_dice", "dice")
"""Shown with each mask, in this order."""

PAIR_MEASURES = ("dice", "csa_difference_mm2")
"""Shown with each pair of masks."""

IDENTITY = ("image_id", "subject", "session", "run", "suffix", "contrast", "path")


def entry_name(text: str) -> str:
    """Return a name that is safe as a file and in a link; distinct texts keep distinct names."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


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

    Image and masks are loaded unless `layers` has them. An image that cannot be read gets an entry without
    pictures that says why.

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
    except MemoryError:
        raise
    except Exception as error:  # one image must not cost the page of all others
        traceback.print_exc(file=sys.stderr)
        picture, problems = None, (f"the pictures could not be drawn ({type(error).__name__}: {error})",)
    flags = find_flags(review, limits, problems)
    entry = {
        "schema": SCHEMA,
        "id": name,
        "dataset": dataset,
        "stage": stage,
        "command": command,
        "version": find_version(),
        **{key: getattr(review.image, key) for key in IDENTITY},
        "file": _file_name(review.image),
        "methods": [_method_entry(result) for result in review.methods],
        "agreement": [
            {"method_a": pair.method_a, "method_b": pair.method_b} | _shown(pair.values, PAIR_MEASURES)
            for pair in review.agreement
        ],
        "picture": picture,
        "flags": [{"severity": f.severity, "method": f.method, "text": f.text} for f in flags],
        "badness": badness(flags),
    }
    path = qc_dir / "entries" / f"{name}.json"
    write_json(path, entry)
    return path


def _file_name(image: StudyImage) -> str:
    """Return the image's file name, or its name in the study where the file's own does not identify it."""
    name = Path(image.path).name
    return name if file_stem(name) == image.image_id else image.image_id


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
        "metrics": _shown(result.metrics, MASK_MEASURES),
    }


def _shown(values: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return the values of some measures, without those that are not known."""
    return {name: round(values[name], 4) for name in names if name in values}


def render_study(
    view: StudyView, qc_dir: Path, *, chunks: Sequence[str] | None = None, command: str = ""
) -> list[Path]:
    """Render the images of a study, or of some of its chunks; the index is left alone.

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
    """Draw one image with its mask, both in memory, into the page's folder; `build_index` makes the page.

    Safe to call from any number of processes at once. An image that is added again with the
    same method takes the place of its former entry.

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
    place = hashlib.sha256(str(image_path.resolve()).encode()).hexdigest()[:8]
    image = StudyImage(
        stem,
        subject or _entity(stem, "sub") or _folder(image_path, 2),
        _entity(stem, "ses"),
        _entity(stem, "run"),
        stem.rpartition("_")[2],
        contrast=contrast,
        path=str(image_path),
    )
    result = replace(result, csa_mm2=pictures.axial_areas(mask, volume.zooms), csa_corrected=False)
    masks = {result.name: mask} | ({} if reference is None else {palette.REFERENCE: reference})
    return write_entry(
        qc_dir,
        ReviewImage(image, (result,)),
        ADULTS,
        name=entry_name(f"{stem}_{result.name}_{place}"),
        dataset=dataset or _folder(image_path, 3),
        command=command,
        layers=pictures.Layers(volume, grid, masks),
    )


def add_files(
    qc_dir: Path,
    image_path: Path,
    seg_path: Path,
    *,
    method: str,
    contrast: str,
    reference: Path | None = None,
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
    mask = pictures.load_layer(seg_path, grid)
    drawn = None if reference is None else pictures.load_layer(reference, grid)
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
