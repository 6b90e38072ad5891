"""Adapter that prepares propseg for segmenting images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from spineseg.centerline.detector import Detector, load_detector
from spineseg.propseg.parameters import PropsegParams
from spineseg.propseg.segment import segment_cord
from spineseg.segmentation import Segmentation
from spineseg.volume import Volume


def prepare(
    params: PropsegParams, weights: str | None, device: str, threads: int
) -> tuple[Callable[..., Segmentation], str]:
    """Return the function that segments a volume, and its device, the CPU.

    The detector of a contrast is read at the first image of the contrast.

    Parameters
    ----------
    params : PropsegParams
    weights : str or None
        The user's own detector; None for the shipped ones.
    device, threads
        Not used: propseg runs in one thread on the CPU.
    """

    @cache
    def detector_of(contrast: str) -> Detector:
        return load_detector(contrast, weights)

    def segment(volume: Volume, contrast: str, **options: Any) -> Segmentation:
        return segment_cord(volume, contrast, params, detector=detector_of(contrast), **options)

    return segment, "cpu"
