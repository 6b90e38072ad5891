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
import json
import re
import sys
import traceback
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.measures import ADULTS, MEASURES, PlausibleLimits
from spineseg.methods.registry import sort_methods
from spineseg.provenance import sha256_file
from spineseg.report import palette, pictures
from spineseg.report.flags import badness, find_flags
from spineseg.report.review import (
    MethodResult,
    ReviewImage,
    StudyView,
    collect_reviews,
    read_stage,
    select_images,
)
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.sidecars import read_sidecar
from spineseg.version import find_version
from spineseg.volume import NativeGrid, Volume, load_image
from spineseg.writing import file_stem, write_bytes, write_json, write_text

SCHEMA = 1
"""Version of the entries; the index skips entries of another."""

PAGE = "index.html"

MAX_REBUILDS = 20
"""Of the index when entries keep arriving; the process that adds the last entry rebuilds it anyway."""


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


def index_study(view: StudyView, qc_dir: Path) -> tuple[Path, list[str]]:
    """Build the page of a study from the entries of its images; entries of former images are left out.

    Returns
    -------
    page : Path
    missing : list of str
        Images that have not been drawn yet.
    """
    images = select_images(view, read_images(view.folder.images))
    names = {entry_name(image.image_id): image.image_id for image in images}
    page = build_index(qc_dir, title=view.folder.name, only=set(names), limits=view.limits)
    return page, [image for name, image in names.items() if not (qc_dir / "entries" / f"{name}.json").is_file()]


def build_index(
    qc_dir: Path,
    *,
    title: str | None = None,
    only: Collection[str] | None = None,
    limits: PlausibleLimits | None = ADULTS,
) -> Path:
    """Build index.html from the folder's entries; the page is replaced in one step.

    Entries that other processes add meanwhile are taken up: the folder is read again after
    writing, and the page is built anew where it has changed.

    Parameters
    ----------
    qc_dir : Path
    title : str, optional
        By default the dataset's name.
    only : collection of str, optional
        Names of the entries to show; all by default.
    limits : PlausibleLimits or None
        Drawn behind the areas; nothing where None.

    Returns
    -------
    page : Path
    """
    page = qc_dir / PAGE
    report_id = _report_id(qc_dir)
    for _ in range(MAX_REBUILDS):
        state = _folder_state(qc_dir)
        entries = [entry for path in sorted(state) if (entry := _read_entry(path)) is not None]
        if only is not None:
            entries = [entry for entry in entries if entry["id"] in only]
        write_text(page, _render_page(entries, report_id, title, limits))
        if _folder_state(qc_dir) == state:
            break
    return page


def _folder_state(qc_dir: Path) -> dict[Path, int]:
    """Return the entry files with their times of change."""
    state = {}
    for path in (qc_dir / "entries").glob("*.json"):
        try:
            state[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # replaced or removed by another process just now
            continue
    return state


def _read_entry(path: Path) -> dict[str, Any] | None:
    """Return an entry, or None for one that is gone or of another version."""
    try:
        entry = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) and entry.get("schema") == SCHEMA else None


def _report_id(qc_dir: Path) -> str:
    """Return the page's identity, made once: the reviewer's marks are stored under it."""
    path = qc_dir / "report_id.txt"
    if not path.is_file():
        candidate = qc_dir / f".report_id.{uuid.uuid4().hex}"
        write_bytes(candidate, f"{uuid.uuid4()}\n".encode())
        try:
            path.hardlink_to(candidate)  # fails where another process was first, whose identity then holds
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            candidate.replace(path)
        candidate.unlink(missing_ok=True)
    return path.read_text().strip()


def template_environment() -> Environment:
    """Return the templates, escaping whatever is put into them."""
    return Environment(
        loader=PackageLoader("spineseg.report"), autoescape=select_autoescape(("html",)), trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def script_json(content: Any) -> Markup:
    """Return JSON that is safe inside a script element: no text in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028"}.items():
        text = text.replace(character, escape)
    return Markup(text.replace("\u2029", "\\u2029"))


def _style(name: str, number: int) -> dict[str, str]:
    """Return a layer's colour and line style."""
    return {"name": name, "color": palette.color_of(name, number), "dash": palette.dash_of(name, number)}


def _describe(name: str) -> dict[str, Any]:
    """Return a measure's words, unit and decimals."""
    measure = MEASURES[name]
    return {"words": measure.words, "unit": measure.unit, "decimals": measure.decimals}


def _render_page(
    entries: list[dict[str, Any]], report_id: str, title: str | None, limits: PlausibleLimits | None
) -> str:
    """Return the page's HTML."""
    environment = template_environment()
    entries = sorted(entries, key=lambda e: (-e["badness"], e["subject"], e["session"], e["file"], e["id"]))
    datasets = sorted({entry["dataset"] for entry in entries if entry["dataset"]})
    methods = sort_methods(m["name"] for entry in entries for m in entry["methods"])
    title = title or (datasets[0] if len(datasets) == 1 else "Spinal cord quality control")
    content = {
        "report": report_id,
        "title": title,
        "version": find_version(),
        "built": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "methods": [_style(name, number) for number, name in enumerate([*methods, palette.REFERENCE])],
        "measures": {name: _describe(name) for name in (*MASK_MEASURES, *PAIR_MEASURES, "seconds")},
        "shown": MASK_MEASURES,
        "plausible": limits.csa_mm2 if limits else None,
        "entries": entries,
    }
    source = environment.loader.get_source
    return environment.get_template("qc.html").render(
        title=title,
        style=Markup(source(environment, "qc.css")[0]),
        script=Markup(source(environment, "qc.js")[0]),
        data=script_json(content),
    )
