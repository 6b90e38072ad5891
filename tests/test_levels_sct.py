"""Area by level of ten generated cords against SCT's definition, computed here without the package.

SCT (``sct_process_segmentation -discfile``): a disc belongs to the slice of the nearest point of the centerline; that
slice and those below it, down to the next disc's, are the level below the disc. A slice's area is its voxels' area
times the cosines of the two angles of the centerline's derivative; a level's is the mean over its slices.
"""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from spineseg.cli import main

ORIENTATIONS = ("LAS", "PSR", "IRA")
ZOOMS = ((1.0, 1.0, 1.0), (0.5, 0.5, 3.0), (0.7, 0.9, 2.0), (0.4, 0.4, 5.0), (0.8, 0.5, 1.2))
LENGTH_MM, STEP_MM, FIRST_DISC = 150.0, 16.0, 2
SEEDS = range(10)


class Cord:
    """A bent, turning ellipse in whole voxels, with discs in front of it."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.zooms = np.array(ZOOMS[seed % len(ZOOMS)])
        self.axcodes = ORIENTATIONS[seed % len(ORIENTATIONS)]
        shape = np.ceil(np.array([56.0, 70.0, LENGTH_MM]) / self.zooms).astype(int)
        z = np.arange(shape[2]) * self.zooms[2]
        bend, phase = rng.uniform(2, 7, 2), rng.uniform(0, 2 * np.pi, 2)
        waves = 2 * np.pi / rng.uniform(140, 220, 2)
        self.center = np.stack(
            [25 + bend[0] * np.sin(waves[0] * z + phase[0]), 24 + bend[1] * np.sin(waves[1] * z + phase[1])]
        )
        wide = rng.uniform(5.4, 6.6) * (1 + 0.1 * np.sin(z / 25 + phase[0]))
        flat = rng.uniform(3.6, 4.6) * (1 + 0.1 * np.cos(z / 30))
        turn = np.radians(8) * np.sin(z / 40)
        x, y = (np.arange(shape[a]) * self.zooms[a] for a in (0, 1))
        dx, dy = x[:, None, None] - self.center[0], y[None, :, None] - self.center[1]
        across, along = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
        self.mask = ((across / wide) ** 2 + (along / flat) ** 2 <= 1).astype(np.uint8)
        self.discs = np.zeros(shape, np.uint8)
        for n in range(8):
            k = round((LENGTH_MM - 12 - STEP_MM * n) / self.zooms[2])
            at = np.array([self.center[0, k], self.center[1, k] + 14]) / self.zooms[:2]
            self.discs[round(at[0]), round(at[1]), k] = FIRST_DISC + n

    def save(self, folder, **arrays):
        """Write arrays on this grid, in the file's own orientation."""
        affine = np.diag([-self.zooms[0], self.zooms[1], self.zooms[2], 1.0])
        for name, data in arrays.items():
            image = nib.Nifti1Image(data, affine)
            to = orientations.axcodes2ornt(self.axcodes)
            image = image.as_reoriented(orientations.ornt_transform(orientations.io_orientation(affine), to))
            nib.save(image, folder / f"{name}.nii.gz")

    def by_definition(self):
        """Level to its slices and its area, by SCT's definition."""
        found = np.flatnonzero(self.mask.any(axis=(0, 1)))
        z = found * self.zooms[2]
        middle = np.array([np.argwhere(self.mask[:, :, k]).mean(axis=0) for k in found]) * self.zooms[:2]
        u = (z - z.mean()) / np.ptp(z)
        curves = [np.polynomial.Polynomial.fit(u, middle[:, a], 9) for a in (0, 1)]
        line = np.column_stack([curves[0](u), curves[1](u), z])
        slopes = [curve.deriv()(u) / np.ptp(z) for curve in curves]
        cosines = np.cos(np.arctan(slopes[0])) * np.cos(np.arctan(slopes[1]))
        area = np.array([self.mask[:, :, k].sum() for k in found]) * self.zooms[0] * self.zooms[1] * cosines
        border = {}
        for i, j, k in np.argwhere(self.discs):
            nearest = np.linalg.norm(line - np.array([i, j, k]) * self.zooms, axis=1).argmin()
            border[int(self.discs[i, j, k])] = int(found[nearest])
        levels = {}
        for disc in sorted(border)[:-1]:
            inside = (found <= border[disc]) & (found > border[disc + 1])
            levels[disc] = (found[inside], area[inside].mean())
        return levels


def measure(folder, *flags):
    """Level to its row."""
    out = folder / "csa.csv"
    flags = ["-vert", "2:8", "-perlevel", "1", "-o", str(out), *map(str, flags)]
    assert main(["csa", "-i", str(folder / "cord.nii.gz"), *flags]) == 0
    with out.open(newline="") as stream:
        return {int(row["vert_level"]): row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("seed", SEEDS)
def test_area_by_level_is_that_of_the_definition(seed, tmp_path):
    cord = Cord(seed)
    expected = cord.by_definition()
    levels = np.zeros_like(cord.mask)
    for level, (slices, _) in expected.items():
        levels[:, :, slices] = cord.mask[:, :, slices] * level
    cord.save(tmp_path, cord=cord.mask, discs=cord.discs, levels=levels)
    from_discs = measure(tmp_path, "-discfile", tmp_path / "discs.nii.gz")
    from_levels = measure(tmp_path, "-vertfile", tmp_path / "levels.nii.gz")
    assert list(from_levels) == list(from_discs) == sorted(expected, reverse=True)
    for level, (slices, area) in expected.items():
        assert from_levels[level]["slices"] == f"{slices[0]}:{slices[-1]}"
        ends = [int(end) for end in from_discs[level]["slices"].split(":")]
        np.testing.assert_allclose(ends, [slices[0], slices[-1]], atol=1)  # planes across the line, not nearest slices
        for row in (from_levels[level], from_discs[level]):
            assert float(row["csa_mm2"]) == pytest.approx(area, rel=0.01)
