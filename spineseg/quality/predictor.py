"""Prediction of a mask's Dice from its features: a monotone additive model with conformal intervals.

Every feature contributes to a score (minus the logarithm of the missing Dice) by a piecewise linear function that only
rises or only falls. A curve converts the score to the Dice along the mask. For a mask that is too short, this is
multiplied by the Dice that a perfect mask of its extent would have. All numbers are in one JSON file, `quality.json`,
beside the networks' weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import ModelError
from spineseg.provenance import WEIGHTS_DIR

Floats = NDArray[np.float64]

MODEL_FILE = WEIGHTS_DIR / "quality.json"
FORMAT = "spineseg-quality-1"
"""Format name in the file; another value means other features or another model."""

RATER_LOSS = 0.03
"""Dice that is missing even in the best case, between two drawings of one cord. Differences far below it have little
effect, as do differences between masks that are bad anyway."""

TRANSFORMS = {
    "plain": lambda x: x,
    "log": lambda x: np.log(np.maximum(x, 1e-3)),
    "loss": lambda x: -np.log(1 + RATER_LOSS - np.clip(x, 0.0, 1.0)),
    "above": lambda x: np.maximum(x, 0.0),
    "below": lambda x: np.maximum(-x, 0.0),
}
"""Transforms of a feature before its function is evaluated; ``above`` and ``below`` are its size on either side of
0."""


@dataclass(frozen=True)
class Term:
    """Contribution of one feature to the score."""

    feature: str  # Its name
    transform: str  # A name of `TRANSFORMS`
    knots: Floats  # (k,): broken line; it is flat beyond its ends
    values: Floats  # (k,): broken line; it is flat beyond its ends
    missing: float  # Contribution if the feature is not known

    def contribute(self, values: Floats) -> Floats:
        """Return the contributions of given values, (n,)."""
        known = np.isfinite(values)
        x = TRANSFORMS[self.transform](np.where(known, values, 0.0))
        return np.where(known, np.interp(x, self.knots, self.values), self.missing)


def dice_of_extent(features: Mapping[str, Floats]) -> Floats:
    """Return the Dice of masks that are perfect but too short, (n,): 2 e / (1 + e) for an extent e, 1 if unknown."""
    extent = np.asarray(features["extent"], float)
    return np.where(np.isfinite(extent), 2 * extent / (1 + extent), 1.0)


@dataclass(frozen=True)
class Prediction:
    """The Dice that a mask would have with a reference, with its 90 % interval, and whether the mask is flagged."""

    predicted_dice: float
    predicted_dice_low: float
    predicted_dice_high: float
    flagged: bool


@dataclass(frozen=True)
class DicePredictor:
    """The fitted model."""

    terms: tuple[Term, ...]
    intercept: float
    score_to_dice: Floats  # (2, k): score to Dice along the mask, a rising broken line
    dice_to_error: Floats  # (2, k): predicted Dice to the typical size of its error
    error_low: float  # Error over its typical size at the ends of the 90 % interval, from split conformal prediction
    error_high: float  # Error over its typical size at the ends of the 90 % interval, from split conformal prediction
    flag_below: float  # Predicted Dice below which a mask is flagged
    provenance: Mapping[str, Any]

    def score(self, features: Mapping[str, Floats]) -> Floats:
        """Return the score of masks from columns of features, (n,)."""
        total = np.zeros(1)
        for term in self.terms:
            total = total + term.contribute(np.asarray(features[term.feature], float))
        return self.intercept + total

    def predict_dice(self, features: Mapping[str, Floats]) -> Floats:
        """Return the predicted Dice of masks from columns of features, (n,)."""
        return dice_of_extent(features) * np.interp(self.score(features), *self.score_to_dice)

    def interval(self, dice: Floats) -> tuple[Floats, Floats]:
        """Return the ends of the 90 % intervals of predicted Dice, (n,) each."""
        size = np.interp(dice, *self.dice_to_error)
        return np.clip(dice + self.error_low * size, 0, 1), np.clip(dice + self.error_high * size, 0, 1)

    def predict(self, features: Mapping[str, float]) -> Prediction:
        """Predict one mask's Dice; an empty mask (no features) has Dice 0 with certainty."""
        if not features:
            return Prediction(0.0, 0.0, 0.0, True)
        dice = self.predict_dice({name: np.array([value], float) for name, value in features.items()})
        low, high = self.interval(dice)
        return Prediction(float(dice[0]), float(low[0]), float(high[0]), bool(dice[0] < self.flag_below))


def predictor_to_json(model: DicePredictor) -> dict[str, Any]:
    """Return the model as JSON content, with six significant digits."""
    return {
        "format": FORMAT,
        "intercept": _rounded(model.intercept),
        "terms": [
            {
                "evidence": t.feature,
                "transform": t.transform,
                "knots": _rounded(t.knots),
                "values": _rounded(t.values),
                "missing": _rounded(t.missing),
            }
            for t in model.terms
        ],
        "curve": _rounded(model.score_to_dice),
        "spread": _rounded(model.dice_to_error),
        "low": _rounded(model.error_low),
        "high": _rounded(model.error_high),
        "flag_below": _rounded(model.flag_below),
        "provenance": dict(model.provenance),
    }


def _rounded(value: float | Floats | Sequence[float]) -> Any:
    """Round to six significant digits: the fit is less precise, and the file stays readable."""
    array = np.asarray(value, np.float64)
    if array.ndim:
        return [_rounded(item) for item in array]
    return float(f"{float(array):.6g}")


def predictor_from_json(content: Mapping[str, Any]) -> DicePredictor:
    """Return the model from its JSON content."""
    terms = tuple(
        Term(t["evidence"], t["transform"], np.array(t["knots"]), np.array(t["values"]), t["missing"])
        for t in content["terms"]
    )
    return DicePredictor(
        terms,
        intercept=content["intercept"],
        score_to_dice=np.array(content["curve"]),
        dice_to_error=np.array(content["spread"]),
        error_low=content["low"],
        error_high=content["high"],
        flag_below=content["flag_below"],
        provenance=content["provenance"],
    )


@lru_cache(maxsize=2)
def load_dice_predictor(path: str | Path = MODEL_FILE) -> DicePredictor:
    """Read a model, once per process.

    Raises
    ------
    ModelError; if the file is missing, damaged or of another format
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: expected a quality model in JSON, found other content ({error}); install spineseg again"
        ) from error
    if found != FORMAT:
        raise ModelError(f"{path}: expected a quality model of format {FORMAT}, found {found}; train it again")
    try:
        return predictor_from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: expected a whole quality model, {error!r} is wrong; train it again") from error
