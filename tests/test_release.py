"""The version comes from the tag, in a clone and in an archive, and a release with differing parts is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from helpers import unpack

ROOT = Path(__file__).parents[1]
FILES = (".ci/check_release.py", ".gitattributes", ".git_archival.txt", "spineseg/__init__.py", "spineseg/version.py")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def git(folder: Path, *words: str) -> None:
    assert run(folder, "git", "-c", "user.name=A", "-c", "user.email=a@b", *words).returncode == 0


def show_version(folder: Path) -> str:
    code = "import sys; sys.path.insert(0, '.'); import spineseg; print(spineseg.__version__)"
    return run(folder, sys.executable, "-I", "-c", code).stdout.strip()


def check(folder: Path, tag: str) -> list[str]:
    done = run(folder, sys.executable, ".ci/check_release.py", tag)
    assert done.returncode == bool(done.stderr), done.stderr
    return done.stderr.splitlines()


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository at its release 0.2.0, not yet tagged."""
    folder = tmp_path / "repository"
    for name in FILES:
        if not (ROOT / name).is_file():
            pytest.skip("not a checkout")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".gitignore").write_text("__pycache__\n")
    (folder / "CHANGELOG.md").write_text("# Changes\n\n## 0.2.0 (2027-01-15)\n\n- New.\n\n## 0.1.0 (2026-11-29)\n")
    (folder / "CITATION.cff").write_text('title: x\nversion: 0.2.0\ndate-released: "2027-01-15"\n')
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")


def unpack_archive(folder: Path) -> Path:
    """Unpack what GitHub's "Source code" and Zenodo offer: an archive of the commit, without its repository."""
    target = folder.parent / "archive"
    shutil.rmtree(target, ignore_errors=True)
    git(folder, "archive", "-o", str(folder.parent / "archive.tar"), "HEAD")
    with tarfile.open(folder.parent / "archive.tar") as archive:
        unpack(archive, target)
    return target


def test_the_version_is_that_of_the_tag(repository):
    assert show_version(repository).startswith("0.1.0.dev0+g")
    assert show_version(unpack_archive(repository)) == show_version(repository)
    git(repository, "tag", "-a", "v0.2.0", "-m", "x")
    assert show_version(repository) == show_version(unpack_archive(repository)) == "0.2.0"
    commit(repository)
    assert show_version(repository).startswith("0.2.0.post1+g")
    assert show_version(unpack_archive(repository)) == show_version(repository)


def test_a_release_whose_parts_agree_passes(repository):
    git(repository, "tag", "v0.2.0")
    assert check(repository, "v0.2.0") == []


def test_a_release_whose_parts_differ_is_refused_with_every_difference(repository):
    (before,) = check(repository, "v0.2.0")
    assert before.startswith("version: expected 0.2.0, found 0.1.0.dev0+g")
    git(repository, "tag", "v0.3.0")
    assert check(repository, "v0.3.0") == [
        "CHANGELOG.md: expected the first section '0.3.0 (YYYY-MM-DD)', found '0.2.0 (2027-01-15)'",
        "CITATION.cff: expected version: 0.3.0, found 0.2.0",
    ]
    assert check(repository, "0.3") == ["tag 0.3: expected vX.Y.Z, such as v0.2.0"]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("CHANGELOG.md", "## 0.2.0", "## Unreleased\n\n## 0.2.0", "CHANGELOG.md: expected the first section"),
        ("CITATION.cff", "2027-01-15", "2027-01-14", "CITATION.cff: expected date-released: 2027-01-15"),
        ("CITATION.cff", "version", "version-of", "CITATION.cff: expected version: 0.2.0, found none"),
    ],
)
def test_a_forgotten_part_is_named(repository, name, old, new, message):
    path = repository / name
    path.write_text(path.read_text().replace(old, new))
    commit(repository)
    git(repository, "tag", "v0.2.0")
    (said,) = check(repository, "v0.2.0")
    assert said.startswith(message)


def test_the_citation_names_the_last_release():
    """Also between releases: a citation needs a released version."""
    changes = (ROOT / "CHANGELOG.md").read_text()
    released = next(line for line in changes.splitlines() if line.startswith("## 0") or line.startswith("## 1"))
    version, _, date = released.removeprefix("## ").partition(" ")
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    assert f'\ndate-released: "{date.strip("()")}"\n' in citation
