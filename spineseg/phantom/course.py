"""The course of the cord through the body, and the sizes of structures along it.

Every structure is described in the frame of the cord: ``u`` to the right, ``v`` to the front, ``s`` along the
cord (mm; 0 at the foramen magnum, negative below). A world point gets its ``(u, v, s)`` from the nearest point
of the curve, so a cross-section at right angles to the cord is described exactly however the cord lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from spineseg.phantom.params import AnatomyParams

S_TOP_MM, S_BOTTOM_MM = 160.0, -640.0  # crown of the head, below the last lumbar disc
S_STEP_MM = 0.25  # a quarter of the finest slice thickness in use; tables are read at the nearest entry
LORDOSIS_PERIOD_MM = 260.0  # neck lordosis and chest kyphosis together make about one wave
SWAY_PERIOD_MM = 170.0

# Position of levels at height 1: discs C2/3 .. L5/S1. Cervical pitch 17 mm, lumbar 34 mm (adult means).
_PITCH_MM = np.concatenate([[17, 17, 17, 17, 18], np.linspace(19, 27, 12), np.full(5, 34.0)])
DISC_S_MM = -42.0 - np.concatenate([[0.0], np.cumsum(_PITCH_MM)])
LEVEL_S_MM = {"C1": -9.0, "C2": -30.0, "C3": -50.5, "C4": -67.5, "C5": -84.5, "C6": -101.5, "C7": -119.0}
CONUS_S_MM = -430.0  # tip of the cord, at L1
SACRUM_Z_MM, SACRUM_BEND = -570.0, 0.012  # below L5/S1 the spine turns backwards: 40 degrees at S2

# s, AP diameter, RL diameter. C2, C4, C7: Sherman 1990 (66 MR studies). Others: interpolation, thoracic 40 mm²
# and lumbar enlargement 55-60 mm² (commonly quoted means). Above 0: medulla, pons, midbrain.
_CORD_MM = np.array(
    [
        (160, 2, 2), (88, 2, 2), (75, 14, 22), (62, 18, 26), (50, 25, 29), (34, 24, 29), (22, 15, 20), (10, 11.5, 14.5),
        (0, 9.8, 12.6), (-30, 8.8, 12.4), (-67.5, 8.7, 14.0), (-84.5, 8.4, 13.8), (-101.5, 7.9, 12.6),
        (-119, 7.4, 11.4), (-145, 6.9, 9.6), (-200, 6.6, 8.4), (-310, 6.6, 8.3), (-360, 7.4, 9.2),
        (-390, 7.8, 9.6), (-412, 6.4, 7.2), (-430, 1.0, 1.0), (-640, 1.0, 1.0),
    ]
)  # fmt: skip
# s, AP diameter, RL diameter of the dural sac: C5 canal 11-13 mm (Kato 2012), wide at C1 and at the cauda.
_SAC_MM = np.array(
    [
        (160, 3, 3), (88, 3, 3), (72, 22, 30), (45, 30, 35), (12, 27, 32), (0, 23, 29), (-20, 18, 24),
        (-42, 14.4, 20.5), (-67.5, 13.0, 20.2), (-93, 12.6, 19.8), (-119, 12.4, 18.2), (-150, 12.6, 16),
        (-300, 12.6, 15), (-390, 14.5, 17.5), (-430, 15, 19), (-540, 13, 16), (-600, 8, 9), (-640, 4, 4),
    ]
)  # fmt: skip
# s, half-width RL, half-depth AP of the vertebral body.
_BODY_MM = np.array(
    [(160, 9, 7), (-20, 8.5, 7.2), (-50, 9.5, 7.8), (-119, 13, 8.8), (-200, 14, 11), (-390, 19, 15), (-640, 23, 17)]
)
# s, half-width, half-depth, forward shift of the skin outline round the cord.
_SKIN_MM = np.array(
    [
        (160, 30, 40, 20), (130, 66, 88, 18), (70, 76, 96, 20), (15, 73, 92, 22), (-25, 62, 76, 14),
        (-55, 57, 64, 5), (-95, 59, 63, 3), (-120, 88, 68, 4), (-150, 150, 88, 20), (-230, 168, 108, 45),
        (-420, 150, 105, 50), (-640, 170, 115, 55),
    ]
)  # fmt: skip


# s, half-width, half-depth of the airway, distance from the vertebral body: the pharynx is flat at C2 and C3, the
# larynx a narrow cleft at C5, the windpipe round.
_THROAT_MM = np.array(
    [
        (160, 9, 8, 5), (0, 9, 8, 5), (-25, 11, 5, 4.7), (-45, 12, 4.5, 4.5), (-70, 9, 7, 6), (-85, 4.5, 9, 7),
        (-100, 7.5, 8, 12), (-130, 8, 8, 13), (-640, 8, 8, 14),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Profiles:
    """Tables along the cord, one entry each `S_STEP_MM` from the bottom up; all (n,) float32, mm.

    Parameters
    ----------
    cord_a, cord_b : half-diameters of the cord, RL and AP.
    sac_a, sac_b : half-diameters of the dural sac.
    sac_u, sac_v : centre of the sac relative to the cord.
    body_w, body_h : half-width and half-depth of the vertebral body.
    skin_a, skin_b, skin_v : half-width, half-depth and shift of the skin outline.
    disc : distance to the nearest disc's middle.
    mid : signed distance to the nearest vertebra's middle, positive above.
    disc_h : half-height of the discs.
    spinous : length of the spinous process.
    throat_w, throat_h : half-width and half-depth of the airway.
    throat_gap : from the vertebral body to the airway.
    """

    cord_a: np.ndarray
    cord_b: np.ndarray
    sac_a: np.ndarray
    sac_b: np.ndarray
    sac_u: np.ndarray
    sac_v: np.ndarray
    body_w: np.ndarray
    body_h: np.ndarray
    skin_a: np.ndarray
    skin_b: np.ndarray
    skin_v: np.ndarray
    disc: np.ndarray
    mid: np.ndarray
    disc_h: np.ndarray
    spinous: np.ndarray
    throat_w: np.ndarray
    throat_h: np.ndarray
    throat_gap: np.ndarray


def _grid_s() -> np.ndarray:
    """Positions of the table entries, (n,) float64, mm."""
    return np.arange(S_BOTTOM_MM, S_TOP_MM + S_STEP_MM / 2, S_STEP_MM)


def _interpolate(table: np.ndarray, s: np.ndarray) -> list[np.ndarray]:
    """Interpolate each column of a (m, 1 + c) table at s without overshoot; c arrays (n,)."""
    ordered = table[np.argsort(table[:, 0])]
    return list(PchipInterpolator(ordered[:, 0], ordered[:, 1:])(np.clip(s, ordered[0, 0], ordered[-1, 0])).T)


@lru_cache(maxsize=64)  # a person is sampled many times; a table set takes 200 kB
def build_profiles(params: AnatomyParams) -> Profiles:
    """Tabulate the sizes and positions of structures along the cord of one person.

    Parameters
    ----------
    params : AnatomyParams
        The person.

    Returns
    -------
    Profiles
        Tables over `S_BOTTOM_MM` to `S_TOP_MM`.
    """
    grid = _grid_s()
    s = grid / np.where(grid < 0, params.height, 1.0)  # levels stretch with height, the head does not
    cord_ap, cord_rl = _interpolate(_CORD_MM, s)
    squeeze = np.zeros_like(s)
    for c in params.compressions:
        squeeze = np.maximum(squeeze, c.depth * np.exp(-0.5 * ((s - c.s_mm) / c.length_mm) ** 2))
    cord_b = cord_ap / 2 * params.cord_ap * (1 - squeeze)
    cord_a = cord_rl / 2 * params.cord_rl * (1 + 0.25 * squeeze)  # a squeezed cord gives way sideways
    sac_ap, sac_rl = _interpolate(_SAC_MM, s)
    sac_b = sac_ap / 2 * params.sac * (1 - 0.9 * squeeze)
    sac_a = sac_rl / 2 * params.sac
    body_w, body_h = _interpolate(_BODY_MM, s)
    skin_a, skin_b, skin_v = _interpolate(_SKIN_MM, s)
    to_disc = s[:, None] - DISC_S_MM
    middles = np.concatenate([[-30.0], (DISC_S_MM[1:] + DISC_S_MM[:-1]) / 2])
    to_mid = s[:, None] - middles
    nearest = np.abs(to_mid).argmin(1)
    lower = np.clip(-s / 400, 0, 1)  # 0 at the skull, 1 at the lumbar spine
    spinous = np.interp(-s, [0, 15, 30, 50, 90, 119, 200, 400], [0, 4, 22, 14, 16, 32, 34, 28])
    throat_w, throat_h, throat_gap = _interpolate(_THROAT_MM, s)
    columns = {
        "cord_a": cord_a, "cord_b": cord_b, "sac_a": sac_a, "sac_b": sac_b,
        "sac_u": params.sac_shift_mm[0] + 0.3 * np.sin(s / 23.0),
        "sac_v": params.sac_shift_mm[1] + 0.3 * np.cos(s / 31.0) - 1.2 * np.exp(-(((s + 250) / 90) ** 2)),
        "body_w": body_w * params.bone, "body_h": body_h * params.bone,
        "skin_a": skin_a * params.girth, "skin_b": skin_b * params.girth, "skin_v": skin_v,
        "disc": np.abs(to_disc).min(1) * params.height,
        "mid": to_mid[np.arange(s.size), nearest] * params.height,
        "disc_h": 2.3 + 2.8 * lower, "spinous": spinous * params.bone,
        "throat_w": throat_w * params.airway, "throat_h": throat_h * params.airway, "throat_gap": throat_gap,
    }  # fmt: skip
    return Profiles(**{name: np.ascontiguousarray(col, dtype=np.float32) for name, col in columns.items()})


def table_index(s: np.ndarray) -> np.ndarray:
    """Index into the tables of `Profiles` for positions s; same shape, int32, clipped to the ends."""
    index = np.rint((s - S_BOTTOM_MM) * (1 / S_STEP_MM)).astype(np.int32)
    return np.clip(index, 0, round((S_TOP_MM - S_BOTTOM_MM) / S_STEP_MM), out=index)


def curve_mm(params: AnatomyParams, z_mm: np.ndarray) -> np.ndarray:
    """Return the world position of the cord's centre at heights z.

    Parameters
    ----------
    params : AnatomyParams
        The person.
    z_mm : (n,) ndarray, mm
        World heights.

    Returns
    -------
    (n, 3) ndarray, mm
        Points of the curve; at z the position along the cord is s = z, by definition.
    """
    z = np.asarray(z_mm)
    x, y, _, _ = _curve(params, z)
    return np.stack([x, y, z], axis=-1)


def _curve(params: AnatomyParams, z: np.ndarray) -> tuple[np.ndarray, ...]:
    """Position x, y of the curve at z and its slopes dx/dz, dy/dz; each of the shape of z."""
    ky, kx = np.float32(2 * np.pi / LORDOSIS_PERIOD_MM), np.float32(2 * np.pi / SWAY_PERIOD_MM)
    # The wave of the lordosis is furthest to the front at C4-C5 (z = -75).
    phase_y = ky * (z + 75) + params.lordosis_phase
    phase_x = kx * z + params.sway_phase
    y = params.lordosis_mm * np.cos(phase_y) + params.tilt * (z + 75)
    x = params.sway_mm * np.sin(phase_x)
    slope_y = -params.lordosis_mm * ky * np.sin(phase_y) + params.tilt
    slope_x = params.sway_mm * kx * np.cos(phase_x)
    below = np.maximum(SACRUM_Z_MM - z, 0)
    y -= np.float32(0.5 * SACRUM_BEND) * below * below
    slope_y += np.float32(SACRUM_BEND) * below
    return x, y, slope_x, slope_y


def to_cord_frame(params: AnatomyParams, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert world points to the frame of the cord.

    Parameters
    ----------
    params : AnatomyParams
        The person.
    points_mm : (n, 3) ndarray, mm
        World points, RAS+.

    Returns
    -------
    u, v, s : (n,) ndarray of float32, mm
        To the right and to the front of the cord's centre, in the plane at right angles to the cord; height of
        the nearest point of the curve.
    """
    points = np.asarray(points_mm, dtype=np.float32)
    px, py, pz = points[:, 0], points[:, 1], points[:, 2]
    s = pz.copy()
    for _ in range(2):  # the curve is almost straight: the second step leaves less than 0.01 mm within 30 mm
        x, y, tx, ty = _curve(params, s)
        s += ((px - x) * tx + (py - y) * ty + (pz - s)) / (1 + tx * tx + ty * ty)
    x, y, tx, ty = _curve(params, s)
    dx, dy, dz = px - x, py - y, pz - s
    # Front axis: world y made perpendicular to the tangent t; right axis: front x tangent.
    norm2 = 1 + tx * tx + ty * ty
    front = 1 / np.sqrt(norm2 * (1 + tx * tx))
    v = (dy * (1 + tx * tx) - ty * (dx * tx + dz)) * front
    u = (dx - dz * tx) / np.sqrt(1 + tx * tx)
    return u.astype(np.float32, copy=False), v.astype(np.float32, copy=False), s
