"""Print how often deepseg finds cord where there is none.

    python benchmarks/deepseg_negatives.py [-data ../shared/data] [-folds DIR/fold0] [-seed 4711]

The images are phantoms from a seed that no training used, acquired above and below the cord in every contrast, and
objects without a spine: noise, bottles, legs. With `-data`, the real lumbar image is used too; its cord ends at about
slice 92 by eye, it has no reference and was in no training. The result is the share of slices with mask among slices
without cord.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.deepseg.model import load_models
from spineseg.deepseg.segment import segment_cord
from spineseg.phantom.dataset import SUFFIXES, make_image
from spineseg.volume import Volume, load_image, to_canonical

PLACES = {"brain": 90.0, "below the conus": -515.0}
BELOW_CONUS = 80
"""Slice of the lumbar image below which there is certainly no cord: 12 mm below the tip seen by eye."""

AFFINE = np.diag([-1.0, 1.0, 4.0, 1.0])


def phantoms(n: int, seed: int) -> Iterator[tuple[str, str, Volume, np.ndarray]]:
    """Yield the name of the field, the contrast, the image, and which slices hold cord."""
    for place, target in PLACES.items():
        for suffix in SUFFIXES:
            for index in range(n):
                image = make_image(seed, index, suffix, target_s_mm=target)
                data = image.data if image.data.ndim == 3 else image.data[..., 1:].mean(axis=3)  # without b = 0
                affine = image.acquisition.affine
                volume = to_canonical(data.astype(np.float32), affine)
                holds = to_canonical(image.cord_fraction, affine).data.max(axis=(0, 1)) > 0.1
                yield f"phantom, {place}", SUFFIX_CONTRAST[suffix], volume, holds


def things(n: int, seed: int) -> Iterator[tuple[str, str, Volume, np.ndarray]]:
    """Yield noise, bottles and legs, bright on dark and dark on bright."""
    rng, shape = np.random.default_rng(seed), (128, 128, 10)
    i, j = np.indices(shape[:2]) - 63.5
    for index in range(2 * n):
        noise = rng.normal(0, rng.uniform(5, 60), shape)
        at = rng.uniform(-15, 15, (3, 2))
        body = np.hypot(i - at[0, 0], (j - at[0, 1]) * rng.uniform(0.7, 1.4)) < rng.uniform(30, 55)
        leg = np.where(body, 300.0, 20.0)
        for place, radius in zip(at, rng.uniform(5, 20, 3), strict=True):
            distance = np.hypot(i - place[0], j - place[1])
            leg[distance < radius] = 60
            leg[distance < rng.uniform(0.6, 0.85) * radius] = rng.uniform(200, 800)
        for name, image in (
            ("noise", np.full(shape[:2], 200.0)),
            ("bottle", np.where(body, 800.0, 20.0)),
            ("leg", leg),
        ):
            data = image[:, :, None] + noise
            data = data if index % 2 else 1000 - data
            yield name, "t2", Volume(data.astype(np.float32), AFFINE), np.zeros(shape[2], bool)


def lumbar(data: Path) -> Iterator[tuple[str, str, Volume, np.ndarray]]:
    """Yield the real image that ends below the conus, cut where cord is sure to have ended, and whole."""
    volume, _ = load_image(data / "bids/sub-lumbar/anat/sub-lumbar_T2w.nii.gz", contrast="t2")
    below = Volume(volume.data[:, :, :BELOW_CONUS], volume.affine)
    yield "sub-lumbar, below the conus only", "t2", below, np.zeros(BELOW_CONUS, bool)
    yield "sub-lumbar, whole", "t2", volume, np.arange(volume.shape[2]) >= BELOW_CONUS


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, help="folder of the real images")
    parser.add_argument("-folds", type=Path, help="folder of other networks; default: the shipped ones")
    parser.add_argument("-n", type=int, default=5, help="people per contrast and place; default 5")
    parser.add_argument("-seed", type=int, default=4711, help="of people and things; default 4711")
    args = parser.parse_args()
    models = load_models(args.folds, device="cpu", threads=1)
    rows = []
    for source in (phantoms(args.n, args.seed), things(args.n, args.seed), lumbar(args.data) if args.data else ()):
        for name, contrast, volume, holds in source:
            result = segment_cord(volume, contrast, models=models)
            found = result.cord_mask.any(axis=(0, 1))
            rows.append({"what": name, "n": 1, "empty": result.status == "empty"})
            rows[-1] |= {"slices": int((~holds).sum()), "false": int((found & ~holds).sum())}
    table = pd.DataFrame(rows).groupby("what", sort=False).sum()
    print("| shown | images | empty | slices without cord | of these with mask |")
    print("| --- | --- | --- | --- | --- |")
    for row in table.itertuples():
        share = 100 * row.false / max(row.slices, 1)
        print(f"| {row.Index} | {row.n} | {row.empty} | {row.slices} | {row.false} ({share:.1f} %) |")


if __name__ == "__main__":
    main()
