"""Build the quality-control page from the entries in its folder."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import markupsafe
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from spineseg.levels.spacing import BELOW_C2_C3_MM
from spineseg.measures import ADULTS, MEASURES, PlausibleLimits
from spineseg.methods.registry import sort_methods
from spineseg.report import palette
from spineseg.report.flags import Flag, badness, find_common_notes, lower_common_notes, shown_status
from spineseg.report.qc import MASK_MEASURES, PAIR_MEASURES, entry_name, read_entry
from spineseg.report.review import StudyView, list_methods
from spineseg.studyfolder.decisions import read_membership
from spineseg.studyfolder.images import read_images
from spineseg.studyfolder.layout import PAGE_IDENTITY, Stage, stage_images
from spineseg.version import find_version
from spineseg.writing import write_bytes, write_text

PAGE = "index.html"

SCRIPTS = ("page", "marks", "list", "image", "difference", "side", "levels", "wall", "blind", "keys")
"""Parts of the page's script, which are joined in this order in one closure."""

MAX_REBUILDS = 20
"""Most rebuilds of the index while entries keep arriving; the process that adds the last entry rebuilds it anyway."""


@dataclass(frozen=True)
class StudyNames:
    """Names of the rest of the study, so that the page accepts the same marks as the study does.

    Parameters
    ----------
    images : sequence of str
        Images of the study that the page does not show.
    methods : sequence of str
        Methods that are compared.
    reports : sequence of str
        Identities of the study's other pages, so that the marks of the pilot's page load into the study's page.
    """

    images: Sequence[str] = ()
    methods: Sequence[str] = ()
    reports: Sequence[str] = ()


def index_study(view: StudyView, qc_dir: Path, drawn: Path | None = None) -> tuple[Path, list[str]]:
    """Build the page of a study from the entries of its images; entries of images no longer in it are left out.

    Parameters
    ----------
    view : StudyView
    qc_dir : Path
        Folder of the page.
    drawn : Path, optional
        Folder in which the entries were drawn, if it is another. The page shares that folder's files and identity, so
        that marks of one page can be loaded into the other.

    Returns
    -------
    page : Path
    missing : list of str
        Images that have not been drawn yet.
    """
    every = read_images(view.folder.images)
    images = stage_images(every, view.stage)
    names = {entry_name(image.image_id): image.image_id for image in images}
    if drawn is not None and drawn.resolve() != qc_dir.resolve():
        _report_id(drawn)
        for name in (PAGE_IDENTITY, *(f"entries/{name}.json" for name in names)):
            _share(drawn / name, qc_dir / name)
        for path in (path for name in names for path in sorted((drawn / "images" / name).glob("*"))):
            _share(path, qc_dir / path.relative_to(drawn))
    shown = set(names.values())
    chunk_of = read_membership(view.folder).chunks if view.methods is None else {}
    others = (view.folder.page_identity(stage) for stage in Stage)
    known = StudyNames(
        [image.image_id for image in every if image.image_id not in shown],
        view.methods if view.methods is not None else list_methods(view.folder, chunk_of),
        [path.read_text().strip() for path in others if path.is_file()],
    )
    page = build_index(qc_dir, title=view.folder.name, only=set(names), limits=view.limits, study=known)
    return page, [image for name, image in names.items() if read_entry(qc_dir / "entries" / f"{name}.json") is None]


