"""Refuse a release whose tag, version, CHANGELOG.md and CITATION.cff differ: python .ci/check_release.py v0.2.0."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from spineseg.version import find_version  # noqa: E402  of this checkout, whatever is installed


def list_differences(tag: str) -> list[str]:
    """Return one sentence for each place that does not agree with the tag; none if all agree."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        return [f"tag {tag}: expected vX.Y.Z, such as v0.2.0"]
    version, wrong = tag[1:], []
    if (found := find_version()) != version:
        wrong.append(
            f"version: expected {version}, found {found}; tag the commit that is checked out, and commit edits"
        )
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = next(iter(re.findall(r"^## (.+)$", changes, re.MULTILINE)), "no section")
    released = re.fullmatch(re.escape(version) + r" \((\d{4}-\d{2}-\d{2})\)", top)
    if released is None:
        wrong.append(f"CHANGELOG.md: expected the first section '{version} (YYYY-MM-DD)', found '{top}'")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    wanted = {"version": version} | ({"date-released": released[1]} if released else {})
    for key, value in wanted.items():
        line = re.search(rf"^{key}: *[\"']?([^\"'\s]+)", citation, re.MULTILINE)
        if line is None or line[1] != value:
            wrong.append(f"CITATION.cff: expected {key}: {value}, found {line[1] if line else 'none'}")
    return wrong


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .ci/check_release.py vX.Y.Z")
    raise SystemExit("\n".join(list_differences(sys.argv[1])) or None)
