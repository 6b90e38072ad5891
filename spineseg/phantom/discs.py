"""Disc labels of a synthetic person, as a person or a program would have placed them in an image."""

from __future__ import annotations

import numpy as np

from spineseg.phantom.acquisition import Acquisition
from spineseg.phantom.course import DISC_S_MM, LEVEL_S_MM, curve_mm
from spineseg.phantom.params import AnatomyParams

LABEL_S_MM = np.array([2 * LEVEL_S_MM["C2"] - DISC_S_MM[0], *DISC_S_MM])
"""Height of each label: the border C1/C2 lies as far above the middle of C2 as the disc C2/C3 lies below it."""

FIRST_VALUE = 2
"""Of the border C1/C2, in SCT's numbers: value k lies above vertebra k."""


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
