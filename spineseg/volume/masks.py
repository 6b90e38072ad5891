"""Interpret the values of a mask file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError

MAX_LABELS = 20
"""Most distinct labels of a mask: parcellations of the cord have fewer, images have hundreds."""

MAX_OVERSHOOT = 1.05
"""Largest value of a soft mask: interpolation overshoots 1 by a few percent."""

FULL_VALUES = (255.0, 100.0)
"""Values that stand for 1 in 8-bit masks and in percent."""

FULL_SLACK, FULL_SHARE = 1e-3, 0.5
"""Relative rounding error allowed in a full voxel, and share of the voxels above 0 that must be full."""

ROUNDING = 1e-5
"""Largest relative error of a whole number after slope and intercept are applied in float32."""

NO_BACKGROUND = 0.95
"""If every voxel is above this value, nothing is outside the mask."""

HALF = 0.5
"""Threshold from which a voxel counts as cord, in every measure of overlap."""

PLATEAU, BETWEEN_SHARE = 0.9, 0.2
IMAGE_SIGNS = ((0.01, 0.99, BETWEEN_SHARE, 0.05), (0.1, 0.9, 0.5, 0.3))
"""Signs of an image that was scaled to 0 to 1: (low, high, share between, share full). A soft mask is 0 or 1 except at
its border. An image has more than the third number of its voxels between the first two values, and less than the fourth
number of its nonzero voxels above `PLATEAU`. In a mask cropped tightly, a third of the voxels may be border, but then
half of it is full; in an image whose brightest 1 to 3 % were clipped, only these voxels are full. The low-probability
haze of a network, a few percent, may fill the field of view."""


def read_mask_values(
    data: NDArray[np.float32], n_zero: int, path: Path, *, label: int | None = None, any_positive: bool = False
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Convert the values of a mask file to values between 0 and 1.

    Parameters
    ----------
    data : (n,) ndarray of float32
        Values of the file that are not 0, slope and intercept applied.
    n_zero : int
        Number of voxels that are 0.
    path : Path
        The file, for messages.
    label : int, optional
        Label of the cord, if the mask has several labels.
    any_positive : bool
        For points and centerlines that people draw: every value above 0 counts, whatever its label.

    Returns
    -------
    mask : (n,) ndarray of float32, 0 to 1
        0 and 1 for labels; partial volumes and probabilities are kept.
    notes : tuple of str
        What had to be corrected, one line each.

    Raises
    ------
    InputError
        If the values are those of an image, or there are several labels and none was chosen.

    Notes
    -----
    Whole numbers with one label are a mask. A maximum of up to 1.05 is clipped to 1. Values that clearly run to
    255 or 100 are divided by it. NaN counts as 0. An empty mask is valid.
    """
    notes: list[str] = []
    data = np.append(data, np.zeros(min(n_zero, 1), np.float32))  # one zero stands for all of them in the checks below
    n_more = max(n_zero - 1, 0)
    missing = np.isnan(data)
    if missing.any():
        notes.append(f"{path.name}: {int(missing.sum())} voxels are NaN and count as 0")
        data = np.where(missing, np.float32(0), data)
    n = data.size - min(n_zero, 1)
    lowest, highest = float(data.min()), float(data.max())
    if lowest < -ROUNDING * max(1.0, abs(highest)) or np.isinf(highest):
        raise _looks_like_image(path, data)
    if lowest < 0:
        data = data.clip(0, None)
    if label is not None:
        return _pick_label(data, path, label)[:n], tuple(notes)
    mask, note = _scale(data, path.name)
    if mask is None:
        mask = _read_labels(data, path, any_positive)
    if (mask > (0 if any_positive else NO_BACKGROUND)).all():
        raise InputError(f"{path}: expected a mask, found no voxel outside it; is it an image?")
    return mask[:n], (*notes, *note, *(() if any_positive else _check_soft(mask, mask.size + n_more, path)))


