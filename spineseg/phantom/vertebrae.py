"""Discs and vertebral levels of a synthetic person, as labels and with the cord's true area."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spineseg.phantom.canal import cord_area_mm2
from spineseg.phantom.course import DISC_S_MM, LEVEL_S_MM, build_profiles, curve_mm, table_index, to_cord_frame
from spineseg.phantom.params import AnatomyParams

FIRST_DISC = 2
"""C1/C2, between two vertebrae that have no disc: the border of their levels."""

BORDERS_S_MM = np.concatenate([[(LEVEL_S_MM["C1"] + LEVEL_S_MM["C2"]) / 2], DISC_S_MM])
"""Middles of the discs at height 1, from `FIRST_DISC` downwards."""


def disc_places(params: AnatomyParams) -> dict[int, NDArray[np.float64]]:
    """Return the middle of each disc by SCT's value (3: C2/C3), (3,), mm, in the person's coordinates."""
    z = BORDERS_S_MM * params.height
    profiles, index = build_profiles(params), table_index(z)
    forward = profiles.sac_b[index] + profiles.sac_v[index] + 1.6 + profiles.body_h[index]
    ahead, behind = curve_mm(params, z + 0.5), curve_mm(params, z - 0.5)
    tangent = (ahead - behind) / np.linalg.norm(ahead - behind, axis=1, keepdims=True)
    front = np.array([0.0, 1.0, 0.0]) - tangent[:, 1:2] * tangent
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    places = curve_mm(params, z) + forward[:, None] * front
    return {FIRST_DISC + n: place for n, place in enumerate(places)}


def label_discs(params: AnatomyParams, shape: tuple[int, ...], to_person: NDArray) -> NDArray[np.uint8]:
    """Mark each disc that lies in a grid by one voxel of its value, (I, J, K)."""
    labels = np.zeros(shape, np.uint8)
    to_voxel = np.linalg.inv(to_person)
    for value, place in disc_places(params).items():
        at = np.rint(to_voxel[:3, :3] @ place + to_voxel[:3, 3]).astype(int)
        if (at >= 0).all() and (at < shape).all():
            labels[tuple(at)] = value
    return labels


def label_levels(params: AnatomyParams, cord: NDArray[np.bool_], to_person: NDArray) -> NDArray[np.uint8]:
    """Give each voxel of the cord its vertebral level (C1: 1, T1: 8), (I, J, K)."""
    labels = np.zeros(cord.shape, np.uint8)
    index = np.argwhere(cord)
    _, _, s = to_cord_frame(params, index @ to_person[:3, :3].T + to_person[:3, 3])
    labels[tuple(index.T)] = 1 + (s[:, None] < BORDERS_S_MM * params.height).sum(axis=1)
    return labels


def true_areas(params: AnatomyParams, discs: NDArray[np.uint8]) -> dict[int, float]:
    """Return the mean area of the cord between each two marked neighbours, mm², by the value of the upper disc."""
    marked = set(np.unique(discs).tolist())
    areas = {}
    for n, (upper, lower) in enumerate(pairwise(BORDERS_S_MM), start=FIRST_DISC):
        if {n, n + 1} <= marked:
            z = np.linspace(upper, lower, 101) * params.height
            areas[n] = round(float(cord_area_mm2(params, z).mean()), 3)
    return areas
