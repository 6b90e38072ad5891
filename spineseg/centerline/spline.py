"""Natural cubic smoothing spline of curves sampled at increasing, possibly uneven, positions.

The spline minimises ``sum_i w_i |y_i - f(t_i)|^2 + lam * integral |f''(t)|^2 dt``. It is linear in the data,
needs no choice of knots, and is exact for a straight line whatever `lam` is, so a straight cord stays
straight. Outside its first and last positions it goes on as a straight line.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

Floats = NDArray[np.float64]


def fit_spline(
    positions: Floats, values: Floats, lam: float = 0.0, weights: Floats | None = None
) -> NDArray[np.float64]:
    """Return the values of the smoothing spline at its own positions; gives (n, d) ndarray of float64, mm.

    Parameters
    ----------
    positions : (n,) ndarray, increasing, mm; where the curve was measured
    values : (n, d) ndarray, mm; the measured values
    lam : weight of the curvature; 0 returns the values themselves
    weights : (n,) ndarray, positive; weight of each value, 1 by default

    Notes
    -----
    Reinsch's form: solve ``(R + lam Q' W^-1 Q) g = Q' y`` for the second derivatives g at the inner
    positions, a system with two bands beside its diagonal; then ``f = y - lam W^-1 Q g``. Fewer than three
    points have no curvature and come back unchanged.

    References
    ----------
    .. [1] Reinsch, 1967, Smoothing by spline functions, Numerische Mathematik 10, doi:10.1007/BF02162161.

    Examples
    --------
    >>> fit_spline(np.arange(4.0), np.array([[0.0], [1.0], [2.0], [3.0]]), lam=100.0).ravel().round(6).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    y = np.asarray(values, dtype=np.float64)
    if lam <= 0 or len(y) < 3:
        return y.copy()
    positions = np.asarray(positions, dtype=np.float64)
    inv_w = np.ones(len(y)) if weights is None else 1.0 / np.asarray(weights, dtype=np.float64)
    q = _second_differences(positions)
    g = _solve_curvature(positions, y, lam * inv_w)
    correction = np.zeros_like(y)
    for offset in range(3):
        correction[offset : offset + len(q)] += q[:, offset : offset + 1] * g
    return y - lam * inv_w[:, None] * correction


def _second_differences(positions: Floats) -> Floats:
    """Return Q', (n - 2, 3): row i holds the second divided difference of points i, i + 1, i + 2."""
    h = np.diff(positions)
    return np.stack([1 / h[:-1], -1 / h[:-1] - 1 / h[1:], 1 / h[1:]], axis=1)


def _solve_curvature(positions: Floats, y: Floats, give: Floats) -> Floats:
    """Solve for the second derivatives at the inner positions, (n - 2, d); `give` (n,) is lam / w, 0 to interpolate."""
    h, q = np.diff(positions), _second_differences(positions)
    n = len(q)
    bands = np.zeros((3, n))  # lower form: diagonal, first and second band below it
    bands[0] = (h[:-1] + h[1:]) / 3
    bands[0] += (q**2 * np.stack([give[:-2], give[1:-1], give[2:]], axis=1)).sum(axis=1)
    bands[1, :-1] = h[1:-1] / 6
    bands[1, :-1] += q[:-1, 1] * q[1:, 0] * give[1:-2] + q[:-1, 2] * q[1:, 1] * give[2:-1]
    bands[2, :-2] = q[:-2, 2] * q[2:, 0] * give[2:-2]
    second = q[:, :1] * y[:-2] + q[:, 1:2] * y[1:-1] + q[:, 2:] * y[2:]
    return solveh_banded(bands[: min(3, n)], second, lower=True)


def evaluate_spline(positions: Floats, values: Floats, at: Floats) -> NDArray[np.float64]:
    """Evaluate the natural cubic spline through the values, straight beyond its ends.

    Parameters
    ----------
    positions : (n,) ndarray, increasing, mm; positions of the values; n may be 1
    values : (n, d) ndarray, mm; points that the curve passes through
    at : (m,) ndarray, mm; where to evaluate

    Returns
    -------
    (m, d) ndarray of float64; with one point: that point

    Notes
    -----
    Written out because importing scipy.interpolate takes longer than segmenting a small image.
    """
    positions, at = np.asarray(positions, dtype=np.float64), np.asarray(at, dtype=np.float64)
    values = np.asarray(values, dtype=np.float64)
    if len(positions) == 1:
        return np.repeat(values, len(at), axis=0)
    curvature = np.zeros_like(values)  # zero at both ends: the natural spline
    if len(positions) > 2:
        curvature[1:-1] = _solve_curvature(positions, values, np.zeros(len(positions)))
    inside = np.clip(at, positions[0], positions[-1])
    left = np.clip(np.searchsorted(positions, inside, side="right") - 1, 0, len(positions) - 2)
    h = (positions[left + 1] - positions[left])[:, None]
    b = (inside - positions[left])[:, None] / h
    a = 1 - b
    rise = (values[left + 1] - values[left]) / h
    slope = rise + h / 6 * ((3 * b**2 - 1) * curvature[left + 1] - (3 * a**2 - 1) * curvature[left])
    bend = h**2 / 6 * ((a**3 - a) * curvature[left] + (b**3 - b) * curvature[left + 1])
    return a * values[left] + b * values[left + 1] + bend + (at - inside)[:, None] * slope


def cutoff_to_lam(cutoff_mm: float, spacing_mm: float) -> float:
    """Return the curvature weight that halves a wave of length `cutoff_mm`.

    For points `spacing_mm` apart the spline damps a wave of angular frequency w by ``1 / (1 + lam * spacing
    * w^4)``, so that a cut-off says the same in every voxel size.

    Examples
    --------
    >>> round(cutoff_to_lam(2 * np.pi, 1.0), 6)
    1.0
    """
    return float((cutoff_mm / (2 * np.pi)) ** 4 / spacing_mm)
