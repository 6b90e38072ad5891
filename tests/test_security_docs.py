"""What docs/security.md says of the code holds."""

import ast
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
