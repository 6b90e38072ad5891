"""Damaged files: no wrong voxel goes unnoticed, and each file is refused in one line."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import re
import tracemalloc
from pathlib import Path
from time import monotonic

import nibabel as nib
import numpy as np
import pytest
from helpers import refusal

from spineseg.errors import InputError, MachineError
from spineseg.volume import load_image, load_mask
from spineseg.volume.compressed import CHUNK_BYTES
from spineseg.volume.stored import open_image

AFFINE = np.diag([-0.5, 0.5, 3.0, 1.0])


def content(data=None) -> bytes:
    data = np.random.default_rng(0).integers(0, 900, (24, 20, 6)).astype(np.int16) if data is None else data
    return nib.Nifti1Image(data, AFFINE).to_bytes()


def write(path, raw: bytes):
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("read", [load_image, load_mask])
# row: any bit of a `.nii.gz` flipped | refused, or every voxel as before
def test_no_single_bit_of_a_compressed_file_changes_a_voxel_unnoticed(tmp_path, read):
    data = (np.random.default_rng(0).random((24, 20, 6)) > 0.7).astype(np.uint8)
    raw = gzip.compress(content(data), mtime=0)
    path = write(tmp_path / "a.nii.gz", raw)
    whole, grid = read(path)
    rng = np.random.default_rng(1)
    bits = {*range(20 * 8), *range(len(raw) * 8 - 64, len(raw) * 8), *rng.integers(0, len(raw) * 8, 500).tolist()}
    n_refused = 0
    for bit in sorted(bits):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            volume, own = read(path)
        except InputError:
            n_refused += 1
            continue
        np.testing.assert_array_equal(volume.data, whole.data)  # a bit of the gzip header, such as its time
        np.testing.assert_array_equal(own.affine, grid.affine)
    assert n_refused > 600


@pytest.mark.parametrize("keep", [1, 9, 17, 100, 0.3, 0.7, -9, -8, -4, -1])
# row: truncated `.nii.gz` | refused
def test_a_cut_compressed_file_is_refused(tmp_path, keep):
    raw = gzip.compress(content())
    cut = raw[: int(keep * len(raw)) if isinstance(keep, float) else keep]
    refusal(write(tmp_path / "a.nii.gz", cut))


@pytest.mark.parametrize("tail", [b"x", b"trailing garbage", b"\0" * 30 + b"x", b"\x1f\x8b garbage", b"\x1f"])
# row: bytes after the end of a `.nii.gz` | refused; zeros are padding
def test_bytes_after_a_compressed_file_are_refused(tmp_path, tail):
    assert "damaged" in refusal(write(tmp_path / "a.nii.gz", gzip.compress(content()) + tail))


# row: a second image in the stream | refused
def test_a_second_image_in_the_stream_is_refused(tmp_path):
    assert "more follow" in refusal(write(tmp_path / "a.nii.gz", gzip.compress(content()) * 2))


# row: with `test_bytes_after_a_compressed_file_are_refused`
def test_a_stream_in_parts_and_padding_are_read(tmp_path):
    raw = content(np.random.default_rng(0).random((80, 80, 60)))
    expected = load_image(write(tmp_path / "whole.nii", raw))[0].data
    cuts = (0, 10, 400, 401, CHUNK_BYTES, CHUNK_BYTES + 1, len(raw))
    parts = b"".join(gzip.compress(raw[a:b]) for a, b in itertools.pairwise(cuts))
    for name, stream in {
        "parts": parts,
        "padded": gzip.compress(raw) + bytes(5000),
        "stored": gzip.compress(raw, 0),
    }.items():
        np.testing.assert_array_equal(load_image(write(tmp_path / f"{name}.nii.gz", stream))[0].data, expected)


@pytest.mark.parametrize("change", [-1, -2880, 1, 16, 5000])
# row: `.nii` longer or shorter than its header claims | refused
def test_an_uncompressed_file_of_another_length_is_refused(tmp_path, change):
    raw = content()
    changed = raw[:change] if change < 0 else raw + bytes(change)
    message = refusal(write(tmp_path / "a.nii", changed))
    assert f"its header claims {len(raw)} bytes, found {len(changed)}" in message


# row: compressed but named `.nii`, or the reverse | refused
def test_names_and_content_must_agree(tmp_path):
    raw = content()
    assert "is not compressed but named with .gz" in refusal(write(tmp_path / "a.nii.gz", raw))
    assert "is compressed but named without .gz" in refusal(write(tmp_path / "a.nii", gzip.compress(raw)))


# row: the same with names in capitals (`.NII.GZ`) | the same
def test_names_in_capitals_are_checked_as_well(tmp_path):
    raw = content()
    assert load_image(write(tmp_path / "a.NII.GZ", gzip.compress(raw)))[0].shape
    assert load_image(write(tmp_path / "a.Nii", raw))[0].shape
    assert "more follow" in refusal(write(tmp_path / "b.NII.GZ", gzip.compress(raw) + zeros(64 << 20)))
    assert "its header claims" in refusal(write(tmp_path / "b.NII", raw + b"x"))


# row: one of `.img` and `.hdr` alone, or more in the `.img` than its header claims | refused
def test_an_image_of_two_files_needs_both_and_the_stated_length(tmp_path):
    data = np.random.default_rng(0).random((10, 11, 12)).astype(np.float32)
    for name, kind, end in (("a", nib.Nifti1Pair, ""), ("b", nib.Spm99AnalyzeImage, ""), ("c", nib.Nifti1Pair, ".gz")):
        image, header = tmp_path / f"{name}.img{end}", tmp_path / f"{name}.hdr{end}"
        nib.save(kind(data, AFFINE), image)
        assert load_image(image)[0].shape == data.shape
        if not end:
            write(image, image.read_bytes() + b"x")
            assert f"{name}.img has more" in refusal(image)
        header.rename(tmp_path / f"other.hdr{end}")
        assert f"expected {name}.hdr beside it" in refusal(image)
        assert "expected other.img beside it" in refusal(tmp_path / f"other.hdr{end}")


@pytest.mark.parametrize("name", ["a.mgz", "a.img.gz"])
# row: decompression bombs as `.mgz`, `.img.gz` | refused within a second
def test_bombs_of_other_formats_are_refused_at_once(tmp_path, name):
    data = np.zeros((10, 11, 12), np.float32)
    nib.save((nib.MGHImage if name == "a.mgz" else nib.Nifti1Pair)(data, AFFINE), tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    write(tmp_path / name, raw + zeros(64 << 20))
    start = monotonic()
    assert f"{name} has more" in refusal(tmp_path / name)
    assert monotonic() - start < 1


# row: pointers of Git LFS and git-annex, broken links, `.bz2` | refused; the message says how to fetch or open the file
def test_pointers_and_other_formats_are_named(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"
    assert "git lfs pull fetches it" in refusal(write(tmp_path / "a.nii.gz", pointer))
    (tmp_path / "b.nii.gz").symlink_to(".git/annex/objects/x.nii.gz")
    assert "broken link" in refusal(tmp_path / "b.nii.gz")
    assert "found .bz2; decompress it" in refusal(write(tmp_path / "c.nii.bz2", b"BZh9"))


# row: `.mgz`, `.img.gz` with a wrong check sum | refused
def test_pairs_and_other_formats_are_checked_to_their_end(tmp_path):
    data = np.random.default_rng(0).random((10, 11, 12)).astype(np.float32)
    nib.save(nib.MGHImage(data, AFFINE), tmp_path / "a.mgz")
    nib.save(nib.Nifti1Pair(data, AFFINE), tmp_path / "b.img.gz")
    for path in (tmp_path / "a.mgz", tmp_path / "b.img.gz"):
        np.testing.assert_array_equal(np.sort(load_image(path)[0].data, axis=None), np.sort(data, axis=None))
        raw = bytearray(path.read_bytes())
        raw[-6] ^= 1
        refusal(write(path, bytes(raw)))


# row: folder, pipe, loop of links, name too long | refused
def test_anything_but_a_file_is_refused(tmp_path):
    (tmp_path / "folder.nii.gz").mkdir()
    assert "found a folder" in refusal(tmp_path / "folder.nii.gz")
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    refusal(tmp_path / "loop.nii.gz")
    refusal(tmp_path / ("n" * 300 + ".nii.gz"))
    os.mkfifo(tmp_path / "pipe.nii.gz")
    assert "found no plain file" in refusal(tmp_path / "pipe.nii.gz")
    refusal(write(tmp_path / "file", b"") / "a.nii.gz")


# row: too little memory, failing disk | reported as such, not as damage
def test_short_memory_and_a_failing_disk_are_not_called_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii.gz", gzip.compress(content()))
    monkeypatch.setattr("spineseg.volume.stored.read_compressed", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        load_image(path)
    failing = OSError(5, "Input/output error")
    monkeypatch.setattr("spineseg.volume.stored.read_compressed", lambda *_: (_ for _ in ()).throw(failing))
    with pytest.raises(MachineError, match=f"{path}: cannot be read .Input/output error.; check the disk"):
        load_image(path)


def header_of(shape, dtype=np.int16) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(AFFINE, 1)
    header["vox_offset"] = 352
    return header.binaryblock + bytes(4)


def zeros(n: int) -> bytes:
    """A gzip stream's body of n zero bytes, made in pieces."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=9) as stream:
        for _ in range(n >> 20):
            stream.write(bytes(1 << 20))
    return sink.getvalue()


