"""The columns of metrics.tsv that need the image: evidence about each mask, and the Dice predicted from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.metrics.quality import Quality
from spineseg.metrics.shape import SliceShape
from spineseg.quality.evidence import JudgedImage, measure_evidence, prepare_image
from spineseg.quality.model import load_quality_model
from spineseg.volume import NativeGrid, load_image

PREDICTED_COLUMNS = ("predicted_dice", "predicted_dice_low", "predicted_dice_high", "flagged")
EVIDENCE_COLUMNS = (
    *("judge_dice", "judge_overlap", "judge_ceiling", "judge_area", "judge_worst", "judge_sees", "extent"),
    *("line_distance_mm", "line_away", "line_coverage"),
    *("edge_dice", "edge_offset_mm", "edge_spread_mm", "edge_share"),
    *("contrast_to_noise", "contrast_consistency", "ring_spread", "symmetry", "steadiness"),
)

DIGITS = 4
"""Decimals of what networks had a part in: more would differ between processors."""


def open_image(row: Mapping[str, str], grid: NativeGrid | None) -> tuple[JudgedImage | None, str]:
    """Load an image for the evidence about its masks.

    Parameters
    ----------
    row : mapping
        Of images.tsv: path, contrast, bval.
    grid : NativeGrid or None
        Of the masks; None where there is none.

    Returns
    -------
    image : JudgedImage or None
    problem : str
        Why there is none, or nothing.
    """
    if grid is None or not row.get("path"):
        return None, ""
    try:
        volume, own = load_image(row["path"], contrast=row["contrast"], bval=row.get("bval") or None)
    except InputError as error:
        return None, f"quality not predicted: {error}"
    if own.shape3 != grid.shape3:
        return None, f"quality not predicted: {Path(row['path']).name} and its masks differ in shape"
    return prepare_image(volume, row["contrast"]), ""


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
