"""Train the detector of one contrast: descriptors of random patches, logistic loss, rounds of hard negatives.

There are few images of each contrast, so the detector of a contrast learns from the images of all: images of another
contrast are mapped by random intensity curves to the polarity of the contrast (cord darker or brighter than the
fluid) and have less weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from spineseg.centerline.curve import centerline_from_mask, extend_centerline
from spineseg.centerline.detector import PERCENTILES, SLAB_MM, Detector
from spineseg.centerline.hog import (
    N_FEATURES,
    WINDOW,
    describe_slices,
    double_scores,
    gather_descriptors,
    halve_slices,
    score_blocks,
)
from spineseg.centerline.slabs import make_slabs
from spineseg.contrasts import CORD_DARKER
from spineseg.training.labelled_images import LabelledImage
from spineseg.training.optic.patches import (
    PATCH,
    LabelledSlices,
    draw_changes,
    make_patches,
)
from spineseg.volume import Volume, load_image, load_mask


@dataclass(frozen=True)
class TrainingParams:
    """Parameters of a training; the shipped models were trained with the defaults."""

    n_own: int = 600  # Patches per round of images of the contrast itself, with their own intensities
    n_mapped: int = 600  # Patches per round of all images, with intensities mapped to the contrast's polarity
    n_rounds: int = 3  # Rounds; each after the first adds the windows that the last model got most wrong
    penalty: float = 1e-4  # Weight of the squared norm of the weights against the mean loss
    seed: int = 0


PEAK_SD_MM = 1.8  # soft target exp(-d^2 / 2 sd^2): half at 2.1 mm, under 0.05 beyond the cord's edge (4.4 mm)
THRESHOLD = -1.5  # log-odds along the curve: slices of people left out reach -1.1, brain falls to -2 to -5
NEAR_MM = 6.0  # windows around the cord: the whole flank of the peak
NEAR_PER_PATCH, FAR_PER_PATCH, HARD_PER_PATCH = 10, 8, 8  # windows per patch; 10 suffice to fix the peak's shape
HARD_MM = 6.0  # a high score farther away than this is another structure, not the flank of the peak
HARD_APART = 5  # pixels between two hard negatives of one patch: neighbours carry the same information
HARD_SCORE = -4.0  # below it the loss of a negative is under 0.02 already
STEPS, LAST_STEPS = 50, 150  # iterations of L-BFGS; rounds before the last only need to find hard negatives
BATCH = 16  # patches described at once: 32 MB of histograms


@dataclass
class Examples:
    """Training windows in pieces: descriptors (m, 1152) and targets (m,), 0 to 1."""

    descriptors: list[NDArray[np.float32]] = field(default_factory=list)
    targets: list[NDArray[np.float32]] = field(default_factory=list)


class DenseDescriptors:
    """The descriptors of every window of some patches (n, PATCH, PATCH), narrow and wide."""

    def __init__(self, patches: NDArray):
        self._narrow = describe_slices(patches, mirror=False)
        self._wide = describe_slices(halve_slices(patches))

    def score(self, weights: NDArray, bias: float) -> NDArray[np.float32]:
        """Score every pixel, -inf where a window would extend beyond the patch; weights (1152,)."""
        narrow, wide = weights.reshape(2, N_FEATURES)
        size = PATCH - WINDOW + 1
        inner = slice(WINDOW // 2, WINDOW // 2 + size)
        score = np.full((len(self._narrow), PATCH, PATCH), -np.inf, dtype=np.float32)
        score[:, inner, inner] = score_blocks(self._narrow, [(narrow, bias)], (size, size))[0]
        around = score_blocks(self._wide, [(wide, 0.0)], (PATCH // 2, PATCH // 2))[0]
        return score + double_scores(around, (PATCH, PATCH))

    def gather(self, index: NDArray, y: NDArray, x: NDArray) -> NDArray[np.float32]:
        """Return the descriptors (m, 1152) of windows centred on pixels."""
        narrow = gather_descriptors(self._narrow, index, y - WINDOW // 2, x - WINDOW // 2)
        return np.concatenate([narrow, gather_descriptors(self._wide, index, y // 2, x // 2)], axis=1)


def load_slices(item: LabelledImage) -> LabelledSlices:
    """Load a labelled image as slices with pixels of 1 mm, and the middle of the cord in each."""
    volume, _ = load_image(item.image, contrast=item.contrast)
    reference, _ = load_mask(item.reference)
    return label_slices(volume, reference.data, item.contrast, item.subject)


def label_slices(volume: Volume, reference: NDArray, contrast: str, subject: str) -> LabelledSlices:
    """Prepare a volume for training.

    Parameters
    ----------
    reference : (I, J, K) ndarray; above 0.5 is cord; slices without cord become negatives
    """
    slabs = make_slabs(volume, percentiles=PERCENTILES, slab_mm=SLAB_MM)
    line = centerline_from_mask(reference, volume.zooms, threshold=0.5)
    labelled = extend_centerline(line, volume.zooms, np.arange(volume.shape[2]))
    centres = np.stack([np.interp(slabs.positions, labelled.slices, labelled.points_vox[:, a]) for a in (0, 1)], 1)
    pixels = slabs.to_pixels(centres)[:, ::-1].copy()
    has_cord = np.any(reference > 0.5, axis=(0, 1))
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
    sources : sequence of LabelledSlices; images of any contrast; those with another polarity are mapped
    contrast : {"t1", "t2", "t2s", "dwi"}
    log : takes a line per round
    """
    with threadpool_limits(1):  # sums in one order: L-BFGS makes another detector of another rounding
        return _train(sources, contrast, params, log)


