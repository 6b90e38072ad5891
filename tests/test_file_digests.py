"""Content of files by checksum: any replacement is noticed, whatever its date; a damaged cache is harmless."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from helpers import replace_by_older

import spineseg.file_digests as module
from spineseg.file_digests import POINTER_BYTES, FileDigests, absent_content, stamp_of


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "image.nii.gz"
    path.write_bytes(b"before")
    return path


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Files whose content was read."""
    read: list[str] = []
    original = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: read.append(str(path)) or original(path))
    return read


def replace_same_date(path: Path, content: bytes) -> None:
    """Replace a file by another one of the same size and date."""
    date = path.stat().st_mtime_ns
    new = path.with_name("new")
    new.write_bytes(content)
    os.utime(new, ns=(date, date))
    new.replace(path)


def change_in_place(path: Path, content: bytes) -> None:
    """Change a file in place, with the same size, and restore its date."""
    date, inode = path.stat().st_mtime_ns, path.stat().st_ino
    with path.open("r+b") as stream:
        stream.write(content)
    os.utime(path, ns=(date, date))
    assert path.stat().st_ino == inode


def through_a_link(path: Path, content: bytes) -> None:
    """Replace a file by a link to another one."""
    other = path.with_name("other")
    other.write_bytes(content)
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [replace_by_older, replace_same_date, change_in_place, through_a_link])
@pytest.mark.parametrize("kept", [False, True])
def test_every_replaced_file_is_noticed(file, tmp_path, change, kept):
    digests = FileDigests()
    assert digests.digest(file) == sha(b"before")
    if kept:
        digests.save(tmp_path / "digests.json", [file])
        digests = FileDigests(tmp_path / "digests.json")
    stamp = stamp_of(file)
    change(file, b"behind")
    assert stamp_of(file) != stamp
    assert digests.digest(file) == sha(b"behind")


def test_a_file_that_did_not_change_is_not_read_again(file, tmp_path, hashed):
    digests = FileDigests()
    digests.digest(file)
    digests.digest(file)
    digests.save(tmp_path / "digests.json", [file, tmp_path / "never seen"])
    again = FileDigests(tmp_path / "digests.json")
    assert again.digest(str(file)) == sha(b"before")
    assert hashed == [str(file)]
    assert list(json.loads((tmp_path / "digests.json").read_text())) == [str(file)]
    again.save(tmp_path / "digests.json", [])
    assert json.loads((tmp_path / "digests.json").read_text()) == {}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"a": 1}', '{"PATH": [1, 2, 3]}', '{"PATH": [[0, 0, 0, 0], "bad"]}',
     '{"PATH": ["x", "bad"]}', '{"PATH": [null, "bad"]}', '{"PATH": "ab"}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_cache_counts_as_empty(file, tmp_path, text):
    cache = tmp_path / "digests.json"
    cache.write_text(text.replace("PATH", str(file)))
    assert FileDigests(cache).digest(file) == sha(b"before")
    cache.unlink()
    assert FileDigests(cache).digest(file) == sha(b"before")
    cache.mkdir()
    assert FileDigests(cache).digest(file) == sha(b"before")


def test_a_missing_file_has_no_digest(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    digests = FileDigests()
    assert digests.digest(tmp_path / "gone") == digests.digest(tmp_path / "link") == ""
    assert digests.digest("a\0b") == ""
    assert digests.digest(tmp_path) == ""  # a folder


def test_one_digest_of_several_depends_on_order_and_on_what_is_missing(file, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"other")
    digests = FileDigests()
    found = {digests.digest_all(paths) for paths in ([file, other], [other, file], [file], [file, tmp_path / "x"])}
    assert len(found) == 4
    assert digests.digest_all([file, other]) == FileDigests().digest_all([str(file), str(other)])


POINTERS = {
    "annex": (b"/annex/objects/MD5E-s1--0123.nii.gz\n", "datalad get fetches it"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull fetches it"),
}


@pytest.mark.parametrize("kind", POINTERS)
def test_pointers_are_named_and_their_content_is_noticed_when_it_arrives(file, kind):
    content, advice = POINTERS[kind]
    assert absent_content(file) == ""
    file.write_bytes(content)
    digests = FileDigests()
    before = digests.digest(file)
    assert absent_content(file) == f"pointer without content: it is elsewhere ({advice})"
    file.write_bytes(b"the content")
    assert absent_content(file) == ""
    assert digests.digest(file) == sha(b"the content") != before
    file.write_bytes(content + b"x" * POINTER_BYTES)  # an image may begin as it likes
    assert absent_content(file) == ""


def test_links_whose_content_appears_and_disappears(tmp_path):
    link, target = tmp_path / "link", tmp_path / "annex" / "key"
    link.symlink_to(target)
    digests = FileDigests()
    assert absent_content(link).startswith("broken link: its content is elsewhere")
    assert stamp_of(link) is None
    target.parent.mkdir()
    target.write_bytes(b"content")
    assert absent_content(link) == ""
    assert digests.digest(link) == sha(b"content")
    target.unlink()
    assert digests.digest(link) == ""
    assert absent_content(link).startswith("broken link")
    link.unlink()
    assert absent_content(link) == "no such file"


def test_an_unreadable_file_is_reported(tmp_path, monkeypatch, file):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert absent_content(file) == "cannot be read (Permission denied)"
