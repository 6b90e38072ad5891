"""Functions that tests of several files share."""

import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spineseg.errors import InputError
from spineseg.volume import load_image


def refusal(path: Path, *words: str, read: Callable[[Path], object] = load_image) -> str:
    """Read a file that must be refused in one line that begins with the file and has `words`; return the line."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def replace_by_older(path: Path, content: bytes) -> None:
    """Replace a file by another one that is ten days older, as ``rsync -a`` and ``cp -p`` do."""
    older = path.stat().st_mtime_ns - 10 * 86_400 * 10**9
    new = path.with_name("new")
    new.write_bytes(content)
    os.utime(new, ns=(older, older))
    new.replace(path)


def text_of(page: Path) -> str:
    """Return the words of an HTML page, without markup and styles."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page.read_text(), flags=re.DOTALL))


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack an archive. Python 3.11.3 and earlier have no filter; 3.12 warns if none is given."""
    archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
