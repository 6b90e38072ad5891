"""Train the detector of one contrast: descriptors of random patches, logistic loss, rounds of hard negatives.

Few images of each contrast are at hand, so every contrast learns from all of them: images of another
contrast are mapped by random intensity curves to the polarity wanted (cord darker or brighter than the
fluid) and weigh less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.optimize import minimize

from spineseg.centerline.augmentation import (
    PATCH,
    LabelledSlices,
    draw_changes,
    make_patches,
)
from spineseg.centerline.curve import centerline_from_mask, extend_centerline
from spineseg.centerline.detector import PERCENTILES, SLAB_MM, Detector
from spineseg.centerline.hog import extract_descriptors, score_slices
from spineseg.centerline.slabs import make_slabs
from spineseg.contrasts import CORD_DARKER
from spineseg.training_data import LabelledImage
from spineseg.volume import Volume, load_image, load_mask


@dataclass(frozen=True)
class TrainingParams:
    """Choices of a training; the defaults made the shipped models.

    Parameters
    ----------
    n_own : int
        Patches per round of images of the contrast itself, with their own intensities.
    n_mapped : int
        Patches per round of all images, with intensities mapped to the contrast's polarity.
    n_rounds : int
        Rounds; each after the first adds the windows that the last model got most wrong.
    penalty : float
        Weight of the squared norm of the weights against the mean loss.
    seed : int
    """

    n_own: int = 1200
    n_mapped: int = 1200
    n_rounds: int = 3
    penalty: float = 1e-4
    seed: int = 0


PEAK_SD_MM = 1.8  # soft target exp(-d^2 / 2 sd^2): half at 2.1 mm, under 0.05 beyond the cord's edge (4.4 mm)
NEAR_PER_PATCH, FAR_PER_PATCH, HARD_PER_PATCH = 8, 8, 6  # windows kept of each patch; 8 near ones fix the peak's shape
HARD_DISTANCE_MM = 6.0  # what scores high further off than this is another structure, not the cord's slope
HARD_APART = 5  # pixels between two hard negatives of one patch: neighbours say the same


@dataclass
class Examples:
    """Windows to learn from: descriptors (m, 576), targets 0 to 1, weights."""

    descriptors: list[NDArray[np.float32]] = field(default_factory=list)
    targets: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, patches: NDArray, windows: tuple[NDArray, NDArray, NDArray], targets: NDArray) -> None:
        """Add the windows (patch, row, column; sorted by patch) of some patches."""
        self.descriptors.append(extract_descriptors(patches, *windows))
        self.targets.append(targets.astype(np.float32))


def load_slices(item: LabelledImage) -> LabelledSlices:
    """Load a labelled image as slices of 1 mm with the cord's middle in each."""
    volume, _ = load_image(item.image, contrast=item.contrast)
    reference, _ = load_mask(item.reference)
    return label_slices(volume, reference.data, item.contrast, item.subject)


def label_slices(volume: Volume, reference: NDArray, contrast: str, subject: str) -> LabelledSlices:
    """Prepare a volume for training.

    Parameters
    ----------
    volume : Volume
    reference : (I, J, K) ndarray
        Above 0.5 is cord; slices without cord become negatives.
    contrast, subject : str

    Returns
    -------
    LabelledSlices
    """
    slabs = make_slabs(volume, percentiles=PERCENTILES, slab_mm=SLAB_MM)
    line = centerline_from_mask(reference, volume.zooms, threshold=0.5)
    labelled = extend_centerline(line, volume.zooms, np.arange(volume.shape[2]))
    centres = np.stack([np.interp(slabs.positions, labelled.slices, labelled.points_vox[:, a]) for a in (0, 1)], 1)
    pixels = slabs.to_pixels(centres)[:, ::-1].copy()
    has_cord = (reference > 0.5).any(axis=(0, 1))
    pixels[~has_cord[np.rint(slabs.positions).astype(int)]] = np.nan
    return LabelledSlices(slabs.slices, pixels, _measure_levels(slabs.slices, pixels, contrast), contrast, subject)


def _measure_levels(slices: NDArray, centres: NDArray, contrast: str) -> tuple[float, float, float]:
    """Typical values of background, cord (within 2.5 mm of its middle) and fluid (a ring of 4.5 to 8 mm)."""
    known = np.isfinite(centres).all(axis=1)
    y, x = np.mgrid[: slices.shape[1], : slices.shape[2]]
    distance = np.hypot(y - centres[known, 0, None, None], x - centres[known, 1, None, None])
    inside, around = slices[known][distance < 2.5], slices[known][(distance > 4.5) & (distance < 8)]
    cord = float(np.median(inside))
    # bone and fat lie in the ring too: the fluid is its bright (or dark) part, and never the cord's own value
    fluid = max(np.percentile(around, 90), cord + 10) if CORD_DARKER[contrast] else np.percentile(around, 15)
    return float(np.percentile(slices, 20)), cord, float(fluid)


