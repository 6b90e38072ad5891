"""Tissues of the phantom, and distance functions of simple shapes."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Tissue(IntEnum):
    """Label of each tissue in label maps."""

    AIR = 0
    SKIN = 1
    FAT = 2  # under the skin and between muscles
    MUSCLE = 3
    MARROW = 4  # inside of vertebrae, skull and jaw
    CORTICAL_BONE = 5
    DISC = 6  # nucleus of the intervertebral disc
    ANNULUS = 7  # rim of the disc
    LIGAMENT = 8  # ligaments, cartilage
    EPIDURAL = 9  # fat and veins between dura and bone
    DURA = 10
    CSF = 11
    WHITE_MATTER = 12
    GREY_MATTER = 13
    ROOT = 14  # rootlets and cauda equina inside the dura
    GANGLION = 15  # spinal ganglia and nerves outside the dura
    AIRWAY = 16
    MUCOSA = 17  # walls of throat, gullet, windpipe
    VESSEL = 18
    GLAND = 19
    BRAINSTEM = 20
    BRAIN_GREY = 21
    BRAIN_WHITE = 22
    LUNG = 23
    LESION = 24  # inside the white matter of the cord


N_TISSUES = len(Tissue)
CORD_TISSUES = (Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.LESION)


def radial_distance(u: np.ndarray, v: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """Compute the signed distance to an ellipse along the ray from its centre.

    Parameters
    ----------
    u, v : (n,) ndarray, mm
        Coordinates relative to the centre.
    a, b : (n,) ndarray or float, mm
        Half-diameters along u and v.

    Returns
    -------
    (n,) ndarray, mm
        Negative inside. Zero exactly on the ellipse; elsewhere no smaller in size than the true distance.
    """
    q = np.sqrt((u / a) ** 2 + (v / b) ** 2) + np.float32(1e-6)
    return np.hypot(u, v) * (1 - 1 / q) - (q < 1e-3) * np.minimum(a, b)


def box_distance(
    u: np.ndarray, v: np.ndarray, w: np.ndarray | float, h: np.ndarray | float, corner: float
) -> np.ndarray:
    """Compute the signed distance to a box of half-sizes w, h with round corners; (n,), mm, negative inside."""
    qu, qv = np.abs(u) - (w - corner), np.abs(v) - (h - corner)
    outside = np.hypot(np.maximum(qu, 0), np.maximum(qv, 0))
    return np.minimum(np.maximum(qu, qv), 0) + outside - corner


def capsule_distance(u: np.ndarray, v: np.ndarray, start: tuple, end: tuple, radius: np.ndarray | float) -> np.ndarray:
    """Compute the signed distance to a segment thickened by a radius.

    Parameters
    ----------
    u, v : (n,) ndarray, mm
        Points.
    start, end : pair of float or (n,) ndarray, mm
        Ends of the segment.
    radius : float or (n,) ndarray, mm
        Half-thickness.

    Returns
    -------
    (n,) ndarray, mm
        Negative inside.
    """
    du, dv = end[0] - start[0], end[1] - start[1]
    along = ((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv + 1e-6)
    along = np.clip(along, 0, 1)
    return np.hypot(u - start[0] - along * du, v - start[1] - along * dv) - radius
