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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from spineseg import __version__
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.report import palette, pictures, tables
from spineseg.report.flags import badness, find_flags
from spineseg.report.review import MethodResult, ReviewImage, collect_reviews, select_rows
from spineseg.volume import load_image, load_mask
from spineseg.writing import file_stem, write_bytes, write_json, write_text

SCHEMA = 1
"""Version of the entries; the index skips entries of another."""

MAX_REBUILDS = 20
"""Of the index when entries keep arriving; the process that adds the last entry rebuilds it anyway."""


def entry_name(text: str) -> str:
    """Return a name that is safe as a file and in a link; distinct texts keep distinct names."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def write_entry(qc_dir: Path, review: ReviewImage, *, dataset: str, stage: str = "", command: str = "") -> Path:
    """Render an image into the folder and write its entry, the JSON last.

    An image that cannot be read gets an entry without pictures that says why.

    Returns
    -------
    path : Path
        The entry's JSON file.
    """
    name = entry_name(review.row.get("entry") or review.row["image_id"])
    try:
        picture, problems = pictures.draw_image(review, qc_dir, name)
    except InputError as error:
        picture, problems = None, [str(error)]
    except MemoryError:
        raise
    except Exception as error:  # one image must not cost the page of all others
        traceback.print_exc(file=sys.stderr)
        picture, problems = None, [f"the pictures could not be drawn ({type(error).__name__}: {error})"]
    flags = find_flags(review, problems)
    entry = {
        "schema": SCHEMA,
        "id": name,
        "dataset": dataset,
        "stage": stage,
        "command": command,
        "version": __version__,
        **{key: review.row.get(key) or "" for key in ("image_id", "subject", "session", "run", "suffix", "contrast")},
        "file": _file_name(review.row),
        "path": review.row["path"],
        "methods": [_method_entry(result) for result in review.methods],
        "agreement": list(review.agreement),
        "picture": picture,
        "flags": [{"severity": f.severity, "method": f.method, "text": f.text} for f in flags],
        "badness": badness(flags),
    }
    path = qc_dir / "entries" / f"{name}.json"
    write_json(path, entry)
    return path


def _file_name(row: dict[str, str]) -> str:
    """Return the image's file name, or its name in the study where the file's own does not identify it."""
    name = Path(row["path"]).name
    return name if file_stem(name) == row["image_id"] else row["image_id"]


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
        "metrics": {name: round(value, 4) for name, value in result.metrics.items()},
    }


def render_study(
    results: Path, qc_dir: Path, *, stage: str = "all", chunks: list[str] | None = None, command: str = ""
) -> list[Path]:
    """Render the images of a study, or of some of its chunks; the index is left alone.

    Returns
    -------
    entries : list of Path
        One JSON per image.
    """
    return [
        write_entry(qc_dir, review, dataset=results.resolve().name, stage=stage, command=command)
        for review in collect_reviews(results, stage, chunks)
    ]


def add_image_to_qc(
    qc_dir: str | Path,
    image_path: str | Path,
    seg_path: str | Path,
    *,
    method: str,
    contrast: str,
    dataset: str | None = None,
    subject: str | None = None,
    command: str = "",
    status: str | None = None,
    reference: str | Path | None = None,
    bval: str | Path | None = None,
) -> Path:
    """Add one image with its mask to the page in `qc_dir`, and rebuild the page.

    Safe to call from any number of processes at once. An image that is added again with the
    same method takes the place of its former entry.

    Parameters
    ----------
    qc_dir, image_path, seg_path : path
    method : str
        Shown with the mask: propseg, deepseg, or any name.
    contrast : {"t1", "t2", "t2s", "dwi"}
    dataset, subject : str, optional
        Shown in the list; by default from the image's BIDS name or its folders.
    command : str, optional
        The command line that made the mask.
    status : {"ok", "partial", "empty"}, optional
        From the mask's sidecar or its content where None.
    reference, bval : path, optional

    Returns
    -------
    page : Path
        The page to open.

    Raises
    ------
    InputError
        If the image or the mask cannot be read, or they do not share a grid.
    """
    qc_dir, image_path, seg_path = Path(qc_dir), Path(image_path), Path(seg_path)
    _, grid = load_image(image_path, contrast=contrast, bval=bval)
    mask, _ = load_mask(seg_path, like=grid)
    cord = mask.data >= pictures.MASK_THRESHOLD
    status, warnings = _status_of(seg_path, bool(cord.any()), status)
    stem = file_stem(image_path)
    place = hashlib.sha256(str(image_path.resolve()).encode()).hexdigest()[:8]
    result = MethodResult(
        method,
        status,
        warnings[-1] if warnings and status != "ok" else "",
        seg_path,
        sha256_file(seg_path),
        warnings=warnings,
        csa_mm2=pictures.axial_areas(cord, mask.zooms),
        csa_corrected=False,
    )
    row = {
        "image_id": stem,
        "subject": subject or _entity(stem, "sub") or _folder(image_path, 2),
        "session": _entity(stem, "ses"),
        "run": _entity(stem, "run"),
        "suffix": stem.rpartition("_")[2],
        "contrast": contrast,
        "path": str(image_path),
        "bval": str(bval or ""),
        "reference": str(reference or ""),
    }
    review = ReviewImage(row | {"entry": f"{stem}_{method}_{place}"}, (result,))
    write_entry(qc_dir, review, dataset=dataset or _folder(image_path, 3), command=command)
    return build_index(qc_dir)


def _status_of(seg_path: Path, has_cord: bool, status: str | None) -> tuple[str, tuple[str, ...]]:
    """Return a mask's status and notes: given, from its sidecar, or from whether it holds anything."""
    sidecar = seg_path.with_name(f"{file_stem(seg_path)}.json")
    try:
        content = json.loads(sidecar.read_text())
        notes = tuple(content.get("Notes") or ())
    except (OSError, ValueError, AttributeError):
        content, notes = {}, ()
    if not has_cord:
        return "empty", notes
    return status or content.get("Status") or "ok", notes


