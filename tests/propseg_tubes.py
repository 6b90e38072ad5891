"""Images of straight tubes of known size, for the tests of propseg."""

from __future__ import annotations

import numpy as np

from spineseg.centerline.curve import Centerline
from spineseg.volume import Volume

CORD, FLUID, AROUND = 300.0, 1000.0, 100.0
SUB = 4  # points per voxel side


def make_tube(
    *, zooms=(1.0, 1.0, 1.0), radius=4.5, fluid=8.0, tilt=0.0, n=24, width=40.0, shift=(0.13, -0.21), bright_cord=False
):
    """Return volume, centerline and axial area (mm²) of a straight tube with an oblique tilt."""
    zooms = np.asarray(zooms, float)
    size = np.round(width / zooms[:2]).astype(int)
    fine = (np.arange(SUB) + 0.5) / SUB - 0.5
    x, y = (((np.arange(m)[:, None] + fine).ravel() * z) for m, z in zip(size, zooms[:2], strict=True))
    slope = np.tan(np.radians(tilt)) * np.array([np.cos(0.4), np.sin(0.4)])
    axis = np.array([*slope, 1.0]) / np.hypot(1, np.tan(np.radians(tilt)))
    data = np.zeros((*size, n))
    middle = np.array([width / 2 + shift[0], width / 2 + shift[1]])
    levels = (800.0, 200.0, 500.0) if bright_cord else (CORD, FLUID, AROUND)
    for k in range(n):
        for part in fine:
            height = (k + part - (n - 1) / 2) * zooms[2]
            away = np.stack(np.meshgrid(x, y, indexing="ij"), -1) - middle - slope * height
            distance = np.sqrt((away**2).sum(-1) - (away @ axis[:2]) ** 2)
            values = np.where(distance < radius, levels[0], np.where(distance < fluid, levels[1], levels[2]))
            data[:, :, k] += values.reshape(size[0], SUB, size[1], SUB).mean((1, 3)) / SUB
    heights = (np.arange(n) - (n - 1) / 2) * zooms[2]
    points = np.column_stack([(middle + slope * heights[:, None]) / zooms[:2], np.arange(n)])
    volume = Volume(data.astype(np.float32), np.diag([-zooms[0], zooms[1], zooms[2], 1.0]))
    return volume, Centerline(points), np.pi * radius**2 / np.cos(np.radians(tilt))


def mean_area(values, volume, ends=2):
    """Return the mean area (mm²), without the slices at the ends."""
    inner = values[:, :, ends : values.shape[2] - ends or None]
    return float(inner.sum((0, 1)).mean() * volume.zooms[0] * volume.zooms[1])