def _share(source: Path, target: Path) -> None:
    """Link `target` to `source`, or copy it where the file system has no hard links."""
    if not source.is_file() or (target.is_file() and target.samefile(source)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    candidate = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        candidate.hardlink_to(source)
    except OSError:
        shutil.copy2(source, candidate)
    candidate.replace(target)


def build_index(
    qc_dir: Path,
    *,
    title: str | None = None,
    only: Collection[str] | None = None,
    limits: PlausibleLimits | None = ADULTS,
    study: StudyNames | None = None,
) -> Path:
    """Build index.html from the folder's entries; the page is replaced in one step.

    Entries that other processes add meanwhile are included: after writing, the folder is read again, and the page is
    built again if it has changed.

    Parameters
    ----------
    qc_dir : Path
    title : str, optional
        By default the dataset's name.
    only : collection of str, optional
        Names of the entries to show; all by default.
    limits : PlausibleLimits or None
        Drawn behind the areas; None draws none.
    study : StudyNames, optional
        Names of the rest of the study, if the page is that of a study.

    Returns
    -------
    page : Path
    """
    page = qc_dir / PAGE
    report_id = _report_id(qc_dir)
    for _ in range(MAX_REBUILDS):
        state = _folder_state(qc_dir)
        entries = [entry for path in sorted(state) if (entry := read_entry(path)) is not None]
        if only is not None:
            entries = [entry for entry in entries if entry["id"] in only]
        write_text(page, _render_page(entries, report_id, title, limits, study or StudyNames()))
        if _folder_state(qc_dir) == state:
            break
    return page


def _folder_state(qc_dir: Path) -> dict[Path, int]:
    """Return the entry files with their times of change."""
    state = {}
    for path in (qc_dir / "entries").glob("*.json"):
        try:
            state[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # another process has just replaced or removed it
            continue
    return state


def _report_id(qc_dir: Path) -> str:
    """Return the page's identity, made once: the reviewer's marks are stored under it."""
    path = qc_dir / PAGE_IDENTITY
    if not path.is_file():
        candidate = qc_dir / f".report_id.{uuid.uuid4().hex}"
        write_bytes(candidate, f"{uuid.uuid4()}\n".encode())
        try:
            path.hardlink_to(candidate)  # fails if another process was first; its identity is then used
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            candidate.replace(path)
        candidate.unlink(missing_ok=True)
    return path.read_text().strip()


def template_environment() -> Environment:
    """Return the templates, with escaping of everything that is put into them."""
    environment = Environment(
        loader=PackageLoader("spineseg.report"), autoescape=select_autoescape(("html",)), trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["coded"] = _show_code
    return environment


def _show_code(text: str) -> Markup:
    """Return Markdown text as HTML in which `keys` are code and everything else is escaped text."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def content_policy(script: str, further: str) -> str:
    """Return a page's content security policy: nothing from the network, and of inline scripts this one only.

    `further` are more sources of scripts, such as the page's own folder, whose outlines are loaded when an image is
    opened. Style attributes place the tiles and cannot be listed by a hash, so inline styles are allowed; they cannot
    run code.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = "file: 'self' data: blob:"
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' {further}; style-src 'unsafe-inline'; img-src {own}; "
        "base-uri 'none'; form-action 'none'"
    )


def script_json(content: Any) -> Markup:
    """Return JSON that is safe inside a script element: no text in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028"}.items():
        text = text.replace(character, escape)
    return Markup(text.replace("\u2029", "\\u2029"))


def _weigh_warnings(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries with common notes lowered and with the badness of their warnings."""
    flags = [[Flag(**flag) for flag in entry["flags"]] for entry in entries]
    common = find_common_notes((entry["suffix"], own) for entry, own in zip(entries, flags, strict=True))
    weighed = []
    for entry, own in zip(entries, flags, strict=True):
        ordered = lower_common_notes(entry["suffix"], own, common)
        methods = [m | {"shown": shown_status(m["name"], m["status"], own)} for m in entry["methods"]]
        more = {"flags": [vars(flag) for flag in ordered], "badness": badness(ordered), "methods": methods}
        weighed.append(entry | more)
    return weighed


def _place(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Return the sort key of entries: the worst first, then those whose masks overlap least, then by name."""
    overlap = min((pair["dice"] for pair in entry["agreement"] if "dice" in pair), default=1.0)
    return -entry["badness"], overlap, entry["subject"], entry["session"], entry["file"], entry["id"]


def _style(name: str, number: int) -> dict[str, str]:
    """Return a layer's colour and line style."""
    return {"name": name, "color": palette.color_of(name, number), "dash": palette.dash_of(name, number)}


def _describe(name: str) -> dict[str, Any]:
    """Return a measure's heading, unit and decimals."""
    measure = MEASURES[name]
    return {"words": measure.words, "unit": measure.unit, "decimals": measure.decimals}


def _render_page(
    entries: list[dict[str, Any]],
    report_id: str,
    title: str | None,
    limits: PlausibleLimits | None,
    study: StudyNames,
) -> str:
    """Return the page's HTML."""
    environment = template_environment()
    entries = _weigh_warnings(entries)
    entries = sorted(entries, key=_place)
    datasets = sorted({entry["dataset"] for entry in entries if entry["dataset"]})
    methods = sort_methods(m["name"] for entry in entries for m in entry["methods"])
    title = title or (datasets[0] if len(datasets) == 1 else "Spinal cord quality control")
    content = {
        "report": report_id,
        "reports": sorted({report_id, *study.reports}),
        "others": list(study.images),
        "compared": list(study.methods),
        "title": title,
        "version": find_version(),
        "root": Path.cwd().as_posix(),  # what relative paths of images and masks start from
        "built": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "methods": [_style(name, number) for number, name in enumerate([*methods, palette.REFERENCE])],
        "measures": {name: _describe(name) for name in (*MASK_MEASURES, *PAIR_MEASURES, "seconds")},
        "shown": MASK_MEASURES,
        "plausible": limits.csa_mm2 if limits else None,
        "spacing": BELOW_C2_C3_MM,
        "entries": entries,
    }

    def source(name: str) -> str:
        assert environment.loader
        return environment.loader.get_source(environment, name)[0]

    parts = "\n".join(source(f"qc/{part}.js") for part in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}\n}})();'
    return environment.get_template("qc.html").render(
        title=title,
        policy=content_policy(script, "file: 'self'"),
        style=Markup(source("qc.css")),
        script=Markup(script),
        data=script_json(content),
    )
