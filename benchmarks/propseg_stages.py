"""Measure the cost of propseg: start-up, stages, memory, ten images in one call, and growth with the number of slices.

    python benchmarks/propseg_stages.py t2:IMAGE t2s:IMAGE ... [-repeat N] [-ten]

Each call is a new process of `spineseg propseg`, as a user starts it. The run with the least wall time is printed, as
other work on the machine only adds time. User + system CPU seconds, on which other work has little effect, are printed
too. Start-up is the wall time of the process less its stages in the sidecar. Growth is the CPU time of the method on 1,
2 and 4 copies of the cord's slices, mirrored so that their ends meet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from fresh_process import Call, call_spineseg

STAGES = ("start-up", "reading", "centerline", "propagation", "refinement", "rasterisation", "writing")


def call_propseg(arguments: list[str], sidecar: Path | None = None) -> Call:
    """Run ``spineseg propseg`` in a fresh process."""
    return call_spineseg(["propseg", *arguments], sidecar)


def measure_calls(image: Path, contrast: str, repeat: int, ten: bool) -> list[str]:
    """Return lines on one call, and on ten images in one call against ten calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single = ["-i", str(image), "-c", contrast, "-o", str(folder / "mask.nii.gz")]
        calls = [call_propseg(single, folder / "mask.json") for _ in range(repeat)]
        best = min(calls, key=lambda call: call.wall)
        cpu = min(call.cpu for call in calls)
        lines = [f"{image.name} ({contrast}), least of {repeat} calls"]
        lines += [f"  {stage:<14}{best.stages.get(stage, 0.0):6.2f} s" for stage in STAGES]
        lines += [f"  whole command {best.wall:6.2f} s wall, {cpu:.2f} s CPU, peak {best.peak_mib:.0f} MiB"]
        if ten:
            copies = [folder / f"copy{n}_{image.name}" for n in range(10)]
            for copy in copies:
                shutil.copy(image, copy)
            every = call_propseg(["-i", *map(str, copies), "-c", contrast, "-ofolder", name])
            each = [
                call_propseg(["-i", str(copy), "-c", contrast, "-o", str(folder / "mask.nii.gz")]) for copy in copies
            ]
            wall, cpu = sum(call.wall for call in each), sum(call.cpu for call in each)
            lines += [f"  ten images    {every.wall:6.2f} s wall, {every.cpu:.2f} s CPU in one call"]
            lines += [f"                {wall:6.2f} s wall, {cpu:.2f} s CPU in ten calls"]
    return lines


def measure_growth(image: Path, contrast: str, repeat: int) -> list[str]:
    """Return lines with the CPU seconds for 1, 2 and 4 times the slices."""
    from spineseg.centerline.estimate import estimate_centerline
    from spineseg.propseg.segment import segment_cord
    from spineseg.volume import Volume, load_image

    volume, _ = load_image(image, contrast=contrast)
    first, last = estimate_centerline(volume, contrast).slices[[0, -1]]
    cord = volume.data[:, :, first : last + 1]
    lines = []
    for times in (1, 2, 4):
        turned = [slice(None, None, -1 if n % 2 else 1) for n in range(times)]
        stacked = Volume(np.concatenate([cord[:, :, turn] for turn in turned], axis=2), volume.affine)
        cost = []
        for _ in range(repeat):
            start = time.process_time()
            line = estimate_centerline(stacked, contrast)
            middle = time.process_time()
            segment_cord(stacked, contrast, centerline=line)
            cost.append((middle - start, time.process_time() - middle))
        found, rest = np.min(cost, axis=0)
        each = 1000 * (found + rest) / stacked.shape[2]
        lines += [f"  {stacked.shape[2]:4d} slices ({times}x): {found:.2f} s CPU centerline, {rest:.2f} s the rest, "]
        lines[-1] += f"{each:.1f} ms per slice"
    return lines


def main() -> None:
    """Measure each image given as CONTRAST:IMAGE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="CONTRAST:IMAGE")
    parser.add_argument("-repeat", type=int, default=5, metavar="N", help="calls; the fastest counts; default 5")
    parser.add_argument("-ten", action="store_true", help="also ten images in one call against ten calls")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{len(os.sched_getaffinity(0))} cores, load {load:.1f} at the start")
    images = [item.partition(":")[::2] for item in args.images]
    for contrast, image in images:
        print("\n".join(measure_calls(Path(image), contrast, args.repeat, args.ten)), flush=True)
    for contrast, image in images:  # afterwards: Linux counts the parent's memory to a new process
        print(f"{Path(image).name}, growth")
        print("\n".join(measure_growth(Path(image), contrast, min(3, args.repeat))), flush=True)


if __name__ == "__main__":
    main()
