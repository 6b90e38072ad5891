"""Score propseg on people who were not in the training of its detectors, and compare with the original program.

    python benchmarks/propseg_crossval.py -data TSV -folds DIR [-extra TSV] [-add IMG MASK CONTRAST] [-o TABLE]

People are divided into three folds. The detectors of each fold are trained without its people (minutes each, kept in
DIR and reused), and its images are segmented with them. Propseg itself is not trained. Scores are computed in the
slices that the reference labels. The original's numbers are those of its C++ program, rebuilt from the toolbox's
history, on the same images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage as ndi

from spineseg.centerline.detector import load_detector
from spineseg.propseg.segment import segment_cord
from spineseg.training.labelled_images import N_FOLDS, LabelledImage, assign_folds, load_tables
from spineseg.training.optic.train import train_detectors
from spineseg.volume import load_image, load_mask
from spineseg.writing import file_stem

RECIPE = Path(__file__).with_name("recipe.tsv")
ORIGINAL = {
    "sub-errsm30_rec-average_dwi": (0.969, 0.84, 2.9, 0.0),
    "sub-sct017_rec-average_dwi": (0.968, 0.90, 4.2, 0.0),
    "sub-t1crop_T1w": (0.916, 1.00, 17.6, 0.0),
    "sub-errsm11_T2w": (0.909, 1.00, 6.6, 0.0),
    "sub-errsm18_T2w": (0.902, 1.00, 9.3, 1.4),
    "sub-errsm21_T2w": (0.908, 1.00, 6.9, 0.0),
    "sub-gmc10062_ses-1_run-1_T2star": (0.973, 0.70, 3.2, 0.0),
    "sub-gmc10062_ses-2_run-1_T2star": (0.976, 0.59, 1.3, 0.0),
    "sub-gmc9418_run-1_T2star": (0.950, 1.00, 7.4, 0.0),
    "sub-gmc9584_run-1_T2star": (0.980, 0.42, 1.0, 0.0),
    "sub-unf05_mt-on_MTS": (0.855, 2.70, 14.9, 0.0),
}
"""Dice, HD95 (mm), error of the area (%), slices missed (%)."""


def score_mask(mask: np.ndarray, reference: np.ndarray, zooms: tuple[float, ...]) -> tuple[float, ...]:
    """Return Dice, HD95 (mm), error of the mean area (%) and missed slices (%) in the slices of the reference."""
    labelled = reference.any(axis=(0, 1))
    a, b = mask[:, :, labelled], reference[:, :, labelled]
    dice = 2 * (a & b).sum() / max(1, a.sum() + b.sum())
    area_error = 100 * abs(int(a.sum()) - int(b.sum())) / b.sum()
    missed = 100 * float((~a.any(axis=(0, 1))).mean())
    return float(dice), _hausdorff_95(a, b, zooms) if a.any() else np.nan, float(area_error), missed


def _hausdorff_95(a: np.ndarray, b: np.ndarray, zooms: tuple[float, ...]) -> float:
    """95th percentile of the distances between the borders (taken slice by slice), both ways, mm."""
    both = np.argwhere(a | b)
    box = tuple(slice(max(0, low - 1), high + 2) for low, high in zip(both.min(0), both.max(0), strict=True))
    cross = np.zeros((3, 3, 3), bool)
    cross[:, 1, 1] = cross[1, :, 1] = True
    edges = [m[box] & ~ndi.binary_erosion(m[box], cross) for m in (a, b)]
    away = [ndi.distance_transform_edt(~edge, sampling=zooms) for edge in edges]
    return float(np.percentile(np.concatenate([away[1][edges[0]], away[0][edges[1]]]), 95))


def prepare_folds(args: argparse.Namespace, scored: list[LabelledImage]) -> dict[str, Path]:
    """Train the detectors that are not yet in the folder; return the folder of detectors for each person."""
    folds = assign_folds(scored)
    for fold in range(N_FOLDS):
        people = [person for person, number in folds.items() if number == fold]
        wanted = {item.contrast for item in scored if item.subject in people}
        folder = args.folds / str(fold)
        missing = sorted(c for c in wanted if not (folder / f"optic_{c}.safetensors").is_file())
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            train_detectors(
                [args.data, *args.extra], folder, contrasts=missing, exclude=people, added=args.add, recipe=RECIPE
            )
    return {person: args.folds / str(number) for person, number in folds.items()}


def format_row(name: str, contrast: str, status: str, own: tuple[float, ...], original: tuple[float, ...]) -> str:
    """Return one row of the table."""
    cells = [f"{a:.{digits}f} ({b:.{digits}f})" for a, b, digits in zip(own, original, (3, 2, 1, 1), strict=True)]
    return f"| {name} | {contrast} | " + " | ".join(cells) + f" | {status} |"


def main() -> None:
    """Score every image of the table and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, required=True, metavar="TSV", help="labelled images to score")
    parser.add_argument("-folds", type=Path, required=True, metavar="DIR", help="where the folds' detectors are kept")
    parser.add_argument("-extra", type=Path, nargs="*", default=[], help="more images to learn from, never scored")
    parser.add_argument("-add", nargs=3, action="append", default=[], help="one more: image, mask, contrast")
    parser.add_argument("-o", type=Path, help="write the table here too")
    args = parser.parse_args()
    scored, _ = load_tables(args.data, [], RECIPE)
    folders = prepare_folds(args, scored)
    rows = ["| image | contrast | Dice | HD95 mm | CSA error % | missed % | status |", "|" + " --- |" * 7]
    own, original = [], []
    for item in scored:
        volume, _ = load_image(item.image, contrast=item.contrast)
        reference, _ = load_mask(item.reference)
        detector = load_detector(item.contrast, folders[item.subject] / f"optic_{item.contrast}.safetensors")
        result = segment_cord(volume, item.contrast, detector=detector)
        name = file_stem(item.image)
        own.append(score_mask(result.cord_mask, reference.data > 0.5, volume.zooms))
        original.append(ORIGINAL.get(name, (np.nan,) * 4))
        rows.append(format_row(name, item.contrast, result.status, own[-1], original[-1]))
        print(rows[-1], flush=True)
    rows.append(format_row("mean", "", "", tuple(np.mean(own, axis=0)), tuple(np.nanmean(original, axis=0))))
    table = "\n".join(rows)
    print(table)
    if args.o:
        args.o.write_text(table + "\n")


if __name__ == "__main__":
    main()
