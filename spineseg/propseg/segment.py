"""Segment the spinal cord by a deformable tube that is propagated along the centerline and refined as a whole."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.contour import compare_with_edges, describe_edges
from spineseg.centerline.curve import RIVAL_NOTE, Centerline, select_slices
from spineseg.centerline.extent import COMPLETE, describe_extent
from spineseg.contrasts import is_echo_planar
from spineseg.propseg.byproducts import make_byproducts
from spineseg.propseg.consensus import leave_dark_walls, reach_consensus, undo_blur
from spineseg.propseg.csf import grow_csf
from spineseg.propseg.doubt import GUESS, MAX_DOUBT, find_guessed_ends, has_rival, is_unsure, measure_uncertainty
from spineseg.propseg.parameters import PropsegParams, get_contrast_model
from spineseg.propseg.polarity import choose_polarity, propagate_both_polarities
from spineseg.propseg.propagate import Propagation, settle_bridges
from spineseg.propseg.rasterise import choose_voxels, rasterise
from spineseg.propseg.refine import FilledTube, fill_slices, refine
from spineseg.propseg.repair import repair_surface
from spineseg.propseg.scene import Scene, build_scene, limit_line, line_from_three, order_starts
from spineseg.propseg.surface import Tube
from spineseg.segmentation import Segmentation
from spineseg.volume import Volume

if TYPE_CHECKING:
    from spineseg.progress import Progress

__all__ = ["PropsegParams", "segment_cord"]

MAX_GAP_MM = 25.0
"""Longest bridge: an artefact or a compression spans one or two vertebral levels; a longer bridge is a guess."""


def segment_cord(
    volume: Volume,
    contrast: str,
    params: PropsegParams = PropsegParams(),  # noqa: B008  frozen, so that one default serves all calls
    *,
    centerline: Centerline | None = None,
    detector: Any = None,
    correction: NDArray | None = None,
    init_mask: NDArray | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment the cord of one image.

    Parameters
    ----------
    volume : Volume, shape (I, J, K); canonical orientation
    contrast : {"t1", "t2", "t2s", "dwi"}
    centerline : the curve to follow; estimated by OptiC if neither it nor `init_mask` is given
    detector : optional; the detector for OptiC, see `spineseg.centerline.estimate.estimate_centerline`
    correction : (I, J, K) ndarray; voxels above 0 are points of the surface
    init_mask : (I, J, K) ndarray, optional
        Exactly three voxels above 0, in the cord: the middle one is the start, the others give the direction.
    progress : is called with each stage

    Returns
    -------
    Segmentation
        `cord_prob` is the share of each voxel inside the surface. The status is "empty" if no cord is found. It is
        "partial" if cord may be missing (`spineseg.centerline.extent`), more than half of the slices are a guess, or a
        fifth at one end, or the centerline is uncertain (`spineseg.propseg.doubt`); the notes name the slices.

    Raises
    ------
    InputError
        If the contrast is unknown, `init_mask` does not hold three voxels, or the start lies off the centerline.

    Notes
    -----
    Departures from the original program: rings lie in slices rather than across the tube, so that no gradient through
    thick slices is needed; the energy is minimised exactly; a failed band is bridged along the centerline instead of
    ending the tube; rays without local contrast are placed by their neighbours.

    References
    ----------
    .. [1] De Leener et al. 2014, NeuroImage 98:528. Energy and propagation.
    .. [2] De Leener et al. 2015, IEEE TMI 34:1705. Contrast adaptation.
    """
    model = get_contrast_model(contrast)
    stage = progress.stage if progress else lambda name: None
    scaled = _rescale(volume, params.rescale)
    start = None
    if init_mask is not None:
        line, start = line_from_three(init_mask, scaled.zooms)
    elif centerline is not None:
        line = centerline
    else:
        stage("centerline")
        from spineseg.centerline.estimate import estimate_centerline

        line = estimate_centerline(scaled, contrast, detector=detector)
    line = limit_line(line, params)
    if line.is_empty:
        return _empty(volume, params, "no cord: the centerline is empty")
    stage("propagation")
    scene = build_scene(scaled, line, model, params, free=init_mask is not None, correction=correction)
    scene, initial, turned = choose_polarity(scene, order_starts(line, scene, start))
    if initial.tube is None:
        why = f"no cord: edges on {100 * initial.support:.0f} % of the initial tube, contrast {initial.contrast:.0f}"
        return _empty(volume, params, why)
    trusted = None if scene.course.free else (int(line.slices[0]), int(line.slices[-1]))
    scene, grown = propagate_both_polarities(scene, initial)
    grown = settle_bridges(grown, MAX_GAP_MM, scene.slice_mm, trusted)
    stage("refinement")
    surface = refine(scene, fill_slices(grown, scene), grown.contrast)
    is_fmri = scene.image.unsteady or is_echo_planar(contrast, volume.zooms)
    echo_planar = is_fmri or contrast == "dwi"
    surface = reach_consensus(scene, surface, echo_planar=echo_planar)
    if is_fmri:
        surface = leave_dark_walls(scene, surface)
    if echo_planar:
        surface = undo_blur(scene, surface, aligned=is_fmri)
    notes = _describe_polarity(scene, turned)
    notes += tuple(f"propagation met an obstacle at slice {k}: {why}" for k, why in grown.stops)
    if params.correct_seg:
        surface, repaired, dropped = repair_surface(surface, scene, MAX_GAP_MM)
        notes += _note("repaired from their neighbours", repaired) + _note("dropped as incoherent", dropped)
    stage("rasterisation")
    limited = centerline is not None or init_mask is not None or params.down is not None or params.up is not None
    asked = (int(line.slices[0]), int(line.slices[-1])) if limited else None
    if asked and centerline is None and init_mask is None and params.up is None:
        asked = asked[0], volume.shape[2]
    return _assemble(volume, scene, line, initial.tube, grown, surface, notes, contrast, asked)


