"""``spineseg download`` from a local server: complete, interrupted, changed, refused, damaged, no network."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spineseg import download
from spineseg.cli import main
from spineseg.errors import InputError

NAME = "sct-tutorial"


def make_zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


ARCHIVE = make_zip({"single_subject/data/t2/t2.nii.gz": bytes(range(256)) * 4000, "LICENSE": b"MIT"})


class Server(ThreadingHTTPServer):
    """A server of one file that can behave well or badly."""

    content = ARCHIVE
    tag = '"one"'
    breaks_after = 0
    ranges = True
    status = 200
    shift = 0
    length = ""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server, start = self.server, 0
        asked.append(dict(self.headers))
        if server.status != 200:
            self.send_error(server.status)
            return
        same = self.headers.get("If-Range") == server.tag
        if server.ranges and same and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            end = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start + server.shift}-{end}/{len(server.content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.tag)
        self.send_header("Content-Length", server.length or str(len(server.content) - start))
        self.end_headers()
        end = start + server.breaks_after if server.breaks_after else len(server.content)
        self.wfile.write(server.content[start:end])

    def log_message(self, format, *args):
        pass


asked: list[dict[str, str]] = []


@pytest.fixture
def server():
    asked.clear()
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/data.zip"


def fetch(server, folder, **more):
    return download.fetch_dataset(NAME, folder, address=address(server), **more)


def test_a_download_is_complete_and_prints_its_checksum(server, tmp_path, capsys):
    assert main(["download", NAME, "-o", str(tmp_path), "-address", address(server)]) == 0
    assert (tmp_path / NAME / "single_subject" / "data" / "t2" / "t2.nii.gz").read_bytes() == bytes(range(256)) * 4000
    sha = hashlib.sha256(ARCHIVE).hexdigest()
    assert sha in capsys.readouterr().out
    assert download.read_record(tmp_path / NAME) == {"Address": address(server), "SHA256": sha, "Bytes": len(ARCHIVE)}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert main(["download", NAME, "-o", str(tmp_path), "-address", address(server)]) == 0
    assert len(asked) == 1  # it was there already


def test_an_interrupted_download_resumes(server, tmp_path):
    server.breaks_after = 100_000
    with pytest.raises(InputError, match="100000 came; repeat the same command"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()
    server.breaks_after = 0
    fetch(server, tmp_path)
    assert asked[1]["Range"] == "bytes=100000-"
    assert download.read_record(tmp_path / NAME)["SHA256"] == hashlib.sha256(ARCHIVE).hexdigest()


@pytest.mark.parametrize("change", ["content", "ranges"])
def test_a_changed_or_unresumable_file_is_downloaded_again(server, tmp_path, change):
    server.breaks_after = 100_000
    with pytest.raises(InputError):
        fetch(server, tmp_path)
    server.breaks_after = 0
    if change == "content":
        server.content, server.tag = make_zip({"other.nii.gz": b"x" * 200_000}), '"two"'
    else:
        server.ranges = False
    fetch(server, tmp_path)
    assert download.read_record(tmp_path / NAME)["SHA256"] == hashlib.sha256(server.content).hexdigest()


def test_a_download_interrupted_at_its_end_is_completed(server, tmp_path):
    (tmp_path / f"{NAME}.zip.part").write_bytes(ARCHIVE)
    (tmp_path / f"{NAME}.zip.part.tag").write_text(server.tag)
    assert fetch(server, tmp_path).is_dir()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../../away.txt": b"x"}, "a file outside of it"),
        ({"/away.txt": b"x"}, "a file outside of it"),
    ],
)
def test_an_archive_writes_only_into_its_folder(server, tmp_path, files, message):
    server.content = make_zip(files)
    with pytest.raises(InputError, match=message):
        fetch(server, tmp_path / "in")
    assert not list(tmp_path.rglob("away.txt"))
    assert not (tmp_path / "in" / NAME).exists()


def test_too_large_archives_are_not_unpacked(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_BYTES", 1000)
    with pytest.raises(InputError, match="more than 1000"):
        fetch(server, tmp_path)
    assert not list(tmp_path.iterdir())
    server.content = b"0" * 5000
    with pytest.raises(InputError, match="sends more than 1000 bytes"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("damage", ["no zip", "one bit"])
def test_damage_is_found_and_removed(server, tmp_path, damage):
    if damage == "no zip":
        server.content = b"<html>log in first</html>"
    else:
        content = bytearray(ARCHIVE)
        content[500_000] ^= 1
        server.content = bytes(content)
    with pytest.raises(InputError, match="expected a zip file") as caught:
        fetch(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / NAME).exists()
    assert not (tmp_path / f"{NAME}.zip.part").exists()


def test_a_file_with_another_checksum_is_not_kept(server, tmp_path):
    with pytest.raises(InputError, match="expected SHA-256 00"):
        fetch(server, tmp_path, sha256="00" * 32)
    assert not list(tmp_path.iterdir())


def test_a_wrong_range_from_the_server_is_rejected(server, tmp_path):
    server.breaks_after, server.shift = 100_000, -1
    with pytest.raises(InputError, match="100000 came"):
        fetch(server, tmp_path)
    with pytest.raises(InputError, match="another part than asked for; repeat the command"):
        fetch(server, tmp_path)
    server.breaks_after = 0
    fetch(server, tmp_path)
    assert download.read_record(tmp_path / NAME)["SHA256"] == hashlib.sha256(ARCHIVE).hexdigest()


def test_an_invalid_content_length_is_ignored(server, tmp_path):
    server.length = "unknown"
    fetch(server, tmp_path)
    assert download.read_record(tmp_path / NAME)["Bytes"] == len(ARCHIVE)


def test_a_refusing_server_is_one_line_with_advice(server, tmp_path, capsys):
    server.status = 404
    assert main(["download", NAME, "-o", str(tmp_path), "-address", address(server)]) == 2
    error = capsys.readouterr().err
    assert "the server answered 404" in error
    assert "with a browser" in error
    assert error.count("\n") == 1


def test_no_network_is_one_line_with_advice(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        code = main(["download", NAME, "-o", str(tmp_path), "-address", f"http://127.0.0.1:{taken.getsockname()[1]}/x"])
    assert code == 2
    error = capsys.readouterr().err
    assert "no connection" in error
    assert "check network and proxy" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sct-tutorials"], "expected one of sct-tutorial, sct-course-2020"),
        ([NAME, "-address", "file:///etc/passwd"], "begins with https://"),
        ([NAME, "-address", "http://127.0.0.1:9/ä.zip"], "expected a web address as a browser shows it when copied"),
        ([NAME, "-address", "http://[bad/x"], "expected a web address as a browser shows it when copied"),
        ([NAME, "-sha256", "abc"], "expected 64 of the characters 0-9 and a-f, found 3"),
    ],
)
def test_mistakes(argv, message, tmp_path, capsys):
    assert main(["download", *argv, "-o", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_of_that_name_is_not_touched(server, tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(InputError, match="name another by -o"):
        fetch(server, tmp_path)


def test_the_list_says_address_licence_and_that_no_checksum_is_known(capsys):
    assert main(["download"]) == 0
    listed = capsys.readouterr().out
    for name, dataset in download.DATASETS.items():
        assert name in listed
        assert dataset.address in listed
    assert "SHA-256: none published" in listed
