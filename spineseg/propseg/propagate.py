"""Grow a tube along the centerline, band by band, upwards and downwards at the same time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.propseg.deform import deform_bands
from spineseg.propseg.initial import MIN_AREA_MM2, MIN_SUPPORT, InitialTube, measure_contrast
from spineseg.propseg.surface import Tube, compute_areas, compute_centroids, find_runs, join_tubes, recenter

if TYPE_CHECKING:
    from spineseg.propseg.parameters import PropsegParams
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

BAND_ITERATIONS = 3
BAND_TOLERANCE_MM = 0.4  # both as in the original

MAX_BEND_MM = 15.0
"""If the centres of consecutive bands are further apart than this in plane, the band is not cord."""

MAX_LENGTH_MM = 800.0
"""Longest tube in either direction: longer than any cord. This value and the one above are those of the original
PropSeg."""

MAX_GROWTH = 1.4
"""Largest ratio, either way, of a band's area to that of the two bands before it: the cord's enlargements change the
area by a tenth. Beyond a rejected band, over twice the distance, it may grow by the square: a compression ends within
10 mm, and the cord beyond it may be half as large again."""

CENTER_MEMORY_MM = 20.0
"""Distance over which the tube's own centre is replaced by the centerline's."""

TREND_MM = 20.0
"""Length of tube whose direction is followed if there is no centerline."""


@dataclass(frozen=True)
class Propagation:
    """The tube as propagated."""

    tube: Tube  # Rings by increasing slice
    # (R,) of bool: rings with the shape of the cord before them, because the band fitted to their image was rejected
    bridged: NDArray[np.bool_]
    contrast: float  # 0 to 1000: mean local contrast
    stops: tuple[tuple[int, str], ...] = ()  # tuple of (int, str): slice and reason of every band that was rejected


@dataclass
class _Front:
    """One end of the tube while it grows; heading is +1 up, -1 down."""

    heading: int
    tube: Tube  # the rings that its direction comes from, last one at the end of growth
    radii: Floats
    contrasts: list[float]
    areas: list[float]
    bands: list[Tube] = field(default_factory=list)
    bridged: list[bool] = field(default_factory=list)
    stops: list[tuple[int, str]] = field(default_factory=list)

    @property
    def contrast(self) -> float:
        """Mean of the last three contrasts."""
        return float(np.mean(self.contrasts[-3:]))

    @property
    def slice(self) -> int:
        """Slice of the last ring."""
        return int(self.tube.slices[-1])

    @property
    def center(self) -> Floats:
        """Centre of the last ring, (2,), mm."""
        return self.tube.centers[-1]


def propagate(scene: Scene, initial: InitialTube) -> Propagation:
    """Grow the initial tube to both ends of the course.

    A band that fails a test is replaced by the last accepted shape, moved along the centerline, and the next band is
    tried from there. `settle_bridges` later keeps or drops such runs.

    Raises
    ------
    ValueError; if there is no initial tube
    """
    if initial.tube is None:
        raise ValueError("propagate: expected an initial tube, found none")
    fronts = [_start_front(scene, initial.tube, initial.contrast, heading) for heading in (-1, 1)]
    for _ in range(scene.params.nbiter):
        growing = [front for front in fronts if _may_grow(front, scene)]
        if not growing:
            break
        _grow(growing, scene)
    down, up = fronts
    tubes = [*down.bands[::-1], initial.tube, *up.bands]
    flags = [*down.bridged[::-1], False, *up.bridged]
    contrast = float(np.mean([*down.contrasts[3:], initial.contrast, *up.contrasts[3:]]))
    bridged = np.repeat(np.array(flags), [len(t.slices) for t in tubes])
    return Propagation(join_tubes(*tubes), bridged, contrast, tuple(sorted(down.stops + up.stops)))


def _start_front(scene: Scene, initial: Tube, contrast: float, heading: int) -> _Front:
    """Make the front at one end of the initial tube."""
    prior = scene.model.prior_contrast
    return _Front(
        heading,
        initial.take(slice(None, None, heading)),
        np.median(initial.radii, axis=0),
        [prior, prior, contrast],
        [float(compute_areas(initial.vertices()).mean())],
    )


def _may_grow(front: _Front, scene: Scene) -> bool:
    """Return whether the next ring lies on the course and the tube is not implausibly long."""
    ahead = np.array([front.slice + front.heading * scene.course.ring_step])
    length = sum(len(band.slices) for band in front.bands) * scene.course.ring_step * scene.slice_mm
    return bool(scene.course.holds(ahead)[0]) and length < MAX_LENGTH_MM


def _grow(fronts: list[_Front], scene: Scene) -> None:
    """Add one band to each front, all deformed at once."""
    plans = [_plan_band(front, scene) for front in fronts]
    sizes = [len(plan.slices) for plan in plans]
    slices = np.concatenate([plan.slices for plan in plans])
    template = np.concatenate([plan.vertices() for plan in plans])
    groups = np.repeat(np.arange(len(plans)), sizes)
    held = np.diff(groups, prepend=-1) > 0
    rings, edges = deform_bands(
        scene,
        slices,
        template,
        groups,
        distance_weight=np.array([scene.distance_weight(front.contrast) for front in fronts])[groups],
        held=held,
        iterations=BAND_ITERATIONS,
        tolerance_mm=BAND_TOLERANCE_MM,
    )
    contrast = measure_contrast(scene, slices, compute_centroids(rings)).mean(axis=1)
    motion = np.linalg.norm(rings - template, axis=-1)
    for n, (front, plan) in enumerate(zip(fronts, plans, strict=True)):
        own = (groups == n) & ~held
        band = _Band(
            rings[own], float(motion[own].mean()), float(contrast[own].mean()), float((edges.weight[own] > 0).mean())
        )
        _append(front, plan, band, _find_fault(front, band, scene.params), scene)


@dataclass(frozen=True)
class _Band:
    """A deformed band: rings (n, K, 2), mean motion (mm), mean contrast, share of vertices with an edge."""

    rings: Floats
    motion_mm: float
    contrast: float
    support: float


def _plan_band(front: _Front, scene: Scene) -> Tube:
    """Extrapolate the last ring and the band beyond it, along the centerline or the tube's own direction."""
    course = scene.course
    slices = front.slice + front.heading * course.ring_step * np.arange(course.band_rings + 1)
    slices = slices[course.holds(slices)]
    distance = np.abs(slices - front.slice) * scene.slice_mm
    if course.free:
        near = np.abs(front.tube.slices - front.slice) * scene.slice_mm <= TREND_MM
        slope = _slope(front.tube.slices[near], front.tube.centers[near])
        centers = front.center + (slices - front.slice)[:, None] * slope
    else:
        own = front.center - course.at(slices[:1])
        centers = course.at(slices) + own * np.exp(-distance / CENTER_MEMORY_MM)[:, None]
    return Tube(slices, centers, np.broadcast_to(front.radii, (len(slices), len(front.radii))))