def _rescale(volume: Volume, factor: float) -> Volume:
    """Multiply the voxel size; world coordinates of by-products use the image's own affine."""
    if factor == 1:
        return volume
    affine = volume.affine.copy()
    affine[:3, :3] *= factor
    return Volume(volume.data, affine)


def _assemble(
    volume: Volume,
    scene: Scene,
    line: Centerline,
    initial: Tube,
    grown: Propagation,
    surface: FilledTube,
    notes: tuple[str, ...],
    contrast: str,
    asked: tuple[int, int] | None,
) -> Segmentation:
    """Rasterise the surface and assemble the result."""
    params, zooms = scene.params, scene.course.zooms
    cord_prob = rasterise(surface.tube, volume.shape, zooms)
    cord_mask = choose_voxels(cord_prob)
    if not cord_mask.any():
        return _empty(volume, params, "no cord: the surface encloses no voxel", line)
    extent = describe_extent(volume, cord_mask, contrast, line, asked)
    if extent.cord_top is not None:
        surface, line = _cut_above(surface, line, extent.cord_top)
        above = np.arange(volume.shape[2]) > extent.cord_top
        cord_prob, cord_mask = np.where(above, np.float32(0), cord_prob), cord_mask & ~above
    tubes = {"surface": surface.tube, "propagated": grown.tube, "initial": initial}
    if extent.cord_top is not None:
        tubes = {name: tube.take(tube.slices <= extent.cord_top) for name, tube in tubes.items()}
    extra = make_byproducts(params.byproducts, volume, zooms, tubes)
    if params.csf:
        fluid, fluid_notes = _segment_fluid(volume, scene, surface, cord_mask)
        extra |= fluid
        notes += fluid_notes
    off_edges = describe_edges(compare_with_edges(volume, cord_mask, contrast), contrast)
    status, missing = _compare_with_line(cord_mask, line)
    status = "partial" if extent.status == "partial" or off_edges else status
    notes += extent.notes + off_edges
    notes += _note("bridged, with the shape of their neighbours", tuple(surface.tube.slices[surface.bridged].tolist()))
    dropped = np.isin(surface.tube.slices, scene.image.dropped)
    notes += _note("signal dropped out; outlined from their neighbours", tuple(surface.tube.slices[dropped].tolist()))
    doubt = measure_uncertainty(replace(surface, bridged=surface.bridged | dropped), scene, line)
    ends = surface.tube.slices[find_guessed_ends(doubt, scene.slice_mm)]
    status = "partial" if (doubt > GUESS).mean() > MAX_DOUBT or len(ends) else status
    notes += _note("a guess up to the end of the mask", tuple(ends.tolist()))
    notes += missing + _describe_doubts(surface.tube.slices[doubt > GUESS], line)
    uncertainty = np.full(volume.shape[2], np.nan, np.float32)
    uncertainty[surface.tube.slices] = doubt
    uncertainty[~cord_mask.any(axis=(0, 1))] = np.nan
    points = np.column_stack([surface.tube.centers / zooms[:2], surface.tube.slices])
    followed = Centerline(points)
    return Segmentation(cord_prob, cord_mask, followed, status, notes, asdict(params), extra, uncertainty)


