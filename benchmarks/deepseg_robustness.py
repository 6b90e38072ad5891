"""Print the Dice that deepseg loses on changed copies of the labelled images.

    python benchmarks/deepseg_robustness.py -data ../shared/data/labelled.tsv

The content of each image is changed within its grid (the header is not adapted), the reference in the same way, and the
copy is segmented by the networks of the fold that held its person out. The printed loss is the Dice of the unchanged
image less that of the copy. Changes that interpolate also degrade the reference's border. The column "of masks" gives
this loss without a new segmentation: the Dice lost by the unchanged image's probabilities, changed like the reference.
The difference, "beyond masks", is the loss of the method itself.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from deepseg_crossval import FOLDS, held_out, score
from scipy import ndimage as ndi
from scipy.stats import spearmanr

from spineseg.segmentation import Segmentation
from spineseg.volume import Volume, crop

TARGET = 0.02
"""Dice that a copy may lose."""

CROP_MM, CROP_RIM_MM = 50.0, 8.0
"""Width of the cropped field, and the rim kept around a bent cord that needs a wider field."""

UNCERTAINTY_BINS = (0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 1)

Change = Callable[[Volume, np.ndarray], Volume]
"""Function that changes a volume; the second argument is the unchanged reference, which gives the cord's position."""


def rotate(degrees: float) -> Change:
    """Turn the axial slices around the cord's mean position; air comes in at the corners."""

    def change(volume: Volume, reference: np.ndarray) -> Volume:
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        zooms = volume.zooms[:2]
        matrix = np.eye(3)
        matrix[:2, :2] = turn * zooms / zooms[:, None]  # turned in mm
        centre = np.argwhere(reference).mean(axis=0)
        air = float(volume.data.min())
        data = ndi.affine_transform(volume.data, matrix, centre - matrix @ centre, order=1, cval=air)
        return Volume(data, volume.affine)

    return change


def quarter_turn(volume: Volume, reference: np.ndarray) -> Volume:
    """Turn the axial slices by 90 degrees, voxel for voxel."""
    affine = volume.affine.copy()
    affine[:3, :2] *= volume.zooms[[1, 0]] / volume.zooms[:2]
    return Volume(np.rot90(volume.data).copy(), affine)


def flip(axis: int) -> Change:
    """Mirror along an axis."""
    return lambda volume, reference: Volume(np.flip(volume.data, axis).copy(), volume.affine)


def crop_field(volume: Volume, reference: np.ndarray) -> Volume:
    """Keep a field of 50 mm around the cord in the axial plane."""
    found = np.argwhere(reference)[:, :2]
    low, high = found.min(axis=0), found.max(axis=0) + 1
    half = np.maximum(CROP_MM / 2 / volume.zooms[:2], (high - low) / 2 + CROP_RIM_MM / volume.zooms[:2])
    start = np.maximum(np.round((low + high) / 2 - half), 0).astype(int)
    stop = np.round((low + high) / 2 + half).astype(int)
    return crop(volume, (slice(start[0], stop[0]), slice(start[1], stop[1]), slice(None)))


def resample_in_plane(volume: Volume, zoom_mm: float) -> Volume:
    """Resample axes 0 and 1 to square pixels of `zoom_mm`; slices stay as they are.

    The centres of the old and the new field of view coincide, and the affine says so,
    so nothing is shifted by half a voxel. Outside values repeat the border.
    """
    zooms, old = volume.zooms[:2], np.array(volume.shape[:2])
    new = np.maximum(1, np.round(old * zooms / zoom_mm)).astype(int)
    step = zoom_mm / zooms
    first = (old - 1) / 2 - step * (new - 1) / 2
    data = ndi.affine_transform(
        volume.data,
        [*step, 1.0],
        offset=[*first, 0.0],
        output_shape=(*new, volume.shape[2]),
        order=1,
        mode="nearest",
    )
    affine = volume.affine.copy()
    affine[:3, :2] *= step
    affine[:3, 3] += volume.affine[:3, :2] @ first
    return Volume(data, affine)


