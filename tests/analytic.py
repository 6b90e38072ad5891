"""Analytic tubes with known geometry, for tests of segmentation and measures."""

from __future__ import annotations

import numpy as np

from spineseg.volume import Volume


def tube(
    *,
    radius_mm: float = 4.5,
    shape: tuple[int, int, int] = (48, 48, 40),
    zooms: tuple[float, float, float] = (1.0, 1.0, 1.0),
    tilt_deg: float = 0.0,
    azimuth_deg: float = 0.0,
    supersample: int = 4,
) -> Volume:
    """Return the partial-volume map of a straight round tube through the middle of the grid.

    The tube's axis leans `tilt_deg` from the slice normal towards `azimuth_deg` (0: axis 0).
    Its area perpendicular to the axis is pi radius_mm² in every slice.
    """
    zooms = np.asarray(zooms, float)
    tilt, azimuth = np.deg2rad([tilt_deg, azimuth_deg])
    axis = np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)])
    inside = np.zeros(shape, np.float32)
    offsets = (np.arange(supersample) + 0.5) / supersample - 0.5
    for di in offsets:
        for dj in offsets:
            for dk in offsets:
                grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
                points = np.stack(
                    [(g + d - (n - 1) / 2) * z for g, d, n, z in zip(grids, (di, dj, dk), shape, zooms, strict=True)],
                    -1,
                )
                along = points @ axis
                inside += ((points**2).sum(-1) - along**2) <= radius_mm**2
    affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])  # LAS: axis 0 runs to the left
    return Volume(inside / supersample**3, affine)


def cord_image(
    volume: Volume, *, cord: float = 300.0, csf: float = 900.0, ring_mm: float = 3.0, noise: float = 10.0, seed: int = 0
):
    """Return an image of a cord, with the partial volumes of `volume`, in a ring of fluid in grey tissue."""
    from scipy import ndimage as ndi

    distance = ndi.distance_transform_edt(volume.data < 0.5, sampling=volume.zooms)
    background = np.where(distance <= ring_mm, csf, 500.0)
    data = volume.data * cord + (1 - volume.data) * background
    data += np.random.default_rng(seed).normal(0, noise, data.shape)
    return Volume(data.astype(np.float32), volume.affine)
