"""Features of the image along a mask's contour: edges, and the difference between inside and outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.contrasts import CORD_DARKER
from spineseg.volume import Volume, crop, mask_box

Floats = NDArray[np.float64]

N_RAYS = 32
"""Number of rays per slice: at least one per mm of the contour of any cord."""

MAX_RADIUS_MM = 16.0
"""Length of the rays: twice the half width of the widest cord, so that leaks are included."""

RAY_STEP_MM = 0.2
"""Distance between samples of the mask: a fifth of a common pixel."""

REACH_MM = 3.0
"""Largest distance from the contour, on either side, at which an edge is searched: less than the distance from the cord
to the wall of the canal plus a mask's error, so that the wall is seldom mistaken for the cord's edge."""

PROFILE_STEP_MM = 0.25
SMOOTH_MM = 0.5
"""Step and smoothing of the image's profile across the contour: half a common pixel."""

NEAR_MM = 2.0
"""SD of the weight that prefers near edges: one at the limit of reach must be three times as steep."""

LEAST_EDGE = 0.25
"""Share of the median step below which the steepest step of a ray is not an edge."""

ON_EDGE_MM = 0.75
"""Distance from the edge within which a contour lies on it: three quarters of a common pixel."""

ITS_OWN_MM = 1.0
"""SD of the weight for determining the polarity: nearer than the next edge outwards, which has the opposite sign."""

TRUST_POLARITY = 0.4
"""Share of the other polarity's steepest step from which the contrast's own polarity is kept."""

MAX_SLICES = 32
"""Largest number of slices of a mask that are examined: more change the features by less than their noise."""

MARGIN_MM = 20.0
"""Margin of the image kept around the mask: room for the network's patch and the longest ray."""

LEAST_EDGE_DICE = 0.88
"""Overlap of the mask with what the image's edges enclose, below which the outline is not to be trusted. Of whole masks
of real images with strong artefacts (two seeds of copies like those of `benchmarks/artefacts.py`, both methods), 13 of
59 bad and none of 586 good ones are below it: masks that run across slices which moved, or keep to a band across the
cord. At 0.9 it would also stop good masks of phantoms without visible fluid."""


@dataclass(frozen=True)
class ContourFeatures:
    """Edges along the contour and the contrast across it; NaN if undefined."""

    edge_dice: float = np.nan  # 0 to 1: overlap of the mask's sections with those that the nearest edges enclose
    # mm: median distance outwards from the contour to the edge: positive where the mask is too small
    edge_offset_mm: float = np.nan
    edge_spread_mm: float = np.nan  # mm: robust SD of these distances
    edge_share: float = np.nan  # 0 to 1: share of the contour that lies on an edge
    contrast_to_noise: float = np.nan  # Median difference between ring and inside, over the inside's SD
    # 0 to 1: share of slices whose difference has the sign of the median and at least a third of it
    contrast_consistency: float = np.nan
    # SD in the ring just outside over the difference: large where tissue, not fluid, surrounds the mask
    ring_spread: float = np.nan
    # 0 to 1: mean overlap of the sections with their right-left mirror images; 1 for any ellipse along the axes
    symmetry: float = np.nan
    # 0 to 1: mean overlap of the sections, centre on centre, with the mean of their neighbours
    steadiness: float = np.nan
    polarity: int = 0  # {1, -1, 0}: 1 if the outside is brighter; 0 if unknown


def measure_contour(
    image: NDArray, mask: NDArray[np.bool_], zooms: Floats, centres: Floats, cord_darker: bool
) -> ContourFeatures:
    """Compare a mask's contour with the image.

    Parameters
    ----------
    image : (I, J, n) ndarray; slices to examine
    mask : (I, J, n) ndarray of bool; the same slices; those without mask are skipped
    zooms : (2,) ndarray, mm; in plane
    centres : (n, 2) ndarray, voxels; start of the rays, the mask's centroids
    cord_darker : bool
        Whether the cord is darker than the fluid in this contrast. The image may contradict it.
    """
    used = np.flatnonzero(mask.any(axis=(0, 1)))
    if not used.size:
        return ContourFeatures()
    rays = np.stack([np.cos(angles := 2 * np.pi * np.arange(N_RAYS) / N_RAYS), np.sin(angles)], axis=1)
    radius = trace_contour(mask, zooms, centres, used, rays)
    steps = np.arange(-REACH_MM, REACH_MM + PROFILE_STEP_MM / 2, PROFILE_STEP_MM)
    profile = _sample(image, zooms, centres, used, rays, radius[:, :, None] + steps)
    usable = radius[:, :, None] + steps > PROFILE_STEP_MM  # a profile must not run through the centre
    slope = ndi.gaussian_filter1d(profile, SMOOTH_MM / PROFILE_STEP_MM, axis=2, order=1)
    slope = ndi.convolve1d(slope, [0.25, 0.5, 0.25], axis=1, mode="wrap")
    polarity = _find_polarity(slope * np.exp(-0.5 * (steps / ITS_OWN_MM) ** 2), usable, cord_darker)
    rise = np.where(usable, polarity * slope, -np.inf)
    weighted = np.where(rise > 0, rise, 0) * np.exp(-0.5 * (steps / NEAR_MM) ** 2)
    at = _climb(rise, weighted.argmax(axis=2))
    height = np.take_along_axis(rise, at[..., None], 2)[..., 0]
    has_edge = height > LEAST_EDGE * max(float(np.median(height)), 1e-12)
    offset = np.where(has_edge, steps[at] + PROFILE_STEP_MM * _peak_shift(rise, at), np.nan)
    inside = _sample(image, zooms, centres, used, rays, radius[:, :, None] * np.array([0.3, 0.5, 0.7]))
    ring = _sample(image, zooms, centres, used, rays, radius[:, :, None] + np.array([1.0, 1.5, 2.0, 2.5]))
    return ContourFeatures(
        **_summarise_edges(radius, offset),
        **_summarise_contrast(inside, ring),
        **_summarise_shape(radius),
        polarity=polarity,
    )


def measure_mask_contour(
    volume: Volume, mask: NDArray[np.bool_], slices: NDArray[np.intp], centres: Floats, cord_darker: bool
) -> ContourFeatures:
    """Compare some slices (n,) of a mask, with centres (n, 2) in voxels, with the image around it."""
    margin = np.ceil(MARGIN_MM / volume.zooms[:2]).astype(int).tolist()
    rows, columns, _ = mask_box(mask, (*margin, 0))
    box = (rows, columns, slice(None))
    image = crop(volume, box).data[:, :, slices]
    centres = centres - [rows.start, columns.start]
    return measure_contour(image, mask[box][:, :, slices], volume.zooms[:2], centres, cord_darker)


def compare_with_edges(volume: Volume, mask: NDArray[np.bool_], contrast: str) -> ContourFeatures:
    """Compare a mask with what the image's edges enclose; without mask or edges their overlap is NaN.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
    contrast : {"t1", "t2", "t2s", "dwi"}
    """
    slices = spread_slices(np.flatnonzero(mask.any(axis=(0, 1))))
    if not len(slices):
        return ContourFeatures()
    centres = np.array([np.argwhere(mask[:, :, k]).mean(axis=0) for k in slices])
    return measure_mask_contour(volume, mask, slices, centres, CORD_DARKER[contrast])


def describe_edges(found: ContourFeatures, contrast: str) -> tuple[str, ...]:
    """Return a note where the edges say that the outline is not to be trusted.

    They say nothing where the image contradicts the contrast: either each slice has its own polarity, or the cord has
    hardly any contrast and the edges are those of the canal.
    """
    if not found.edge_dice < LEAST_EDGE_DICE or found.polarity != (1 if CORD_DARKER[contrast] else -1):
        return ()
    return (f"the image's edges lie off the outline (overlap {found.edge_dice:.2f}): look at the mask",)


