"""Outlines of a mask along its voxels' edges, as corner loops and as SVG path data.

A vector outline stays sharp at every magnification, lies exactly where the mask ends, and takes fewer bytes than a
picture. Corners have integer coordinates: voxel ``i`` reaches from corner ``i`` to corner ``i + 1``, so corner ``i``
lies at voxel coordinate ``i - 0.5``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spineseg.volume import mask_box

STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
"""Corner steps of the four directions, in the order of left turns."""


def trace_outlines(mask: NDArray[np.bool_]) -> list[list[NDArray[np.int64]]]:
    """Trace the outline of every slice of a mask.

    Parameters
    ----------
    mask : (I, J, K) bool ndarray

    Returns
    -------
    loops : list of K lists of (n, 2) int64 ndarray
        Closed polygons of corners (the first is not repeated) with the mask on their left; holes run the other way
        round. Voxels that touch only at a corner get separate loops. Slices without a mask have no loops.
    """
    loops: list[list[NDArray[np.int64]]] = [[] for _ in range(mask.shape[2])]
    if not mask.any():
        return loops
    box = mask_box(mask)
    origin = [part.start for part in box]
    edges, following, size = _boundary_edges(np.moveaxis(mask[box], 2, 0))
    for chain in _chains(following):
        k, i, j = np.unravel_index(edges[chain] // 4, size)
        turns = edges[chain] % 4
        corners = turns != np.roll(turns, 1)  # of a straight run only the ends are needed
        points = np.stack([i[corners], j[corners]], axis=1) + origin[:2]
        loops[int(k[0]) + origin[2]].append(points)
    return loops


def path_data(loops: list[NDArray[np.int64]]) -> str:
    """Return SVG path data of corner loops, in corner coordinates; an empty string for none.

    Examples
    --------
    >>> path_data([np.array([[2, 3], [4, 3], [4, 4], [2, 4]])])
    'M2 3h2v1h-2z'
    """
    return "".join(_loop_path(points) for points in loops)


def _loop_path(points: NDArray[np.int64]) -> str:
    """Return the path of one loop: a start, then steps along one axis at a time."""
    steps = np.diff(points, axis=0)
    words = [f"h{dx}" if dx else f"v{dy}" for dx, dy in steps.tolist()]
    return f"M{points[0, 0]} {points[0, 1]}{''.join(words)}z"


def _boundary_edges(box: NDArray[np.bool_]) -> tuple[NDArray, NDArray, tuple[int, int, int]]:
    """Return the directed boundary edges of (K, I, J) voxels and, for each, the edge that follows.

    An edge's code is ``4 * corner + direction``; the second array indexes the first.
    """
    padded = np.pad(box, ((0, 0), (1, 1), (1, 1)))
    inside = padded[:, 1:-1, 1:-1]
    size = (box.shape[0], box.shape[1] + 1, box.shape[2] + 1)
    has = np.zeros((*size, 4), dtype=bool)
    has[:, :-1, :-1, 0] = inside & ~padded[:, 1:-1, :-2]
    has[:, 1:, :-1, 1] = inside & ~padded[:, 2:, 1:-1]
    has[:, 1:, 1:, 2] = inside & ~padded[:, 1:-1, 2:]
    has[:, :-1, 1:, 3] = inside & ~padded[:, :-2, 1:-1]
    has = has.reshape(-1, 4)
    edges = np.flatnonzero(has)
    corner, direction = edges // 4, edges % 4
    target = corner + (STEPS @ [size[2], 1])[direction]
    left, right = (direction + 1) % 4, (direction + 3) % 4
    # turn left first, so that at a corner of two voxels the outline stays with its own voxel
    turn = np.where(has[target, left], left, np.where(has[target, direction], direction, right))
    return edges, np.searchsorted(edges, 4 * target + turn), size


def _chains(following: NDArray[np.int64]) -> list[list[int]]:
    """Return the cycles of a permutation."""
    after = following.tolist()
    seen = [False] * len(after)
    chains = []
    for start in range(len(after)):
        if seen[start]:
            continue
        chain, at = [], start
        while not seen[at]:
            seen[at] = True
            chain.append(at)
            at = after[at]
        chains.append(chain)
    return chains
