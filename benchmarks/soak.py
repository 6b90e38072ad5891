"""Segment and measure many images in one process, and check that its memory and open files do not grow.

    python benchmarks/soak.py -n 600 [-methods propseg deepseg]

Synthetic images of all contrasts and of various sizes are read, segmented and written, as in a chunk of a study. Every
tenth image is damaged, to include errors. Memory, open files, threads and temporary files are printed 50 times. In the
second half, memory may grow by `ROOM_MB` and the others must not grow; otherwise the exit code is 1.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np

from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.methods.declared import DeclaredMethod
from spineseg.methods.segment_file import ImageTask, segment_or_explain
from spineseg.phantom.dataset import SUFFIXES, make_image
from spineseg.progress import Progress

ROOM_MB = 60
"""Memory that the allocator may additionally keep after the first half, in which all image sizes occur: one image's
arrays."""

KINDS = 12
"""Number of different images; each use crops by other amounts, so that no two have the same size."""


def resident_mb() -> float:
    """Return the memory that the process holds, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=600)
    parser.add_argument("-seed", type=int, default=5)
    parser.add_argument("-methods", nargs="+", default=["propseg", "deepseg"])
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    methods = [DeclaredMethod(name, name).prepare(threads=1) for name in args.methods]
    kinds = [(SUFFIXES[i % len(SUFFIXES)], make_image(args.seed, i, SUFFIXES[i % len(SUFFIXES)])) for i in range(KINDS)]
    early: tuple[float, int, int] | None = None
    failed, start, odd = 0, time.process_time(), []
    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder) / "image.nii.gz", Path(folder) / "mask.nii.gz"
        print("images\tMiB\topen files\tthreads\tfiles left\tfailed\tprocessor s", flush=True)
        for number in range(1, args.n + 1):
            suffix, made = kinds[number % KINDS]
            data = made.data[tuple(slice(0, n - int(rng.integers(0, 4))) for n in made.data.shape[:3])]
            nib.save(nib.Nifti1Image(data, made.acquisition.affine), image)
            if number % 10 == 0:
                whole = bytearray(image.read_bytes())
                whole[len(whole) // 2] ^= 255
                image.write_bytes(whole)
            task = ImageTask(image, mask, SUFFIX_CONTRAST[suffix])
            for method in methods:
                result = segment_or_explain(task, method, Progress(verbosity=0))
                failed += result.sidecar.status == "failed"
            if number % max(1, args.n // 50) == 0:
                gc.collect()
                now = resident_mb(), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
                left = sorted(p.name for p in Path(folder).iterdir())
                seconds = time.process_time() - start
                print(f"{number}\t{now[0]:.0f}\t{now[1]}\t{now[2]}\t{len(left)}\t{failed}\t{seconds:.0f}", flush=True)
                if number >= args.n / 2:
                    early = early or now
                    if now[0] > early[0] + ROOM_MB or now[1] > early[1] or now[2] > early[2]:
                        odd.append(f"after {number} images: {now}, early on {early}")
                if any(name.endswith("-tmp") for name in left):
                    odd.append(f"after {number} images: left {left}")
    expected = len(methods) * (args.n // 10)
    if failed != expected:
        odd.append(f"{failed} results failed, expected {expected}: the damaged ones")
    for line in odd:
        print("does not hold:", line)
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
