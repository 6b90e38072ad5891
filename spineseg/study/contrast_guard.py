"""Which contrast an image looks like, beside the one that it is taken for."""

from __future__ import annotations

from functools import cache
from typing import Any

from spineseg.centerline.detector import load_detector
from spineseg.centerline.polarity import doubt_contrast, weigh_contrasts
from spineseg.volume import Volume

CONTRAST_COLUMNS = ("guessed_contrast", "contrast_doubt")

_load_detector = cache(load_detector)


def guess_contrast(volume: Volume, contrast: str) -> dict[str, Any]:
    """Return the columns of metrics.tsv that say what an image looks like, beside what it is taken for."""
    evidence = weigh_contrasts(volume, _load_detector)
    return {"guessed_contrast": evidence.guess, "contrast_doubt": doubt_contrast(evidence, contrast)}
