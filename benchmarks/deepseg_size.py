"""Print whether deepseg's masks are too small or too large, by threshold, on people and on phantoms.

    python benchmarks/deepseg_size.py -data ../shared/data/labelled.tsv
    python benchmarks/deepseg_size.py -suffixes bold -n 20 -hard some -thr 0.36 0.38 0.4 0.42 0.45

Labelled images are segmented by the networks of the fold that held their person out, phantoms (from a seed that no
training used) by the shipped networks. Area errors are signed and computed over the slices in both masks. The edge is
the median distance outwards from the reference's contour to the nearest steep step of the image.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from deepseg_crossval import held_out
from numpy.typing import NDArray

from spineseg.centerline.contour import measure_contour
from spineseg.centerline.conus import stop_at_conus
from spineseg.contrasts import CORD_DARKER, SUFFIX_CONTRAST
from spineseg.deepseg.cleanup import clean_mask
from spineseg.deepseg.inference import compute_heatmap, compute_probability, trace_cord
from spineseg.deepseg.network import UNet
from spineseg.deepseg.parameters import DeepsegParams
from spineseg.deepseg.weights import Models, load_own_models
from spineseg.metrics.overlap import compute_dice
from spineseg.phantom.dataset import write_dataset
from spineseg.volume import Volume, load_image, load_mask

THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55)
LOOKED_AT = 32
"""Number of slices of an image on which the reference's edge is measured."""


@dataclass(frozen=True)
class Case:
    """An image with a reference, and the networks that segment it."""

    kind: str
    contrast: str
    image: Path
    reference: Path
    models: Models


def people(data: Path) -> Iterator[Case]:
    """Yield the labelled images with the networks that were trained without the person."""
    for item, _, models in held_out(data):
        yield Case(f"people, {item.contrast}", item.contrast, item.image, item.reference, models)


def phantoms(folder: Path, n: int, seed: int, suffixes: Sequence[str], hard: str) -> Iterator[Case]:
    """Yield phantoms of some suffixes, written into a folder."""
    models = load_own_models()
    for image in write_dataset(folder, n, seed, contrasts=suffixes, hard=hard):
        stem, suffix = image.name.split(".")[0], image.name.split(".")[0].rsplit("_", 1)[1]
        reference = next((folder / "derivatives").rglob(f"{stem}_label-SC_seg.nii.gz"))
        yield Case(f"phantoms, {suffix}", SUFFIX_CONTRAST[suffix], image, reference, models)


def score(case: Case, thresholds: Sequence[float]) -> dict[str, float]:
    """Return Dice and area error (percent) at every threshold, and the distance from the reference to the edge."""
    volume, grid = load_image(case.image, contrast=case.contrast)
    truth = load_mask(case.reference, like=grid)[0].data >= 0.5
    assert isinstance(case.models.detect, UNet)
    assert isinstance(case.models.segment, UNet)
    line = trace_cord(*compute_heatmap(volume, case.models.detect), volume.shape, DeepsegParams().min_confidence)
    line = stop_at_conus(volume, line, CORD_DARKER[case.contrast])
    prob, _ = compute_probability(volume, line, case.models.segment)
    row = {"edge, mm": edge_of(volume, truth, case.contrast)}
    for threshold in thresholds:
        mask = clean_mask(prob, threshold, line.points_vox[:, :2], line.slices, volume.zooms)[0]
        both = truth.any(axis=(0, 1)) & mask.any(axis=(0, 1))
        row[f"Dice {threshold:.2f}"] = compute_dice(mask[:, :, both], truth[:, :, both])
        row[f"area {threshold:.2f}"] = 100 * (mask[:, :, both].sum() / truth[:, :, both].sum() - 1)
    return row


def edge_of(volume: Volume, mask: NDArray[np.bool_], contrast: str) -> float:
    """Return the median distance outwards, mm, from a mask's contour to the nearest edge of the image."""
    filled = np.flatnonzero(mask.any(axis=(0, 1)))
    chosen = filled[:: max(1, len(filled) // LOOKED_AT)]
    centres = np.array([np.argwhere(mask[:, :, k]).mean(axis=0) for k in chosen])
    image, part = volume.data[:, :, chosen], mask[:, :, chosen]
    return measure_contour(image, part, volume.zooms[:2], centres, CORD_DARKER[contrast]).edge_offset_mm


def main() -> None:
    """Print the means by kind of image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, help="labelled.tsv; default: phantoms only")
    parser.add_argument("-n", type=int, default=6, help="phantoms of each contrast; 0: none")
    parser.add_argument("-seed", type=int, default=9071, help="of the phantoms")
    parser.add_argument("-suffixes", nargs="+", default=["T1w", "T2w", "T2star", "dwi", "bold"], help="of the phantoms")
    parser.add_argument(
        "-hard", default="none", choices=("none", "some"), help="some: every second person is made hard"
    )
    parser.add_argument("-thr", type=float, nargs="+", default=THRESHOLDS, help="thresholds")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        cases = [*(people(args.data) if args.data else ())]
        cases += phantoms(Path(name), args.n, args.seed, args.suffixes, args.hard) if args.n else ()
        for case in cases:
            rows.append({"kind": case.kind, "image": case.image.name, **score(case, args.thr)})
            print(f"{case.kind}: {case.image.name}", flush=True)
    table = pd.DataFrame(rows)
    groups = table.groupby("kind", sort=False)
    means = groups.mean(numeric_only=True)
    means.insert(0, "images", groups.size())
    print(means.round(3).T.to_string())


if __name__ == "__main__":
    main()
