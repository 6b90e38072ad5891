"""What takes the image: evidence about each mask, the Dice predicted from it, and the contrast that the image shows."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.detector import load_detector
from spineseg.centerline.polarity import doubt_contrast, weigh_contrasts
from spineseg.errors import InputError
from spineseg.file_digests import absent_content
from spineseg.measures import EVIDENCE_MEASURES
from spineseg.metrics.quality import Quality
from spineseg.metrics.shape import SliceShape
from spineseg.quality.evidence import JudgedImage, measure_evidence, prepare_image
from spineseg.quality.model import load_quality_model
from spineseg.studyfolder.images import StudyImage
from spineseg.volume import Volume, load_image

NOTHING_FOUND = {"predicted_dice": 0.0, "predicted_dice_low": 0.0, "predicted_dice_high": 0.0, "flagged": 1.0}
"""Prediction for an image of which a method has no mask: nothing was found, for certain."""

DIGITS = 4
"""Decimals of what networks had a part in: more would differ between processors."""


_load_detector = cache(load_detector)


def guess_contrast(volume: Volume, contrast: str) -> tuple[str, str]:
    """Return what an image looks like, and why that is not `contrast`; empty where it may be."""
    evidence = weigh_contrasts(volume, _load_detector)
    return evidence.guess, doubt_contrast(evidence, contrast)


def read_image(image: StudyImage) -> tuple[Volume | None, str]:
    """Read an image of the study; None and a reason where it cannot be read."""
    if not image.path:
        return None, ""
    try:
        if why := absent_content(image.path):
            raise InputError(f"{image.path}: {why}")
        return load_image(image.path, contrast=image.contrast, bval=image.bval or None)[0], ""
    except InputError as error:
        return None, f"quality not predicted: {error}"


def judge_image(volume: Volume, contrast: str, masks: Volume) -> tuple[JudgedImage | None, str]:
    """Make an image ready for the evidence about its masks; None and a reason where it is not the one they belong to.

    Parameters
    ----------
    volume : Volume
    contrast : str
    masks : Volume
        Any of its masks.
    """
    if volume.shape != masks.shape:
        return None, f"quality not predicted: the image has shape {volume.shape}, its masks {masks.shape}"
    return prepare_image(volume, contrast), ""


def predict_dice(
    image: JudgedImage | None, mask: NDArray[np.bool_], shape: SliceShape, quality: Quality
) -> dict[str, float]:
    """Return the measures of the evidence about one mask and its predicted Dice; an empty mask has Dice 0."""
    if image is None:
        return {}
    evidence = measure_evidence(image, mask, shape, quality)
    prediction = {name: float(value) for name, value in asdict(load_quality_model().predict(evidence)).items()}
    values = {name: evidence[name] for name in EVIDENCE_MEASURES if name in evidence} | prediction
    return {name: round(value, DIGITS) for name, value in values.items()}
