"""The detector: a linear model on HOG descriptors of the surroundings, one per contrast.

Our models have a window of 32 x 32 mm in pixels of 1 mm (the cord and its canal) and one of 64 x 64 mm in pixels of
2 mm (its position in the neck).

Ours are trained by `spineseg train optic` and shipped as safetensors. A user's own OptiC model (OpenCV's
``*_model.yml``) works in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from spineseg.centerline.hog import N_FEATURES, double_scores, halve_slices, score_slices
from spineseg.centerline.slabs import Slabs, make_slabs
from spineseg.contrasts import CONTRASTS
from spineseg.errors import InputError, ModelError, one_line
from spineseg.provenance import WEIGHTS_DIR
from spineseg.reading import read_text
from spineseg.volume import Volume
from spineseg.writing import write_bytes

FORMAT = "spineseg-optic-1"

PERCENTILES = (0.5, 99.8)
"""Percentiles of the intensity range of our models: a bright vessel or spot near a coil must not compress the rest."""

SLAB_MM = 3.0
"""Thickness up to which our models average slices: a cord moves by less than a pixel over it, at slopes up to 1/3."""

MAX_SLAB_MM = 100.0
"""Largest slab thickness that is accepted; a larger value means that the file is damaged."""

OPENCV_LAYOUT: dict[str, list[float]] = {
    "winSize": [32, 32],
    "blockSize": [8, 8],
    "blockStride": [8, 8],
    "cellSize": [4, 4],
    "nbins": [9],
    "derivAperture": [1],
    "winSigma": [2.0],
    "histogramNormType": [0],
    "L2HysThreshold": [0.2],
    "gammaCorrection": [1],
    "signedGradient": [1],
}
"""Parameters of the descriptor that `spineseg.centerline.hog` computes; models with others cannot be used."""


@dataclass(frozen=True)
class Detector:
    """A linear model of the appearance of a cord and its surroundings.

    Parameters
    ----------
    weights : (576,) ndarray of float32; for the window of 32 x 32 mm, in OpenCV's order of the descriptor
    bias : offset of the score; scores above 0 indicate a cord
    wide_weights : (576,) ndarray of float32 or None
        For the window of 64 x 64 mm, on pixels of 2 mm; None for a model with one window.
    contrast : contrast of its training; None for a user's model, which does not state it
    threshold : score along the curve below which a slice has no cord
    percentiles, slab_mm, smooth :
        Preparation of images, see `spineseg.centerline.slabs.make_slabs`.
    """

    weights: NDArray[np.float32]
    bias: float
    wide_weights: NDArray[np.float32] | None = None
    contrast: str | None = None
    threshold: float = 0.0
    percentiles: tuple[float, float] = PERCENTILES
    slab_mm: float = SLAB_MM
    smooth: bool = True

    def prepare(self, volume: Volume) -> Slabs:
        """Return the slabs of a volume, prepared for this model."""
        return make_slabs(volume, percentiles=self.percentiles, slab_mm=self.slab_mm, smooth=self.smooth)

    def score(self, slices: NDArray, stride: int = 1) -> NDArray[np.float32]:
        """Score every stride-th pixel of slices (n, Y, X) of 1 mm pixels, 0 to 255."""
        return score_together([self], slices, stride)[0]


def score_together(detectors: Sequence[Detector], slices: NDArray, stride: int = 1) -> list[NDArray[np.float32]]:
    """Score the same slices by several detectors, as `Detector.score` does; the slices are described once."""
    scores = list(score_slices(slices, [(detector.weights, detector.bias) for detector in detectors], stride))
    wide = [n for n, detector in enumerate(detectors) if detector.wide_weights is not None]
    models = [(weights, 0.0) for detector in detectors if (weights := detector.wide_weights) is not None]
    if not wide:
        return scores
    added = score_slices(halve_slices(slices), models, max(1, stride // 2))
    for n, score in zip(wide, added, strict=True):
        scores[n] = scores[n] + (double_scores(score, slices.shape[1:]) if stride == 1 else score)
    return scores


def load_detector(contrast: str, path: str | Path | None = None) -> Detector:
    """Load the shipped detector of a contrast, or a user's detector.

    Parameters
    ----------
    contrast : {"t1", "t2", "t2s", "dwi"}
    path : str or Path; a file of `save_detector`, or OpenCV's ``*_model.yml``

    Raises
    ------
    InputError; if the contrast is unknown
    ModelError; if the file is missing, damaged, or of another descriptor
    """
    if contrast not in CONTRASTS:
        raise InputError(f"contrast: expected one of {', '.join(CONTRASTS)}, found {contrast!r}")
    file = WEIGHTS_DIR / f"optic_{contrast}.safetensors" if path is None else Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such model; `spineseg train optic` makes one")
    if file.suffix.lower() in (".yml", ".yaml"):
        return _load_opencv(file)
    try:
        with safe_open(file, framework="numpy") as stream:
            about = json.loads((stream.metadata() or {}).get("about", "{}"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  # no dict
        if not isinstance(about, dict):
            raise ValueError(f"its description is {str(about)[:40]!r}")
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = one_line(error)[:120]
        raise ModelError(f"{file}: expected safetensors, found damage ({reason}); train or copy it again") from error
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if about.get("format") != FORMAT or set(shapes.values()) != {(N_FEATURES,)} or "weights" not in shapes:
        raise ModelError(f"{file}: expected a model of format {FORMAT}, found {about.get('format')!r}")
    try:
        numbers = {name: float(about[name]) for name in ("bias", "threshold", "slab_mm")}
        low, high = map(float, about["percentiles"])
        arrays = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        finite = all(np.isfinite(part).all() for part in (*arrays.values(), *numbers.values()))
        if not finite or not 0 <= low < high <= 100 or not 0 <= numbers["slab_mm"] <= MAX_SLAB_MM:
            raise ValueError("numbers that are not finite or out of range")
        return Detector(
            weights=arrays["weights"],
            wide_weights=arrays.get("wide_weights"),
            contrast=about["contrast"],
            percentiles=(low, high),
            smooth=bool(about["smooth"]),
            **numbers,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = one_line(error)[:120]
        raise ModelError(f"{file}: expected a whole model, found another ({reason}); train or copy it again") from error


def save_detector(path: str | Path, detector: Detector, about: dict | None = None) -> None:
    """Write a detector as safetensors; `about` (JSON-able) is stored with it: data, seed, scores."""
    fields = {name: getattr(detector, name) for name in ("bias", "contrast", "threshold", "slab_mm", "smooth")}
    meta = {"format": FORMAT, **fields, "percentiles": list(detector.percentiles), **(about or {})}
    windows = {"weights": detector.weights, "wide_weights": detector.wide_weights}
    tensors = {
        name: np.ascontiguousarray(window, dtype=np.float32) for name, window in windows.items() if window is not None
    }
    write_bytes(path, save(tensors, metadata={"about": json.dumps(meta, sort_keys=True)}))


def _load_opencv(path: Path) -> Detector:
    """Read a HOG and SVM model from OpenCV's FileStorage, whose first line is not valid YAML; OptiC's preparation."""
    text = read_text(path, "an OpenCV HOG model")
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    for name, expected in OPENCV_LAYOUT.items():
        found = re.search(rf"\b{name}:\s*(\[[^\]]*\]|\S+)", text)
        if found is None:
            raise ModelError(f"{path}: expected an OpenCV HOG model, found no {name}")
        values = [float(value) for value in re.findall(number, found[1])] or [float(found[1] in ("true", "True"))]
        if not np.allclose(values, expected):
            raise ModelError(f"{path}: expected {name} {expected}, found {values}; only OptiC's layout is read")
    vector = re.search(r"SVMDetector:\s*\[([^\]]*)\]", text)
    svm = np.array(re.findall(number, vector[1]) if vector else [], dtype=np.float64)
    if svm.size != N_FEATURES + 1:
        raise ModelError(f"{path}: expected {N_FEATURES + 1} numbers in SVMDetector, found {svm.size}")
    pixel = [float(v) for name in ("ps0", "ps1") for v in re.findall(rf"\b{name}:\s*({number})", text)]
    if pixel and not np.allclose(pixel, 1.0):
        raise ModelError(f"{path}: expected pixels of 1 mm (ps0, ps1), found {pixel}")
    return Detector(
        weights=svm[:-1].astype(np.float32),
        bias=float(svm[-1]),
        # scores below -1 over many slices usually mean that there is no cord
        threshold=-1.0,
        percentiles=(0.0, 100.0),  # OptiC's own preparation: plain range, every slice, linear interpolation
        slab_mm=0.0,
        smooth=False,
    )
