"""The image along the cord, straightened and scaled to one intensity range; any points are sampled in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.contrasts import EPI_SLICE_MM

if TYPE_CHECKING:
    from spineseg.volume import Volume

Floats = NDArray[np.float64]

SCALE = 1000.0
"""Robust intensity range after normalisation, so that SCT's contrasts and weights keep their meaning."""

HALF_WIDTH_MM = 22.0
"""Half side of the square around the centerline: room for 9 mm of cord, 3 mm of search, a centerline 6 mm off."""

CANAL_MM = 15.0
"""Radius within which intensities set the range of a slice: the canal and some surrounding tissue."""

RANGE_PERCENT = (2.0, 98.0)
"""Percentiles used as robust minimum and maximum; the original takes extremes after a median filter."""

SMOOTH_MM = 30.0
"""Width along the cord over which the range is averaged: coil sensitivity changes over centimetres, discs alternate
over about one."""

CORE_MM = 3.0
"""Radius around the centerline whose median is the brightness of the cord in a slice."""

STEADY_MM = 40.0
"""Length of the median filter that gives the expected brightness of the cord: two vertebrae."""

UNSTEADY = 0.06
"""Robust standard deviation, from slice to slice, of the logarithm of that brightness above which slices are scaled to
the same brightness: echo-planar means have 0.07 and more, all other available images 0.045 at most."""

DROPPED = 0.3
"""Share of its neighbours' brightness below which a slice has lost its signal; its relative noise is then three times
theirs."""

LEAST_RANGE = 0.15
"""Smallest intensity range of a slice, as a share of the largest range: it limits the amplification of noise beyond the
coil."""

PAD = 3
"""Width of the border of repeated voxels around each slice, for the support of a cubic spline."""