def _entity(stem: str, key: str) -> str:
    """Return the value of a BIDS entity in a file stem, or an empty string."""
    found = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", stem)
    return found[1] if found else ""


def _folder(path: Path, levels: int) -> str:
    """Return the name of the folder `levels` above a file, as SCT names dataset and subject."""
    parents = path.resolve().parents
    return parents[levels - 1].name if levels <= len(parents) else ""


def index_study(results: Path, qc_dir: Path, *, stage: str = "all") -> tuple[Path, list[str]]:
    """Build the page of a study from the entries of its images; entries of former images are left out.

    Returns
    -------
    page : Path
    missing : list of str
        Images that have not been drawn yet.
    """
    names = {entry_name(row["image_id"]): row["image_id"] for row in select_rows(results, stage)}
    page = build_index(qc_dir, title=results.resolve().name, only=set(names))
    return page, [image for name, image in names.items() if not (qc_dir / "entries" / f"{name}.json").is_file()]


def build_index(qc_dir: str | Path, *, title: str | None = None, only: set[str] | None = None) -> Path:
    """Build index.html from the folder's entries; the page is replaced in one step.

    Entries that other processes add meanwhile are taken up: the folder is read again after
    writing, and the page is built anew where it has changed.

    Parameters
    ----------
    qc_dir : path
    title : str, optional
        By default the dataset's name.
    only : set of str, optional
        Names of the entries to show; all by default.

    Returns
    -------
    page : Path
    """
    qc_dir = Path(qc_dir)
    page = qc_dir / "index.html"
    report_id = _report_id(qc_dir)
    for _ in range(MAX_REBUILDS):
        state = _folder_state(qc_dir)
        entries = [entry for path in sorted(state) if (entry := _read_entry(path)) is not None]
        if only is not None:
            entries = [entry for entry in entries if entry["id"] in only]
        write_text(page, _render_page(entries, report_id, title))
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


def _render_page(entries: list[dict[str, Any]], report_id: str, title: str | None) -> str:
    """Return the page's HTML."""
    environment = template_environment()
    entries = sorted(entries, key=lambda e: (-e["badness"], e["subject"], e["session"], e["file"], e["id"]))
    datasets = sorted({entry["dataset"] for entry in entries if entry["dataset"]})
    methods = tables.sort_methods(m["name"] for entry in entries for m in entry["methods"])
    title = title or (datasets[0] if len(datasets) == 1 else "Spinal cord quality control")
    content = {
        "report": report_id,
        "title": title,
        "version": __version__,
        "built": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "methods": [_style(name, number) for number, name in enumerate([*methods, pictures.REFERENCE])],
        "entries": entries,
    }
    source = environment.loader.get_source
    return environment.get_template("qc.html").render(
        title=title,
        style=Markup(source(environment, "qc.css")[0]),
        script=Markup(source(environment, "qc.js")[0]),
        data=script_json(content),
    )
