"""Centerline accuracy, cross-validated by person, and speed.

For every person with a reference, detectors are trained without that person and run on the person's images:

    python benchmarks/centerline_accuracy.py -data TSV [-extra TSV] [-shipped] [-o TABLE]

With ``-shipped`` the package's detectors are run instead. This shows the fit, not the accuracy on new people.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spineseg.centerline.curve import centerline_from_mask
from spineseg.centerline.detector import Detector, load_detector
from spineseg.centerline.estimate import estimate_centerline
from spineseg.training.labelled_images import LabelledImage, load_tables
from spineseg.training.optic.fit import load_slices, train_detector
from spineseg.training.optic.train import load_items
from spineseg.volume import load_image, load_mask

RECIPE = Path(__file__).with_name("recipe.tsv")
FAR_MM = 4.0  # beyond it the point lies outside the cord


@dataclass(frozen=True)
class Result:
    """Errors of one image: in-plane distance per labelled slice (NaN where missed), extra slices, seconds."""

    item: LabelledImage
    error_mm: np.ndarray
    seconds: float
    score: np.ndarray


def measure(item: LabelledImage, detector: Detector | None) -> Result:
    """Compare the estimated centerline with the reference's centroid in every slice of the reference."""
    volume, _ = load_image(item.image, contrast=item.contrast)
    reference, _ = load_mask(item.reference)
    truth = centerline_from_mask(reference.data, volume.zooms, threshold=0.5)
    labelled = (reference.data > 0.5).any(axis=(0, 1))[truth.slices]
    start = time.perf_counter()
    line = estimate_centerline(volume, item.contrast, detector=detector)
    seconds = time.perf_counter() - start
    points = np.full((volume.shape[2], 2), np.nan)
    points[line.slices] = line.points_vox[:, :2]
    offset = (points[truth.slices] - truth.points_vox[:, :2])[labelled] * volume.zooms[:2]
    return Result(item, np.hypot(*offset.T), seconds, line.score)


def print_table(results: list[Result]) -> str:
    """Return one row per image and one per contrast."""
    rows = ["image\tcontrast\tslices\tmean_mm\tmedian_mm\tmax_mm\tbeyond_4mm_%\tmissed_%\tscore_min\tseconds"]
    for contrast in sorted({r.item.contrast for r in results}):
        own = [r for r in results if r.item.contrast == contrast]
        rows += [_row(r.item.image.name, contrast, r.error_mm, r.score, r.seconds) for r in own]
        every = np.concatenate([r.error_mm for r in own])
        score = np.concatenate([r.score for r in own])
        rows.append(_row("ALL", contrast, every, score, float(np.mean([r.seconds for r in own]))))
    return "\n".join(rows)


def _row(name: str, contrast: str, error: np.ndarray, score: np.ndarray, seconds: float) -> str:
    found = error[np.isfinite(error)]
    cells = [found.mean(), np.median(found), found.max()] if len(found) else [np.nan] * 3
    far, missed = 100 * np.mean(error > FAR_MM), 100 * np.mean(~np.isfinite(error))
    numbers = [f"{value:.2f}" for value in (*cells, far, missed, score.min(initial=np.inf), seconds)]
    return "\t".join([name, contrast, str(len(error)), *numbers])


def main() -> None:
    """Train without each person, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, required=True, help="labelled images to score and to learn from")
    parser.add_argument("-extra", type=Path, nargs="*", default=[], help="more images to learn from, never scored")
    parser.add_argument("-add", nargs=3, action="append", default=[], help="one more: image, mask, contrast")
    parser.add_argument("-subjects", nargs="*", help="people to score; default all")
    parser.add_argument("-shipped", action="store_true", help="use the package's detectors")
    parser.add_argument("-o", type=Path, help="write the table here too")
    args = parser.parse_args()
    scored, _ = load_tables(args.data, [], RECIPE)
    pool = load_items([args.data, *args.extra], added=args.add, recipe=RECIPE)
    sources = {} if args.shipped else {item.image: load_slices(item) for item in pool}
    results = []
    for subject in args.subjects or sorted({item.subject for item in scored}):
        own = [item for item in scored if item.subject == subject]
        others = [sources[item.image] for item in pool if item.subject != subject and sources]
        for contrast in sorted({item.contrast for item in own}):
            detector = load_detector(contrast) if args.shipped else train_detector(others, contrast)
            results += [measure(item, detector) for item in own if item.contrast == contrast]
            print(_row(subject, contrast, results[-1].error_mm, results[-1].score, results[-1].seconds), flush=True)
    table = print_table(results)
    print(table)
    if args.o:
        args.o.write_text(table + "\n")


if __name__ == "__main__":
    main()