def resample(zoom_mm: float) -> Change:
    """Sample the axial slices at another pixel size, the mean of what a larger pixel covers."""

    def change(volume: Volume, reference: np.ndarray) -> Volume:
        if np.allclose(volume.zooms[:2], zoom_mm, atol=0.01):
            return volume
        wider = np.maximum(zoom_mm / volume.zooms[:2], 1)
        sigma = np.sqrt((wider**2 - 1) / 12)  # boxes of both widths have the variance of their width**2 / 12
        blurred = ndi.gaussian_filter(volume.data, (*sigma, 0)) if sigma.any() else volume.data
        return resample_in_plane(Volume(blurred, volume.affine), zoom_mm)

    return change


def average_slices(volume: Volume, reference: np.ndarray) -> Volume:
    """Average neighbours to slices of 5 mm; slices of more than 3.3 mm stay as they are."""
    n = round(5 / volume.zooms[2])
    if n < 2:
        return volume
    whole = volume.shape[2] // n * n
    data = volume.data[:, :, :whole].reshape(*volume.shape[:2], -1, n).mean(axis=3)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (n - 1) / 2
    affine[:3, 2] *= n
    return Volume(data, affine)


def invert(volume: Volume) -> Volume:
    """Exchange bright and dark."""
    return Volume(volume.data.max() + volume.data.min() - volume.data, volume.affine)


def gamma(volume: Volume) -> Volume:
    """Square the brightness, of 0 to 1."""
    low, high = volume.data.min(), volume.data.max()
    return Volume(((volume.data - low) / (high - low)) ** 2, volume.affine)


def add_noise(volume: Volume) -> Volume:
    """Add normal noise of 5 % of the 99th percentile."""
    noise = np.random.default_rng(0).standard_normal(volume.shape, dtype=np.float32)
    return Volume(volume.data + 0.05 * np.percentile(volume.data, 99) * noise, volume.affine)


SHAPES: dict[str, Change] = {
    "rotated 15 deg": rotate(15),
    "rotated 90 deg": quarter_turn,
    "flipped left-right": flip(0),
    "flipped head-foot": flip(2),
    "cropped to 50 mm": crop_field,
    "resampled to 1 mm": resample(1.0),
    "resampled to 0.35 mm": resample(0.35),
    "slices of 5 mm": average_slices,
}
VALUES = {"inverted": invert, "gamma 2": gamma, "5 % noise": add_noise}


def compare_slices(result: Segmentation, reference: np.ndarray) -> pd.DataFrame:
    """Return the uncertainty of each slice with mask and reference, and the Dice lost in it."""
    mask = result.cord_mask
    both = mask.any(axis=(0, 1)) & reference.any(axis=(0, 1))
    found, truth = mask[:, :, both], reference[:, :, both]
    dice = 2 * (found & truth).sum(axis=(0, 1)) / (found.sum(axis=(0, 1)) + truth.sum(axis=(0, 1)))
    return pd.DataFrame({"uncertainty": result.uncertainty[both], "lost": 1 - dice})


