"""The four contrasts, whether the cord is dark in them, and the contrast of each BIDS suffix."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTRASTS = ("t1", "t2", "t2s", "dwi")

CORD_DARKER = {"t1": False, "t2": True, "t2s": True, "dwi": False}
"""Whether the cord is darker than the cerebrospinal fluid around it."""

SUFFIX_CONTRAST = {
    "T1w": "t1",
    "T2w": "t2",
    "T2star": "t2s",
    "T2starw": "t2s",
    "MTS": "t2s",
    "MEGRE": "t2s",
    "dwi": "dwi",
    "bold": "t2",  # bright fluid, dark cord
    "sbref": "t2",
}
"""BIDS suffix to contrast; other suffixes are not segmented."""

EPI_PIXEL_MM, EPI_SLICE_MM = 0.85, 1.9
"""Least in-plane size and slice thickness of an echo-planar mean: axial T2w images have pixels of 0.4 to 0.7 mm, and
3-D images have thinner slices. Slices of 2 mm, which affines give as 1.99999 or 2.00001, must all be on one side."""


def is_echo_planar(contrast: str, zooms: NDArray[np.floating]) -> bool:
    """Whether an image with the contrast of T2w is an echo-planar mean, by its voxel size (3,), mm."""
    return contrast == "t2" and min(zooms[:2]) >= EPI_PIXEL_MM and zooms[2] >= EPI_SLICE_MM
