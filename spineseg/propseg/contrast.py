"""Contrast between cord and fluid, measured on rays from the centre of each ring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.propseg.surface import unit_circle

if TYPE_CHECKING:
    from spineseg.propseg.scene import Scene

RAY_STEP_MM = 1.0
"""Distance of two samples on a ray, as in the original: about one voxel."""

RAY_RADII = 2.5
"""Length of a ray in initial radii: beyond any cord, as far as the fluid."""


def measure_contrast(scene: Scene, slices: NDArray[np.intp], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the contrast on each ray: the rise from the darkest before the steepest step to the brightest after.

    Parameters
    ----------
    scene : Scene
        Its initial radius is the scale of the rays; one ray per vertex of a ring.
    slices : (R,) ndarray of int
    centers : (R, 2) ndarray, mm

    Returns
    -------
    (R, K) ndarray, 0 to 1000
        0 where a ray leaves the image at once.
    """
    steps = np.arange(0.0, RAY_RADII * scene.params.radius_mm, RAY_STEP_MM)
    points = centers[:, None, None, :] + steps[:, None] * unit_circle(scene.model.n_vertices)[:, None, :]
    values, known = scene.image.sample(slices, points)
    values = scene.sign(slices)[:, None, None] * values
    rise = np.where(known[..., 1:], np.diff(values, axis=2), -np.inf)
    step = rise.argmax(axis=2)[..., None]
    order = np.arange(len(steps))
    before = np.where(known & (order <= step), values, np.inf).min(axis=2)
    after = np.where(known & (order > step), values, -np.inf).max(axis=2)
    contrast = after - before
    return np.where(np.isfinite(contrast), np.maximum(contrast, 0.0), 0.0)
