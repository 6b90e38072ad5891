"""Segment the cord by two networks: one detects it in whole slices, one outlines it in patches along the centerline."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.contour import compare_with_edges, describe_edges
from spineseg.centerline.curve import RIVAL_NOTE, Centerline
from spineseg.centerline.extent import describe_extent, stop_at_conus
from spineseg.contrasts import CORD_DARKER, is_echo_planar
from spineseg.deepseg.cleanup import clean_mask, find_unsure_slices
from spineseg.deepseg.inference import compute_heatmap, compute_probability, trace_cord
from spineseg.deepseg.model import load_models
from spineseg.deepseg.parameters import DeepsegParams
from spineseg.deepseg.sct.inference import compute_sct_coverage, compute_sct_heatmap
from spineseg.deepseg.sct.networks import THRESHOLDS, SctUNet
from spineseg.deepseg.weights import Models
from spineseg.errors import InputError
from spineseg.segmentation import Segmentation
from spineseg.volume import Volume

if TYPE_CHECKING:
    from spineseg.deepseg.sct.weights import SctWeights
    from spineseg.progress import Progress

UNSURE_QUARTER, MOST_LOSS = 0.75, 0.26
"""A mask is partial where the loss of Dice that the network expects in a quarter of the slices (an artefact in a third
of them is lost in a mean), and what the mask and the image's edges do not share, are above the second together. Of
copies like those of `benchmarks/artefacts.py`, 14 of 23 whole but bad masks are above it, and 7 of 299 good ones."""

LEAST_LEAD = 0.1
"""Lead of the curve's mean heat over that of the best curve elsewhere, below which a mask is partial: of 60 copies of
real images with a ghost or a fold-over (`benchmarks/artefacts.py`), 3 of 11 below it follow the wrong one of two cords,
1 of 49 above it. The images themselves have 0.5 and more."""

OWN_THRESHOLDS = {"t1": 0.5, "t2": 0.45, "t2s": 0.5, "dwi": 0.5}
"""Probability from which a voxel is cord, by contrast. Raters draw the dark cord of a T2w image wider: on held-out
people 0.45 gains 0.004 Dice there, and areas are 1 % off instead of 4 %. For the other contrasts no other threshold is
better on held-out people."""

EPI_THRESHOLD = 0.4
"""The same for echo-planar means, which have T2w's contrast. Of 40 phantoms, ten of them hard, the areas are 4.0 % too
small at 0.45 and 0.9 % at this, with 0.004 more Dice; two people lose 0.003 of Dice; 48 of others were reported 9 % too
small at 0.45."""


def segment_cord(
    volume: Volume,
    contrast: str,
    params: DeepsegParams | None = None,
    *,
    centerline: Centerline | None = None,
    models: Models | SctWeights | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment the spinal cord.

    Parameters
    ----------
    volume : Volume, shape (I, J, K), canonical
    contrast : SCT's networks are chosen by it; ours serve all contrasts
    centerline : followed instead of a detected one; only its slices are segmented
    models : Models or SctWeights; the shipped ones by default

    Returns
    -------
    Segmentation; an empty mask with status ``empty`` if no cord is found

    References
    ----------
    .. [1] Gros et al., 2019, Automatic segmentation of the spinal cord and intramedullary multiple sclerosis
       lesions with convolutional neural networks, NeuroImage 184, doi:10.1016/j.neuroimage.2018.09.081. The two
       stages are theirs; networks, training, the curve on the heatmap and the clean-up are ours.
    """
    params = params or DeepsegParams()
    models = (models or load_models()).for_contrast(contrast, params.kernel)
    tell = progress.stage if progress else lambda name: None
    is_detected = centerline is None
    if centerline is None:
        tell("detection")
        if isinstance(models.detect, SctUNet):
            heat, zooms = compute_sct_heatmap(volume, models.detect)
        else:
            heat, zooms = compute_heatmap(volume, models.detect)
        tell("centerline")
        centerline = trace_cord(heat, zooms, volume.shape, params.min_confidence)
        centerline = stop_at_conus(volume, centerline, CORD_DARKER[contrast])
    else:
        _check_centerline(centerline, volume)
    thr = default_threshold(models, contrast, volume.zooms) if params.thr is None else params.thr
    mirror = not isinstance(models.segment, SctUNet) if params.mirror is None else params.mirror
    recorded = asdict(params) | {"thr": thr, "mirror": mirror}
    if centerline.is_empty:
        nothing = np.zeros(volume.shape, dtype=np.float32)
        note = "no slice looks like it holds spinal cord"
        return Segmentation(nothing, nothing > 0, None, "empty", (*models.notes, note), recorded)
    tell("segmentation")
    if isinstance(models.segment, SctUNet):
        prob, thr = (
            compute_sct_coverage(volume, centerline, models.segment, thr=thr, batch=params.batch, mirror=mirror),
            0.5,
        )
        uncertainty = None
    else:
        prob, uncertainty = compute_probability(volume, centerline, models.segment, batch=params.batch, mirror=mirror)
    tell("clean-up")
    mask, prob, notes = clean_mask(prob, thr, centerline.points_vox[:, :2], centerline.slices, volume.zooms)
    if uncertainty is not None:
        if is_detected:  # a user's centerline states where the cord is
            notes = [*notes, *_drop_unsure(mask, prob, uncertainty, float(volume.zooms[2]))]
        uncertainty = np.where(mask.any(axis=(0, 1)), uncertainty, np.nan)
    asked = None if is_detected else (int(centerline.slices[0]), int(centerline.slices[-1]))
    extent = describe_extent(volume, mask, contrast, centerline, asked)
    status, told = extent.status, (*models.notes, *notes, *extent.notes)
    overlap = compare_with_edges(volume, mask, contrast)
    faults = describe_edges(overlap)
    if centerline.lead < LEAST_LEAD:  # nan for a curve from the user
        faults += (RIVAL_NOTE,)
    if uncertainty is not None and mask.any():
        loss = float(np.nanquantile(uncertainty, UNSURE_QUARTER)) + np.nan_to_num(1 - overlap)
        if loss > MOST_LOSS:
            faults += (f"the network's doubt and the image's edges may cost {loss:.2f} of Dice: look at the outline",)
    status = "partial" if faults and status == "ok" else status
    told += faults
    return Segmentation(prob, mask, centerline, status, told, recorded, uncertainty=uncertainty)


