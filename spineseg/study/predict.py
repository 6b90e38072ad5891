"""The columns of metrics.tsv that need the image: evidence about each mask, and the Dice predicted from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from spineseg.errors import InputError
from spineseg.metrics.quality import Quality
from spineseg.metrics.shape import SliceShape
from spineseg.quality.evidence import JudgedImage, measure_evidence, prepare_image
from spineseg.quality.model import load_quality_model
from spineseg.volume import Volume, load_image

PREDICTED_COLUMNS = ("predicted_dice", "predicted_dice_low", "predicted_dice_high", "flagged")
EVIDENCE_COLUMNS = (
    *("judge_dice", "judge_overlap", "judge_ceiling", "judge_area", "judge_worst", "judge_sees", "extent"),
    *("line_distance_mm", "line_away", "line_coverage"),
    *("edge_dice", "edge_offset_mm", "edge_spread_mm", "edge_share"),
    *("contrast_to_noise", "contrast_consistency", "ring_spread", "symmetry", "steadiness"),
)

DIGITS = 4
"""Decimals of what networks had a part in: more would differ between processors."""


def read_image(row: Mapping[str, str]) -> tuple[Volume | None, str]:
    """Read an image of the study; None and a reason where it cannot be read.

    Parameters
    ----------
    row : mapping
        Of images.tsv: path, contrast, bval.
    """
    if not row.get("path"):
        return None, ""
    try:
        return load_image(row["path"], contrast=row["contrast"], bval=row.get("bval") or None)[0], ""
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


def predict_row(image: JudgedImage | None, mask: Any, shape: SliceShape, quality: Quality) -> dict[str, Any]:
    """Return the evidence about one mask and its predicted Dice; an empty mask has Dice 0."""
    if image is None:
        return {}
    evidence = measure_evidence(image, mask, shape, quality)
    prediction = asdict(load_quality_model().predict(evidence))
    prediction["flagged"] = int(prediction["flagged"])
    columns = {name: evidence[name] for name in EVIDENCE_COLUMNS if name in evidence} | prediction
    return {name: round(value, DIGITS) for name, value in columns.items()}


def missing_row() -> dict[str, Any]:
    """Return the prediction for an image of which a method has no mask: nothing was found, for certain."""
    return dict.fromkeys(PREDICTED_COLUMNS[:3], 0.0) | {"flagged": 1}
