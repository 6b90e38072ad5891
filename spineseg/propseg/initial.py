"""Place the initial tube where the image shows a cord along the centerline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.propseg.deform import deform_bands, measure_cord, sample_rays
from spineseg.propseg.parameters import STEP_MM
from spineseg.propseg.surface import Tube, compute_areas, compute_normals, make_rings, recenter, unit_circle

if TYPE_CHECKING:
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

INITIAL_ITERATIONS = 8
INITIAL_TOLERANCE_MM = 0.05  # both as in the original

INITIAL_REACH_MM = 10.0
"""Length of the initial tube above and below its start: six rings 2 mm apart on either side, as in the original."""

MIN_AREA_MM2 = 12.0
"""Area below which the tube has collapsed: less than half the thinnest thoracic cord."""

MIN_SUPPORT = 0.5
"""Smallest share of vertices with an edge at which a tube counts as a cord."""


MIN_FLUX = 1.0
"""Smallest mean rise of intensity (1/mm) through the surface, in standard deviations of the cord. The best tube in pure
noise reaches 0.9; in real images 4 and more; in real images with added noise of a tenth of their range 1.1."""

CLOSED_SHARE = 0.8
"""Share of the surface that must have an edge to count as closed; the rest may touch tissue of similar intensity."""

STRETCHES = (1.0, 1.3, 1.6)
"""Ratios of width to depth of the ellipses that are tried: thoracic, lumbar and cervical cord. The original's Hough
search uses such ellipses as well. The depth is twice the radius."""

RIM_CORE, RIM_SHARES, RIM_OUTSIDE = (0.1, 0.25), (0.6, 0.75), 1.25
"""Shares of the radius at which intensity is measured: in the core, in the rim inside the edge's blur, and outside."""

RAY_STEP_MM = 1.0
"""Distance of two samples on a ray, as in the original: about one voxel."""

RAY_RADII = 2.5
"""Length of a ray in initial radii: beyond any cord, into the fluid."""


@dataclass(frozen=True)
class InitialTube:
    """The tube that propagation starts from, or why there is none."""

    tube: Tube | None
    contrast: float  # 0 to 1000: mean contrast along it
    support: float  # 0 to 1: share of vertices with an edge; of the best start where the tube is None
    # 1/mm: the rise of intensity that four fifths of the surface exceed: high where the edge goes all round
    closure: float = 0.0
    offset_mm: float = 0.0  # mm: mean distance of the tube's centre from the centerline
    start: int = -1  # slice: where the tube was placed; -1 without a tube
    area_mm2: float = 0.0  # mean area of its rings
    # difference between the rim and the core inside it, away from the intensity outside, as a share of the edge's
    # contrast, on the fifth of the surface with the largest values: 0 in a cord, high if only the core is cord
    rim: float = 0.0


def place_initial_tube(scene: Scene, starts: NDArray[np.intp]) -> InitialTube:
    """Deform elliptical tubes at several starts and return the best tube of the first start with a cord.

    The first start, which nearly always has a cord, is tried alone; if it fails, the others are tried all at once.

    Parameters
    ----------
    starts : (n,) ndarray of int; slices of the course, best first
    """
    first = try_starts(scene, starts[:1])[0]
    if first.tube is not None or len(starts) == 1:
        return first
    others = try_starts(scene, starts[1:])
    for other in others:
        if other.tube is not None:
            return other
    tried = [first, *others]
    return InitialTube(None, max(one.contrast for one in tried), max(one.support for one in tried))