def default_threshold(models: Models, contrast: str, zooms: NDArray[np.floating]) -> float:
    """Return the default threshold for a contrast and voxel size (3,), mm, for our networks or SCT's."""
    if isinstance(models.segment, SctUNet):
        return THRESHOLDS[models.segment.config.contrast]
    return EPI_THRESHOLD if is_echo_planar(contrast, zooms) else OWN_THRESHOLDS[contrast]


def _check_centerline(centerline: Centerline, volume: Volume) -> None:
    """Raise InputError if a point of the curve lies outside the image."""
    points = centerline.points_vox
    outside = (points < -0.5) | (points > np.array(volume.shape) - 0.5)
    if outside.any():
        k = int(points[outside.any(axis=1)][0, 2])
        raise InputError(f"-centerline: expected points inside the image {volume.shape}, found one outside (slice {k})")


def _drop_unsure(mask: np.ndarray, prob: np.ndarray, uncertainty: np.ndarray, slice_mm: float) -> list[str]:
    """Empty, in place, the slices in which the mask is not cord; return a note that names them."""
    dropped = find_unsure_slices(np.any(mask, axis=(0, 1)), uncertainty, slice_mm)
    if not dropped.any():
        return []
    mask[:, :, dropped], prob[:, :, dropped] = False, 0
    runs = np.split(np.flatnonzero(dropped), np.flatnonzero(np.diff(np.flatnonzero(dropped)) > 1) + 1)
    names = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
    return [f"slices {names} emptied: the network is too unsure of what it found there (roots, brainstem, no spine?)"]
