"""Damage headers and compressed files at random and report the time and memory that reading takes.

    python benchmarks/fuzz_reading.py -headers 10000 -files 1000

Each damaged file is read as an image and as a mask, and an empty mask is written on its grid and read again. Every file
must be read or refused in one line, within 2 s and 500 MB, and a compressed file whose checksum does not match must not
be read. The process exits with 1 if any file breaks these rules.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import traceback
import tracemalloc
from collections import Counter
from pathlib import Path
from time import perf_counter

import nibabel as nib
import numpy as np

from spineseg.errors import InputError
from spineseg.volume import load_image, load_mask, save_volume

MAX_SECONDS, MAX_BYTES = 2.0, 500e6

HEADER_BYTES = 348

ODD_NUMBERS = (0, 1, -1, 2, 7, 255, 32767, -32768)
ODD_FLOATS = (0.0, -1.0, 1e-38, 1e-30, 1e30, 1e38, np.nan, np.inf, -np.inf, 0.3, 1.0000001, 1000.0)


def make_files() -> dict[str, bytes]:
    """Return small valid files: an image, a mask, a series, a 2-D image, swapped byte order, NIfTI-2."""
    rng = np.random.default_rng(0)
    affine = np.diag([-0.5, 0.5, 3.0, 1.0])
    soft = rng.random((16, 18, 8)).astype(np.float32)
    swapped = nib.Nifti1Image(soft, affine, nib.Nifti1Header(endianness=">"))
    images = {
        "image": nib.Nifti1Image((soft * 900).astype(np.int16), affine),
        "mask": nib.Nifti1Image((soft > 0.8).astype(np.uint8), affine),
        "series": nib.Nifti1Image(rng.random((8, 9, 5, 4)).astype(np.float32), affine),
        "flat": nib.Nifti1Image(rng.random((16, 18)).astype(np.float32), affine),
        "swapped": swapped,
        "nifti2": nib.Nifti2Image(soft, affine),
    }
    for image in images.values():
        image.set_qform(affine, 1)
    return {name: image.to_bytes() for name, image in images.items()}


def damage_header(raw: bytes, rng: np.random.Generator) -> bytes:
    """Change one to four fields or bytes of a header; the rest of the file is unchanged."""
    damaged = bytearray(raw)
    for _ in range(rng.integers(1, 5)):
        start = int(rng.integers(0, HEADER_BYTES - 8))
        way = int(rng.integers(0, 4))
        if way == 0:
            damaged[start] ^= 1 << int(rng.integers(0, 8))
        elif way == 1:
            damaged[start] = int(rng.integers(0, 256))
        elif way == 2:
            start -= start % 2
            damaged[start : start + 2] = np.int16(rng.choice(ODD_NUMBERS)).tobytes()
        else:
            start -= start % 4
            damaged[start : start + 4] = np.float32(rng.choice(ODD_FLOATS)).tobytes()
    return bytes(damaged)


def damage_stream(raw: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, cut, repeat, overwrite or lengthen a compressed file."""
    damaged = bytearray(raw)
    place, other = sorted(rng.integers(0, len(raw), 2).tolist())
    way = int(rng.integers(0, 6))
    if way == 0:
        damaged[place] ^= 1 << int(rng.integers(0, 8))
    elif way == 1:
        del damaged[place:]
    elif way == 2:
        del damaged[place : place + 1 + (other - place) // 8]
    elif way == 3:
        damaged[place:place] = damaged[place : place + 100]
    elif way == 4:
        damaged[place : place + 16] = rng.bytes(len(damaged[place : place + 16]))
    else:
        damaged += rng.bytes(int(rng.integers(1, 50)))
    return bytes(damaged)


def use_file(path: Path) -> str:
    """Read a file as image and as mask, and write on its grid; return ``read`` or ``refused``."""
    outcome = "refused"
    for read in (load_image, load_mask, lambda p: load_mask(p, any_positive=True)):
        try:
            volume, grid = read(path)
        except InputError as error:
            if "\n" in str(error) or str(path) not in str(error):
                raise AssertionError(f"not one line with the file's name: {error}") from error
            continue
        outcome = "read"
        if not np.isfinite(volume.data).all():
            raise AssertionError("values that are not finite")
        target = path.with_name("out.nii.gz")
        save_volume(target, np.zeros(volume.shape, np.uint8), grid)
        load_mask(target, like=grid)
    return outcome


def main() -> int:
    """Damage, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-headers", type=int, default=10_000, help="damaged headers; default 10000")
    parser.add_argument("-files", type=int, default=1000, help="damaged compressed files; default 1000")
    parser.add_argument("-seed", type=int, default=1)
    args = parser.parse_args()
    rng, valid = np.random.default_rng(args.seed), list(make_files().values())
    counts: Counter[str] = Counter()
    slowest = largest = 0.0
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.headers + args.files):
            raw = valid[number % len(valid)]
            is_header = number < args.headers
            packed = bool(rng.integers(0, 2)) if is_header else True
            content = damage_header(raw, rng) if is_header else raw
            content = gzip.compress(content, 6, mtime=0) if packed else content
            content = content if is_header else damage_stream(content, rng)
            path = Path(folder) / ("a.nii.gz" if packed else "a.nii")
            path.write_bytes(content)
            tracemalloc.start()
            start = perf_counter()
            try:
                outcome = use_file(path)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                outcome = "fault"
                faults.append((number, traceback.format_exc(limit=-3)))
            slowest, largest = max(slowest, perf_counter() - start), max(largest, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            if not is_header and outcome == "read" and gunzip_or_none(content) != raw:
                faults.append((number, "a damaged stream was read"))
            counts[f"{'header' if is_header else 'compressed file'}: {outcome}"] += 1
    for name, n in sorted(counts.items()):
        print(f"{name} {n}")
    print(f"slowest {slowest:.2f} s, largest {largest / 1e6:.0f} MB, faults {len(faults)}")
    for number, text in faults[:5]:
        print(f"--- {number}\n{text}")
    return int(bool(faults) or slowest > MAX_SECONDS or largest > MAX_BYTES)


def gunzip_or_none(content: bytes) -> bytes | None:
    """Return the content decompressed by Python's own reader; None if the reader finds damage."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, gzip.zlib.error):
        return None


if __name__ == "__main__":
    sys.exit(main())