def train_detector(
    sources: Sequence[LabelledSlices],
    contrast: str,
    params: TrainingParams = TrainingParams(),
    *,
    log: Callable[[str], None] = lambda line: None,
) -> Detector:
    """Train the detector of one contrast.

    Parameters
    ----------
    sources : sequence of LabelledSlices
        Images of any contrast; those with another polarity are mapped.
    contrast : {"t1", "t2", "t2s", "dwi"}
    params : TrainingParams
    log : callable, optional
        Takes a line per round.

    Returns
    -------
    Detector
        Its threshold is 0 still; see `spineseg.centerline.estimate`.
    """
    rng = np.random.default_rng([params.seed, sorted(CORD_DARKER).index(contrast)])
    examples, weights, bias = Examples(), None, 0.0
    for number in range(params.n_rounds):
        for patches, centres, inside in _draw_patches(sources, contrast, params, rng):
            _add_windows(examples, patches, centres, inside, rng)
            if weights is not None:
                _add_hard_negatives(examples, patches, centres, inside, weights, bias)
        weights, bias, loss = _fit(examples, params.penalty, weights, bias)
        log(f"{contrast} round {number + 1}: {sum(map(len, examples.targets))} windows, loss {loss:.4f}")
    return Detector(weights=weights.astype(np.float32), bias=bias, contrast=contrast)


def _draw_patches(sources, contrast, params, rng):
    """Yield patches image by image: the contrast's own as they are, and all of them with mapped intensities."""
    own = [s for s in sources if s.contrast == contrast]
    for group, total, mapped in ((own, params.n_own, False), (sources, params.n_mapped, True)):
        for source in group:
            n = -(-total // len(group))
            bright = (not CORD_DARKER[contrast]) if mapped else None
            yield make_patches(source, draw_changes(source, n, rng, bright_cord=bright))


def _distance(centres: NDArray) -> NDArray[np.float64]:
    """Distance (mm) of every pixel of each patch to its cord, infinite without one, (n, PATCH, PATCH)."""
    y, x = np.mgrid[:PATCH, :PATCH]
    distance = np.hypot(y - centres[:, 0, None, None], x - centres[:, 1, None, None])
    return np.where(np.isfinite(distance), distance, np.inf)


def _add_windows(examples: Examples, patches, centres, inside, rng) -> None:
    """Add windows near the cord, with soft targets, and windows anywhere."""
    distance = _distance(centres)
    near = (distance < 6.0) & inside
    chance = rng.random(patches.shape)
    for allowed, count in ((near, NEAR_PER_PATCH), (inside & (distance >= 3.0), FAR_PER_PATCH)):
        order = np.argsort(np.where(allowed, chance, 2.0).reshape(len(patches), -1), axis=1)[:, :count]
        index = np.repeat(np.arange(len(patches)), count)
        flat = order.ravel()
        kept = allowed.reshape(len(patches), -1)[index, flat]
        index, (y, x) = index[kept], np.unravel_index(flat[kept], (PATCH, PATCH))
        target = np.exp(-(distance[index, y, x] ** 2) / (2 * PEAK_SD_MM**2))
        examples.add(patches, (index, y, x), target)


def _add_hard_negatives(examples: Examples, patches, centres, inside, weights, bias) -> None:
    """Add the local maxima of the score that lie away from the cord, the highest of each patch."""
    score = score_slices(patches, weights, bias)
    peak = score == ndi.maximum_filter(score, size=(1, 2 * HARD_APART + 1, 2 * HARD_APART + 1))
    allowed = peak & inside & (_distance(centres) > HARD_DISTANCE_MM)
    ranked = np.where(allowed, score, -np.inf).reshape(len(patches), -1)
    order = np.argsort(-ranked, axis=1)[:, :HARD_PER_PATCH]
    index = np.repeat(np.arange(len(patches)), HARD_PER_PATCH)
    flat = order.ravel()
    kept = np.isfinite(ranked[index, flat]) & (ranked[index, flat] > -4.0)  # below it the loss is 0.02 already
    y, x = np.unravel_index(flat[kept], (PATCH, PATCH))
    examples.add(patches, (index[kept], y, x), np.zeros(int(kept.sum())))


def _fit(examples: Examples, penalty: float, weights, bias) -> tuple[NDArray, float, float]:
    """Minimise the mean logistic loss plus the penalty by L-BFGS from the last round's weights."""
    x = np.concatenate(examples.descriptors)
    t = np.concatenate(examples.targets)
    start = np.zeros(x.shape[1] + 1) if weights is None else np.append(weights, bias)

    def loss_and_gradient(w: NDArray) -> tuple[float, NDArray]:
        z = x @ w[:-1].astype(np.float32) + np.float32(w[-1])
        loss = np.logaddexp(0, z) - t * z
        residual = 1 / (1 + np.exp(-z)) - t
        gradient = np.append(residual @ x / len(t) + 2 * penalty * w[:-1], residual.mean())
        return float(loss.mean(dtype=np.float64) + penalty * (w[:-1] ** 2).sum()), gradient.astype(np.float64)

    result = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return result.x[:-1], float(result.x[-1]), float(result.fun)
