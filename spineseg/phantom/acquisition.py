"""Grids of the demo study's acquisitions: one protocol per contrast, with axes stored as scanners store them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import axcodes2ornt

from spineseg.phantom.course import curve_mm
from spineseg.phantom.params import AnatomyParams

TARGET_S_MM = -70.0  # middle of the field of view: C4


@dataclass(frozen=True)
class Protocol:
    """Acquisition protocol of one contrast.

    Parameters
    ----------
    suffix : str
        BIDS suffix.
    axcodes : str
        Order and direction of the stored axes, "towards" letters as in nibabel.
    zooms_mm, fov_mm : (3,) tuple of float, mm
        Voxel size and field of view along right-left, anterior-posterior, superior-inferior.
    thick_axis : {0, 1, 2} or None
        Slice axis in the same order; None for a 3-D acquisition.
    follows_cord : bool
        Whether slices are placed at right angles to the cord.
    """

    suffix: str
    axcodes: str
    zooms_mm: tuple[float, float, float]
    fov_mm: tuple[float, float, float]
    thick_axis: int | None
    follows_cord: bool


# After the spine-generic protocol, with smaller fields of view so that the demo is quick.
PROTOCOLS = {
    "T1w": Protocol("T1w", "RAS", (1.0, 1.0, 1.0), (72.0, 86.0, 100.0), None, False),
    "T2w": Protocol("T2w", "PSR", (1.2, 0.8, 0.8), (56.0, 88.0, 108.0), 0, False),
    "T2star": Protocol("T2star", "LAS", (0.5, 0.5, 5.0), (100.0, 106.0, 55.0), 2, True),
    "dwi": Protocol("dwi", "LPS", (0.9, 0.9, 5.0), (80.0, 74.0, 55.0), 2, True),
    # Echo-planar means as studies of the cord's function acquire them; not part of the demo.
    "bold": Protocol("bold", "LAS", (1.0, 1.0, 4.0), (112.0, 112.0, 88.0), 2, True),
}

# Mid thorax to sacrum, sagittal. STIR has the BIDS suffix T2w.
LOWER_PROTOCOLS = {
    "T1w": Protocol("T1w", "PSR", (1.0, 1.0, 1.0), (48.0, 96.0, 370.0), 0, False),
    "T2w": Protocol("T2w", "PSR", (1.0, 1.0, 1.0), (48.0, 96.0, 370.0), 0, False),
    "STIR": Protocol("T2w", "PSR", (1.0, 1.0, 1.0), (48.0, 96.0, 370.0), 0, False),
}
LOWER_S_MM = -440.0  # middle of that field of view: T12 and L1


@dataclass(frozen=True)
class Acquisition:
    """A grid in the scanner and the position of the person in it.

    Parameters
    ----------
    shape : tuple of int
        Stored axes.
    affine : (4, 4) ndarray
        Stored voxel index to scanner world, mm, as in the file.
    pose : (4, 4) ndarray
        Scanner world to the person's world, mm.
    thick_axis : {0, 1, 2} or None
        Slice axis among the stored axes.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    pose: np.ndarray
    thick_axis: int | None


def draw_acquisition(
    rng: np.random.Generator,
    params: AnatomyParams,
    protocol: Protocol,
    pose: np.ndarray,
    *,
    short: bool = False,
    target_s_mm: float = TARGET_S_MM,
) -> Acquisition:
    """Place the field of view of one acquisition around the cord of a person.

    Parameters
    ----------
    rng : np.random.Generator
        Source of randomness: size, centre and angles vary from person to person.
    params : AnatomyParams
        The person.
    protocol : Protocol
        Contrast's protocol.
    pose : (4, 4) ndarray
        Scanner world to the person's world at this session; a small motion between acquisitions is added.
    short : bool, default False
        Whether to cut the field of view to 40 % along the cord and 60 % across, as in a hurried scan.
    target_s_mm : float, mm
        Middle of the field of view, measured upwards from the foramen magnum.

    Returns
    -------
    Acquisition
    """
    zooms, fov = np.array(protocol.zooms_mm), np.array(protocol.fov_mm)
    fov = fov * (np.array([0.6, 0.6, 0.4]) if short else rng.uniform(0.96, 1.04, 3))
    shape = np.maximum(np.rint(fov / zooms).astype(int), 4)
    target = target_s_mm * params.height + rng.normal(0, 4)
    line = curve_mm(params, target + np.array([-5.0, 0.0, 5.0]))
    centre = line[1] + rng.normal(0, [2.0, 4.0, 0.0])
    slope = (line[2] - line[0])[:2] / 10 if protocol.follows_cord else np.zeros(2)
    angles = rng.normal(0, [0.04, 0.02, 0.03])  # radians: operators rarely match the cord better than 2 degrees
    rotation = _rotation(angles[0] - slope[1], angles[1] + slope[0], angles[2])
    motion = np.eye(4)
    motion[:3, 3] = rng.normal(0, 0.4, 3)  # between the acquisitions of one session
    pose = pose @ motion
    return _store(protocol, shape, zooms, rotation, centre, pose)


def draw_pose(rng: np.random.Generator) -> np.ndarray:
    """Draw a person's position in the scanner in one session: (4, 4), scanner world to the person's world."""
    pose = np.eye(4)
    pose[:3, :3] = _rotation(*rng.normal(0, 0.03, 3))
    pose[:3, 3] = pose[:3, :3] @ rng.normal(0, 6, 3)
    return pose


def _store(protocol: Protocol, shape, zooms, rotation: np.ndarray, centre: np.ndarray, pose: np.ndarray) -> Acquisition:
    """Order and flip the axes as the scanner stores them; the centre (3,) is in the person's world."""
    orientation = axcodes2ornt(protocol.axcodes)  # stored axis -> (world axis, direction)
    axes, flips = orientation[:, 0].astype(int), orientation[:, 1]
    n_i, n_j, n_k = (int(n) for n in shape[axes])
    stored_shape = n_i, n_j, n_k
    to_scanner = np.linalg.inv(pose)
    affine = np.eye(4)
    affine[:3, :3] = to_scanner[:3, :3] @ rotation[:, axes] * (flips * zooms[axes])
    middle = affine[:3, :3] @ ((np.array(stored_shape) - 1) / 2)
    affine[:3, 3] = (to_scanner @ [*centre, 1.0])[:3] - middle
    affine = np.round(affine, 5).astype(np.float32).astype(np.float64)  # exactly what a NIfTI header holds
    thick = None if protocol.thick_axis is None else int(np.flatnonzero(axes == protocol.thick_axis)[0])
    return Acquisition(stored_shape, affine, pose, thick)


def _rotation(about_x: float, about_y: float, about_z: float) -> np.ndarray:
    """Rotation matrix (3, 3) from angles about the world axes, radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([about_x, about_y, about_z]), np.sin([about_x, about_y, about_z])
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx
