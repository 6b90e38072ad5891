"""How often the decision without references keeps the better method.

    python benchmarks/decision_without_reference.py [--data ../shared/data] [--datasets 300]

Real cord masks of many people are damaged as segmentation methods damage them. Two made-up methods mix these damages in
different shares; their pilots of 6 to 20 people are judged with the references hidden, and the verdict is compared with
the truth, the mean Dice over the same people. A quarter of the damages are masks too small or too large by a voxel all
round, which no measure without the image can see: this is the hard case, not the average study.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.decision.evidence import VALUE_COLUMNS, Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import decide_by_endpoint
from spineseg.errors import InputError
from spineseg.metrics.overlap import compute_dice
from spineseg.metrics.quality import compute_quality, slice_hull
from spineseg.metrics.shape import compute_shape
from spineseg.volume import load_mask

MARGIN_VOXELS = 12
"""Room round the cord for masks that leak."""

IN_PLANE = np.ones((3, 3, 1), bool)
METHODS = ("a", "b")


def filled(mask: NDArray) -> NDArray[np.intp]:
    """Slices with cord."""
    return np.flatnonzero(mask.any((0, 1)))


def truncate(mask: NDArray, rng: np.random.Generator) -> NDArray:
    """Stop early at the upper end."""
    out, slices = mask.copy(), filled(mask)
    out[:, :, slices[len(slices) - int(len(slices) * rng.uniform(0.05, 0.4)) :]] = False
    return out


def leak(mask: NDArray, rng: np.random.Generator) -> NDArray:
    """Run into the tissue in front over a stretch."""
    out, slices = mask.copy(), filled(mask)
    n = max(1, int(len(slices) * rng.uniform(0.1, 0.4)))
    part = slices[(start := rng.integers(0, len(slices) - n + 1)) : start + n]
    out[:, :, part] |= np.roll(mask[:, :, part], rng.integers(3, 8), axis=1)
    return out


def lose_slices(mask: NDArray, rng: np.random.Generator) -> NDArray:
    """Miss single slices."""
    out, slices = mask.copy(), filled(mask)
    out[:, :, rng.choice(slices, max(1, int(len(slices) * rng.uniform(0.05, 0.25))), replace=False)] = False
    return out


def roughen(mask: NDArray, rng: np.random.Generator) -> NDArray:
    """Grow and shrink from slice to slice."""
    out = mask.copy()
    for k in filled(mask):
        step = rng.integers(-1, 2)
        if step:
            out[:, :, k] = (ndi.binary_dilation if step > 0 else ndi.binary_erosion)(mask[:, :, k])
    return out


def wobble(mask: NDArray, rng: np.random.Generator) -> NDArray:
    """Shift from slice to slice."""
    out = np.zeros_like(mask)
    for k in filled(mask):
        out[:, :, k] = np.roll(mask[:, :, k], tuple(rng.integers(-1, 2, 2)), (0, 1))
    return out


def speckle(mask: NDArray, rng: np.random.Generator) -> NDArray:
    """Add pieces elsewhere."""
    out = mask.copy()
    for _ in range(rng.integers(1, 4)):
        i, j = (rng.integers(0, n - 3) for n in mask.shape[:2])
        out[i : i + 3, j : j + 3, rng.choice(filled(mask))] = True
    return out


DAMAGES = {
    "none": lambda mask, rng: mask,
    "small": lambda mask, rng: ndi.binary_erosion(mask, IN_PLANE),
    "large": lambda mask, rng: ndi.binary_dilation(mask, IN_PLANE),
    "truncated": truncate,
    "leaked": leak,
    "slices lost": lose_slices,
    "rough": roughen,
    "wobbling": wobble,
    "speckled": speckle,
}


def load_cords(data: Path) -> list[tuple[NDArray, NDArray]]:
    """Load the real cord masks, cut to their slices, with their voxel sizes."""
    cords = []
    for path in sorted(
        [*data.glob("bids/derivatives/labels/**/*SC_seg.nii.gz"), *data.glob("geometry/*SC_seg.nii.gz")]
    ):
        try:
            volume, _ = load_mask(path)
        except InputError:
            continue
        mask = volume.data >= 0.5
        if mask.any((0, 1)).sum() < 5:
            continue
        box = tuple(
            slice(index[0], index[-1] + 1) for index in (np.flatnonzero(mask.any(a)) for a in ((1, 2), (0, 2), (0, 1)))
        )
        cords.append((np.pad(mask[box], ((MARGIN_VOXELS,) * 2, (MARGIN_VOXELS,) * 2, (0, 0))), volume.zooms))
    return cords


def damage_all(cords: list, rng: np.random.Generator) -> list[dict]:
    """Damage each cord in each way; masks with their Dice."""
    variants = []
    for cord, zooms in cords:
        masks = {name: damage(cord, rng) for name, damage in DAMAGES.items()}
        variants.append(
            {name: (mask, compute_dice(mask, cord), compute_shape(mask, zooms)) for name, mask in masks.items()}
        )
    return variants


def draw_pilot(cords: list, variants: list, rng: np.random.Generator) -> tuple[Evidence, NDArray]:
    """Draw people and two methods that mix damages; evidence without truth, and the true Dice (P, 2)."""
    n, names = int(rng.integers(6, 21)), list(DAMAGES)
    people = rng.choice(len(cords), min(n, len(cords)), replace=False)
    # a share of undamaged masks of its own, the rest spread unevenly
    shares = [
        np.concatenate([[good := rng.uniform(0, 0.9)], (1 - good) * rng.dirichlet(np.full(len(names) - 1, 0.4))])
        for _ in METHODS
    ]
    values = {column: np.full((len(people), 2), np.nan) for column in VALUE_COLUMNS}
    truth, agreement = np.zeros((len(people), 2)), []
    for p, person in enumerate(people):
        zooms = cords[person][1]
        chosen = [variants[person][names[rng.choice(len(names), p=share)]] for share in shares]
        common = slice_hull(chosen[0][0]) | slice_hull(chosen[1][0])
        for m, (mask, dice, shape) in enumerate(chosen):
            for key, value in asdict(compute_quality(mask, zooms, shape, common)).items():
                if key in values:
                    values[key][p, m] = value
            truth[p, m] = dice
        dice = compute_dice(chosen[0][0], chosen[1][0])
        areas = [shape.csa_mm2 for _, _, shape in chosen]
        values["csa_mean_mm2"][p] = [np.nanmean(area) for area in areas]
        row = {"dice": str(dice), "csa_difference_mm2": str(float(np.nanmean(areas[0] - areas[1])))}
        agreement.append({"image_id": f"{p:02d}", "method_a": "a", "method_b": "b"} | row)
    ids = np.array([f"{p:02d}" for p in range(len(people))])
    empty = np.full(len(people), "")
    failed = np.zeros((len(people), 2), bool)
    return Evidence(METHODS, ids, ids, empty, empty, failed, values, tuple(agreement)), truth


def main() -> None:
    """Draw datasets, decide, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--datasets", type=int, default=300)
    parser.add_argument("--rope", type=float, default=DecisionParams().rope_composite)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    cords = load_cords(args.data)
    variants = damage_all(cords, rng)
    params = DecisionParams(primary="composite", rope_composite=args.rope, n_posterior=5000)
    rows = []
    for _ in range(args.datasets):
        evidence, truth = draw_pilot(cords, variants, rng)
        judgement, _, _ = decide_by_endpoint(evidence, params)
        mean = truth.mean(axis=0)
        rows.append((judgement.verdict, mean.max() - mean[judgement.method], abs(mean[0] - mean[1])))
    verdicts, lost, gap = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.array([r[2] for r in rows])
    print(f"{len(cords)} cords, {len(rows)} datasets, true difference in Dice {np.median(gap):.3f} (median)")
    wide = gap > 0.01
    right = np.mean(lost[wide] <= 0.005)
    print(f"{wide.sum()} with a true difference above 0.01: the better method, or within 0.005 of it: {right:.1%}")
    for verdict in ("clear", "equivalent", "undecided"):
        mine = verdicts == verdict
        wrong = np.mean(lost[mine] > 0.005) if mine.any() else float("nan")
        print(
            f"{verdict:10s} {mine.mean():6.1%} of the datasets; the other is better by more than 0.005 in {wrong:.1%}"
        )


if __name__ == "__main__":
    main()
