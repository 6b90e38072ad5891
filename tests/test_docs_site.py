"""The documentation builds without a warning, needs no network, and answers the common questions in two clicks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SPHINX = pytest.importorskip("sphinx", reason="sphinx is in the extra [dev]")

TWO_CLICKS = {
    "citing.html": "how to cite",
    "outputs.html": "what a column means",
    "correcting.html": "what to do when a mask leaks",
    "extending.html": "how to add a method",
    "cluster.html": "how to run on SLURM",
}
NOT_KNOWN = re.compile(r"<this repository>|OWNER/|<[^<>]*(?:address|tag|version)>", re.IGNORECASE)
"""Placeholders for an address, a release or a DOI that does not exist yet; CONTRIBUTING.md lists where they are."""

IMITATIONS = re.compile(
    r"zenodo\.0+|https?://(?:HOST|OWNER|USER|example\.)|(?-i:PLACEHOLDER)|github\.com/OWNER", re.IGNORECASE
)
"""Text that looks like a real address or DOI."""


class Links(HTMLParser):
    """Addresses that a page loads or links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.leads: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if found.get("id") else set()
        if tag == "a" and found.get("href"):
            self.leads.append(found["href"])
        elif tag == "link" or found.get("src"):
            self.loads.append(found.get("src") or found.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    command = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-d", str(folder / "trees")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, str(ROOT / "docs"), str(folder / "site")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Links]:
    return {path.name: Links(path.read_text()) for path in site.glob("*.html")}


def test_every_link_inside_leads_somewhere(site, pages):
    broken = []
    for name, page in pages.items():
        for link in page.leads:
            file, _, place = link.partition("#")
            if re.match(r"[a-z]+:", link) or not link:
                continue
            target = pages.get(file) if file else page
            exists = (site / file).exists() if target is None else not place or place in target.ids
            if not exists:
                broken.append(f"{name}: {link}")
    assert not broken


def test_no_page_loads_anything_from_a_network(pages):
    assert not [(name, link) for name, page in pages.items() for link in page.loads if re.match(r"(https?:)?//", link)]


@pytest.mark.parametrize("target", TWO_CLICKS)
def test_common_questions_are_two_clicks_away(pages, target):
    one = [link.split("#")[0] for link in pages["index.html"].leads]
    two = [link.split("#")[0] for page in one if page in pages for link in pages[page].leads]
    assert target in one + two


def test_equations_are_drawn_by_the_browser_alone(site):
    text = (site / "methods.html").read_text()
    assert text.count("<math") > 20
    assert not re.search(r"\\(?:frac|sum|hat)", re.sub(r"<(code|pre).*?</\1>", "", text, flags=re.DOTALL))
    assert "<script>window.MathJax" not in text


def test_the_commands_are_those_of_the_program(pages):
    from spineseg.cli import COMMANDS

    assert set(COMMANDS) <= pages["commands.html"].ids


def test_unknown_addresses_are_placeholders_listed_in_one_place():
    written = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml")]
    written += [*(ROOT / "docs").glob("*.md"), *(ROOT / "config").iterdir(), *(ROOT / ".github").rglob("*.*ml")]
    texts = {path: path.read_text() for path in written if path.is_file()}
    assert not [f"{path.name}: {found[0]}" for path, text in texts.items() if (found := IMITATIONS.search(text))]
    place = texts[ROOT / "CONTRIBUTING.md"].partition("### Not known yet")[2]
    used = {found for text in texts.values() for found in NOT_KNOWN.findall(text)}
    assert used
    assert not [words for words in used if words not in place]
    citation = yaml.safe_load(texts[ROOT / "CITATION.cff"])
    assert ("version" in citation) == ("date-released" in citation)


def test_project_files_agree_with_each_other():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    programs = {Path(hook["entry"].split()[0]).name for hook in hooks}
    dev = " ".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"])
    assert all(program in dev or program == "python" for program in programs)
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert {"run": ".ci/run"} in jobs["test"]["steps"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["license"], citation["authors"]) == ("MIT", [{"name": "The spineseg developers"}])
