"""Tubes whose area along the cord and whose discs are known: straight, tilted and curved, in any file.

``python tests/test_levels_tubes.py`` prints the errors that docs/measures.md reports.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from scipy.spatial import cKDTree

from spineseg.cli import main

LENGTH_MM = 120.0
LABEL_OFF_MM = 12.0  # discs are marked this far in front of the cord
DISCS = (3, 4, 5, 6, 7)
SPACING_MM = 17.0  # between two discs, along the cord

TILTS = {
    "straight": (0.0, 0.0),
    "tilted AP 30": (30.0, 0.0),
    "tilted RL 30": (0.0, 30.0),
    "tilted 20/-15": (20.0, -15.0),
}
COURSES = (*TILTS, "curved", "curved twice")
ZOOMS = ((1.0, 1.0, 1.0), (0.5, 0.5, 3.0), (0.8, 0.6, 2.0))
FLAGS = {"discs": "-discfile", "levels": "-vertfile"}
FILES = ("LAS", "PSR", "IRA")


def radius_mm(arc):
    """The area changes by 8 % within 50 mm, as in the cervical enlargement."""
    return 4.6 + 0.1 * np.sin(2 * np.pi * arc / 100)


def course(name):
    """Points of the line every 0.05 mm of height, mm, middle of the field of view at 0."""
    z = np.arange(-LENGTH_MM / 2 - 15, LENGTH_MM / 2 + 15, 0.05)
    if name in TILTS:
        x, y = (np.tan(np.radians(angle)) * z for angle in TILTS[name])
    elif name == "curved":  # a neck: 25 degrees from end to end
        x, y = 0 * z, z**2 / 270
    else:
        x, y = 3 * np.sin(2 * np.pi * z / 160), 5 * np.cos(2 * np.pi * z / 130)
    return np.column_stack([x, y, z])


class Tube:
    """A mask with partial volumes, disc labels off the cord, and the truth for each level."""

    def __init__(self, name, zooms):
        self.zooms = np.asarray(zooms)
        line = course(name)
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        self.tangent = np.gradient(line, axis=0)
        self.tangent /= np.linalg.norm(self.tangent, axis=1, keepdims=True)
        middle = arc[len(arc) // 2]
        wide = np.ptp(line[:, :2], axis=0) + 2 * LABEL_OFF_MM + 14
        self.shape = np.round([*wide, LENGTH_MM] / self.zooms).astype(int)
        x, y = (line[:, :2].min(0) + line[:, :2].max(0)) / 2
        self.origin = np.array([x + 0.13, y - 0.21, 0.0])  # off the voxels' centers, as real cords are
        # C3 lies uppermost: disc 3 at +34 mm along the cord
        self.disc_arc = {d: (DISCS[len(DISCS) // 2] - d) * SPACING_MM for d in DISCS}
        self.arc, self.line = arc - middle, line
        self.mask, self.binary, self.levels = self._draw(line, self.arc)
        self.discs = np.zeros(self.shape, np.uint8)
        for disc, where in self.disc_arc.items():
            n = np.searchsorted(self.arc, where)
            front = np.array([0.0, 1.0, 0.0]) - self.tangent[n, 1] * self.tangent[n]
            front /= np.linalg.norm(front)
            self.discs[tuple(np.rint(self.to_index(line[n] + LABEL_OFF_MM * front)).astype(int))] = disc

    def to_index(self, points):
        return (points - self.origin) / self.zooms + (self.shape - 1) / 2

    def _draw(self, line, arc):
        """Partial volumes within the slices, the voxels whose center is inside, and the level of each."""
        tree = cKDTree(line[::4])
        x, y, z = (a.ravel() for a in np.indices(self.shape))
        points = (np.column_stack([x, y, z]) - (self.shape - 1) / 2) * self.zooms + self.origin
        middle = np.column_stack([np.interp(points[:, 2], line[:, 2], line[:, a]) for a in (0, 1)])
        near = np.flatnonzero(np.linalg.norm(points[:, :2] - middle, axis=1) < 8)
        total, levels = np.zeros(self.shape), np.zeros(self.shape, np.uint8)
        parts = (np.arange(4) - 1.5) / 4
        for shift in np.stack(np.meshgrid(parts, parts, indexing="ij"), -1).reshape(-1, 2):
            distance, nearest = tree.query(points[near] + [*(shift * self.zooms[:2]), 0.0])
            total.ravel()[near] += distance <= radius_mm(arc[::4][nearest])
        distance, nearest = tree.query(points[near])
        where = arc[::4][nearest]
        binary = np.zeros(self.shape, np.uint8)
        binary.ravel()[near] = distance <= radius_mm(where)
        for level in DISCS[:-1]:
            inside = (where <= self.disc_arc[level]) & (where > self.disc_arc[level + 1])
            levels.ravel()[near[inside & (total.ravel()[near] > 0)]] = level
        return total / 16, binary, levels

    def true_area(self, level):
        low, high = self.disc_arc[level + 1], self.disc_arc[level]
        return float(np.mean(np.pi * radius_mm(np.linspace(low, high, 500)) ** 2))

    def true_border(self, disc):
        """Slice, not whole, at which the plane of a disc meets the cord."""
        return float(self.to_index(self.line[np.searchsorted(self.arc, self.disc_arc[disc])])[2])

    def save(self, folder, axcodes):
        affine = np.diag([-self.zooms[0], self.zooms[1], self.zooms[2], 1.0])
        turn = orientations.ornt_transform(nib.io_orientation(affine), orientations.axcodes2ornt(tuple(axcodes)))
        files = {"cord": self.binary, "soft": self.mask, "discs": self.discs, "levels": self.levels}
        for name, data in files.items():
            nib.save(nib.Nifti1Image(data, affine).as_reoriented(turn), folder / f"{name}.nii.gz")


def measure(folder, mask, labels, *flags):
    out = Path(folder) / "csa.csv"
    files = ["-i", f"{folder}/{mask}.nii.gz", FLAGS[labels]]
    assert main(["csa", *files, f"{folder}/{labels}.nii.gz", *flags, "-o", str(out)]) == 0
    with out.open(newline="") as stream:
        return {row["level"]: row for row in csv.DictReader(stream)}


def errors(tube, rows, labels):
    """Largest error of a level's area, %, and of a border, slices."""
    # the slice that a disc's plane meets is the last of the level below, as in SCT; a level file says each voxel's own
    above = 0.0 if labels == "discs" else 0.5
    areas, borders = [], []
    for level in DISCS[:-1]:
        row = rows[f"C{level}"]
        areas.append(abs(float(row["csa_mm2"]) / tube.true_area(level) - 1) * 100)
        low, high = (int(end) for end in row["slices"].split(":"))
        borders += [low - 1 + above - tube.true_border(level + 1), high + above - tube.true_border(level)]
    return max(areas), np.abs(borders).max()