def _slope(slices: NDArray[np.intp], centers: Floats) -> Floats:
    """Least-squares direction (2,), mm per slice; zero for one ring."""
    local = slices - slices.mean()
    return local @ centers / max(1e-9, float(local @ local))


def _find_fault(front: _Front, band: _Band, params: PropsegParams) -> str:
    """Return why a band is rejected; empty if it is accepted."""
    area = float(compute_areas(band.rings).mean())
    recent = float(np.mean([*front.areas[-2:], area]))
    contrast = float(np.mean([*front.contrasts[-2:], band.contrast]))
    shift = float(np.linalg.norm(compute_centroids(band.rings[:1])[0] - front.center))
    limit = params.max_area_mm2
    if contrast <= params.min_contrast:
        return f"contrast {contrast:.0f} is not above {params.min_contrast:g}"
    if band.motion_mm >= params.max_deformation_mm:
        return f"deformation {band.motion_mm:.1f} mm reaches {params.max_deformation_mm:g} mm"
    if recent >= 1.2 * limit:
        return f"area {recent:.0f} mm² reaches 1.2 x {limit:g} mm²"
    if recent >= limit and abs(area - front.areas[-1]) >= limit / 7:
        return f"area jumps from {front.areas[-1]:.0f} to {area:.0f} mm², beyond {limit:g} mm²"
    usual = float(np.mean(front.areas[-2:]))
    growth = MAX_GROWTH**2 if front.bridged and front.bridged[-1] else MAX_GROWTH
    if not usual / MAX_GROWTH < area < usual * growth:
        return f"area changes from {usual:.0f} to {area:.0f} mm² within a band"
    if area < MIN_AREA_MM2:
        return f"area {area:.0f} mm² is below {MIN_AREA_MM2:g} mm²"
    if band.support < MIN_SUPPORT:
        return f"edges on {100 * band.support:.0f} % of the surface only"
    if shift >= MAX_BEND_MM:
        return f"the centre jumps by {shift:.0f} mm"
    return ""


def _append(front: _Front, plan: Tube, band: _Band, why: str, scene: Scene) -> None:
    """Add a band to a front: as deformed if accepted, otherwise as extrapolated."""
    new = plan.take(slice(1, None))
    if why:
        front.stops.append((int(new.slices[0]), why))
    else:
        new = Tube(new.slices, *recenter(band.rings))
        front.radii = new.radii.mean(axis=0)
        front.contrasts.append(band.contrast)
        front.areas.append(float(compute_areas(band.rings).mean()))
    keep = round(TREND_MM / (scene.course.ring_step * scene.slice_mm)) + 1
    front.tube = join_tubes(front.tube.take(slice(-keep, None)), new)
    front.bands.append(new.take(np.argsort(new.slices)))
    front.bridged.append(bool(why))


def settle_bridges(
    result: Propagation, max_gap_mm: float, slice_mm: float, trusted: tuple[int, int] | None = None
) -> Propagation:
    """Keep the bridged runs that are short enough to be filled by a guess, and drop the others.

    Parameters
    ----------
    max_gap_mm : mm; longest run that is kept between accepted parts
    trusted : (int, int), optional
        First and last slice of the centerline. A run at an end of the tube is kept between them, up to `max_gap_mm`
        from the accepted part, and dropped beyond them. Without `trusted`, such runs are dropped.
    """
    slices = result.tube.slices
    keep = np.ones(len(slices), bool)
    inside = np.zeros(len(slices), bool) if trusted is None else (slices >= trusted[0]) & (slices <= trusted[1])
    for first, after in find_runs(result.bridged):
        run = np.arange(first, after)
        if first == 0 or after == len(slices):
            believed = slices[after] if first == 0 else slices[first - 1]
            keep[run] = inside[run] & (np.abs(slices[run] - believed) * slice_mm <= max_gap_mm)
        elif (slices[after] - slices[first - 1] - 1) * slice_mm > max_gap_mm:
            keep[run] = False
    return replace(result, tube=result.tube.take(keep), bridged=result.bridged[keep])
