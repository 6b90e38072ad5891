"""Check the status of masks: both methods on phantoms of many kinds and on labelled images, unchanged and changed.

    python benchmarks/status.py [-seed 41] [-n 12] [-data TSV]
        [-kinds neck epi lower ends small sizes foramen real changed artefacts things]

A mask is good if its Dice is at least 0.85 and it covers at least nine tenths of the slices with cord. The table counts
masks that have the status ok but are not good ("silent"), and good masks without the status ok ("alarm"), with the
upper end of the exact one-sided 95 % interval of the first share. If there is no cord, no mask is good. Dice is that of
whole masks. Of good masks, the area error is that of the slices with cord, and the lower end how far the lowest slice
of the mask lies above the lowest one with cord. "sizes" are cords of half the width up to the whole; "foramen" are four
people with the foramen magnum at four heights of the field of view.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from artefacts import make_copies
from deepseg_negatives import things
from propseg_hard import CHANGES
from scipy import stats

from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.deepseg.segment import segment_cord as run_deepseg
from spineseg.phantom.contrast import B_VALUES
from spineseg.phantom.dataset import (
    HARD_CASES,
    LOWER_CASES,
    SUFFIXES,
    SyntheticImage,
    make_image,
    make_lower_image,
)
from spineseg.propseg.segment import segment_cord as run_propseg
from spineseg.training.labelled_images import load_manifest
from spineseg.volume import Volume, load_image, load_mask, to_canonical
from spineseg.writing import file_stem

Case = tuple[str, str, Volume, np.ndarray]
"""Name, contrast, image, reference."""

ENOUGH, HELD = 0.85, 0.9
PLACES = (90.0, 20.0, -250.0, -420.0, -470.0, -540.0)
"""Middles of fields of view that show brain, brainstem, chest, conus, and the region below it."""

FORAMEN_MM = (20.0, 0.0, -20.0, -40.0)
"""Middles of fields of view about the foramen magnum."""

CORD_SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

PHANTOMS = ("neck", "epi", "lower", "ends", "small", "sizes", "foramen")
KINDS = (*PHANTOMS, "real", "changed", "artefacts", "things")
HEADS = ("method", "kind", "images", "good", "called ok", "silent", "at most (95 %)", "alarm")
HEADS += ("Dice (least)", "area", "lower end")
METHODS = {"propseg": run_propseg, "deepseg": run_deepseg}


class Row(NamedTuple):
    """What became of one image."""

    method: str
    kind: str
    good: bool
    ok: bool
    dice: float
    area_pct: float
    low_mm: float


def as_case(name: str, contrast: str, image: SyntheticImage) -> Case:
    """Return a phantom in canonical orientation; a series is averaged over its diffusion-weighted volumes."""
    data = image.data if image.data.ndim == 3 else image.data[..., np.array(B_VALUES) > 50].mean(axis=3)
    affine = image.acquisition.affine
    reference = to_canonical(image.cord_fraction, affine).data >= 0.5
    return name, contrast, to_canonical(data.astype(np.float32), affine), reference


def make_cases(kind: str, seed: int, n: int, manifests: list[Path]) -> Iterator[Case]:
    """Yield the images of one kind."""
    for index in range(n if kind in PHANTOMS else 0):
        suffix = SUFFIXES[index % 4]
        if kind == "neck":
            hard = ("none", *HARD_CASES)[(index // 4) % 6]
            yield as_case(f"{suffix}, {hard}", SUFFIX_CONTRAST[suffix], make_image(seed, index, suffix, hard=hard))
        elif kind == "epi":
            yield as_case("bold", "t2", make_image(seed, index, "bold"))
        elif kind == "lower":
            shown, hard = ("T2w", "T1w", "STIR")[index % 3], LOWER_CASES[index % 5]
            image = make_lower_image(seed, index, shown, hard=hard)
            yield as_case(f"{shown}, {hard}", "t1" if shown == "T1w" else "t2", image)
        elif kind == "ends":
            place = PLACES[(index // 4) % 6]
            image = make_image(seed, 100 + index, suffix, target_s_mm=place)
            yield as_case(f"{suffix} at {place:.0f}", SUFFIX_CONTRAST[suffix], image)
        elif kind == "foramen":
            place = FORAMEN_MM[(index // 4) % 4]
            image = make_image(seed, 104 + index % 4 + 4 * (index // 16), suffix, target_s_mm=place)
            yield as_case(f"{suffix} at {place:.0f}", SUFFIX_CONTRAST[suffix], image)
        else:
            suffix = (*SUFFIXES, "bold")[index % 5]
            scale = CORD_SCALES[(index // 5) % 6] if kind == "sizes" else 0.5
            image = make_image(seed, 200 + index, suffix, cord_scale=scale)
            yield as_case(f"{suffix}, size x {scale}", SUFFIX_CONTRAST[suffix], image)
    for index, item in enumerate(item for manifest in manifests for item in load_manifest(manifest)):
        volume, _ = load_image(item.image, contrast=item.contrast)
        reference = load_mask(item.reference)[0].data > 0.5
        if kind == "real":
            yield file_stem(item.image), item.contrast, volume, reference
        elif kind == "changed":
            for name, change in list(CHANGES.items())[1:]:
                changed = change(volume, reference, item.contrast)
                yield f"{file_stem(item.image)}, {name}", item.contrast, changed, reference
        elif kind == "artefacts":
            for name, changed, moved in make_copies(volume, reference, (seed, index)):
                yield f"{file_stem(item.image)}, {name}", item.contrast, changed, moved
    if kind == "things":
        for name, contrast, volume, _ in things(3, 4711):
            yield name, contrast, volume, np.zeros(volume.shape, bool)


def lowest(mask: np.ndarray) -> int:
    """Return the lowest slice of a mask."""
    return int(np.flatnonzero(mask.any(axis=(0, 1)))[0])


def is_good(mask: np.ndarray, reference: np.ndarray) -> bool:
    """Return whether a mask is good; the Dice is that of the whole mask, so that parts beyond the cord count."""
    slices = np.flatnonzero(reference.any(axis=(0, 1)))
    if not len(slices):
        return False
    dice = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
    return bool(dice >= ENOUGH and mask.any(axis=(0, 1))[slices].mean() >= HELD)


def upper_bound(bad: int, n: int) -> float:
    """Return the upper end of the exact one-sided 95 % interval of a share (Clopper and Pearson)."""
    return 1.0 if bad == n else float(stats.beta.ppf(0.95, bad + 1, n - bad))


def main() -> None:
    """Try all kinds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-seed", type=int, default=41)
    parser.add_argument("-n", type=int, default=12, help="people of each kind of phantom")
    parser.add_argument("-kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("-data", nargs="+", type=Path, default=[], metavar="TSV", help="labelled images")
    args = parser.parse_args()
    rows = []
    for kind in args.kinds:
        for name, contrast, volume, reference in make_cases(kind, args.seed, args.n, args.data):
            for method, run in METHODS.items():
                result = run(volume, contrast)
                mask, said = result.cord_mask, result.status == "ok"
                good = is_good(mask, reference)
                verdict = "" if good == said else "ALARM" if good else "SILENT"
                dice = 2 * (mask & reference).sum() / max(mask.sum() + reference.sum(), 1)
                cord = reference.any(axis=(0, 1))
                area = 100 * (mask[..., cord].sum() / reference.sum() - 1) if good else np.nan
                low = volume.zooms[2] * (lowest(mask) - lowest(reference)) if good else np.nan
                rows.append(Row(method, kind, good, said, dice, area, low))
                scores = f"{dice:.3f} | {area:+.1f} %" if good else f"{dice:.3f} |"
                print(f"| {kind} | {name} | {method} | {scores} | {result.status} | {verdict} |", flush=True)
    heads = (
        "method",
        "kind",
        "images",
        "good",
        "called ok",
        "silent",
        "at most (95 %)",
        "alarm",
        "Dice (least)",
        "area",
        "below",
    )
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    for method in METHODS:
        for kind in (*args.kinds, "all"):
            own = [row for row in rows if row.method == method and kind in (row.kind, "all")]
            good, ok = sum(row.good for row in own), sum(row.ok for row in own)
            silent = sum(row.ok and not row.good for row in own)
            alarm = sum(row.good and not row.ok for row in own)
            bound = f"{100 * upper_bound(silent, ok):.1f} %" if ok else ""
            dice = [row.dice for row in own]
            area = f"{np.mean([row.area_pct for row in own if row.good]):+.1f} %" if good else ""
            low = [row.low_mm for row in own if row.good]
            ends = f"{min(low):+.0f} to {max(low):+.0f} mm" if good else ""
            print(
                f"| {method} | {kind} | {len(own)} | {good} | {ok} | {silent} | {bound} | {alarm} |"
                f" {np.mean(dice):.3f} ({min(dice):.3f}) | {area} | {ends} |"
            )


if __name__ == "__main__":
    main()
