"""Load the networks that deepseg runs: ours, or SCT's if the files have its formats."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from spineseg.deepseg.sct.weights import SctWeights, is_sct_weights
from spineseg.deepseg.weights import Models, load_own_models
from spineseg.errors import ModelError
from spineseg.file_digests import stamps_of


def load_models(
    weights: str | Path | None = None, device: str = "auto", threads: int | None = None
) -> Models | SctWeights:
    """Load both networks, once per process unless their files change.

    Parameters
    ----------
    weights : str or Path, optional
        A folder with ``deepseg_detect`` and ``deepseg_segment`` files, or one file, which replaces the
        shipped network of its stage. Default: the shipped weights. SCT's files (.h5, .onnx) are read as well:
        `spineseg.deepseg.sct.weights`.
    device : {"auto", "cpu", "cuda"}; auto takes a GPU if torch can use one
    threads : CPU threads that torch may use from now on in this process

    Returns
    -------
    Models or SctWeights; both give the networks of a contrast by `for_contrast`

    Raises
    ------
    ModelError; if a file is missing, damaged or of an unknown format, or the device is not available
    """
    return _load_models(weights, device, threads, stamps_of(weights))


@lru_cache(maxsize=4)
def _load_models(
    weights: str | Path | None, device: str, threads: int | None, stamps: tuple[tuple[int, ...], ...]
) -> Models | SctWeights:
    """Load both networks; `stamps` is part of the cache's key, so that replaced files are read again."""
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"-device {device}: torch {torch.__version__} finds no GPU; use cpu")
    if weights is not None and is_sct_weights(Path(weights)):
        return SctWeights(Path(weights), device)
    return load_own_models(weights, device)
