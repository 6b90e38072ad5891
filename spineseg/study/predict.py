"""Predict the Dice of each mask from image and mask, and guess the contrast of the image."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.contrast_check import doubt_contrast, weigh_contrasts
from spineseg.centerline.detector import load_detector
from spineseg.errors import InputError
from spineseg.file_digests import absent_content
from spineseg.measures import EVIDENCE_MEASURES
from spineseg.metrics.intrinsic import IntrinsicMeasures
from spineseg.metrics.shape import SliceShape
from spineseg.quality.features import PreparedImage, measure_features, prepare_image
from spineseg.quality.predictor import load_dice_predictor
from spineseg.studyfolder.images import StudyImage
from spineseg.volume import Volume, load_image

NOTHING_FOUND = {"predicted_dice": 0.0, "predicted_dice_low": 0.0, "predicted_dice_high": 0.0, "flagged": 1.0}
"""Prediction for an image in which the method found nothing, which is certain."""

DIGITS = 4
"""Decimals of values that depend on networks; further ones would differ between processors."""


_load_detector = cache(load_detector)


def guess_contrast(volume: Volume, contrast: str) -> tuple[str, str]:
    """Return the contrast that an image seems to have, and why that is not `contrast`; empty if it may be."""
    evidence = weigh_contrasts(volume, _load_detector)
    return evidence.guess, doubt_contrast(evidence, contrast)


def read_image(image: StudyImage) -> tuple[Volume | None, str]:
    """Read an image of the study; None and a reason if it cannot be read."""
    if not image.path:
        return None, ""
    try:
        if why := absent_content(image.path):
            raise InputError(f"{image.path}: {why}")
        return load_image(image.path, contrast=image.contrast, bval=image.bval or None)[0], ""
    except InputError as error:
        return None, f"quality not predicted: {error}"


def prepare_for_masks(volume: Volume, contrast: str, masks: Volume) -> tuple[PreparedImage | None, str]:
    """Prepare an image for the features of its masks; None and a reason if the masks do not belong to it.

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
    image: PreparedImage | None, mask: NDArray[np.bool_], shape: SliceShape, quality: IntrinsicMeasures
) -> dict[str, float]:
    """Return the features of one mask and its predicted Dice; an empty mask has Dice 0."""
    if image is None:
        return {}
    features = measure_features(image, mask, shape, quality)
    prediction = {name: float(value) for name, value in asdict(load_dice_predictor().predict(features)).items()}
    values = {name: features[name] for name in EVIDENCE_MEASURES if name in features} | prediction
    return {name: round(value, DIGITS) for name, value in values.items()}
