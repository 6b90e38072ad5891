"""The claims of docs/security.md about the code hold."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NETWORK = {"socket", "http", "urllib.request", "requests", "ftplib", "smtplib"}


def test_only_the_download_opens_a_connection():
    found = set()
    for path in (ROOT / "spineseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {path.name for name in names if name in NETWORK or name.split(".")[0] in NETWORK}
    assert found == {"download.py"}


def test_the_page_is_linked():
    assert "security.md" in (ROOT / "README.md").read_text()
    assert len((ROOT / "docs" / "security.md").read_text().splitlines()) < 60


def test_the_checksums_are_of_the_versions_that_the_tests_run_with():
    hashed = (ROOT / "envs" / "requirements-hashed.txt").read_text()
    assert {len(value) for value in re.findall(r"--hash=sha256:(\w+)", hashed)} == {64}
    with_hash = dict(re.findall(r"^(\S+)==([^\s+]+)\S* \\\n    --hash=sha256:", hashed, re.M))
    pins = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    expected = dict(pin.split("==") for pin in pins if pin)
    assert with_hash == expected
