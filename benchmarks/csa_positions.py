"""Error of the mean CSA of a known cord at random positions and tilts in the grid, by voxel size.

    python benchmarks/csa_positions.py -n 2000

An elliptic cylinder of 12 x 8 mm, 30 mm long, is put at a random position within a voxel. Upright cords have the same
section in every slice, so errors do not average out: the worst case. Tilted cords have random angles up to 30 degrees
about both axes and are measured by ``exact`` projection. Masks are whole voxels (those whose centre is inside), or
partial volumes from 5 x 5 samples. There are a tenth as many masks of partial volumes. The seed is fixed.
"""

from __future__ import annotations

import argparse

import numpy as np

from spineseg.metrics.shape import compute_shape

HALF_MM = np.array([6.0, 4.0])
LENGTH_MM = 30.0
VOXELS = ((0.5, 0.5, 3.0), (0.8, 0.8, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 5.0))
SAMPLES = 5


def draw_cord(zooms: np.ndarray, shift: np.ndarray, tilt_deg: np.ndarray, samples: int) -> np.ndarray:
    """Draw the cylinder; `shift` in voxels from the middle of the grid, (2,)."""
    slope = np.tan(np.radians(tilt_deg))
    tangent = np.append(slope, 1.0) / np.linalg.norm(np.append(slope, 1.0))
    across = np.array([1.0, 0, 0]) - tangent[0] * tangent
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(tangent, across)]) / HALF_MM[:, None]
    room = 2 * (HALF_MM.max() / np.cos(np.radians(30)) + LENGTH_MM / 2 * np.abs(slope)) + 4
    shape = np.append(np.ceil(room / zooms[:2]), np.round(LENGTH_MM / zooms[2])).astype(int)
    steps = (np.arange(samples) - (samples - 1) / 2) / samples
    total = np.zeros(shape)
    for dx in steps:
        for dy in steps:
            offset = np.array([shift[0] + dx, shift[1] + dy, 0.0])
            i, j, k = ((np.arange(n) + offset[a] - (n - 1) / 2) * zooms[a] for a, n in enumerate(shape))
            parts = [a[0] * i[:, None, None] + a[1] * j[None, :, None] + a[2] * k[None, None, :] for a in axes]
            total += parts[0] ** 2 + parts[1] ** 2 <= 1
    return total / samples**2 if samples > 1 else total > 0


def measure_errors(zooms: np.ndarray, n: int, *, tilted: bool, samples: int) -> np.ndarray:
    """Return the absolute error of the mean CSA, percent, (n,)."""
    rng = np.random.default_rng(0)
    errors = np.empty(n)
    for number in range(n):
        tilt = rng.uniform(-30, 30, 2) if tilted else np.zeros(2)
        cord = draw_cord(zooms, rng.uniform(-0.5, 0.5, 2), tilt, samples)
        area = float(np.mean(compute_shape(cord, zooms, correction="exact").csa_mm2))
        errors[number] = 100 * abs(area / (np.pi * HALF_MM.prod()) - 1)
    return errors


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=2000, help="random places of each kind (default: %(default)s)")
    args = parser.parse_args()
    print("| voxel, mm | cord | mask | median | 95th percentile | worst |\n| --- | --- | --- | --- | --- | --- |")
    for voxel in VOXELS:
        for tilted in (False, True):
            for samples, kind in ((1, "whole voxels"), (SAMPLES, "partial volumes")):
                n = args.n if samples == 1 else args.n // 10
                errors = measure_errors(np.array(voxel), n, tilted=tilted, samples=samples)
                numbers = " | ".join(f"{value:.1f} %" for value in (*np.percentile(errors, [50, 95]), errors.max()))
                size, tilt = " x ".join(f"{side:g}" for side in voxel), "tilted" if tilted else "upright"
                print(f"| {size} | {tilt} | {kind} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