def spread_slices(slices: NDArray[np.intp], n: int = MAX_SLICES) -> NDArray[np.intp]:
    """Return at most n evenly spaced slices, including the first and the last."""
    return slices[np.unique(np.linspace(0, len(slices) - 1, min(len(slices), n)).round().astype(int))]


def trace_contour(
    mask: NDArray[np.bool_], zooms: Floats, centres: Floats, used: NDArray[np.intp], rays: Floats
) -> Floats:
    """Return where each ray leaves the mask for the last time, (n, R), mm; half a step if it does not meet the mask.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
    zooms : (2,) ndarray, mm; in plane
    centres : (K, 2) ndarray, voxels; start of the rays in each slice
    used : (n,) ndarray of int; slices to examine
    rays : (R, 2) ndarray; directions
    """
    steps = np.arange(0.0, MAX_RADIUS_MM, RAY_STEP_MM)
    steps = steps[: 2 + int(_find_reach(mask, zooms, centres) / RAY_STEP_MM)]
    at = np.broadcast_to(steps, (used.size, len(rays), steps.size))
    value = _sample(mask.astype(np.float32), zooms, centres, used, rays, at, outside=0.0)
    is_inside = value >= 0.5
    last = steps.size - 1 - is_inside[:, :, ::-1].argmax(axis=2)
    last = np.where(is_inside.any(axis=2), last, 0)
    here = np.take_along_axis(value, last[..., None], 2)[..., 0]
    after = np.take_along_axis(value, np.minimum(last + 1, steps.size - 1)[..., None], 2)[..., 0]
    part = np.divide(here - 0.5, here - after, out=np.full(here.shape, 0.5), where=here - after > 1e-6)
    return RAY_STEP_MM * (last + part.clip(0, 1))


def _find_reach(mask: NDArray[np.bool_], zooms: Floats, centres: Floats) -> float:
    """Return a distance from the centres, mm, beyond which no interpolated value of the mask is above 0."""
    i, j, k = np.unravel_index(np.flatnonzero(mask), mask.shape)
    x, y = ((at - centres[k, axis]) * zooms[axis] for axis, at in enumerate((i, j)))
    return float(np.hypot(x, y).max() + np.hypot(*zooms))


def _sample(
    data: NDArray,
    zooms: Floats,
    centres: Floats,
    used: NDArray,
    rays: Floats,
    radius: Floats,
    outside: float | None = None,
) -> Floats:
    """Sample slices `used` at radii (n, R, S), mm, from their centres, linearly, (n, R, S)."""
    x = centres[used, 0][:, None, None] + radius * rays[:, 0][:, None] / zooms[0]
    y = centres[used, 1][:, None, None] + radius * rays[:, 1][:, None] / zooms[1]
    z = np.broadcast_to(used[:, None, None], x.shape)
    mode = "nearest" if outside is None else "constant"
    return ndi.map_coordinates(data, [x, y, z], output=np.float64, order=1, mode=mode, cval=outside or 0.0)


def _find_polarity(slope: Floats, usable: NDArray[np.bool_], cord_darker: bool) -> int:
    """Return 1 if the image rises outwards, -1 if it falls: that of the contrast, unless the mean profile disagrees."""
    mean = np.where(usable, slope, 0).sum(axis=(0, 1)) / np.maximum(1, usable.sum(axis=(0, 1)))
    expected = 1 if cord_darker else -1
    with_it, against = max(float((expected * mean).max()), 0.0), max(float((-expected * mean).max()), 0.0)
    return expected if with_it >= TRUST_POLARITY * against else -expected


