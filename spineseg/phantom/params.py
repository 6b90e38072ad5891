"""Random parameters of one synthetic person.

Drawing the parameters (here) and applying them (`spineseg.phantom.anatomy`) are separate. Every image of a person
therefore shows the same anatomy on any grid, and a person can be reproduced from the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_MUSCLE_CENTRES = 21  # muscles per side in `spineseg.phantom.body.MUSCLE_CENTRES`
N_WAVES = 4  # harmonics of the skin outline


@dataclass(frozen=True)
class Compression:
    """A place where the cord is squeezed from front to back.

    Parameters
    ----------
    s_mm : float, mm
        Position along the cord (0 at the foramen magnum, negative below).
    length_mm : float, mm
        Standard deviation of the Gaussian profile along the cord.
    depth : float, 0 to 0.7
        Fraction of the anterior-posterior diameter lost at the narrowest place.
    """

    s_mm: float
    length_mm: float
    depth: float


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid of altered tissue in the cord.

    Parameters
    ----------
    s_mm, length_mm : float, mm
        Position along the cord and half-length.
    p, q : float, -1 to 1
        Centre in the cross-section, relative to the cord's half-diameters (right, front).
    size : float, 0 to 1
        Radius in the cross-section, relative to the cord's half-diameters.
    """

    s_mm: float
    length_mm: float
    p: float
    q: float
    size: float


@dataclass(frozen=True)
class AnatomyParams:
    """The anatomy of one synthetic person; all lengths in mm, world RAS+.

    Parameters
    ----------
    lordosis_mm, sway_mm : float
        Amplitudes of the front-back and left-right waves of the cord.
    lordosis_phase, sway_phase : float, radians
        Phases of these waves along the cord.
    tilt : float
        Slope of the neck, mm forward per mm up.
    cord_ap, cord_rl : float
        Cord diameters relative to the normal values of `spineseg.phantom.course`.
    height : float
        Vertebral heights relative to the normal ones; the cord's profile stretches with them.
    girth : float
        Size of neck and trunk.
    sac : float
        Width of the dural sac.
    sac_shift_mm : tuple of float (right, anterior)
        Position of the sac relative to the cord; a large shift makes the cord touch the wall.
    sac_taper : float, 0 to 0.25
        How much narrower the sac is behind than in front.
    gm : float
        Size of the grey matter.
    fissure : float
        Depth of the anterior median fissure, fraction of the radius.
    cord_waves : tuple of float
        Third and fourth harmonic of the cord's outline, fraction of the radius.
    twist : float, radians
        Rotation of the body round the cord.
    fat_mm : float
        Thickness of the fat under the skin.
    septum_mm : float
        Thickness of the fat between muscles.
    bone : float
        Size of the vertebrae.
    airway : float
        Size of the airway.
    outline : tuple of float (amplitudes then phases)
        Harmonics of the skin outline.
    muscle_jitter : tuple of float
        Displacement of each muscle's centre, right and left side, x then y, mm.
    marbling : float, 0 to 1
        Streaks of fat inside the muscles.
    compressions : tuple of Compression
        Empty in healthy people.
    lesions : tuple of Lesion
        Empty in healthy people.
    texture_seed : int
        Seed of the texture of the tissues.
    """

    lordosis_mm: float
    lordosis_phase: float
    sway_mm: float
    sway_phase: float
    tilt: float
    cord_ap: float
    cord_rl: float
    height: float
    girth: float
    sac: float
    sac_shift_mm: tuple[float, float]
    sac_taper: float
    gm: float
    fissure: float
    cord_waves: tuple[float, ...]
    twist: float
    fat_mm: float
    septum_mm: float
    bone: float
    airway: float
    outline: tuple[float, ...]
    muscle_jitter: tuple[float, ...]
    marbling: float
    compressions: tuple[Compression, ...]
    lesions: tuple[Lesion, ...]
    texture_seed: int


