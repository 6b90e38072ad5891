"""The spinal canal and its contents: cord, grey matter, fluid, rootlets, dura, epidural fat."""

from __future__ import annotations

import numpy as np

from spineseg.phantom.course import CONUS_S_MM, Profiles, build_profiles, table_index
from spineseg.phantom.params import AnatomyParams
from spineseg.phantom.tissues import Tissue, capsule_distance, radial_distance

DURA_MM = 0.5  # with arachnoid; real dura is about 0.3-0.4 mm
FORAMEN_MAGNUM_S_MM = 0.0  # above it the tissue is brainstem and not part of the reference


def cord_outline(params: AnatomyParams, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Compute the cord's radius in each direction, relative to its ellipse.

    Parameters
    ----------
    params : AnatomyParams
        The person.
    cos, sin : (n,) ndarray
        Direction in coordinates divided by the half-diameters: to the right, to the front.

    Returns
    -------
    (n,) ndarray
        1 for a plain ellipse; smaller at the anterior fissure; modulated by two harmonics that differ between people.
    """
    cos2, sin2 = 2 * cos * cos - 1, 2 * sin * cos
    cos3, sin3 = cos * cos2 - sin * sin2, sin * cos2 + cos * sin2
    cos4, sin4 = 2 * cos2 * cos2 - 1, 2 * sin2 * cos2
    c3, s3, c4, s4 = params.cord_waves
    fissure = params.fissure * np.exp((sin - 1) * 60)  # about 10 degrees wide on either side
    return 1 + c3 * cos3 + s3 * sin3 + c4 * cos4 + s4 * sin4 - fissure


def cord_area_mm2(params: AnatomyParams, s_mm: np.ndarray) -> np.ndarray:
    """Compute the exact area of the cord at right angles to its course.

    Parameters
    ----------
    params : AnatomyParams
        The person.
    s_mm : (n,) ndarray, mm
        Positions along the cord.

    Returns
    -------
    (n,) ndarray of float64, mm²
        0 above the foramen magnum and below the conus.
    """
    s = np.atleast_1d(np.asarray(s_mm, dtype=np.float64))
    angle = np.linspace(0, 2 * np.pi, 3600, endpoint=False)
    outline = cord_outline(params, np.cos(angle), np.sin(angle))
    profiles, index = build_profiles(params), table_index(s)
    area = np.pi * (outline**2).mean() * profiles.cord_a[index] * profiles.cord_b[index]
    return np.where(has_cord(params, s), area, 0.0)


def has_cord(params: AnatomyParams, s: np.ndarray) -> np.ndarray:
    """Whether positions along the cord hold spinal cord (bool, shape of s)."""
    return (s <= FORAMEN_MAGNUM_S_MM) & (s >= CONUS_S_MM * params.height)


def cord_ratio(params: AnatomyParams, u: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Distance from the cord's centre relative to its outline in that direction; (n,), below 1 inside.

    Above the foramen magnum the same shape is the brainstem.
    """
    profiles, index = build_profiles(params), table_index(s)
    p, q = u / profiles.cord_a[index], v / profiles.cord_b[index]
    radius = np.sqrt(p * p + q * q) + np.float32(1e-9)
    return radius / cord_outline(params, p / radius, q / radius)


def is_cord(params: AnatomyParams, u: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Whether points in the cord's frame are spinal cord; (n,) bool."""
    return (cord_ratio(params, u, v, s) < 1) & has_cord(params, s)


def is_grey_matter(params: AnatomyParams, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Whether points of the cord are in the butterfly; p, q relative to the half-diameters; (n,) bool.

    The areas add up to 15-20 % of the cord, as in the cervical enlargement.
    """
    side, g = np.abs(p), params.gm
    # Anterior horn: broad, tilted outwards to the front.
    hu, hv = side - 0.30, q - 0.17
    across, along = hu * 0.96 - hv * 0.28, hu * 0.28 + hv * 0.96
    horn = (across / (0.155 * g)) ** 2 + (along / (0.31 * g)) ** 2 < 1
    # Posterior horn: thin, reaching almost to the surface where the dorsal roots enter.
    dorsal = capsule_distance(side, q, (0.22, -0.02), (0.43, -0.68), 0.062 * g) < 0
    commissure = (np.abs(q + 0.02) < 0.07 * g) & (side < 0.32)
    return horn | dorsal | commissure


def _is_root(params: AnatomyParams, u: np.ndarray, v: np.ndarray, s: np.ndarray, tab: Profiles) -> np.ndarray:
    """Rootlets beside the cord near the discs, and the cauda equina below it; (n,) bool."""
    index = table_index(s)
    # Bundles of filaments, visible in some slices only.
    near_disc = (np.abs(tab.disc[index] - 4) < 4) & (np.sin(s * 2.1 + 0.9 * np.sign(u)) > -0.2)
    anterior = capsule_distance(
        np.abs(u), v, (tab.cord_a[index] * 0.6, tab.cord_b[index] * 0.95), (tab.sac_a[index] * 0.92, 1.0), 0.2
    )
    dorsal = capsule_distance(
        np.abs(u), v, (tab.cord_a[index] * 0.6, -tab.cord_b[index] * 0.95), (tab.sac_a[index] * 0.92, -1.0), 0.25
    )
    rootlet = near_disc & ((anterior < 0) | (dorsal < 0)) & (s < -12)
    # Cauda equina: a lattice of fibres, 1.9 mm apart, that sinks to the back of the sac when a person lies.
    below = s < (CONUS_S_MM + 40) * params.height
    fu, fv = u + 0.02 * s, v + 0.013 * s
    fibre = (np.sin(fu * 3.3 + np.sin(fv * 2.1)) + np.sin(fv * 3.3)) > 0.9
    return rootlet | (below & fibre & (v < 0.35 * tab.sac_b[index]))


def canal_wall(params: AnatomyParams, u: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Signed radial distance to the outside of the dura; (n,), mm, negative inside the sac.

    The sac always encloses the cord: where its ellipse would cut the cord, it follows the cord's outline.
    """
    tab, index = build_profiles(params), table_index(s)
    su, sv, half_b = u - tab.sac_u[index], v - tab.sac_v[index], tab.sac_b[index]
    half_a = tab.sac_a[index] * (1 + params.sac_taper * np.clip(sv / half_b, -1, 1))
    sac = radial_distance(su, sv, half_a, half_b)
    margin = 0.25 + DURA_MM  # the pia and a film of fluid remain where the cord touches the wall
    round_cord = radial_distance(u, v, tab.cord_a[index] + margin, tab.cord_b[index] + margin)
    return np.minimum(sac, round_cord)


def paint_canal(labels: np.ndarray, params: AnatomyParams, u: np.ndarray, v: np.ndarray, s: np.ndarray) -> None:
    """Paint the contents of the canal over the labels of points in the cord's frame.

    Parameters
    ----------
    labels : (n,) ndarray of uint8
        Changed in place; points outside the canal keep their label.
    params : AnatomyParams
        The person.
    u, v, s : (n,) ndarray, mm
        Points in the cord's frame.
    """
    tab = build_profiles(params)
    wall = canal_wall(params, u, v, s)
    index = table_index(s)
    # Epidural space: a thin layer all round, a fat pad behind (thick between the laminae and in the chest).
    pad = np.clip(-s / 100, 0.6, 2.2) * np.exp(-((u / 4.0) ** 2)) * (v < 0) * 1.6
    epidural = (wall < 0.7 + pad) & (s < 3)
    labels[epidural] = Tissue.EPIDURAL
    sac = np.flatnonzero(wall < 0)
    labels[sac] = np.where(wall[sac] > -DURA_MM, Tissue.DURA, Tissue.CSF)
    u, v, s, index = u[sac], v[sac], s[sac], index[sac]
    fluid = wall[sac] < -DURA_MM
    labels[sac[fluid & _is_root(params, u, v, s, tab)]] = Tissue.ROOT
    inside = np.flatnonzero(cord_ratio(params, u, v, s) < 1)
    sac, u, v, s, index = sac[inside], u[inside], v[inside], s[inside], index[inside]
    cord, stem = has_cord(params, s), s > FORAMEN_MAGNUM_S_MM
    p, q = u / tab.cord_a[index], v / tab.cord_b[index]
    tissue = np.where(is_grey_matter(params, p, q), Tissue.GREY_MATTER, Tissue.WHITE_MATTER)
    for lesion in params.lesions:
        across = ((p - lesion.p) ** 2 + (q - lesion.q) ** 2) / lesion.size**2
        tissue[across + ((s - lesion.s_mm) / lesion.length_mm) ** 2 < 1] = Tissue.LESION
    labels[sac[cord]] = tissue[cord]
    labels[sac[stem]] = Tissue.BRAINSTEM
