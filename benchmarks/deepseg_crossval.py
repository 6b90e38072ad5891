"""Score deepseg on people who were not in the training.

    python benchmarks/deepseg_crossval.py -data ../shared/data/labelled.tsv

Each labelled image is segmented with the weights of the fold that held its person out (`benchmarks/folds`, trained
by `benchmarks/deepseg_train_folds.sh`) through the same functions as `spineseg deepseg`. Scores are taken inside the
slices that the reference labels; distances are between voxel borders, slice by slice.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from spineseg.deepseg.weights import Models, load_own_models
from spineseg.training.labelled_images import LabelledImage, assign_folds, load_tables

FOLDS = Path(__file__).parent / "folds"


def held_out(data: Path, folds: Path = FOLDS, only: int | None = None) -> Iterator[tuple[LabelledImage, int, Models]]:
    """Yield labelled images with their fold, or those of one fold, and the networks trained without its people."""
    images, _ = load_tables(data, [], Path(__file__).with_name("recipe.tsv"))
    fold_of = assign_folds(images)
    for item in images:
        fold = fold_of[item.subject]
        if only in (None, fold):
            yield item, fold, load_own_models(folds / f"fold{fold}")


def border_distances(mask: np.ndarray, other: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    """Return the distances, mm, from each mask's border voxels to the other's border."""
    box = ndi.find_objects(ndi.binary_dilation(mask | other).astype(int))[0]
    mask, other = mask[box], other[box]
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[:, 1, 1] = cross[1, :, 1] = True
    edges = [m & ~ndi.binary_erosion(m, cross) for m in (mask, other)]
    maps = [ndi.distance_transform_edt(~edge, sampling=zooms) for edge in edges]
    return np.concatenate([maps[1][edges[0]], maps[0][edges[1]]])


def score(mask: np.ndarray, prob: np.ndarray, reference: np.ndarray, zooms: np.ndarray) -> dict[str, float]:
    """Return Dice, HD95 (mm), signed errors of the mean area (percent) and missed slices (percent)."""
    labelled = reference.any(axis=(0, 1))
    found, truth = mask[:, :, labelled], reference[:, :, labelled]
    row = {
        "dice": 2 * (found & truth).sum() / (found.sum() + truth.sum()),
        "hd95": np.nan,
        "csa_err": 100 * (found.sum() / truth.sum() - 1),
        "soft_csa_err": 100 * (prob[:, :, labelled].sum() / truth.sum() - 1),
        "missed": 100 * (~found.any(axis=(0, 1))).mean(),
        "extra": int(mask.any(axis=(0, 1))[~labelled].sum()),
    }
    if found.any():
        row["hd95"] = np.percentile(border_distances(found, truth, zooms), 95)
    slices = 2 * (found & truth).sum(axis=(0, 1)) / (found.sum(axis=(0, 1)) + truth.sum(axis=(0, 1)))
    row["worst_slice"] = slices.min()
    return row


def main() -> None:
    """Print the table by image, by contrast and in all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, required=True, help="labelled.tsv")
    parser.add_argument("-folds", type=Path, default=FOLDS, help="folder with fold0, fold1, ... of weights")
    parser.add_argument("-only", type=int, help="one fold")
    parser.add_argument("-keep", type=Path, help="write the masks there")
    parser.add_argument("-thr", type=float, help="default: that of the contrast")
    parser.add_argument("-kernel", choices=("2d", "3d"), default="2d")
    parser.add_argument("-mirror", type=int, choices=(0, 1), default=1)
    parser.add_argument("-out", type=Path, help="write the table as TSV")
    args = parser.parse_args()

    from spineseg.deepseg.segment import DeepsegParams, segment_cord
    from spineseg.volume import load_image, load_mask, save_volume

    rows = []
    for item, fold, models in held_out(args.data, args.folds, args.only):
        volume, grid = load_image(item.image, contrast=item.contrast)
        reference = load_mask(item.reference, like=grid)[0].data > 0.5
        start = time.perf_counter()
        params = DeepsegParams(thr=args.thr, kernel=args.kernel, mirror=bool(args.mirror))
        result = segment_cord(volume, item.contrast, params, models=models)
        seconds = time.perf_counter() - start
        row = {"image": item.image.name.split(".")[0], "contrast": item.contrast, "fold": fold}
        row |= score(result.cord_mask, result.cord_prob, reference, volume.zooms)
        rows.append(row | {"status": result.status, "seconds": seconds})
        if args.keep:
            save_volume(args.keep / item.image.name, result.cord_mask, grid)
        for note in result.notes:
            print(f"{row['image']}: {note}", flush=True)
    table = pd.DataFrame(rows)
    if args.out:
        table.to_csv(args.out, sep="\t", index=False, float_format="%.4f")
    print(table.round(3).to_string(index=False))
    table[["csa_err", "soft_csa_err"]] = table[["csa_err", "soft_csa_err"]].abs()
    print("means (area errors without sign)")
    numbers = ["dice", "hd95", "csa_err", "soft_csa_err", "missed", "seconds"]
    print(table.groupby("contrast")[numbers].mean().round(3).to_string())
    print(table[numbers].mean().round(3).to_frame("mean").T.to_string())


if __name__ == "__main__":
    main()
