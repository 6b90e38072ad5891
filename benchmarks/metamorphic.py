"""Print how masks change if the file changes in ways that should not matter.

    python benchmarks/metamorphic.py -n 6 -seed 11 [-contrasts T2w T2star] [-methods propseg deepseg]

Each synthetic image is written in several ways and segmented from the file. If only the storage differs (order and
direction of axes, type, byte order, slope, compression), every voxel of the mask must be the same. If the values or the
field of view change in a way that does not affect the cord (brightness times 7, plus 300, air around it, mirrored left
to right), the Dice with the mask of the unchanged image is printed and must stay above `LEAST_DICE`. The exit code is 1
if a check fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
from nibabel import orientations

from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.methods.declared import DeclaredMethod
from spineseg.methods.protocol import ImageInput, Method
from spineseg.metrics.overlap import compute_dice
from spineseg.phantom.dataset import make_image
from spineseg.volume import load_image

LEAST_DICE = 0.98
"""Least Dice after a change that does not affect the cord: a fifth of the loss between raters (Dice of about 0.9)."""

PAD = 12
"""Voxels of air added to each side within the slice."""

Change = Callable[[np.ndarray, np.ndarray, Path], Path]
"""Function that writes an image (array, affine) in its way to a path without extension, and returns the file."""

Back = Callable[[np.ndarray], np.ndarray]
"""Function that maps a canonical mask of the changed image to the grid of the unchanged one."""


def write(data: np.ndarray, affine: np.ndarray, path: Path, ending: str = ".nii.gz") -> Path:
    """Write an image unchanged."""
    file = path.with_name(path.name + ending)
    kind = nib.MGHImage if ending == ".mgz" else nib.Nifti1Image
    nib.save(kind(data, affine), file)
    return file


def reordered(codes: str) -> Change:
    """Store the same image with other axes."""

    def change(data: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        image = nib.Nifti1Image(data, affine)
        turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(tuple(codes)))
        turned = image.as_reoriented(turn)
        return write(np.asanyarray(turned.dataobj), turned.affine, path)

    return change


def sloped(data: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    """Store half of each value as float32 with a slope of 2, which is exact."""
    image = nib.Nifti1Image(data.astype(np.float32) / 2, affine)
    image.header.set_slope_inter(2, 0)
    file = path.with_name(path.name + ".nii")
    nib.save(image, file)
    with file.open("r+b") as handle:  # nibabel may choose another slope
        header = nib.Nifti1Header.from_fileobj(handle, check=False)
        header["scl_slope"], header["scl_inter"] = 2, 0
        handle.seek(0)
        handle.write(header.binaryblock)
    return file


def big_endian(data: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    """Store with big-endian byte order."""
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(data.dtype)
    file = path.with_name(path.name + ".nii.gz")
    nib.save(nib.Nifti1Image(data.astype(data.dtype.newbyteorder(">")), affine, header), file)
    return file


def padded(data: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    """Add air at the four sides of each axial slice."""
    axis = along_cord(affine)
    width = [(0, 0) if i == axis else (PAD, PAD) for i in range(3)]
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3] @ np.array([0 if i == axis else PAD for i in range(3)])
    return write(np.pad(data, width, constant_values=data.min()), moved, path)


def mirrored(data: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    """Mirror the person left to right."""
    axis = int(np.flatnonzero(orientations.io_orientation(affine)[:, 0] == 0)[0])
    return write(np.flip(data, axis), affine, path)


def along_cord(affine: np.ndarray) -> int:
    """Return the axis of the array that runs along the cord."""
    return int(np.flatnonzero(orientations.io_orientation(affine)[:, 0] == 2)[0])


def same(mask: np.ndarray) -> np.ndarray:
    """Return the mask itself, because its canonical grid is that of the unchanged image."""
    return mask


STORED: dict[str, Change] = {
    "axes RPI": reordered("RPI"),
    "axes ASL": reordered("ASL"),
    "axes PIR": reordered("PIR"),
    "axes SRA": reordered("SRA"),
    "float32": lambda d, a, p: write(d.astype(np.float32), a, p),
    "float64, not compressed": lambda d, a, p: write(d.astype(np.float64), a, p, ".nii"),
    "big endian": big_endian,
    "slope of 2": sloped,
    "FreeSurfer's format": lambda d, a, p: write(d.astype(np.float32), a.astype(np.float32), p, ".mgz"),
}

CHANGED: dict[str, tuple[Change, Back]] = {
    "brightness times 7": (lambda d, a, p: write(d.astype(np.float32) * 7, a, p), same),
    "brightness plus 300": (lambda d, a, p: write(d.astype(np.float32) + 300, a, p), same),
    "air around it": (padded, lambda m: m[PAD:-PAD, PAD:-PAD]),
    "left and right exchanged": (mirrored, lambda m: np.flip(m, 0)),
}


def segment(method: Method, file: Path, contrast: str) -> np.ndarray:
    """Return the canonical mask of an image file."""
    volume, grid = load_image(file, contrast=contrast)
    return method.segment(ImageInput(file, volume, grid, contrast)).cord_mask


def run(methods: list[str], contrasts: list[str], n: int, seed: int, say: Callable[[str], None] = print) -> list[str]:
    """Segment every image in every way; return the checks that fail."""
    odd: list[str] = []
    say("method\tchange\timages\tsame to the voxel\tleast Dice")
    with tempfile.TemporaryDirectory() as folder:
        for name in methods:
            method = DeclaredMethod(name, name).prepare(threads=1)
            dice: dict[str, list[float]] = {}
            for index in range(n):
                suffix = contrasts[index % len(contrasts)]
                image, contrast = make_image(seed, index, suffix), SUFFIX_CONTRAST[suffix]
                data, affine = image.data, image.acquisition.affine
                data = np.rint(data.mean(-1) if data.ndim == 4 else data).astype(np.int16)
                where = Path(folder) / f"{index}"
                first = segment(method, write(data, affine, where), contrast)
                ways = {key: (change, same) for key, change in STORED.items()} | CHANGED
                for key, (change, back) in ways.items():
                    mask = back(segment(method, change(data, affine, where), contrast))
                    equal = np.array_equal(mask, first)
                    dice.setdefault(key, []).append(1.0 if equal else min(compute_dice(mask, first), 1 - 1e-9))
                    if key in STORED and not equal:
                        odd.append(f"{name}, {suffix} {index}, {key}: another mask, Dice {dice[key][-1]:.4f}")
                    if dice[key][-1] < LEAST_DICE:
                        odd.append(f"{name}, {suffix} {index}, {key}: Dice {dice[key][-1]:.4f}")
            for key, values in dice.items():
                say(f"{name}\t{key}\t{len(values)}\t{sum(v == 1 for v in values)}\t{min(values):.4f}")
    return odd


def main() -> int:
    """Run the checks with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=6)
    parser.add_argument("-seed", type=int, default=11)
    parser.add_argument("-contrasts", nargs="+", default=["T2w", "T2star", "T1w", "dwi"])
    parser.add_argument("-methods", nargs="+", default=["propseg", "deepseg"])
    args = parser.parse_args()
    odd = run(args.methods, args.contrasts, args.n, args.seed)
    for line in odd:
        print("does not hold:", line)
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