@dataclass(frozen=True)
class CordField:
    """Intensities along a centerline, 0 to 1000, as cubic-spline coefficients.

    Squares around the centerline lie side by side in one 2-D array. Rings lie in slices, so a position in any slice
    is one 2-D coordinate, and all samples need only one call.
    """

    # (W, K * W) of float32: spline coefficients; slice n of the field occupies columns n * W to (n + 1) * W
    coefficients: NDArray[np.float32]
    slices: NDArray[np.intp]  # (K,) of int: canonical slice numbers, increasing and contiguous
    origins: NDArray[np.intp]  # (K, 2) of int, voxels: canonical in-plane index of the first voxel of each square
    zooms: Floats  # (3,), mm
    shape: tuple[int, int]  # (2,) tuple of int: in-plane size of the image; beyond it there is nothing
    # (m,) of int: slices without signal, which show the mean of their neighbours instead
    dropped: NDArray[np.intp]
    unsteady: bool = False  # whether brightness changed from slice to slice, as in echo-planar means

    def sample(self, slices: NDArray[np.intp], points: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Sample by cubic interpolation in plane.

        Parameters
        ----------
        slices : (R,) ndarray of int; canonical slices, all in `self.slices`
        points : (R, ..., 2) ndarray, mm

        Returns
        -------
        values : (R, ...) ndarray
        known : (R, ...) ndarray of bool; False beyond the image or the square around the centerline
        """
        width = self.coefficients.shape[0]
        row = slices - self.slices[0]
        lead = (slice(None),) + (None,) * (points.ndim - 2)
        voxel = points / self.zooms[:2]
        local = voxel - self.origins[row][lead]
        known = ((voxel >= -0.5) & (voxel <= np.subtract(self.shape, 0.5))).all(-1)
        known &= ((local >= PAD - 1) & (local <= width - PAD)).all(-1)
        local = np.clip(local, PAD - 1, width - PAD)
        columns = local[..., 1] + (row * width)[lead]
        values = ndi.map_coordinates(self.coefficients, [local[..., 0], columns], order=3, prefilter=False)
        return values, known


def build_field(volume: Volume, points_vox: Floats, half_width_mm: float = HALF_WIDTH_MM) -> CordField:
    """Cut the squares around a centerline out of a volume and normalise them.

    Parameters
    ----------
    points_vox : (n, 3) ndarray, voxels; one point per slice, slices contiguous
    half_width_mm : mm; half side of the squares; beyond the image, border voxels repeat
    """
    zooms = np.asarray(volume.zooms, dtype=np.float64)
    slices = points_vox[:, 2].astype(np.intp)
    width = 2 * int(np.ceil(half_width_mm / zooms[:2].min())) + 1 + 2 * PAD
    origins = np.rint(points_vox[:, :2]).astype(np.intp) - width // 2
    grid = np.arange(width)
    index = [np.clip(origins[:, a, None] + grid, 0, volume.shape[a] - 1) for a in (0, 1)]
    squares = volume.data[index[0][:, :, None], index[1][:, None, :], slices[:, None, None]].astype(np.float64)
    squares, dropped, unsteady = _steady(squares, origins, points_vox, zooms)
    low, scale = _intensity_range(squares, origins, points_vox, zooms)
    squares = np.clip((squares - low[:, None, None]) / scale[:, None, None], -0.5 * SCALE, 1.5 * SCALE)
    coefficients = ndi.spline_filter1d(ndi.spline_filter1d(squares, 3, axis=1), 3, axis=2)
    flat = coefficients.transpose(1, 0, 2).reshape(width, -1).astype(np.float32)
    return CordField(flat, slices, origins, zooms, volume.shape[:2], slices[dropped], unsteady)


def _steady(
    squares: Floats, origins: NDArray, points_vox: Floats, zooms: Floats
) -> tuple[Floats, NDArray[np.bool_], bool]:
    """Scale slices to the same brightness if it changes from slice to slice, and fill in slices without signal.

    Returns
    -------
    squares : (n, W, W) ndarray; unchanged if brightness is steady
    dropped : (n,) ndarray of bool
    unsteady : bool
    """
    nothing = np.zeros(len(squares), bool)
    if zooms[2] < EPI_SLICE_MM or len(squares) < 3:
        return squares, nothing, False
    near = _distance_mm(squares, origins, points_vox, zooms) <= CORE_MM
    level = np.nanmedian(np.where(near, squares, np.nan), axis=(1, 2))
    usual = ndi.median_filter(level, max(3, int(STEADY_MM / zooms[2]) | 1), mode="nearest")
    if usual.min() <= 0:
        return squares, nothing, False
    gain = np.maximum(level / usual, np.finfo(np.float32).eps)
    if 1.4826 * np.median(np.abs(np.log(gain))) < UNSTEADY and gain.min() > DROPPED:
        return squares, nothing, False
    dropped = gain < DROPPED
    squares = squares / gain[:, None, None]
    good = np.flatnonzero(~dropped)
    for k in np.flatnonzero(dropped):  # a handful
        beside = [*good[good < k][-1:], *good[good > k][:1]]
        share = 1 / np.abs(np.subtract(beside, k))
        squares[k] = np.tensordot(share / share.sum(), squares[beside], axes=1)
    return squares, dropped, True


def _distance_mm(squares: Floats, origins: NDArray, points_vox: Floats, zooms: Floats) -> Floats:
    """Return the distance of each pixel of the squares from the centerline, (n, W, W), mm."""
    grid = np.arange(squares.shape[1])
    offset = [(origins[:, a, None] + grid - points_vox[:, a, None]) * zooms[a] for a in (0, 1)]
    return np.hypot(offset[0][:, :, None], offset[1][:, None, :])


def _intensity_range(squares: Floats, origins: NDArray, points_vox: Floats, zooms: Floats) -> tuple[Floats, Floats]:
    """Return the intensity that maps to 0 and the intensity per unit, (n,) each, smooth along the cord."""
    near = _distance_mm(squares, origins, points_vox, zooms) <= CANAL_MM
    low, high = np.nanpercentile(np.where(near, squares, np.nan), RANGE_PERCENT, axis=(1, 2))
    sigma = SMOOTH_MM / 2.355 / zooms[2]  # full width at half maximum to standard deviation
    low, high = (ndi.gaussian_filter1d(v, sigma, mode="nearest") for v in (low, high))
    span = high - low
    floor = max(LEAST_RANGE * span.max(), np.finfo(np.float32).tiny)
    return low, np.maximum(span, floor) / SCALE
