"""Measure the cost of deepseg (start-up, stages, memory, threads, ten images in one call), and compare masks.

    python benchmarks/deepseg_stages.py t2:IMAGE t2s:IMAGE ... [-repeat N]

Each call is a new process of `spineseg deepseg`, as a user starts it, with 1 and with 2 threads. The run with the least
wall time is printed, as other work on the machine only adds time. User + system CPU seconds, on which other work has
little effect, are printed too. Start-up is the wall time of the process less its stages in the sidecar. The command
line has no batch size: masks with several batch sizes are made by `segment_cord` and compared with the file that the
command wrote.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from fresh_process import Call, call_spineseg

STAGES = ("start-up", "reading", "detection", "centerline", "segmentation", "clean-up", "writing")
BATCHES = (1, 7, 32, 100)
"""Batch sizes: one patch, a number that divides no usual number of slices, the default, and more than most images have
slices."""


def measure_calls(image: Path, contrast: str, threads: int, repeat: int, mask: Path) -> tuple[Call, str]:
    """Return the best of several calls, which write `mask`, and its line."""
    arguments = ["deepseg", "-i", str(image), "-c", contrast, "-o", str(mask), "-threads", str(threads)]
    sidecar = mask.with_name(mask.name.removesuffix(".nii.gz") + ".json")
    calls = [call_spineseg(arguments, sidecar) for _ in range(repeat)]
    best, cpu = min(calls, key=lambda call: call.wall), min(call.cpu for call in calls)
    peak = max(call.peak_mib for call in calls)
    return best, f"  {threads} thread(s)   {best.wall:6.2f} s wall, {cpu:.2f} s CPU, peak {peak:.0f} MiB"


def measure_ten(image: Path, contrast: str, threads: int, folder: Path, single: Call) -> str:
    """Return a line on ten copies of an image in one call."""
    copies = [folder / f"copy{n}_{image.name}" for n in range(10)]
    for copy in copies:
        shutil.copy(image, copy)
    options = ["-c", contrast, "-ofolder", str(folder), "-threads", str(threads)]
    every = call_spineseg(["deepseg", "-i", *map(str, copies), *options])
    each_wall, each_cpu = (every.wall - single.wall) / 9, (every.cpu - single.cpu) / 9
    line = (
        f"  ten images    {every.wall:6.2f} s wall, {every.cpu:.2f} s CPU, peak {every.peak_mib:.0f} MiB in one call "
    )
    return line + f"({threads} threads); each after the first {each_wall:.2f} s wall, {each_cpu:.2f} s CPU"


def compare_batches(image: Path, contrast: str, mask: Path) -> str:
    """Return a line that says which batch sizes give the mask of the command line, voxel for voxel."""
    from spineseg.deepseg.model import load_models
    from spineseg.deepseg.segment import DeepsegParams, segment_cord
    from spineseg.volume import load_image, save_volume

    volume, grid = load_image(image, contrast=contrast)
    models = load_models(None, device="cpu", threads=1)
    equal = []
    for batch in BATCHES:
        result = segment_cord(volume, contrast, DeepsegParams(batch=batch), models=models)
        again = mask.with_name(f"batch{batch}.nii.gz")
        save_volume(again, result.cord_mask, grid, np.uint8)
        equal.append(f"{batch}: {'equal' if again.read_bytes() == mask.read_bytes() else 'DIFFERENT'}")
    return "  mask files by batch size  " + ", ".join(equal)


def measure_image(image: Path, contrast: str, repeat: int, folder: Path) -> list[str]:
    """Return the lines of one image, and leave its masks in the folder."""
    masks = {threads: folder / f"threads{threads}.nii.gz" for threads in (1, 2)}
    measured = {n: measure_calls(image, contrast, n, repeat, mask) for n, mask in masks.items()}
    lines = [f"{image.name} ({contrast}), least of {repeat} calls; stages with 1 | 2 threads"]
    for stage in STAGES:
        one, two = (measured[n][0].stages.get(stage, 0.0) for n in (1, 2))
        lines.append(f"  {stage:<14}{one:6.2f} | {two:.2f} s")
    lines += [line for _, line in measured.values()]
    lines += [measure_ten(image, contrast, threads, folder, best) for threads, (best, _) in measured.items()]
    same = masks[1].read_bytes() == masks[2].read_bytes()
    lines.append(f"  mask files by threads     1 and 2: {'equal' if same else 'DIFFERENT'}")
    return lines


def main() -> None:
    """Measure each image given as CONTRAST:IMAGE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="CONTRAST:IMAGE")
    parser.add_argument("-repeat", type=int, default=5, metavar="N", help="calls; the fastest counts; default 5")
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at the start", flush=True)
    images = [item.partition(":")[::2] for item in args.images]
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(n) for n in range(len(images))]
        for (contrast, image), folder in zip(images, folders, strict=True):
            folder.mkdir()
            print("\n".join(measure_image(Path(image), contrast, args.repeat, folder)), flush=True)
        for (contrast, image), folder in zip(images, folders, strict=True):  # torch in this process would add to peaks
            print(Path(image).name)
            print(compare_batches(Path(image), contrast, folder / "threads1.nii.gz"), flush=True)


if __name__ == "__main__":
    main()