def _climb(values: Floats, at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Move indices of the last axis, (n, R), to the largest value within 0.75 mm: the weight pulled them inwards."""
    reach = round(0.75 / PROFILE_STEP_MM)
    steps = (at[..., None] + np.arange(-reach, reach + 1)).clip(0, values.shape[2] - 1)
    best = np.take_along_axis(values, steps, 2).argmax(axis=2)
    return np.take_along_axis(steps, best[..., None], 2)[..., 0]


def _peak_shift(values: Floats, at: NDArray[np.intp]) -> Floats:
    """Return the sub-sample offset of the peak at index `at` of the last axis, (n, R), -0.5 to 0.5, by a parabola."""
    at = at.clip(1, values.shape[2] - 2)[..., None]
    before, top, after = (np.take_along_axis(values, at + step, 2)[..., 0] for step in (-1, 0, 1))
    with np.errstate(invalid="ignore"):  # values are infinite next to the centre, where profiles are unusable
        bend, lean = before - 2 * top + after, 0.5 * (before - after)
    usable = np.isfinite(bend) & (bend < 0)
    return np.divide(lean, bend, out=np.zeros_like(bend), where=usable).clip(-0.5, 0.5)


def _summarise_edges(radius: Floats, offset: Floats) -> dict[str, float]:
    """Return overlap, offset, spread and share from the positions of contour and edges."""
    known = np.isfinite(offset)
    if not known.any():
        return {"edge_dice": np.nan, "edge_offset_mm": np.nan, "edge_spread_mm": np.nan, "edge_share": 0.0}
    # the edge on a single ray may be a vessel; the median of five neighbours is that of the cord
    neighbours = np.stack([np.roll(np.where(known, offset, np.nan), shift, axis=1) for shift in range(-2, 3)])
    neighbours = np.where(np.isnan(neighbours), offset[known].mean(), neighbours)
    edge = np.maximum(radius + np.median(neighbours, axis=0), 0.0)
    both, total = np.minimum(radius, edge) ** 2, radius**2 + edge**2
    middle = float(np.median(offset[known]))
    return {
        "edge_dice": float(2 * both[known].sum() / max(total[known].sum(), 1e-12)),
        "edge_offset_mm": middle,
        "edge_spread_mm": 1.4826 * float(np.median(np.abs(offset[known] - middle))),
        "edge_share": float((np.abs(np.where(known, offset, np.inf)) <= ON_EDGE_MM).mean()),
    }


def _summarise_shape(radius: Floats) -> dict[str, float]:
    """Return the similarity of sections to their mirror images, and to their neighbours along the cord."""
    mirror = radius[:, (N_RAYS // 2 - np.arange(N_RAYS)) % N_RAYS]  # axis 0 runs from right to left
    steady = np.nan
    if len(radius) > 2:
        steady = float(_overlap(radius[1:-1], np.sqrt((radius[:-2] ** 2 + radius[2:] ** 2) / 2)).mean())
    return {"symmetry": float(_overlap(radius, mirror).mean()), "steadiness": steady}


def _overlap(a: Floats, b: Floats) -> Floats:
    """Return the Dice of star-shaped sections, (n,), from their radii, (n, R) each, around a common centre."""
    return 2 * (np.minimum(a, b) ** 2).sum(axis=1) / np.maximum((a**2 + b**2).sum(axis=1), 1e-12)


def _summarise_contrast(inside: Floats, ring: Floats) -> dict[str, float]:
    """Return contrast to noise, its consistency along the cord, and the evenness of the ring."""
    by_slice = ring.mean(axis=(1, 2)) - inside.mean(axis=(1, 2))
    middle = float(np.median(by_slice))
    noise = float(np.median(inside.std(axis=(1, 2))))
    size = max(abs(middle), 1e-12)
    return {
        "contrast_to_noise": size / max(noise, 1e-12),
        "contrast_consistency": float((by_slice * np.sign(middle) >= size / 3).mean()),
        "ring_spread": float(np.median(ring.std(axis=(1, 2)))) / size,
    }