def _check_soft(mask: NDArray[np.float32], n_voxels: int, path: Path) -> tuple[str, ...]:
    """Return warnings about values between 0 and 1; raise InputError if they cannot be those of a mask."""
    inside = mask[mask > 0]
    if not inside.size:
        return ()
    full = np.mean(inside >= PLATEAU)
    shares = [np.count_nonzero((mask > low) & (mask < high)) / n_voxels for low, high, _, _ in IMAGE_SIGNS]
    if any(share > most and full < least for share, (_, _, most, least) in zip(shares, IMAGE_SIGNS, strict=True)):
        raise _looks_like_image(path, mask)
    highest = float(inside.max())
    if highest <= NO_BACKGROUND and inside.min() == highest:
        raise InputError(
            f"{path}: expected a mask of 0 and 1, found 0 and {highest:.3g}; check the slope in its header"
        )
    if highest < HALF:
        return (f"{path.name}: no value reaches {HALF:g} (largest {highest:.2g}); it counts as empty",)
    if highest <= NO_BACKGROUND and np.mean(inside >= highest * (1 - FULL_SLACK)) > FULL_SHARE:
        return (f"{path.name}: most of the mask is {highest:.3g}, not 1; areas count it as partial volume",)
    if shares[1] > BETWEEN_SHARE:
        return (f"{path.name}: {100 * shares[1]:.0f} % of the voxels are neither in the mask nor out; is it an image?",)
    if np.count_nonzero(mask >= HALF) > n_voxels / 2:
        return (f"{path.name}: more than half of the voxels are in the mask; is it inverted?",)
    return ()


def _scale(data: NDArray[np.float32], name: str) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """Scale values that run to 1, 255 or 100 to the range 0 to 1; return None for other values."""
    highest = float(data.max())
    if highest <= 1:
        return data, ()
    if highest <= MAX_OVERSHOOT:
        note = (f"{name}: values of up to {highest:.4g} were clipped to 1",) if highest > 1 + ROUNDING else ()
        return data.clip(0, 1), note
    full = next((value for value in FULL_VALUES if abs(highest / value - 1) <= FULL_SLACK), None)
    if full is None:
        return None, ()
    inside = data[data > 0]
    is_full = np.abs(inside / np.float32(full) - 1) <= FULL_SLACK
    if is_full.all() or is_full.mean() <= FULL_SHARE:  # one label, or no clear scale
        return None, ()
    return (data / np.float32(full)).clip(0, 1), (f"{name}: runs from 0 to {full:g}; divided by {full:g}",)


def _read_labels(data: NDArray[np.float32], path: Path, any_positive: bool) -> NDArray[np.float32]:
    """Return 1 where the only label is, or any label if `any_positive`."""
    if any_positive:
        return (data > 0).astype(np.float32)
    labels = np.unique(data)
    whole = np.round(labels)
    if labels[0] > 0 or np.abs(labels - whole).max() > ROUNDING * whole.max() or len(np.unique(whole)) > MAX_LABELS + 1:
        raise _looks_like_image(path, data)
    whole = np.unique(whole[whole > 0])
    if len(whole) > 1:
        raise InputError(
            f"{path}: expected a mask with one label, found the labels {', '.join(f'{v:g}' for v in whole)}; "
            "save the cord's alone, or name it (-label N, -label-d N; label: N of a study's method or references)"
        )
    return (data > 0.5).astype(np.float32)


def _pick_label(data: NDArray[np.float32], path: Path, label: int) -> NDArray[np.float32]:
    """Return 1 where the chosen label is; an empty mask stays empty."""
    mask = (np.abs(data - label) <= ROUNDING * abs(label)).astype(np.float32)
    if label <= 0 or (data.any() and not mask.any()):
        labels = np.unique(data[data > 0])
        listed = ", ".join(f"{v:g}" for v in labels[:MAX_LABELS]) + (", ..." if len(labels) > MAX_LABELS else "")
        raise InputError(f"{path}: expected the label {label}, found {listed or 'an empty mask'}; name another")
    return mask


def _looks_like_image(path: Path, data: NDArray[np.float32]) -> InputError:
    values = np.unique(data)
    return InputError(
        f"{path}: expected a mask (0 and 1, or 0 to 1), found {len(values)} values from {values[0]:g} to "
        f"{values[-1]:g}; is it an image?"
    )