def _cut_above(surface: FilledTube, line: Centerline, top: int) -> tuple[FilledTube, Centerline]:
    """Return the surface and the centerline up to the highest slice with cord."""
    kept = surface.tube.slices <= top
    return FilledTube(surface.tube.take(kept), surface.bridged[kept]), select_slices(line, int(line.slices[0]), top)


def _segment_fluid(
    volume: Volume, scene: Scene, surface: FilledTube, cord_mask: NDArray[np.bool_]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Segment the fluid around the cord; return its files and notes."""
    outer = grow_csf(scene, surface, MAX_GAP_MM)
    if outer is None:
        return {"_CSF_seg.nii.gz": np.zeros(volume.shape, bool)}, ("no cerebrospinal fluid found",)
    zooms = scene.course.zooms
    mask = (rasterise(outer.tube, volume.shape, zooms) >= 0.5) & ~cord_mask
    wanted = tuple(name for name in scene.params.byproducts if name in ("mesh", "cross"))
    return {"_CSF_seg.nii.gz": mask} | make_byproducts(wanted, volume, zooms, {"surface": outer.tube}, "_CSF"), ()


def _compare_with_line(cord_mask: NDArray[np.bool_], line: Centerline) -> tuple[str, tuple[str, ...]]:
    """Return the status and a note on the slices of the centerline without cord."""
    filled = np.any(cord_mask, axis=(0, 1))
    missing = line.slices[~filled[line.slices]]
    extent = np.flatnonzero(filled)
    gaps = (missing > extent[0]) & (missing < extent[-1])
    partial = gaps.any() or len(missing) > (1 - COMPLETE) * len(line.slices)
    return ("partial" if partial else "ok"), _note("on the centerline but without cord", tuple(missing.tolist()))


def _describe_doubts(doubtful: NDArray[np.intp], line: Centerline) -> tuple[str, ...]:
    """Return notes on slices where the surface is a guess, and on a centerline that is a guess."""
    notes = _note(
        "uncertain: no clear edge all round, larger or more skew than cords are, or off the centerline",
        tuple(doubtful.tolist()),
    )
    if has_rival(line):
        notes += (RIVAL_NOTE,)
    if is_unsure(line):
        notes += ("the centerline is uncertain: check it, or give one with -init-centerline",)
    return notes


def _describe_polarity(scene: Scene, turned: bool) -> tuple[str, ...]:
    """Return a note if the image contradicts the given contrast."""
    shade = ("darker", "brighter") if scene.model.sign > 0 else ("brighter", "darker")
    said = "than the fluid, against the contrast given; segmented as it looks"
    notes: tuple[str, ...] = (f"the cord is {shade[0]} {said}",) if turned else ()
    if scene.turned is not None:
        notes += _note(f"the cord is {shade[1]} {said}", tuple(scene.turned.tolist()))
    return notes


def _note(what: str, slices: tuple[int, ...]) -> tuple[str, ...]:
    """Write slices as ranges, for instance "slices 3-7, 12: bridged"; empty for no slices."""
    if not slices:
        return ()
    parts = np.split(np.array(slices), np.flatnonzero(np.diff(slices) > 1) + 1)
    ranges = ", ".join(f"{p[0]}" if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
    return (f"slices {ranges}: {what}",)


def _empty(volume: Volume, params: PropsegParams, why: str, line: Centerline | None = None) -> Segmentation:
    """Return an empty mask and the reason."""
    return Segmentation(
        np.zeros(volume.shape, np.float32), np.zeros(volume.shape, bool), line, "empty", (why,), asdict(params)
    )
