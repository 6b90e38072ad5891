"""Find and read the tables and manifests of a study's results folder; what is missing reads as empty."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spineseg.errors import InputError

STAGES = ("all", "pilot", "study")
TABLE_FOLDERS = {"all": "tables", "pilot": "pilot/tables", "study": "study/tables"}
MEASURES = "measures"
"""Folder in ``chunks/`` that holds the chunks' tables."""

KNOWN_ORDER = ("propseg", "deepseg")
"""Shown in this order, so that a method keeps its colour and number in every study."""


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read a tab-separated table, ``.gz`` or not, as one dict per row; ``n/a`` becomes an empty string."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run the steps before this one") from error
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    reader = csv.DictReader(io.StringIO(text), delimiter="\t")
    return [{key: "" if value in ("n/a", None) else value for key, value in row.items() if key} for row in reader]


def number(text: str | None) -> float | None:
    """Return a table's cell as a finite float, or None where it holds none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None  # NaN compares false


def table_path(results: Path, stage: str, name: str) -> Path:
    """Return where a gathered table of a stage lies, such as ``metrics.tsv``."""
    return results / TABLE_FOLDERS[stage] / name


def read_measures(results: Path, stage: str, name: str, chunk: str | None = None) -> list[dict[str, str]]:
    """Read a stage's table: the chunk's own part when a chunk is asked for and has one, else the gathered table.

    Parameters
    ----------
    results : Path
        Results folder of the dataset.
    stage : {"all", "pilot", "study"}
    name : str
        ``metrics.tsv``, ``agreement.tsv`` or ``slices.tsv.gz``.
    chunk : str, optional
    """
    candidates = [table_path(results, stage, name)]
    if chunk is not None:
        # the stages all and pilot share the chunks' tables, for they run the same methods
        folder = results / "chunks" / MEASURES / ("study" if stage == "study" else "")
        candidates.insert(0, folder / f"{chunk}.{name}")
    for path in candidates:
        if path.is_file():
            return read_rows(path)
    return []


def list_methods(results: Path) -> list[str]:
    """Return the study's methods that have manifests, the known ones first.

    Methods that the configuration does not name any more are left out, though their masks are still there.
    """
    folders = [path for path in (results / "chunks").glob("*") if path.is_dir()]
    found = {path.name for path in folders if _holds_manifests(path)}
    configured = _configured_methods(results)
    return sort_methods(found if configured is None else found & configured)


def _configured_methods(results: Path) -> set[str] | None:
    """Return the methods that the study's configuration names; None where it is not known."""
    path = results / "study.json"
    if not path.is_file():
        return None
    methods = json.loads(path.read_text())["methods"]
    return {method if isinstance(method, str) else method["name"] for method in methods}


def _holds_manifests(folder: Path) -> bool:
    """Whether a folder is a method's; workflows keep other notes of their chunks beside them."""
    first = min(folder.rglob("*.json"), default=None)
    return first is not None and json.loads(first.read_text()).get("method") == folder.name


def read_exceptions(results: Path) -> dict[str, str]:
    """Return image to the words that say why another method's mask is kept than the study's."""
    path, decision = results / "study.json", read_decision(results / "decision.json") or {}
    chosen = json.loads(path.read_text()).get("exceptions", {}) if path.is_file() else {}
    kept = decision.get("method")
    return {
        image: f"exception: kept by {e['method']} instead of {kept} ({e['reason']}; {e['by']})"
        for image, e in chosen.items()
        if kept and e["method"] != kept
    }


def read_accepted(results: Path) -> list[str]:
    """Return the changes within the study that a person accepted, a sentence each."""
    path = results / "study" / "lock.json"
    accepted = json.loads(path.read_text())["accepted"] if path.is_file() else []
    return [f"Changed within the study and accepted by {a['by']} ({a['reason']}): {', '.join(a['changes'])}."
            for a in accepted]  # fmt: skip


def read_excepted(results: Path, stage: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, image and manifest entry of a study's excepted images; none in the other stages."""
    path = results / "study" / "exceptions.json"
    if stage != "study" or not path.is_file():
        return []
    named = read_exceptions(results)
    entries = json.loads(path.read_text())["images"]
    return [(e["method"], e["image_id"], e) for e in entries if e["image_id"] in named]


def sort_methods(names: Iterable[str]) -> list[str]:
    """Return the distinct names, the known methods first, the rest by alphabet."""
    known = {name: position for position, name in enumerate(KNOWN_ORDER)}
    return sorted(set(names), key=lambda name: (known.get(name, len(known)), name))


def read_manifests(results: Path, method: str, chunks: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the manifest entries of a method by image, for all chunks named."""
    entries: dict[str, dict[str, Any]] = {}
    for chunk in sorted(set(chunks)):
        for path in _manifest_files(results / "chunks" / method, chunk):
            manifest = json.loads(path.read_text())
            entries |= {entry["image_id"]: entry for entry in manifest["images"]}
    return entries


def _manifest_files(folder: Path, chunk: str) -> Iterator[Path]:
    """Yield the chunk's manifest, or every manifest of the method where the chunk has no file of its own."""
    own = folder / f"{chunk}.json"
    if own.is_file():
        yield own
    else:
        yield from sorted(folder.rglob("*.json"))


def read_decision(path: str | Path | None) -> dict[str, Any] | None:
    """Return decision.json, or None where there is none yet."""
    if path is None or not Path(path).is_file():
        return None
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise InputError(f"{path}: expected a decision as JSON, found other text; run spineseg decide again") from error