def measure_image(item, models, fold: int, kernel: str) -> tuple[list[dict], pd.DataFrame]:
    """Return a row for each change of one image, and one for each slice; changes without effect are left out."""
    from spineseg.deepseg.segment import DeepsegParams, segment_cord
    from spineseg.volume import load_image, load_mask

    volume, grid = load_image(item.image, contrast=item.contrast)
    truth = load_mask(item.reference, like=grid)[0].data > 0.5

    slices = []

    def dice(image: Volume, reference: np.ndarray) -> tuple[float, Volume]:
        result = segment_cord(image, item.contrast, DeepsegParams(kernel=kernel), models=models)
        slices.append(compare_slices(result, reference))
        prob = np.where(result.cord_mask, np.maximum(result.cord_prob, 0.5), np.minimum(result.cord_prob, 0.49))
        return score(result.cord_mask, prob, reference, image.zooms)["dice"], Volume(prob, image.affine)

    untouched, prob = dice(volume, truth)
    name = item.image.name.split(".")[0]
    rows = []
    for label, change in SHAPES.items():
        copy = change(volume, truth)
        if copy is volume:
            continue
        reference = change(Volume(truth.astype(np.float32), volume.affine), truth).data >= 0.5
        masks = score(change(prob, truth).data >= 0.5, copy.data, reference, copy.zooms)["dice"]
        lost = untouched - dice(copy, reference)[0]
        rows.append({"image": name, "fold": fold, "change": label, "lost": lost, "masks": untouched - masks})
    for label, alter in VALUES.items():
        lost = untouched - dice(alter(volume), truth)[0]
        rows.append({"image": name, "fold": fold, "change": label, "lost": lost, "masks": 0.0})
    return [row | {"untouched": untouched} for row in rows], pd.concat(slices)


def summarise(table: pd.DataFrame) -> str:
    """Return the table by change, as Markdown."""
    lines = [
        "| change | lost: mean | worst | of masks: mean | beyond masks: mean | worst | on | beyond by more than 0.02 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    table = table.assign(beyond=table["lost"] - table["masks"])
    for change in (*SHAPES, *VALUES):
        rows = table[table["change"] == change]
        worst = rows.loc[rows["beyond"].idxmax()]
        numbers = f"{rows['lost'].mean():+.3f} | {rows['lost'].max():+.3f} | {rows['masks'].mean():+.3f}"
        beyond = f"{rows['beyond'].mean():+.3f} | {worst['beyond']:+.3f} | {worst['image']}"
        lines.append(f"| {change} | {numbers} | {beyond} | {(rows['beyond'] > TARGET).sum()} of {len(rows)} |")
    return "\n".join(lines)


def summarise_slices(slices: pd.DataFrame) -> str:
    """Return how well the method's uncertainty predicts the Dice lost in a slice, as Markdown."""
    rank = spearmanr(slices["uncertainty"], slices["lost"]).statistic
    lines = [
        f"{len(slices)} slices of all copies; Spearman correlation of uncertainty and lost Dice {rank:.2f}",
        "",
        "| uncertainty | slices | uncertainty, mean | lost Dice, mean | slices below Dice 0.7, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for part, rows in slices.groupby(pd.cut(slices["uncertainty"], UNCERTAINTY_BINS), observed=True):
        numbers = (
            f"{rows['uncertainty'].mean():.3f} | {rows['lost'].mean():.3f} | {100 * (rows['lost'] > 0.3).mean():.1f}"
        )
        lines.append(f"| {part.left:g} to {part.right:g} | {len(rows)} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    """Print the Dice lost, first by image, then by change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, required=True, help="labelled.tsv")
    parser.add_argument("-folds", type=Path, default=FOLDS, help="folder with fold0, fold1, ... of weights")
    parser.add_argument("-only", type=int, help="one fold")
    parser.add_argument("-kernel", choices=("2d", "3d"), default="2d")
    parser.add_argument("-out", type=Path, help="write every loss as TSV")
    args = parser.parse_args()
    rows, slices = [], []
    for item, fold, models in held_out(args.data, args.folds, args.only):
        new, new_slices = measure_image(item, models, fold, args.kernel)
        slices.append(new_slices)
        print(f"{new[0]['image']} (Dice {new[0]['untouched']:.3f}), Dice lost")
        print(
            "\n".join(f"  {row['change']:<22}{row['lost']:+.3f} (masks {row['masks']:+.3f})" for row in new), flush=True
        )
        rows += new
        if args.out:
            pd.DataFrame(rows).to_csv(args.out, sep="\t", index=False, float_format="%.4f")
    print(summarise(pd.DataFrame(rows)))
    print(summarise_slices(pd.concat(slices)))


if __name__ == "__main__":
    main()
