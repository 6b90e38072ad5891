"""All evidence about one mask in one image, as numbers by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.curve import Centerline
from spineseg.contrasts import CORD_DARKER
from spineseg.errors import ModelError
from spineseg.metrics.quality import Quality, compute_quality
from spineseg.metrics.shape import SliceShape
from spineseg.quality.agreement import find_line, measure_agreement, measure_place
from spineseg.quality.contour import measure_contour
from spineseg.volume import Volume, crop

if TYPE_CHECKING:
    from spineseg.deepseg.network import UNet
    from spineseg.deepseg.weights import Models

MAX_SLICES = 32
"""Slices of a mask that are looked at: more change the evidence by less than its noise and cost a second."""

MARGIN_MM = 20.0
"""Image kept around the mask: the network's patch and the longest ray fit in."""


@dataclass(frozen=True)
class JudgedImage:
    """An image with what does not depend on the mask: deepseg's network, and where OptiC finds the cord."""

    volume: Volume
    contrast: str
    network: UNet
    line: Centerline


def prepare_image(volume: Volume, contrast: str, models: Models | None = None) -> JudgedImage:
    """Make an image ready for the evidence about its masks.

    Parameters
    ----------
    contrast : {"t1", "t2", "t2s", "dwi"}
    models : deepseg's own networks; the shipped ones by default

    Raises
    ------
    ModelError
        If the network that outlines is SCT's.
    """
    from spineseg.deepseg.model import load_models
    from spineseg.deepseg.network import UNet

    if models is None:
        models = load_models(device="cpu", threads=1).for_contrast(contrast)  # one thread: sums come in one order
    if not isinstance(models.segment, UNet):
        raise ModelError("predicted Dice: expected spineseg's own network, found one of SCT; leave the weights out")
    return JudgedImage(volume, contrast, models.segment, find_line(volume, contrast))


def measure_evidence(
    image: JudgedImage,
    mask: NDArray[np.bool_],
    shape: SliceShape,
    quality: Quality | None = None,
) -> dict[str, float]:
    """Gather the evidence about one mask.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
    shape : `compute_shape` of the mask
    quality : `compute_quality` of the mask, where it is known already

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
    agreement = measure_agreement(volume, mask, chosen, centres, image.network)
    contour = _measure_contour(volume, mask, chosen, centres, CORD_DARKER[image.contrast])
    place = measure_place(mask, centroids, volume.zooms, image.line)
    return agreement | contour | place | _describe_shape(shape, quality, filled, volume) | weigh_up(agreement, contour)


LEAST_CEILING = 0.05
"""A network less certain than this sees nothing that a mask could be compared with."""


def weigh_up(agreement: dict[str, float], contour: dict[str, float]) -> dict[str, float]:
    """Derive how near a mask comes to the network's own, and the smaller of that and the agreement with the edges.

    Returns dict of float: judge_relative: expected Dice over that of the network's own mask, so that an unsure network
    does not count against a mask; weakest: the smaller of it and `edge_dice`, because a mask must satisfy both.
    """
    ceiling = agreement["judge_ceiling"]
    relative = min(1.0, agreement["judge_dice"] / ceiling) if ceiling > LEAST_CEILING else 0.0
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