def draw(rng: np.random.Generator) -> AnatomyParams:
    """Draw one healthy person.

    Parameters
    ----------
    rng : np.random.Generator
        The only source of randomness: the same state gives the same person.

    Returns
    -------
    AnatomyParams
        Without pathology; use `dataclasses.replace` to add it.

    Notes
    -----
    The spread of the cord's diameters (5 % each) gives a spread of about 7-8 % in area, somewhat below the
    12 % of Kato 2012 (n = 1211), so that areas stay inside 45 to 95 mm² at all cervical levels.
    """
    normal, uniform = rng.normal, rng.uniform
    return AnatomyParams(
        lordosis_mm=float(uniform(2.0, 9.0)),
        lordosis_phase=float(uniform(-0.5, 0.5)),
        sway_mm=float(normal(0.0, 1.2)),
        sway_phase=float(uniform(0, 2 * np.pi)),
        tilt=float(normal(0.05, 0.06)),
        # Sherman's diameters multiply to 96 mm² at C4; Kato's areas (78 mm² at C5) ask for 0.94 of them.
        cord_ap=float(np.clip(normal(0.94, 0.05), 0.82, 1.02)),
        cord_rl=float(np.clip(normal(0.94, 0.05), 0.82, 1.02)),
        height=float(np.clip(normal(1.0, 0.06), 0.85, 1.15)),
        girth=float(np.clip(normal(1.0, 0.08), 0.8, 1.25)),
        sac=float(np.clip(normal(1.0, 0.05), 0.9, 1.12)),
        sac_shift_mm=(float(normal(0, 0.35)), float(normal(-0.2, 0.35))),
        sac_taper=float(uniform(0.0, 0.25)),
        gm=float(uniform(0.9, 1.1)),
        fissure=float(uniform(0.03, 0.10)),
        cord_waves=tuple(float(w) for w in normal(0, 0.012, 4)),
        twist=float(normal(0, 0.05)),
        fat_mm=float(uniform(2.5, 7.0)),
        septum_mm=float(uniform(0.5, 1.5)),
        bone=float(np.clip(normal(1.0, 0.06), 0.85, 1.15)),
        airway=float(uniform(0.7, 1.3)),
        outline=tuple(float(x) for x in (*normal(0, 0.02, N_WAVES), *uniform(0, 2 * np.pi, N_WAVES))),
        muscle_jitter=tuple(float(x) for x in normal(0, 1.6, 4 * N_MUSCLE_CENTRES)),
        marbling=float(uniform(0.1, 1.0)),
        compressions=(),
        lesions=(),
        texture_seed=int(rng.integers(2**31)),
    )


def draw_compression(rng: np.random.Generator) -> Compression:
    """Draw one compression of the cervical cord.

    Parameters
    ----------
    rng : np.random.Generator
        Source of randomness.

    Returns
    -------
    Compression
        Between C3/4 and C6/7, where most compressions are found; 25 to 50 % of the diameter.
    """
    return Compression(
        s_mm=float(rng.uniform(-110, -59)),
        length_mm=float(rng.uniform(4, 8)),
        depth=float(rng.uniform(0.25, 0.5)),
    )


def draw_lesion(rng: np.random.Generator) -> Lesion:
    """Draw one lesion of the cervical or upper thoracic cord.

    Parameters
    ----------
    rng : np.random.Generator
        Source of randomness.

    Returns
    -------
    Lesion
        Similar to lesions of multiple sclerosis: shorter than two vertebrae, less than half the cross-section, most
        often lateral or posterior.
    """
    angle = rng.uniform(-np.pi, np.pi / 4)
    return Lesion(
        s_mm=float(rng.uniform(-180, -20)),
        length_mm=float(rng.uniform(3, 16)),
        p=float(0.6 * np.cos(angle)),
        q=float(0.6 * np.sin(angle)),
        size=float(rng.uniform(0.2, 0.45)),
    )
