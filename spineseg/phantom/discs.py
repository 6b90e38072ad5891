"""Discs and vertebral levels of a synthetic person: labels as a person would place them, and the cord's true area."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from spineseg.phantom.acquisition import Acquisition
from spineseg.phantom.canal import cord_area_mm2
from spineseg.phantom.course import DISC_S_MM, LEVEL_S_MM, curve_mm, to_cord_frame
from spineseg.phantom.params import AnatomyParams

LABEL_S_MM = np.array([2 * LEVEL_S_MM["C2"] - DISC_S_MM[0], *DISC_S_MM])
"""Height of each label, mm. The border C1/C2 lies as far above the middle of C2 as the disc C2/C3 lies below it."""

FIRST_VALUE = 2
"""Value of the border C1/C2 in SCT's numbering, in which value k lies above vertebra k."""


def middle_of(first: int, last: int) -> float:
    """Return the height of the middle between the borders above two levels or discs (C2: 2), mm, at height 1.

    Examples
    --------
    >>> middle_of(3, 3), middle_of(2, 4)  # the disc C2/C3; the levels C2 and C3
    (-42.0, -38.5)
    """
    return float((LABEL_S_MM[first - FIRST_VALUE] + LABEL_S_MM[last - FIRST_VALUE]) / 2)


def label_discs(person: AnatomyParams, acquisition: Acquisition) -> np.ndarray:
    """Mark the borders of the vertebrae that an image shows, from C1/C2 down, each in the nearest voxel of the cord.

    Returns
    -------
    (X, Y, Z) ndarray of uint8
        Stored axes; 0 where there is no label.
    """
    heights = LABEL_S_MM * person.height
    points = np.column_stack([curve_mm(person, heights), np.ones(len(heights))])
    voxels = np.rint(points @ np.linalg.inv(acquisition.pose @ acquisition.affine).T)[:, :3].astype(int)
    labels = np.zeros(acquisition.shape, np.uint8)
    for value, voxel in enumerate(voxels, FIRST_VALUE):
        if np.all((voxel >= 0) & (voxel < acquisition.shape)):
            labels[tuple(voxel)] = value
    return labels


def label_levels(person: AnatomyParams, acquisition: Acquisition, cord: np.ndarray) -> np.ndarray:
    """Label each voxel of the cord, (X, Y, Z) bool, with its vertebral level (C1: 1, T1: 8); uint8, 0 elsewhere."""
    to_person = acquisition.pose @ acquisition.affine
    voxels = np.argwhere(cord)
    _, _, s = to_cord_frame(person, voxels @ to_person[:3, :3].T + to_person[:3, 3])
    labels = np.zeros(acquisition.shape, np.uint8)
    labels[tuple(voxels.T)] = 1 + (s[:, None] < LABEL_S_MM * person.height).sum(axis=1)
    return labels


def true_areas(person: AnatomyParams, labels: np.ndarray) -> dict[str, float]:
    """Return the cord's mean area between neighbouring labels, mm², by the value of the upper label."""
    marked = set(np.unique(labels).tolist())
    areas = {}
    for value, ends in enumerate(pairwise(LABEL_S_MM * person.height), FIRST_VALUE):
        if {value, value + 1} <= marked:
            areas[str(value)] = round(float(cord_area_mm2(person, np.linspace(*ends, 101)).mean()), 3)
    return areas
