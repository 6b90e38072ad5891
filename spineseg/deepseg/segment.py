"""Segment the cord by two networks: one detects it in whole slices, one outlines it in patches along the centerline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.contour import ContourFeatures, compare_with_edges, describe_edges
from spineseg.centerline.conus import stop_at_conus
from spineseg.centerline.curve import RIVAL_NOTE, Centerline, select_slices
from spineseg.centerline.extent import describe_extent
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

LOOK_AGAIN, EPI_LOOK_AGAIN, GAIN, FURTHER, WORSE = 0.18, 0.14, 0.03, 0.01, 0.1
"""Loss from which the cord is outlined again in enlarged patches (echo-planar means: earlier), how much less it must be
then, how much less again for a larger step, and how much more it may be before nothing larger is tried. The network
knows cords of 30 to 100 mm² and outlines smaller ones too large, in echo-planar means those below 60 mm²: four of 45
mm² came out 18 to 38 % too large, by this -6 to +5 %. Two dozen phantoms of 17 to 21 mm² had a Dice of 0.76, and have
0.95."""

CLOSER = (0.8, 0.65, 0.5)
"""Pixel sizes of these patches in units of the network's: the last shows a cord of half the width at its usual size."""

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

LOWER_THRESHOLDS = {"t1": 0.45, "t2": 0.42}
"""The same for images that show the conus, if another is better there. No labelled image does. Of phantoms of the lower
cord (seeds 41 and 307, 36 people) at the thresholds above, the areas are 3.4 % (T2w) and 5.0 % (T1w) too small, as in
all phantoms; at these 1.3 % and 1.5 %, with 0.004 and 0.009 more Dice."""


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
    shows_conus = centerline.conus is not None
    thr = default_threshold(models, contrast, volume.zooms, shows_conus) if params.thr is None else params.thr
    mirror = not isinstance(models.segment, SctUNet) if params.mirror is None else params.mirror
    recorded = asdict(params) | {"thr": thr, "mirror": mirror}
    if centerline.is_empty:
        nothing = np.zeros(volume.shape, dtype=np.float32)
        note = "no slice looks like it holds spinal cord"
        return Segmentation(nothing, nothing > 0, None, "empty", (*models.notes, note), recorded)
    tell("segmentation")
    clean = partial(_clean, volume, centerline, contrast, is_detected)
    if isinstance(network := models.segment, SctUNet):
        coverage = compute_sct_coverage(volume, centerline, network, thr=thr, batch=params.batch, mirror=mirror)
        found = clean(0.5, coverage)
    else:
        look = partial(compute_probability, volume, centerline, network, batch=params.batch, mirror=mirror)
        again = EPI_LOOK_AGAIN if is_echo_planar(contrast, volume.zooms) else LOOK_AGAIN
        found = _look_closely(lambda pixel: clean(thr, *look(pixel=pixel)), again)
    tell("status")
    asked = None if is_detected else (int(centerline.slices[0]), int(centerline.slices[-1]))
    extent = describe_extent(volume, found.mask, contrast, centerline, asked)
    if extent.cord_top is not None:
        found = _cut_above(found, extent.cord_top, volume, contrast)
        centerline = select_slices(centerline, int(centerline.slices[0]), extent.cord_top)
    faults = describe_edges(found.edges, contrast)
    if centerline.lead < LEAST_LEAD:  # nan for a curve from the user
        faults += (RIVAL_NOTE,)
    if found.loss > MOST_LOSS:
        faults += (f"the network's doubt and the image's edges may cost {found.loss:.2f} of Dice: look at the outline",)
    status = "partial" if faults and extent.status == "ok" else extent.status
    told = (*models.notes, *found.notes, *extent.notes, *faults)
    return Segmentation(found.prob, found.mask, centerline, status, told, recorded, uncertainty=found.uncertainty)


@dataclass(frozen=True)
class _Outline:
    """A mask, how it was made, and how far it is to be trusted."""

    prob: NDArray[np.float32]  # (I, J, K)
    mask: NDArray[np.bool_]  # (I, J, K)
    uncertainty: NDArray[np.float32] | None  # (K,), nan in slices without mask; None for SCT's networks
    edges: ContourFeatures  # how the mask compares with the image's edges
    notes: tuple[str, ...]

    @property
    def loss(self) -> float:
        """Dice that network and edges together expect the mask to lose; nan without a mask or uncertainty."""
        if self.uncertainty is None or not self.mask.any():
            return np.nan
        return float(np.nanquantile(self.uncertainty, UNSURE_QUARTER)) + float(np.nan_to_num(1 - self.edges.edge_dice))


def _clean(
    volume: Volume,
    centerline: Centerline,
    contrast: str,
    is_detected: bool,
    thr: float,
    prob: NDArray[np.float32],
    uncertainty: NDArray[np.float32] | None = None,
) -> _Outline:
    """Convert probabilities to a mask, and compare it with the image's edges."""
    mask, prob, notes = clean_mask(prob, thr, centerline.points_vox[:, :2], centerline.slices, volume.zooms)
    if uncertainty is not None:
        if is_detected:  # a user's centerline states where the cord is
            notes = [*notes, *_drop_unsure(mask, prob, uncertainty, float(volume.zooms[2]))]
        uncertainty = np.where(mask.any(axis=(0, 1)), uncertainty, np.nan)
    return _Outline(prob, mask, uncertainty, compare_with_edges(volume, mask, contrast), tuple(notes))


def _cut_above(found: _Outline, top: int, volume: Volume, contrast: str) -> _Outline:
    """Empty the slices above the highest slice with cord."""
    above = np.arange(volume.shape[2]) > top
    prob, mask = np.where(above, np.float32(0), found.prob), found.mask & ~above
    uncertainty = None if found.uncertainty is None else np.where(above, np.float32(np.nan), found.uncertainty)
    edges = compare_with_edges(volume, mask, contrast)
    return replace(found, prob=prob, mask=mask, uncertainty=uncertainty, edges=edges)


def _look_closely(outline: Callable[[float], _Outline], again: float) -> _Outline:
    """Outline the cord in patches of the usual pixel size; a doubtful cord also enlarged, if that is less doubtful."""
    usual = best = outline(1.0)
    chosen = 1.0
    if not usual.loss > again:  # nan says nothing
        return usual
    for pixel in CLOSER:
        found = outline(pixel)
        if not found.loss < best.loss + WORSE:
            break
        if found.loss < min(best.loss - FURTHER, usual.loss - GAIN):
            best, chosen = found, pixel
    if chosen == 1:
        return best
    note = f"outlined {1 / chosen:.1f} times enlarged, where network and edges agree better: a small or faint cord?"
    return replace(best, notes=(*best.notes, note))


def default_threshold(models: Models, contrast: str, zooms: NDArray[np.floating], shows_conus: bool) -> float:
    """Return the default threshold for a contrast and voxel size (3,), mm, for our networks or SCT's."""
    if isinstance(models.segment, SctUNet):
        return THRESHOLDS[models.segment.config.contrast]
    if is_echo_planar(contrast, zooms):
        return EPI_THRESHOLD
    return (OWN_THRESHOLDS | LOWER_THRESHOLDS if shows_conus else OWN_THRESHOLDS)[contrast]


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
