"""Every command in README and docs exists, with its options, and so does every script and file that they name."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from spineseg.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md", "profiles/README.md")] + sorted(
    path for path in (ROOT / "docs").glob("*.md")
)
WHOLE = (
    "dice",
    "propseg",
    "deepseg",
    "csa",
    "phantom",
    "download",
    "checklist",
    "drift",
    "doctor",
    "study",
    "centerline",
)
"""Commands whose examples are complete and must parse; other commands are shown with some of their options."""


def blocks(text: str) -> list[str]:
    """The code of a page: fenced and indented lines, with continuation lines joined; and code within the text."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip())
    return lines


def printed_commands(path: Path) -> list[str]:
    text = re.sub(r"\\\n\s*", "", path.read_text())
    found = [line for line in blocks(text) if line.startswith("spineseg ")]
    return [re.sub(r"\s+#.*", "", line) for line in found]


def named_commands(path: Path) -> list[str]:
    """Commands within sentences, such as `spineseg csa -exact`."""
    text = re.sub(r"^\| .*did you mean.*$", "", path.read_text(), flags=re.MULTILINE)  # shown as a mistake
    return re.findall(r"`(spineseg [a-z][^`]*)`", text)


def options_of(command: str, words: list[str]) -> set[str]:
    """The options that a command knows, those of its sub-commands too."""
    parser = build_parser(command)
    known: set[str] = set()
    for action in parser._actions:
        known |= set(action.option_strings)
        if not action.option_strings and isinstance(action.choices, dict):
            for sub in action.choices.values():
                known |= set(sub._option_string_actions)
    return known


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_exist(path):
    wrong = []
    for line in printed_commands(path) + named_commands(path):
        _, command, *words = line.partition(" -- ")[0].split()  # the rest is for Snakemake
        if command in ("COMMAND", "ACTION"):
            continue
        if command not in COMMANDS:
            wrong.append(f"{line}: no command {command}")
            continue
        known = options_of(command, words)
        words = words[: words.index("--")] if "--" in words else words  # the rest is for Snakemake
        options = [word for word in words if re.match(r"--?[a-zA-Z]", word)]
        wrong += [f"{line}: no option {word}" for word in options if word not in known]
    assert not wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_printed_commands_are_complete(path):
    wrong = []
    for line in printed_commands(path):
        words = shlex.split(line, comments=True)
        if words[1] not in WHOLE or "..." in line or re.search(r"[A-Z]{4,}", line):
            continue
        with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
            try:
                build_parser(words[1]).parse_args(words[2:])
            except SystemExit as error:
                if error.code:
                    wrong.append(f"{line}: {said.getvalue()}")
    assert not wrong


def test_make_targets_rules_and_scripts_exist():
    makefile = (ROOT / "Makefile").read_text()
    rules = "".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")])
    missing = []
    for path in PAGES:
        text = path.read_text()
        for target in re.findall(r"`?\bmake ([a-z]+)\b(?=`|\s+#|\n|`| sets)", "\n".join(blocks(text))):
            missing += [] if re.search(rf"^{target}:", makefile, re.MULTILINE) else [f"{path.name}: make {target}"]
        for script in re.findall(r"\b((?:benchmarks|tests)/[\w/]+\.(?:py|sh|tsv))\b", text):
            missing += [] if (ROOT / script).is_file() else [f"{path.name}: {script}"]
        for module in re.findall(r"`(spineseg/[\w/]+\.\w+)`", text):
            missing += [] if (ROOT / module).is_file() else [f"{path.name}: {module}"]
        for line in blocks(text):
            if line.startswith("snakemake "):
                words = shlex.split(line, comments=True)[1:]
                for word in words:
                    if word in ("pilot", "study", "all") and not re.search(rf"^rule {word}:", rules, re.MULTILINE):
                        missing.append(f"{path.name}: rule {word}")
    assert not missing


def test_the_search_finds_commands(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("See `spineseg csa -exact`.\n\n    spineseg dice -i a -d b   # words\n\n```sh\nspineseg qc\n```\n")
    assert printed_commands(page) == ["spineseg dice -i a -d b", "spineseg qc"]
    assert named_commands(page) == ["spineseg csa -exact"]
    assert sum(len(printed_commands(path)) for path in PAGES) > 30
