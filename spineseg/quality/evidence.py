"""All evidence about one mask in one image, as numbers by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.curve import Centerline
from spineseg.contrasts import CORD_DARKER
from spineseg.metrics.quality import Quality, compute_quality
from spineseg.metrics.shape import SliceShape
from spineseg.quality.contour import measure_contour
from spineseg.quality.judge import find_line, measure_judge, measure_place
from spineseg.volume import Volume, crop

if TYPE_CHECKING:
    from spineseg.deepseg.model import Models

MAX_SLICES = 32
"""Slices of a mask that are looked at: more change the evidence by less than its noise and cost a second."""

MARGIN_MM = 20.0
"""Image kept around the mask: the judge's patch and the longest ray fit in."""


@dataclass(frozen=True)
class JudgedImage:
    """An image with what does not depend on the mask: the judge and where OptiC finds the cord."""

    volume: Volume
    contrast: str
    judge: Models
    line: Centerline


def prepare_image(volume: Volume, contrast: str, judge: Models | None = None) -> JudgedImage:
    """Make an image ready for the evidence about its masks.

    Parameters
    ----------
    volume : Volume
    contrast : {"t1", "t2", "t2s", "dwi"}
    judge : Models, optional
        deepseg's shipped networks by default.
    """
    if judge is None:
        from spineseg.deepseg.model import load_models

        judge = load_models(device="cpu", threads=1)  # one thread: sums then come in one order
    return JudgedImage(volume, contrast, judge, find_line(volume, contrast))


def measure_evidence(
    image: JudgedImage,
    mask: NDArray[np.bool_],
    shape: SliceShape,
    quality: Quality | None = None,
) -> dict[str, float]:
    """Gather the evidence about one mask.

    Parameters
    ----------
    image : JudgedImage
    mask : (I, J, K) ndarray of bool
    shape : SliceShape
        `compute_shape` of the mask.
    quality : Quality, optional
        `compute_quality` of the mask, where it is known already.

    Returns
    -------
    dict of float
        Empty for an empty mask. See docs/measures.md for each number.
    """
    if not mask.any():
        return {}
    volume = image.volume
    quality = quality or compute_quality(mask, volume.zooms, shape)
    filled = np.flatnonzero(mask.any(axis=(0, 1)))
    span = np.arange(filled[0], filled[-1] + 1)
    chosen = span[np.unique(np.linspace(0, len(span) - 1, min(len(span), MAX_SLICES)).round().astype(int))]
    centroids = shape.centroid_vox[:, :2]
    centres = np.column_stack([np.interp(chosen, filled, centroids[filled, axis]) for axis in (0, 1)])
    judged = measure_judge(volume, mask, chosen, centres, image.judge)
    contour = _measure_contour(volume, mask, chosen, centres, CORD_DARKER[image.contrast])
    place = measure_place(mask, centroids, volume.zooms, image.line)
    return judged | contour | place | _describe_shape(shape, quality, filled, volume) | weigh_up(judged, contour)


LEAST_CEILING = 0.05
"""A judge less certain than this sees nothing that a mask could be compared with."""


def weigh_up(judged: dict[str, float], contour: dict[str, float]) -> dict[str, float]:
    """Derive what follows from two judgements: how near a mask comes to the judge's own, and the worse of the two.

    Returns
    -------
    dict of float
        judge_relative: expected Dice over that of the judge's own mask, so that an unsure judge does not count
        against a mask; weakest: the smaller of it and `edge_dice`, because a mask must satisfy both.
    """
    ceiling = judged["judge_ceiling"]
    relative = min(1.0, judged["judge_dice"] / ceiling) if ceiling > LEAST_CEILING else 0.0
    return {"judge_relative": relative, "weakest": float(np.nanmin([relative, contour["edge_dice"]]))}


def _measure_contour(
    volume: Volume, mask: NDArray[np.bool_], chosen: NDArray[np.intp], centres: NDArray, cord_darker: bool
) -> dict[str, float]:
    """Evidence along the contour, from the part of the image around the mask."""
    found = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    margin = np.ceil(MARGIN_MM / volume.zooms[:2]).astype(int)
    start = [max(0, int(index[0]) - m) for index, m in zip(found, margin, strict=True)]
    stop = [int(index[-1]) + m + 1 for index, m in zip(found, margin, strict=True)]
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]), slice(None))
    image = crop(volume, box).data[:, :, chosen]
    return asdict(measure_contour(image, mask[box][:, :, chosen], volume.zooms[:2], centres - start, cord_darker))


def _describe_shape(shape: SliceShape, quality: Quality, filled: NDArray[np.intp], volume: Volume) -> dict[str, float]:
    """Numbers of the mask alone."""
    area = shape.csa_mm2[filled]
    solidity = shape.solidity[filled]
    solidity = solidity[np.isfinite(solidity)]
    jumps = np.abs(np.diff(np.log(area))) if area.size > 1 else np.zeros(1)
    return {
        "pixels_per_radius": float(np.sqrt(np.median(area) / np.pi) / np.sqrt(np.prod(volume.zooms[:2]))),
        "csa_median_mm2": float(np.median(area)),
        "csa_jump": float(np.quantile(jumps, 0.9)),
        "csa_range": float(np.log(np.quantile(area, 0.9) / np.quantile(area, 0.1))),
        "csa_roughness": quality.csa_roughness,
        "centre_roughness": quality.centre_roughness,
        "plausible": quality.plausible,
        "largest_fraction": quality.largest_fraction,
        "filled_share": quality.n_slices / (filled[-1] - filled[0] + 1),
        "field_share": quality.n_slices / volume.shape[2],
        "solidity": float(np.mean(solidity)) if solidity.size else np.nan,
    }