@pytest.mark.parametrize("zooms", ZOOMS, ids=str)
@pytest.mark.parametrize("name", COURSES)
def test_levels_of_a_tube(name, zooms, tmp_path):
    tube = Tube(name, zooms)
    tube.save(tmp_path, FILES[(COURSES.index(name) + ZOOMS.index(zooms)) % len(FILES)])
    for labels in ("discs", "levels"):
        rows = measure(tmp_path, "soft", labels, "-vert", "C3:C6", "-perlevel", "1")
        assert list(rows) == ["C6", "C5", "C4", "C3"]
        area, border = errors(tube, rows, labels)
        assert area < 1.0
        assert border <= 1.0


@pytest.fixture(scope="module")
def tube():
    return Tube("curved twice", ZOOMS[2])


@pytest.mark.parametrize("axcodes", FILES)
def test_every_file_gives_the_same(axcodes, tube, tmp_path):
    tube.save(tmp_path, "LAS")
    expected = measure(tmp_path, "cord", "discs", "-perlevel", "1")
    tube.save(tmp_path, axcodes)
    assert measure(tmp_path, "cord", "discs", "-perlevel", "1") == expected


@pytest.mark.parametrize("labels", ["discs", "levels"])
def test_stretch_around_a_disc(tube, tmp_path, labels):
    tube.save(tmp_path, "PSR")
    row = measure(tmp_path, "soft", labels, "-vert", "C4/C5")["C4/C5"]
    low, high = (int(end) for end in row["slices"].split(":"))
    middle = tube.true_border(5)
    assert (low + high) / 2 == pytest.approx(middle, abs=1)
    assert float(row["length_mm"]) == pytest.approx(20, abs=tube.zooms[2])
    assert row["note"] == ""
    around = np.linspace(tube.disc_arc[5] - 10, tube.disc_arc[5] + 10, 200)
    assert float(row["csa_mm2"]) == pytest.approx(np.mean(np.pi * radius_mm(around) ** 2), rel=0.01)