def _train(
    sources: Sequence[LabelledSlices], contrast: str, params: TrainingParams, log: Callable[[str], None]
) -> Detector:
    """Train in rounds, each with the windows that the last one got wrong."""
    rng = np.random.default_rng([params.seed, sorted(CORD_DARKER).index(contrast)])
    examples, weights, bias = Examples(), np.zeros(2 * N_FEATURES), 0.0
    for number in range(params.n_rounds):
        for patches, centres, inside in _draw_patches(sources, contrast, params, rng):
            dense, distance = DenseDescriptors(patches), _distance(centres)
            score = dense.score(weights, bias) if number else None  # the first round has no model yet
            index, y, x = _choose_windows(distance, inside, score, rng)
            examples.descriptors.append(dense.gather(index, y, x))
            examples.targets.append(np.exp(-(distance[index, y, x] ** 2) / (2 * PEAK_SD_MM**2)))
        last = number == params.n_rounds - 1
        weights, bias, loss = _fit(examples, params.penalty, weights, bias, LAST_STEPS if last else STEPS)
        log(f"{contrast} round {number + 1}: {sum(map(len, examples.targets))} windows, loss {loss:.4f}")
    narrow, wide = weights.astype(np.float32).reshape(2, N_FEATURES)
    return Detector(narrow, bias, wide, contrast=contrast, threshold=THRESHOLD)


def _draw_patches(
    sources: Sequence[LabelledSlices], contrast: str, params: TrainingParams, rng: np.random.Generator
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield patches in small batches: the contrast's own as they are, then those of all with mapped intensities."""
    own = [s for s in sources if s.contrast == contrast]
    for group, total, mapped in ((own, params.n_own, False), (sources, params.n_mapped, True)):
        bright = (not CORD_DARKER[contrast]) if mapped else None
        for source in group:
            for start in range(0, -(-total // len(group)), BATCH):
                n = min(BATCH, -(-total // len(group)) - start)
                yield make_patches(source, draw_changes(source, n, rng, bright_cord=bright))


def _distance(centres: NDArray) -> NDArray[np.float64]:
    """Distance (mm) of every pixel of each patch to its cord, infinite without one, (n, PATCH, PATCH)."""
    y, x = np.mgrid[:PATCH, :PATCH]
    distance = np.hypot(y - centres[:, 0, None, None], x - centres[:, 1, None, None])
    return np.where(np.isfinite(distance), distance, np.inf)


def _choose_windows(
    distance: NDArray, inside: NDArray, score: NDArray | None, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Choose windows (patch, row, column) near the cord, elsewhere, and where a high score is wrong."""
    chance = rng.random(distance.shape)
    wishes = [
        (np.where((distance < NEAR_MM) & inside, chance, -np.inf), NEAR_PER_PATCH),
        (np.where((distance >= NEAR_MM / 2) & inside, chance, -np.inf), FAR_PER_PATCH),
    ]
    if score is not None:
        size = 2 * HARD_APART + 1
        peak = (score == ndi.maximum_filter(score, size=(1, size, size))) & (score > HARD_SCORE)
        wishes.append((np.where(peak & inside & (distance > HARD_MM), score, -np.inf), HARD_PER_PATCH))
    found = []
    for rank, count in wishes:
        flat_rank = rank.reshape(len(rank), -1)
        best = np.argpartition(-flat_rank, count, axis=1)[:, :count]
        index = np.repeat(np.arange(len(rank)), count)
        kept = np.isfinite(flat_rank[index, best.ravel()])
        found.append((index[kept], *np.unravel_index(best.ravel()[kept], distance.shape[1:])))
    index, y, x = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return index, y, x


def _fit(examples: Examples, penalty: float, weights: NDArray, bias: float, steps: int) -> tuple[NDArray, float, float]:
    """Minimise the mean logistic loss plus the penalty by L-BFGS from the last round's weights."""
    x = np.concatenate(examples.descriptors)
    t = np.concatenate(examples.targets).astype(np.float32)
    start = np.append(weights, bias)

    def loss_and_gradient(w: NDArray) -> tuple[float, NDArray]:
        z = x @ w[:-1].astype(np.float32) + np.float32(w[-1])
        loss = np.logaddexp(0, z) - t * z
        residual = 1 / (1 + np.exp(-z)) - t
        gradient = np.append(residual @ x / len(t) + 2 * penalty * w[:-1], residual.mean())
        return float(loss.mean(dtype=np.float64) + penalty * (w[:-1] ** 2).sum()), gradient.astype(np.float64)

    result = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return result.x[:-1], float(result.x[-1]), float(result.fun)
