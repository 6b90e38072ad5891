"""Score propseg on images in which cord and fluid hardly differ, have inverted contrast, or differ on one side only.

    python benchmarks/propseg_hard.py -data TSV [-phantoms DIR [DIR ...]] [-o TABLE]

Every labelled image is changed in the ways of `CHANGES`: the contrast between cord and fluid is scaled around the
cord's own intensity, inverted, or buried in noise. -phantoms names datasets of `spineseg phantom` (--hard some).
Dice is computed in the slices that the reference labels. A result is "silent" if its Dice is below 0.85 but its status
is ok: such results would mislead a study.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from propseg_crossval import score_mask
from scipy import ndimage as ndi

from spineseg.contrasts import CORD_DARKER, SUFFIX_CONTRAST
from spineseg.propseg.segment import segment_cord
from spineseg.training.labelled_images import LabelledImage, load_manifest
from spineseg.volume import Volume, load_image, load_mask
from spineseg.writing import file_stem

ENOUGH = 0.85
"""Required Dice; below it the status must not be ok."""

CANAL_MM = 9.0
"""Distance from the cord within which tissue counts as canal: fluid, and some of the wall."""

FADE_MM = 3.0
"""Length over which the change fades into the rest of the image, so that it causes no edge."""


def scale_contrast(volume: Volume, reference: np.ndarray, contrast: str, factor: float) -> Volume:
    """Scale the difference between fluid and cord by a factor; a negative factor inverts it.

    Only voxels that differ from the cord in the direction of the fluid are changed: brighter ones if fluid is brighter
    in the contrast, otherwise darker ones.
    """
    data = volume.data.astype(np.float64)
    level = np.median(data[reference])
    away = ndi.distance_transform_edt(~reference, sampling=volume.zooms)
    weight = np.clip((CANAL_MM + FADE_MM - away) / FADE_MM, 0, 1)
    difference = data - level
    fluid = difference > 0 if CORD_DARKER[contrast] else difference < 0
    changed = np.where(fluid, difference * (1 + weight * (factor - 1)), difference)
    return Volume((level + changed).astype(np.float32), volume.affine)


def add_noise(volume: Volume, reference: np.ndarray, contrast: str, share: float) -> Volume:
    """Add Gaussian noise whose SD is a share of the median difference between cord and fluid; seed 0."""
    near = ndi.binary_dilation(reference, iterations=3) & ~reference
    span = abs(float(np.percentile(volume.data[near], 90) - np.median(volume.data[reference])))
    if not CORD_DARKER[contrast]:
        span = abs(float(np.median(volume.data[reference]) - np.percentile(volume.data[near], 10)))
    noise = np.random.default_rng(0).normal(0, share * span, volume.shape)
    return Volume((volume.data + noise).astype(np.float32), volume.affine)


CHANGES: dict[str, Callable[[Volume, np.ndarray, str], Volume]] = {
    "as it is": lambda volume, reference, contrast: volume,
    "contrast x 0.3": lambda v, r, c: scale_contrast(v, r, c, 0.3),
    "contrast x 0.15": lambda v, r, c: scale_contrast(v, r, c, 0.15),
    "contrast x 0.1": lambda v, r, c: scale_contrast(v, r, c, 0.1),
    "contrast turned over": lambda v, r, c: scale_contrast(v, r, c, -1.0),
    "noise, half the contrast": lambda v, r, c: add_noise(v, r, c, 0.5),
}


def try_changes(item: LabelledImage) -> list[tuple[str, str, float, str]]:
    """Return image, change, Dice and status for every change of one labelled image."""
    volume, _ = load_image(item.image, contrast=item.contrast)
    reference = load_mask(item.reference)[0].data > 0.5
    found = []
    for name, change in CHANGES.items():
        result = segment_cord(change(volume, reference, item.contrast), item.contrast)
        dice = score_mask(result.cord_mask, reference, volume.zooms)[0]
        found.append((file_stem(item.image), name, dice, result.status))
        print(_row(found[-1]), flush=True)
    return found


def try_phantoms(folder: Path) -> list[tuple[str, str, float, str]]:
    """Return the same for every image of a dataset of phantoms, whose participants.tsv names the difficulties."""
    with (folder / "participants.tsv").open(newline="") as stream:
        hard = {row["participant_id"]: row["hard"] for row in csv.DictReader(stream, delimiter="\t")}
    found = []
    for image in sorted(folder.glob("sub-*/**/*.nii.gz")):
        stem = file_stem(image)
        contrast = SUFFIX_CONTRAST[stem.rsplit("_", 1)[1]]
        masks = sorted((folder / "derivatives").glob(f"**/{stem}_label-SC_seg.nii.gz"))
        if not masks:
            continue
        volume, _ = load_image(image, contrast=contrast)
        reference = load_mask(masks[0])[0].data > 0.5
        result = segment_cord(volume, contrast)
        case = f"phantom, {hard[stem.split('_')[0]]}"
        found.append((stem, case, score_mask(result.cord_mask, reference, volume.zooms)[0], result.status))
        print(_row(found[-1]), flush=True)
    return found


def _row(entry: tuple[str, str, float, str]) -> str:
    name, change, dice, status = entry
    silent = "SILENT" if dice < ENOUGH and status == "ok" else ""
    return f"| {name} | {change} | {dice:.3f} | {status} | {silent} |"


def summarise(found: list[tuple[str, str, float, str]]) -> str:
    """Return a table with one row per change: images, Dice, number with status ok, number of silent failures."""
    columns = ("change", "images", "median Dice", "least Dice", "at least 0.85", "of these not ok")
    columns += ("below, and said", "below, silent")
    rows = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for change in dict.fromkeys(entry[1] for entry in found):
        own = [entry for entry in found if entry[1] == change]
        dice = np.array([entry[2] for entry in own])
        ok = np.array([entry[3] == "ok" for entry in own])
        low = dice < ENOUGH
        counts = f"{(~low).sum()} | {(~low & ~ok).sum()} | {(low & ~ok).sum()} | {(low & ok).sum()}"
        rows.append(f"| {change} | {len(own)} | {np.median(dice):.3f} | {dice.min():.3f} | {counts} |")
    return "\n".join(rows)


def main() -> None:
    """Try all changes on all images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, metavar="TSV", help="labelled images")
    parser.add_argument("-phantoms", type=Path, nargs="+", default=[], metavar="DIR", help="datasets of phantoms")
    parser.add_argument("-o", type=Path, help="write the summary here too")
    args = parser.parse_args()
    found = [entry for item in (load_manifest(args.data) if args.data else []) for entry in try_changes(item)]
    found += [entry for folder in args.phantoms for entry in try_phantoms(folder)]
    table = summarise(found)
    print(table)
    if args.o:
        args.o.write_text(table + "\n")


if __name__ == "__main__":
    main()