def test_ranges_pool_their_slices(tube, tmp_path):
    tube.save(tmp_path, "LAS")
    each = measure(tmp_path, "cord", "discs", "-vert", "4:6", "-perlevel", "1")
    pooled = measure(tmp_path, "cord", "discs", "-vert", "C4-C6")["C4-C6"]
    counts = {level: int(row["n_slices"]) for level, row in each.items()}
    assert int(pooled["n_slices"]) == sum(counts.values())
    mean = sum(counts[level] * float(each[level]["csa_mm2"]) for level in each) / sum(counts.values())
    assert float(pooled["csa_mm2"]) == pytest.approx(mean, rel=1e-4)
    assert pooled["vert_level"] == "4:6"


@pytest.mark.parametrize("distance", [40.0, 64.0])
def test_distance_from_the_junction(tube, tmp_path, distance):
    n = np.searchsorted(tube.arc, 58.0)  # the upper part of the cord has no mask
    tube.save(tmp_path, "PSR")
    mask = tube.mask.copy()
    mask[..., round(tube.true_border(3)) + 5 :] = 0
    junction = np.zeros(tube.shape, np.uint8)
    junction[tuple(np.rint(tube.to_index(tube.line[n])).astype(int))] = 50
    affine = np.diag([-tube.zooms[0], tube.zooms[1], tube.zooms[2], 1.0])
    for name, data in (("cut", mask), ("pmj", junction)):
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}.nii.gz")
    out = tmp_path / "pmj.csv"
    flags = ["-pmj", f"{tmp_path}/pmj.nii.gz", "-pmj-distance", str(distance), "-pmj-extent", "15"]
    assert main(["csa", "-i", f"{tmp_path}/cut.nii.gz", *flags, "-o", str(out)]) == 0
    with out.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    low, high = (int(end) for end in row["slices"].split(":"))
    arc = np.interp([low, high], tube.to_index(tube.line)[:, 2], tube.arc)
    np.testing.assert_allclose(58.0 - arc[::-1], [distance - 7.5, distance + 7.5], atol=tube.zooms[2])
    assert float(row["distance_pmj_mm"]) == pytest.approx(distance, abs=tube.zooms[2] / 2)


if __name__ == "__main__":
    for mask in ("soft", "cord"):
        for name in COURSES:
            for n, zooms in enumerate(ZOOMS):
                with tempfile.TemporaryDirectory() as folder:
                    tube = Tube(name, zooms)
                    tube.save(Path(folder), FILES[n])
                    found = {
                        n: errors(tube, measure(folder, mask, n, "-vert", "3:6", "-perlevel", "1"), n) for n in FLAGS
                    }
                area, border = np.max(list(found.values()), axis=0)
                print(f"{mask} {name:14} {zooms} {FILES[n]}: area {area:.2f} %, border {border:.2f} slices")