BOMBS = {
    "32 kB claim 1200 cubed": (header_of((1200,) * 3), 32 << 20, ".nii.gz"),
    "an honest 1 GB of one value": (header_of((512, 512, 256, 8)), 1 << 30, ".nii.gz"),
    "a small image, followed by 256 MB": (header_of((40, 40, 10)), 256 << 20, ".nii.gz"),
    "many volumes": (header_of((200, 200, 200, 32000)), 32 << 20, ".nii.gz"),
    "the largest header": (header_of((32767,) * 7), 1 << 20, ".nii.gz"),
    "not compressed": (header_of((1200,) * 3), 32 << 10, ".nii"),
}


@pytest.mark.parametrize("kind", BOMBS)
# row: a header that claims more than the file holds, or more than the limits | refused within 1 s and 200 MB
def test_header_bombs_are_refused_within_a_second_and_200_mb(tmp_path, kind):
    header, n, ending = BOMBS[kind]
    path = write(
        tmp_path / f"a{ending}", gzip.compress(header) + zeros(n) if ending == ".nii.gz" else header + bytes(n)
    )
    for read in (load_image, load_mask) if "honest" not in kind else (load_image,):
        tracemalloc.start()
        start = monotonic()
        refusal(path, read=read)
        seconds, peak = monotonic() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < 1
        assert peak < 200e6


# row: the largest public fMRI (104 x 104 x 72 x 1200) | opened
def test_the_largest_series_pass_the_limits_of_the_header(tmp_path):
    shape = (104, 104, 72, 1200)  # the largest public fMRI; a sparse file of the right length
    path = write(tmp_path / "a.nii", header_of(shape))
    with path.open("r+b") as stream:
        stream.truncate(352 + 2 * int(np.prod(shape)))
    assert open_image(path).n_volumes == 1200


def held_mib() -> float:
    """Memory of this process, without pages of libraries, which come and go when the machine is busy."""
    (kib,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) / 1024


# row: a mask that compresses to a 500th | read, a few planes at a time; its zeros take no memory
def test_a_mask_that_compresses_well_is_read_and_its_zeros_take_no_memory(tmp_path):
    data = np.zeros((320, 320, 200), np.float64)
    data[150:160, 150:160] = 1
    path = tmp_path / "m.nii.gz"
    path.write_bytes(gzip.compress(content(data)))
    assert path.stat().st_size * 500 < data.nbytes
    total = data.sum()
    del data
    before = held_mib()
    mask = load_mask(path)[0].data
    assert held_mib() - before < mask.nbytes / 2**20 / 2
    assert mask.sum() == total
