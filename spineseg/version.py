"""The version: that of the repository's tag and commit in a checkout, that of the installed package elsewhere."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]

FIRST = "0.1.0"
"""Until the repository has a tag."""


@cache
def find_version() -> str:
    """Return the version, such as ``0.2.0``, or ``0.2.0.post5+g1a2b3c4`` five commits later.

    Changes that are not committed add ``.dirty``.
    """
    if (CHECKOUT / ".git").exists() and (described := _describe_checkout()):
        return described
    unpacked = CHECKOUT / "PKG-INFO"  # of a source distribution
    if unpacked.is_file() and (found := re.search(r"^Version: (\S+)", unpacked.read_text(), re.MULTILINE)):
        return found[1]
    try:
        return metadata.version("spineseg")
    except metadata.PackageNotFoundError:
        return f"{FIRST}+unknown"


def _describe_checkout() -> str:
    """Return the version by git; an empty string where git is missing or refuses."""
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
    """Turn what ``git describe --long --always --dirty`` says into a version as Python's packages have it.

    Examples
    --------
    >>> parse_description("v0.2.0-0-g1a2b3c4"), parse_description("v0.2.0-5-g1a2b3c4-dirty")
    ('0.2.0', '0.2.0.post5+g1a2b3c4.dirty')
    >>> parse_description("1a2b3c4")
    '0.1.0.dev0+g1a2b3c4'
    """
    text, dirty = text.removesuffix("-dirty"), text.endswith("-dirty")
    found = re.fullmatch(r"v(.+)-(\d+)-g([0-9a-f]+)", text)
    tag, distance, commit = found.groups() if found else (f"{FIRST}.dev0", "", text)
    if distance == "0" and not dirty:
        return tag
    after = f".post{distance}" if distance and distance != "0" else ""
    return f"{tag}{after}+g{commit}{'.dirty' if dirty else ''}"
