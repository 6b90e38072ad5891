"""Print what propseg costs by stage, how it grows with the number of slices, and what many images in one call save.

    python benchmarks/propseg_stages.py t2:IMAGE t2s:IMAGE ...

Wall seconds and peak memory of `spineseg propseg` as a user calls it (a fresh process each), its stages from the
sidecar, then the method alone on 1, 2 and 4 copies of the image stacked along the cord, in CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def run_command(arguments: list[str]) -> float:
    """Run spineseg in a fresh process and return wall seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "spineseg", *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def measure_command(image: str, contrast: str) -> None:
    """Print wall time, peak memory and stages of one call, and the time of ten images in one call."""
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "mask.nii.gz"
        seconds = run_command(["propseg", "-i", image, "-c", contrast, "-o", str(mask), "-v", "0"])
        sidecar = json.loads(mask.with_name("mask.json").read_text())
        copies = [str(Path(folder) / f"copy{n}_{Path(image).name}") for n in range(10)]
        for copy in copies:
            shutil.copy(image, copy)
        ten = run_command(["propseg", "-i", *copies, "-c", contrast, "-ofolder", folder, "-v", "0"])
    print(f"{Path(image).name}: {seconds:.2f} s, peak {sidecar['PeakMB']:.0f} MiB; stages {sidecar['Seconds']}")
    print(f"  ten images: {ten:.2f} s in one call, {10 * seconds:.2f} s in ten")


def measure_growth(image: str, contrast: str) -> None:
    """Print CPU seconds of the method alone for 1, 2 and 4 times the slices."""
    from spineseg.centerline.curve import Centerline
    from spineseg.centerline.estimate import estimate_centerline
    from spineseg.propseg.segment import segment_cord
    from spineseg.volume import Volume, load_image

    volume, _ = load_image(image, contrast=contrast)
    line = estimate_centerline(volume, contrast)
    first, last = line.slices[[0, -1]]
    cord = volume.data[:, :, first : last + 1]
    for times in (1, 2, 4):
        turned = [slice(None, None, -1 if n % 2 else 1) for n in range(times)]  # mirrored, so that ends meet
        data = np.concatenate([cord[:, :, turn] for turn in turned], axis=2)
        points = np.concatenate([line.points_vox[turn] for turn in turned])
        points[:, 2] = np.arange(len(points))
        start = time.process_time()
        segment_cord(Volume(data, volume.affine), contrast, centerline=Centerline(points))
        print(f"  {data.shape[2]} slices ({times}x): {time.process_time() - start:.2f} s CPU without centerline")


def main() -> None:
    """Measure each image given as CONTRAST:IMAGE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="CONTRAST:IMAGE")
    for item in parser.parse_args().images:
        contrast, _, image = item.partition(":")
        measure_command(image, contrast)
        measure_growth(image, contrast)
    print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
