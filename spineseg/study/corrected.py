"""Use a corrected mask in place of the method's, and say how much the two differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spineseg.errors import InputError
from spineseg.metrics.overlap import compute_dice
from spineseg.studyfolder.corrections import Correction, check_correction, correct_entry, refuse_entry
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import ManifestEntry


def corrected_entry(
    folder: StudyFolder, image: StudyImage, entry: ManifestEntry, correction: Correction
) -> ManifestEntry:
    """Return an image's entry with its corrected mask, and how much that differs from the mask before the correction.

    A corrected mask that cannot be used does not end the study: its image counts as failed, with the reason.
    """
    try:
        masks = check_correction(folder, image, correction, entry.mask or "")
    except InputError as error:
        return refuse_entry(entry, error)
    corrected = correct_entry(entry, correction, is_empty=not masks.drawn.any())
    if masks.before is None:
        return corrected
    differ = np.flatnonzero((masks.drawn != masks.before).any(axis=(0, 1)))
    slices = f"{differ.size} slices differ" + (f", {differ[0]} to {differ[-1]}" if differ.size else "")
    slices = f"1 slice differs, {differ[0]}" if differ.size == 1 else slices
    how_much = f"Dice to it {compute_dice(masks.drawn, masks.before):.3f}; {slices}"
    return replace(corrected, message=f"{corrected.message} ({how_much})")
