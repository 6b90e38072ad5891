"""Adapter that prepares deepseg for segmenting images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spineseg.deepseg.model import load_models
from spineseg.deepseg.parameters import DeepsegParams
from spineseg.deepseg.segment import segment_cord
from spineseg.deepseg.weights import Models
from spineseg.segmentation import Segmentation
from spineseg.volume import Volume


def prepare(
    params: DeepsegParams, weights: str | None, device: str, threads: int
) -> tuple[Callable[..., Segmentation], str]:
    """Return the function that segments a volume, and the device that it runs on.

    Parameters
    ----------
    params : DeepsegParams
    weights : str or None
        The user's own weights; None for the shipped ones.
    device : {"auto", "cpu", "cuda"}
    threads : int
        CPU threads of torch.

    Raises
    ------
    ModelError
        If the weights cannot be read, or 3-D convolutions are requested and the networks have none.
    """
    models = load_models(weights, device=device, threads=threads)
    if isinstance(models, Models):  # our networks serve every contrast; SCT's are chosen by contrast, for each image
        models = models.for_contrast("any", params.kernel)

    def segment(volume: Volume, contrast: str, **options: Any) -> Segmentation:
        return segment_cord(volume, contrast, params, models=models, **options)

    return segment, models.device
