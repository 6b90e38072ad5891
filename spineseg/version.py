"""The version: from git tag and commit in a checkout or an archive of it, else that of the installed package."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]

FIRST = "0.1.0"
"""Version until the repository has a tag."""


@cache
def find_version() -> str:
    """Return the version, such as ``0.2.0``, or ``0.2.0.post5+g1a2b3c4`` five commits later.

    Uncommitted changes add ``.dirty``.
    """
    if (CHECKOUT / ".git").exists() and (described := _describe_checkout()):
        return described
    unpacked = CHECKOUT / "PKG-INFO"  # in a source distribution
    if unpacked.is_file() and (found := re.search(r"^Version: (\S+)", unpacked.read_text(), re.MULTILINE)):
        return found[1]
    archived = CHECKOUT / ".git_archival.txt"  # filled in by git when it makes an archive, such as GitHub's downloads
    if archived.is_file() and (described := next((w for w in archived.read_text().split() if "$" not in w), "")):
        return parse_description(described)
    try:
        return metadata.version("spineseg")
    except metadata.PackageNotFoundError:
        return f"{FIRST}+unknown"


def _describe_checkout() -> str:
    """Return the version from git; empty if git is missing or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), "describe", "--tags", "--match=v[0-9]*", "--long", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return parse_description(done.stdout.strip())


def parse_description(text: str) -> str:
    """Turn the output of ``git describe --always --dirty``, with ``--long`` or without it, into a Python version.

    Examples
    --------
    >>> parse_description("v0.2.0-0-g1a2b3c4"), parse_description("v0.2.0-5-g1a2b3c4-dirty")
    ('0.2.0', '0.2.0.post5+g1a2b3c4.dirty')
    >>> parse_description("1a2b3c4"), parse_description("v0.2.0")
    ('0.1.0.dev0+g1a2b3c4', '0.2.0')
    """
    text, dirty = text.removesuffix("-dirty"), text.endswith("-dirty")
    found = re.fullmatch(r"v(.+?)(?:-(\d+)-g([0-9a-f]+))?", text)
    tag, distance, commit = found.groups() if found else (f"{FIRST}.dev0", None, text)
    if distance in (None, "0") and found and not dirty:
        return tag
    after = f".post{distance}" if distance not in (None, "0") else ""
    return f"{tag}{after}+g{commit}{'.dirty' if dirty else ''}"
