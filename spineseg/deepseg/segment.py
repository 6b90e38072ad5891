"""Segment the cord by two networks: one finds it in whole slices, one outlines it in patches along the curve."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from spineseg.centerline.curve import Centerline
from spineseg.deepseg.cleanup import clean_mask
from spineseg.deepseg.inference import compute_heatmap, compute_probability, trace_cord
from spineseg.deepseg.model import Models, load_models
from spineseg.errors import InputError
from spineseg.segmentation import Segmentation
from spineseg.volume import Volume

if TYPE_CHECKING:
    from spineseg.progress import Progress

OK_COVERAGE = 0.9
"""Share of slices with cord from which a result is called complete: fields of view often end in the brain or air."""


@dataclass(frozen=True)
class DeepsegParams:
    """Settings of deepseg.

    Parameters
    ----------
    thr : float, 0 to 1
        Probability from which a voxel is cord. The one threshold, applied on the image's own grid.
    kernel : {"2d"}
        Convolutions within slices.
    flips : bool
        Average over right-left mirror images; twice the time of the second stage.
    min_confidence : float
        Heat of the detector below which a slice is believed to hold no cord.
    batch : int
        Patches of one call; only speed and memory depend on it.
    """

    thr: float = 0.5
    kernel: str = "2d"
    flips: bool = False
    min_confidence: float = 0.25
    batch: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.thr <= 1:
            raise InputError(f"-thr {self.thr}: expected a number between 0 and 1")
        if self.kernel != "2d":
            raise InputError(f"-kernel {self.kernel}: only 2d is available in this version; use -kernel 2d")
        if self.batch < 1:
            raise InputError(f"batch {self.batch}: expected at least 1")


def segment_cord(
    volume: Volume,
    contrast: str,
    params: DeepsegParams | None = None,
    *,
    centerline: Centerline | None = None,
    models: Models | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment the spinal cord.

    Parameters
    ----------
    volume : Volume, shape (I, J, K), canonical
    contrast : str
        Recorded only: one model serves all contrasts.
    params : DeepsegParams, optional
    centerline : Centerline, optional
        Followed in place of a detected one; only its slices are segmented.
    models : Models, optional
        The shipped ones by default.
    progress : Progress, optional

    Returns
    -------
    Segmentation
        Empty, with status ``empty``, where no cord is found.

    References
    ----------
    .. [1] Gros et al., 2019, Automatic segmentation of the spinal cord and intramedullary multiple sclerosis
       lesions with convolutional neural networks, NeuroImage 184, doi:10.1016/j.neuroimage.2018.09.081. The two
       stages are theirs; networks, training, the curve on the heatmap and the clean-up are ours.
    """
    params = params or DeepsegParams()
    models = models or load_models()
    tell = progress.stage if progress else lambda name: None
    if centerline is None:
        tell("detection")
        heat, zooms = compute_heatmap(volume, models)
        tell("centerline")
        centerline = trace_cord(heat, zooms, volume.shape, params.min_confidence)
    else:
        _check_centerline(centerline, volume)
    recorded = asdict(params)
    if centerline.is_empty:
        nothing = np.zeros(volume.shape, dtype=np.float32)
        note = "no slice looks like it holds spinal cord"
        return Segmentation(nothing, nothing > 0, None, "empty", (note,), recorded)
    tell("segmentation")
    prob = compute_probability(volume, centerline, models, batch=params.batch, flips=params.flips)
    tell("clean-up")
    mask, prob, notes = clean_mask(prob, params.thr, centerline.points_vox[:, :2], centerline.slices, volume.zooms)
    status, coverage_notes = _judge(mask)
    return Segmentation(prob, mask, centerline, status, (*notes, *coverage_notes), recorded)


def _check_centerline(centerline: Centerline, volume: Volume) -> None:
    """Raise InputError if a point of the curve lies outside the image."""
    points = centerline.points_vox
    outside = (points < -0.5) | (points > np.array(volume.shape) - 0.5)
    if outside.any():
        k = int(points[outside.any(axis=1)][0, 2])
        raise InputError(f"-centerline: expected points inside the image {volume.shape}, found one outside (slice {k})")


def _judge(mask: np.ndarray) -> tuple[str, tuple[str, ...]]:
    """Return the status and, where slices are missing at the ends, a note that says which."""
    found = np.flatnonzero(mask.any(axis=(0, 1)))
    if len(found) == 0:
        return "empty", ("the detector saw cord, but no voxel reaches the threshold",)
    n_slices = mask.shape[2]
    if len(found) >= OK_COVERAGE * n_slices:
        return "ok", ()
    return "partial", (f"cord found in slices {found[0]}-{found[-1]} of 0-{n_slices - 1}",)