def try_starts(scene: Scene, starts: NDArray[np.intp]) -> list[InitialTube]:
    """Deform the tubes of all starts together and return the best of each; see `place_initial_tube`."""
    params, n_shapes = scene.params, len(STRETCHES)
    slices, template, groups = _stack_ellipses(scene, starts)
    rings, edges = deform_bands(
        scene,
        slices,
        template,
        groups,
        distance_weight=np.full(len(slices), scene.distance_weight(scene.model.prior_contrast)),
        held=np.zeros(len(slices), bool),
        iterations=INITIAL_ITERATIONS,
        tolerance_mm=INITIAL_TOLERANCE_MM,
    )
    centers, radii = recenter(rings)
    contrast = measure_contrast(scene, slices, centers).mean(1)
    # measured between the vertices too: an edge of noise exists only at the vertices that searched for it
    rise = measure_rise(scene, slices, make_rings(centers, radii))
    spread = measure_cord(scene, slices, rings)[1]
    measured = ((edges.weight > 0).mean(1), contrast, compute_areas(rings), rise.mean(1), spread)
    count = np.bincount(groups)
    support, contrast, area, flux, spread = (np.bincount(groups, value) / count for value in measured)
    spread = np.repeat(spread.reshape(-1, n_shapes).max(axis=1), n_shapes)  # a spot with little noise is no cord
    good = (support >= MIN_SUPPORT) & (contrast > params.min_contrast) & (flux > MIN_FLUX * spread)
    good &= (area >= MIN_AREA_MM2) & (area < 1.2 * params.max_area_mm2)
    found = []
    for n, start in enumerate(starts):  # the shapes of one start are consecutive groups
        shapes = np.arange(n * n_shapes, (n + 1) * n_shapes)
        if not good[shapes].any():
            found.append(InitialTube(None, float(contrast[shapes].max()), float(support[shapes].max())))
            continue
        chosen = int(shapes[np.where(good, flux, -np.inf)[shapes].argmax()])
        own = groups == chosen
        tube = Tube(slices[own], centers[own], radii[own])
        found.append(
            InitialTube(
                tube,
                float(contrast[chosen]),
                float(support[chosen]),
                float(np.percentile(rise[own], 100 * (1 - CLOSED_SHARE))),
                float(np.linalg.norm(tube.centers - scene.course.at(tube.slices), axis=1).mean()),
                int(start),
                float(area[chosen]),
                measure_rim(scene, tube),
            )
        )
    return found


def measure_rim(scene: Scene, tube: Tube) -> float:
    """Measure how much the intensity in a tube's rim differs from that in its core; see `InitialTube.rim`."""
    rings, centers = tube.vertices(), tube.centers[:, None]

    def level(share: float) -> Floats:
        return (
            scene.sign(tube.slices)[:, None] * scene.image.sample(tube.slices, centers + share * (rings - centers))[0]
        )

    core = np.median(np.stack([level(share) for share in RIM_CORE]), axis=(0, 2))[:, None]
    step = np.maximum(np.median(level(RIM_OUTSIDE), axis=1)[:, None] - core, 1.0)
    rim = np.mean([level(share) for share in RIM_SHARES], axis=0)
    return float(np.percentile(((core - rim) / step).mean(axis=0), 100 * CLOSED_SHARE))


def _stack_ellipses(scene: Scene, starts: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
    """Return slices (R,), rings (R, K, 2) and groups (R,) of tubes at all starts and in all shapes."""
    course, radius = scene.course, scene.params.radius_mm
    reach = round(INITIAL_REACH_MM / (course.ring_step * scene.slice_mm))
    first = np.repeat(starts, len(STRETCHES))
    stack = first[:, None] + course.ring_step * np.arange(-reach, reach + 1)
    groups, _ = np.nonzero(course.holds(stack))
    slices = stack[course.holds(stack)]
    axes = np.column_stack([np.tile(STRETCHES, len(starts)), np.ones(len(first))]) * radius
    return slices, course.at(slices)[:, None] + axes[groups][:, None] * unit_circle(scene.model.n_vertices), groups


def measure_rise(scene: Scene, slices: NDArray[np.intp], rings: Floats) -> Floats:
    """Measure the rise of intensity through the surface at each vertex, (R, K), 1/mm; negative where it falls."""
    rays = sample_rays(scene, slices, rings, compute_normals(rings), STEP_MM)
    return np.where(rays.known, rays.slope, 0.0)[..., rays.steps.size // 2]


def measure_contrast(scene: Scene, slices: NDArray[np.intp], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the contrast on each ray: the rise from the darkest before the steepest step to the brightest after.

    Parameters
    ----------
    scene : its initial radius is the scale of the rays; one ray per vertex of a ring
    slices : (R,) ndarray of int
    centers : (R, 2) ndarray, mm

    Returns
    -------
    (R, K) ndarray, 0 to 1000; 0 where a ray leaves the image at once
    """
    steps = np.arange(0.0, RAY_RADII * scene.params.radius_mm, RAY_STEP_MM)
    points = centers[:, None, None, :] + steps[:, None] * unit_circle(scene.model.n_vertices)[:, None, :]
    values, known = scene.image.sample(slices, points)
    values = scene.sign(slices)[:, None, None] * values
    rise = np.where(known[..., 1:], np.diff(values, axis=2), -np.inf)
    step = rise.argmax(axis=2)[..., None]
    order = np.arange(len(steps))
    before = np.where(known & (order <= step), values, np.inf).min(axis=2)
    after = np.where(known & (order > step), values, -np.inf).max(axis=2)
    contrast = after - before
    return np.where(np.isfinite(contrast), np.maximum(contrast, 0.0), 0.0)
