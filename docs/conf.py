"""The documentation: Markdown pages of docs/, and files of the repository that are pages as they stand."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils.utils.math import latex2mathml

from spineseg.cli import COMMANDS, build_parser
from spineseg.version import find_version

ROOT = Path(__file__).resolve().parents[1]

project = "spineseg"
author = "The spineseg developers"
copyright = "2026, the spineseg developers"
version = release = find_version()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "spineseg"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path: list[str] = []
exclude_patterns = ["images"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
autodoc_typehints = "none"  # the numpydoc text names types, shapes and units
html_math_renderer = "mathml"

PAGES = {
    "readme": "README.md",
    "configuration": "config/README.md",
    "profiles": "profiles/README.md",
    "model_deepseg": "spineseg/weights/MODEL_CARD.md",
    "model_optic": "spineseg/weights/MODEL_CARD_optic.md",
    "model_quality": "spineseg/weights/MODEL_CARD_quality.md",
    "changes": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
}
"""Pages whose text is kept elsewhere, where readers of the repository look for it."""

LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
IMAGE = re.compile(r"(?<=\]\()(?!https?:)([^)\s]+\.png)(?=\))")


def page_of(path: Path) -> str | None:
    """Return the page that shows a file of the repository, as a link from another page; None where none does."""
    relative = path.relative_to(ROOT).as_posix()
    by_file = {source: name for name, source in PAGES.items()}
    if relative in by_file:
        return f"{by_file[relative]}.md"
    return os.path.relpath(path, ROOT / "docs") if relative.startswith("docs/") else None


def describe_commands() -> str:
    """Return the help of every command, as it is printed on a terminal of 100 columns."""
    os.environ["COLUMNS"] = "100"
    parts = [f"## {name}\n\n```text\n{build_parser(name).format_help()}```\n" for name in COMMANDS]
    return "\n" + "\n".join(parts)


def read_page(app: Any, name: str, source: list[str]) -> None:
    """Take the text of a page from where it is kept, and let its links lead to pages."""
    path = ROOT / PAGES.get(name, f"docs/{name}.md")
    if name in PAGES:
        source[0] = path.read_text()
        app.env.note_dependency(path)  # build the page again when that file changes
    if name == "commands":
        source[0] += describe_commands()
    folder = path.parent

    def relink(match: re.Match[str]) -> str:
        words, target, place = match[1], match[2], match[3] or ""
        file = (folder / target).resolve()
        if page := page_of(file):
            return f"[{words}]({page}{place})"
        return words if file.exists() else match[0]  # a file that no page shows stays a name

    source[0] = LINK.sub(relink, source[0])
    source[0] = IMAGE.sub(lambda match: os.path.relpath(folder / match[1], ROOT / "docs"), source[0])


def show_inline(self: Any, node: Any) -> None:
    """Write an equation in the text as MathML, which browsers draw by themselves."""
    _write_mathml(self, node, "inline")


def show_block(self: Any, node: Any) -> None:
    """Write a displayed equation."""
    _write_mathml(self, node, "block")


def _write_mathml(self: Any, node: Any, display: str) -> None:
    from docutils import nodes

    tree = latex2mathml.tex2mathml(node.astext(), as_block=display == "block")
    self.body.append(tree)
    raise nodes.SkipNode


def plain_docstring(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Let a docstring mean what it says in a terminal: bars are sizes, and sources are numbered by docstring."""
    for n, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            line = re.sub(r"^(\s*)\.\. \[(\d+)\]", r"\1\[\2]", re.sub(r"\[(\d+)\]_", r"[\1]", line))
            lines[n] = re.sub(r"`[^`]*`|\|", lambda match: r"\|" if match[0] == "|" else match[0], line)


def setup(app: Any) -> None:
    """Register what is ours."""
    app.add_html_math_renderer("mathml", (show_inline, None), (show_block, None))
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", plain_docstring)
