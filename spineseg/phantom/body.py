"""Tissues around the canal: skin, fat, muscles, vertebrae, throat, vessels, skull and brain."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import map_coordinates

from spineseg.phantom.course import Profiles, build_profiles, table_index
from spineseg.phantom.params import N_MUSCLE_CENTRES, N_WAVES, AnatomyParams
from spineseg.phantom.tissues import Tissue, box_distance, capsule_distance, radial_distance

# Centres of the neck muscles of one side (to the side, to the front), mm from the cord, read off axial slices:
# deep and superficial extensors, levator, trapezius, scalenes, sternomastoid, longus colli, strap muscles.
MUSCLE_CENTRES = np.array(
    [
        (6, -21), (13, -26), (9, -35), (20, -32), (9, -47), (21, -44), (12, -58), (27, -24), (33, -35),
        (29, -52), (38, -20), (30, -8), (24, 6), (42, -5), (33, 18), (46, 10), (44, 27), (7, 24), (20, 34),
        (30, 44), (10, 50),
    ],
    dtype=np.float32,
)  # fmt: skip
SKIN_MM = 1.6  # skin of the neck is 1.5 to 2 mm thick
MAP_PX, MAP_ZOOM_MM = 360, 0.6  # covers the neck; interpolated, so septa stay smooth
assert len(MUSCLE_CENTRES) == N_MUSCLE_CENTRES  # the jitter of params is drawn for as many


def paint_body(labels: np.ndarray, params: AnatomyParams, u: np.ndarray, v: np.ndarray, s: np.ndarray) -> None:
    """Paint everything outside the dural sac.

    Parameters
    ----------
    labels : (n,) ndarray of uint8
        Overwritten in place.
    params : AnatomyParams
        The person.
    u, v, s : (n,) ndarray, mm
        Points in the cord's frame.
    """
    cos, sin = np.float32(np.cos(params.twist)), np.float32(np.sin(params.twist))
    u, v = cos * u + sin * v, cos * v - sin * u
    tab = build_profiles(params)
    inside = _paint_skin(labels, params, u, v, s, tab)
    inner, u, v, s = labels[inside], u[inside], v[inside], s[inside]
    _paint_muscles(inner, params, u, v, s)
    below = s < 12
    front, middle = below & (v > 8), below & (np.abs(u) < 48) & (v > -60)
    for region, paint in (
        (front & (np.abs(u) < 60), _paint_throat),
        (front & (np.abs(u) < 70), _paint_vessels),
        (s < -135 * params.height, _paint_trunk),
        (middle & (v > -14) & (v < 52), _paint_vertebra),
        (middle & (v < 4), _paint_arch),
    ):
        chosen = np.flatnonzero(region)
        if chosen.size:
            part = inner[chosen]
            paint(part, params, u[chosen], v[chosen], s[chosen], tab)
            inner[chosen] = part
    head = np.flatnonzero(s > -2)
    if head.size:
        part = inner[head]
        _paint_head(part, params, u[head], v[head], s[head], tab)
        inner[head] = part
    labels[inside] = inner


def _paint_skin(labels, params, u, v, s, tab: Profiles) -> np.ndarray:
    """Paint air, skin and the fat under it; return the indices of the points further inside."""
    index = table_index(s)
    p, q = u / tab.skin_a[index], (v - tab.skin_v[index]) / tab.skin_b[index]
    radius = np.sqrt(p * p + q * q)
    # Points well inside are not needed here: waves and fat take less than a third of the radius.
    outer = np.flatnonzero(radius > 0.6)
    radius, p, q, v = radius[outer], p[outer], q[outer], (v - tab.skin_v[index])[outer]
    angle = np.arctan2(q, p)
    waves = np.asarray(params.outline, dtype=np.float32)
    outline = np.ones_like(p)
    for i in range(N_WAVES):
        outline += waves[i] * np.cos((i + 2) * angle + waves[N_WAVES + i] + s[outer] * np.float32(0.01 * i))
    depth = np.hypot(u[outer], v) * (1 - outline / radius)  # negative inside
    fat = params.fat_mm * (1 + 0.8 * np.clip(-q, 0, 1) + 0.25 * np.sin(3 * angle + 0.05 * s[outer]))
    skin = np.full(depth.shape, Tissue.AIR, dtype=np.uint8)
    skin[depth < 0] = Tissue.SKIN
    skin[depth < -SKIN_MM] = Tissue.FAT
    labels[:] = Tissue.MUSCLE
    labels[outer] = skin
    inside = np.ones(u.shape, dtype=bool)
    inside[outer] = depth < -SKIN_MM - fat
    return np.flatnonzero(inside)


@lru_cache(maxsize=64)  # one map of 0.5 MB per person
def _septum_map(params: AnatomyParams) -> np.ndarray:
    """Tabulate the distance of points of a cross-section to the border between two muscles; (MAP_PX, MAP_PX), mm.

    Each point belongs to the muscle whose centre is nearest; muscles are flat, wider round the neck than deep.
    """
    axis = ((np.arange(MAP_PX) - MAP_PX // 2) * MAP_ZOOM_MM).astype(np.float32)
    u, v = axis[:, None], axis[None, :]
    jitter = np.asarray(params.muscle_jitter, dtype=np.float32).reshape(2, N_MUSCLE_CENTRES, 2)
    best = np.full((MAP_PX, MAP_PX), np.inf, dtype=np.float32)
    second = best.copy()
    for i, centre in enumerate(MUSCLE_CENTRES):
        for side, sign in enumerate((1, -1)):
            cu, cv = sign * centre[0] + jitter[side, i, 0], centre[1] + jitter[side, i, 1]
            length = np.hypot(cu, cv + 5)
            nu, nv = cu / length, (cv + 5) / length  # outwards from the spine
            deep, wide = (u - cu) * nu + (v - cv) * nv, (v - cv) * nu - (u - cu) * nv
            d = np.hypot(1.3 * deep, 0.8 * wide)
            second = np.minimum(second, np.maximum(best, d))
            best = np.minimum(best, d)
    return second - best


def _paint_muscles(labels, params, u, v, s) -> None:
    """Fill the inside with muscles: cells round their centres with septa of fat between."""
    # Muscles wander a little along the neck, and their borders are never straight.
    wu = u / params.girth + 1.2 * np.sin(0.19 * v + 0.045 * s) + 0.6 * np.sin(0.61 * v - 0.11 * s)
    wv = v / params.girth + 1.2 * np.sin(0.17 * u - 0.055 * s) + 0.6 * np.sin(0.53 * u + 0.13 * s)
    where = np.stack([wu, wv]) * np.float32(1 / MAP_ZOOM_MM) + np.float32(MAP_PX // 2)
    gap = map_coordinates(_septum_map(params), where, order=1, mode="nearest", output=np.float32)
    # Septa are thick in places and almost vanish in others.
    width = params.septum_mm * (0.85 + 0.5 * np.sin(0.16 * u + 0.07 * s) + 0.5 * np.sin(0.13 * v - 0.09 * s))
    streak = np.abs(np.sin(0.55 * wu + 1.8 * np.sin(0.31 * wv + 0.04 * s)))
    thickness = 0.09 * params.marbling * (1 + np.sin(0.23 * wv + 0.19 * wu + 0.06 * s))
    is_fat = (gap < np.maximum(width, 0.3)) | (streak < thickness)
    labels[:] = np.where(is_fat, Tissue.FAT, Tissue.MUSCLE)


def _front(tab: Profiles, index: np.ndarray) -> np.ndarray:
    """Return the position of the vertebral bodies' anterior surface, mm in front of the cord's centre."""
    return tab.sac_b[index] + tab.sac_v[index] + 1.6 + 2 * tab.body_h[index]


def _paint_throat(labels, params, u, v, s, tab: Profiles) -> None:
    """Paint pharynx, larynx, windpipe, gullet and tongue base in front of the vertebrae."""
    index = table_index(s)
    front, depth = _front(tab, index), -s / params.height
    half_w, half_h, gap = (t[index] for t in (tab.throat_w, tab.throat_h, tab.throat_gap))
    centre = front + gap + half_h
    wall = radial_distance(u, v - centre, half_w, half_h)
    wall += 0.7 * np.sin(0.5 * u + 0.11 * s) * np.sin(0.45 * v - 0.17 * s)  # folds
    present = s > -260 * params.height
    labels[present & (wall < 3.2)] = Tissue.MUCOSA
    cartilage = present & (wall > 0.9) & (wall < 2.4) & (depth > 72)
    labels[cartilage] = Tissue.LIGAMENT
    labels[present & (wall < 0)] = Tissue.AIRWAY
    gullet = radial_distance(u - 2, v - front - 5.5, 7.5, 3.6)
    below = depth > 85
    labels[below & (gullet < 0)] = Tissue.MUSCLE
    labels[below & (np.abs(gullet + 1.6) < 0.5)] = Tissue.MUCOSA
    jaw = np.abs(radial_distance(u, v - 38, 44, 48)) - 5.5
    jaw = np.where((v > 28) & (depth < 46) & (depth > -5), jaw, 1)
    labels[jaw < 0] = Tissue.CORTICAL_BONE
    labels[jaw < -1.8] = Tissue.MARROW


def _paint_vessels(labels, params, u, v, s, tab: Profiles) -> None:
    """Paint carotids, jugular veins and the glands beside them."""
    depth, side = -s / params.height, np.abs(u) / params.girth
    right = u > 0
    shift = np.where(right, 0.8, -0.8) * np.sin(s / 17)
    drift = 0.03 * (depth - 60)
    carotid = np.hypot(side - 25 + drift, v - 23 - shift) - 3.2
    jugular = radial_distance(side - 31 + drift, v - 21 + shift, 5.5, 4.0)
    thyroid = radial_distance(side - 16, v - 36, 8.5, 9.5)
    submandibular = radial_distance(side - 30, v - 38, 9.5, 8)
    labels[(depth > 98) & (depth < 135) & (thyroid < 0)] = Tissue.GLAND
    labels[(depth > 28) & (depth < 58) & (submandibular < 0)] = Tissue.GLAND
    for wall in (carotid, jugular):
        labels[wall < 0.9] = Tissue.FAT
        labels[wall < 0] = Tissue.VESSEL


def _paint_trunk(labels, params, u, v, s, tab: Profiles) -> None:
    """Paint lungs, ribs and the great vessel below the neck."""
    # The tops of the lungs are domes: full width is reached 50 mm below the apex.
    dome = np.sqrt(np.clip((-135 * params.height - s) / 50, 0.001, 1))
    lung = radial_distance(np.abs(u) - 75 + 15 * (1 - dome), v - 48, 52 * dome, 72 * dome)
    upper = s > -390 * params.height
    labels[upper & (lung < 0)] = Tissue.LUNG
    rib = upper & (np.abs(lung - 5) < 4) & (np.sin(s * 0.24 + v * 0.06) > 0.2)
    labels[rib] = Tissue.CORTICAL_BONE
    labels[rib & (np.abs(lung - 5) < 2.4)] = Tissue.MARROW
    aorta = np.hypot(u + 16, v - _front(tab, table_index(s)) - 9) - 10.5
    labels[aorta < 1] = Tissue.FAT
    labels[aorta < 0] = Tissue.VESSEL


def _paint_vertebra(labels, params, u, v, s, tab: Profiles) -> None:
    """Paint bodies, discs, articular pillars and the spaces where the nerves leave."""
    index = table_index(s)
    w, h, disc, disc_h = (t[index] for t in (tab.body_w, tab.body_h, tab.disc, tab.disc_h))
    centre = tab.sac_b[index] + tab.sac_v[index] + 1.6 + h
    waist = 1.3 * np.clip(disc / 9, 0, 1)  # bodies are narrower at half height
    body = box_distance(u, v - centre, w - waist, h - waist, 4.5)
    axis = s < -4
    prevertebral = capsule_distance(np.abs(u), v - centre - h - 2.5, (4.0, 0.0), (w * 0.8, -2.0), 2.6)
    labels[axis & (prevertebral < 0)] = Tissue.MUSCLE
    _paint_foramina(labels, u, v, s, tab, index)
    labels[axis & (body < 0)] = Tissue.CORTICAL_BONE
    labels[axis & (body < -0.9) & (disc > disc_h + 0.8)] = Tissue.MARROW
    in_disc = (disc < disc_h) & (s < -30)
    labels[in_disc & (body < 0.8)] = Tissue.ANNULUS
    labels[in_disc & (body < -2.6)] = Tissue.DISC
    basion = (s > -4) & (box_distance(u, v - centre, 9.0, 6.0, 3.0) < 0)
    labels[basion] = Tissue.MARROW
    labels[(np.abs(body - 0.5) < 0.5) & axis & ~in_disc] = Tissue.LIGAMENT


def _paint_foramina(labels, u, v, s, tab: Profiles, index: np.ndarray) -> None:
    """Paint articular pillars, vertebral arteries, and nerves with fat at the height of the discs."""
    side, disc = np.abs(u), tab.disc[index]
    pillar_u = np.maximum(tab.sac_a[index], 9.0) + 7.0
    pillar = box_distance(side - pillar_u, v + 0.5, 5.5, 7.5, 3.0)
    pillar = np.where(s > -5, 1, pillar)
    labels[pillar < 0] = Tissue.CORTICAL_BONE
    labels[(pillar < -1.3) & (disc > 2)] = Tissue.MARROW
    cervical = s > -125
    transverse = box_distance(side - pillar_u + 1, v - 8, 5.5, 4.5, 2.5)
    labels[cervical & (transverse < 0) & (disc > 5)] = Tissue.CORTICAL_BONE
    opening = (disc < 5) & (side > tab.sac_a[index] - 1) & (side < pillar_u + 4) & (np.abs(v - 4.5) < 4.0) & (s < -25)
    labels[opening] = Tissue.FAT
    nerve = capsule_distance(side, v, (tab.sac_a[index] + 1, 2.5), (pillar_u + 2, 6.5), 1.4)
    ganglion = radial_distance(side - pillar_u + 1, v - 5.0, 3.8, 2.9)
    labels[(disc < 4) & (s < -25) & ((nerve < 0) | (ganglion < 0))] = Tissue.GANGLION
    artery = np.hypot(side - pillar_u + 1, v - 9.2) - 2.0
    labels[cervical & (s < -4) & (artery < 0)] = Tissue.VESSEL


def _paint_arch(labels, params, u, v, s, tab: Profiles) -> None:
    """Paint laminae, spinous processes, and the ligaments between them."""
    index, side = table_index(s), np.abs(u)
    sac_a, back = tab.sac_a[index], tab.sac_b[index] - tab.sac_v[index]
    roof = -(back + 4.5)
    mid = tab.mid[index]
    lamina = capsule_distance(side, v, (sac_a + 6.0, -4.0), (1.5, roof - 2.0), 2.4)
    flavum = capsule_distance(side, v, (sac_a + 3.0, -4.5), (0.0, roof + 0.8), 1.1)
    labels[(flavum < 0) & (s < -5)] = Tissue.LIGAMENT
    bone = (np.abs(mid + 3) < 5.5) & (s < -5)  # laminae overlap the lower half of their vertebra
    labels[bone & (lamina < 0)] = Tissue.CORTICAL_BONE
    labels[bone & (lamina < -1.1)] = Tissue.MARROW
    behind = np.clip(roof - v, 0, None)
    spine = capsule_distance(u, v, (0.0, roof - 2), (0.0, roof - 2 - tab.spinous[index]), 2.6)
    nuchal = (side < 1.1 + 0.4 * np.sin(s / 5)) & (v < roof - 1) & (s < -5)
    labels[nuchal] = Tissue.LIGAMENT
    slope = np.abs(mid + 4 + 0.45 * behind) - 4.5  # processes slope down and back
    labels[(spine < 0) & (slope < 0) & (s < -5)] = Tissue.CORTICAL_BONE
    labels[(spine < -1.1) & (slope < -1.1) & (s < -5)] = Tissue.MARROW


def _paint_head(labels, params, u, v, s, tab: Profiles) -> None:
    """Paint skull, fluid and brain above the foramen magnum."""
    index = table_index(s)
    a, b, shift = tab.skin_a[index], tab.skin_b[index], tab.skin_v[index]
    base = np.clip((s + 6) / 30, 0, 1)  # the hind skull opens upwards from the foramen magnum
    vault = np.clip((s - 35) / 25, 0, 1)  # above the skull base the cranium also fills the front
    half_u, half_v = a * (0.3 + 0.58 * base), b * (0.28 + 0.2 * base + 0.38 * vault)
    centre = shift - (b - half_v) * (1 - vault) * 0.55 * base - 6 * (1 - base)
    skull = radial_distance(u, v - centre, half_u, half_v)
    labels[skull < 6] = Tissue.CORTICAL_BONE
    labels[np.abs(skull - 3) < 1.6] = Tissue.MARROW
    labels[skull < 0] = Tissue.CSF
    folds = 2.4 * np.sin(u * 0.42 + 1.7 * np.sin(v * 0.23)) * np.sin(v * 0.39 + 1.3 * np.sin(s * 0.31))
    surface = skull + 3.5 + np.maximum(folds, -1.0)
    midline = np.abs(u + 0.5 * np.sin(v * 0.2)) < 0.8
    brain = (surface < 0) & ~(midline & (s > 45)) & (s > 4)
    labels[brain] = Tissue.BRAIN_GREY
    labels[brain & (surface < -3.0 - 1.5 * np.abs(folds))] = Tissue.BRAIN_WHITE
    ventricle = (s > 60) & (s < 95) & (radial_distance(np.abs(u) - 8, v - 20, 5, 24) < 0)
    labels[brain & ventricle] = Tissue.CSF
