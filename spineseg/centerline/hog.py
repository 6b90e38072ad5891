"""Histograms of oriented gradients at every pixel, as OpenCV computes them, for stacks of slices.

The descriptor is OpenCV's `HOGDescriptor` with a 32 x 32 pixel window, blocks of 8 x 8 pixels that do not
overlap, 2 x 2 cells per block, 9 signed orientations and a square-root gamma: the one that SCT's OptiC
models were trained with. OpenCV visits windows one by one; here every step is a matrix product or a
point-wise operation on whole planes: orientation images, two one-dimensional passes per cell (the cell
kernels are separable), L2-Hys normalisation, one product with the weights of the 16 blocks, and 16 shifted
sums.

Slices lie as in memory of OpenCV: rows run from posterior to anterior (y), columns from right to left (x).

References
----------
.. [1] Dalal and Triggs, 2005, Histograms of oriented gradients for human detection, CVPR,
doi:10.1109/CVPR.2005.177.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

N_BINS = 9
BLOCK = 8  # pixels; two cells of 4
N_BLOCKS = 4  # per axis of the window
WINDOW = BLOCK * N_BLOCKS  # pixels, of 1 mm: vertebral canal, cord and some of the bone around
N_FEATURES = N_BLOCKS**2 * 4 * N_BINS
"""Length of the descriptor of one window: 16 blocks x 4 cells x 9 orientations = 576."""

N_CHANNELS = 4 * N_BINS
SIGMA = 2.0  # pixels, `winSigma`: Gaussian weight of a pixel within its block
HYS_CLIP = 0.2  # `L2HysThreshold`
HYS_EPSILON = 0.1 * BLOCK * BLOCK / 4 * 2.25  # 3.6, OpenCV's 0.1 x number of block bins (36)
HYS_EPSILON_2 = 1e-3  # OpenCV, after clipping

TILE = 32  # outputs per matrix product of a pass: the band of 8 then fills a fifth of the matrix
CHUNK_FLOATS = 2_000_000  # of the 36-channel map at once, 8 MB: stays near the cache and far below the memory limit


def _cell_kernels() -> NDArray[np.float32]:
    """One-dimensional weights of the 8 pixels of a block for its two cells, (2, 8)."""
    pixel = np.arange(BLOCK)
    gauss = np.exp(-((pixel - BLOCK / 2) ** 2) / (2 * SIGMA**2))  # OpenCV centres on pixel 4, not 3.5
    position = (pixel + 0.5) / 4 - 0.5
    return np.stack([gauss * np.maximum(0, 1 - np.abs(position - cell)) for cell in (0, 1)]).astype(np.float32)


CELL_KERNELS = _cell_kernels()


def pad_windows(slices: NDArray) -> NDArray[np.float32]:
    """Pad (n, Y, X) by mirroring so that a window is centred on every pixel; returns (n, Y + 31, X + 31)."""
    half = WINDOW // 2
    return np.pad(slices, ((0, 0), (half, half - 1), (half, half - 1)), mode="reflect").astype(np.float32)


def compute_orientations(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Split the gradient magnitude of each pixel between its two nearest of 9 directions.

    Parameters
    ----------
    slices : (n, Y, X) ndarray of float32, 0 to 255

    Returns
    -------
    (n, 9, Y, X) ndarray of float32
    """
    root = np.sqrt(np.maximum(slices, 0))
    gx, gy = np.zeros_like(root), np.zeros_like(root)  # reflect-101 makes the border's difference zero
    gx[:, :, 1:-1] = root[:, :, 2:] - root[:, :, :-2]
    gy[:, 1:-1] = root[:, 2:] - root[:, :-2]
    magnitude = np.hypot(gx, gy)
    position = np.arctan2(gy, gx) * np.float32(N_BINS / (2 * np.pi)) - np.float32(0.5)
    low = np.floor(position)
    upper = magnitude * (position - low)
    first = low.astype(np.int16) % N_BINS
    n, height, width = slices.shape
    maps = np.zeros((n, N_BINS, height * width), dtype=np.float32)
    index = first.reshape(n, 1, -1).astype(np.intp)
    np.put_along_axis(maps, index, (magnitude - upper).reshape(n, 1, -1), axis=1)
    np.put_along_axis(maps, (index + 1) % N_BINS, upper.reshape(n, 1, -1), axis=1)
    return maps.reshape(n, N_BINS, height, width)


def _band(n_outputs: int, stride: int, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Matrix (n_outputs, inputs) that correlates a line with `kernel` at every stride-th position."""
    matrix = np.zeros((n_outputs, stride * (n_outputs - 1) + BLOCK), dtype=np.float32)
    for row in range(n_outputs):
        matrix[row, row * stride : row * stride + BLOCK] = kernel
    return matrix


def _tiles(n_outputs: int, stride: int) -> Iterator[tuple[slice, slice]]:
    """Output and input ranges that cover a line of outputs."""
    for start in range(0, n_outputs, TILE):
        stop = min(start + TILE, n_outputs)
        yield slice(start, stop), slice(start * stride, (stop - 1) * stride + BLOCK)


def compute_blocks(slices: NDArray[np.float32], stride: int = 1) -> NDArray[np.float32]:
    """Compute the raw histogram of the block that begins at every stride-th pixel.

    Parameters
    ----------
    slices : (n, Y, X) ndarray of float32, 0 to 255
        Y and X at least 8.
    stride : int, default 1

    Returns
    -------
    (n, 36, Y', X') ndarray of float32
        Before normalisation; Y' = (Y - 8) // stride + 1. Channels by cell-x, bin, cell-y (see
        `window_weights`).
    """
    maps = compute_orientations(slices)
    n, _, height, width = maps.shape
    rows, columns = ((size - BLOCK) // stride + 1 for size in (height, width))
    along_y = np.empty((n, N_BINS, 2, rows, width), dtype=np.float32)
    for out, inp in _tiles(rows, stride):
        for cell in (0, 1):
            kernel = _band(out.stop - out.start, stride, CELL_KERNELS[cell])
            np.matmul(kernel, maps[:, :, inp], out=along_y[:, :, cell, out])
    blocks = np.empty((n, 2, N_BINS, 2, rows, columns), dtype=np.float32)
    for out, inp in _tiles(columns, stride):
        for cell in (0, 1):
            kernel = _band(out.stop - out.start, stride, CELL_KERNELS[cell]).T
            np.matmul(along_y[..., inp], kernel, out=blocks[:, cell, ..., out])
    return blocks.reshape(n, N_CHANNELS, rows, columns)


def normalise_blocks(blocks: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Apply L2-Hys in place, but for the last division.

    Parameters
    ----------
    blocks : (n, 36, Y, X) ndarray of float32
        Overwritten.

    Returns
    -------
    blocks : (n, 36, Y, X) ndarray of float32
        Normalised once and clipped.
    scale : (n, 1, Y, X) ndarray of float32
        What the blocks are still to be multiplied by; left to the caller, who has fewer channels by then.
    """
    norm = np.sqrt(np.einsum("ncyx,ncyx->nyx", blocks, blocks))[:, None]
    blocks *= 1 / (norm + np.float32(HYS_EPSILON))
    np.minimum(blocks, np.float32(HYS_CLIP), out=blocks)
    norm = np.sqrt(np.einsum("ncyx,ncyx->nyx", blocks, blocks))[:, None]
    return blocks, 1 / (norm + np.float32(HYS_EPSILON_2))


def window_weights(weights: NDArray) -> NDArray[np.float32]:
    """Reorder descriptor weights (576,) of OpenCV for the channels of `compute_blocks`, (16, 36).

    OpenCV orders block-x, block-y, cell-x, cell-y, bin; rows of the result are block-x, block-y.
    """
    w = np.asarray(weights, dtype=np.float32).reshape(N_BLOCKS**2, 2, 2, N_BINS)
    return np.ascontiguousarray(w.transpose(0, 1, 3, 2).reshape(N_BLOCKS**2, N_CHANNELS))


def score_slices(slices: NDArray, weights: NDArray, bias: float, stride: int = 1) -> NDArray[np.float32]:
    """Score the window around every pixel with a linear model.

    Parameters
    ----------
    slices : (n, Y, X) ndarray, 0 to 255
        Pixels of 1 mm; borders are mirrored, so any size from 2 x 2 on works.
    weights : (576,) ndarray
        In OpenCV's order.
    bias : float
    stride : {1, 2, 4, 8}, default 1
        Score every stride-th pixel only.

    Returns
    -------
    (n, ceil(Y / stride), ceil(X / stride)) ndarray of float32
    """
    matrix = window_weights(weights)
    n, height, width = slices.shape
    rows, columns = (-(-size // stride) for size in (height, width))
    score = np.full((n, rows, columns), bias, dtype=np.float32)
    per_slice = N_CHANNELS * (height + WINDOW) * (width + WINDOW) // stride**2
    step = BLOCK // stride
    for part in _chunks(n, per_slice):
        blocks, scale = normalise_blocks(compute_blocks(pad_windows(slices[part]), stride))
        size, _, block_rows, block_columns = blocks.shape
        votes = (matrix @ blocks.reshape(size, N_CHANNELS, -1)).reshape(size, -1, block_rows, block_columns)
        votes *= scale
        for block in range(N_BLOCKS**2):
            y, x = step * (block % N_BLOCKS), step * (block // N_BLOCKS)
            score[part] += votes[:, block, y : y + rows, x : x + columns]
    return score


def extract_descriptors(
    slices: NDArray, index: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the descriptors of windows centred on given pixels, in OpenCV's order.

    Parameters
    ----------
    slices : (n, Y, X) ndarray, 0 to 255
    index, y, x : (m,) ndarrays of int
        Slice, row and column of each window's centre; `index` must not decrease.

    Returns
    -------
    (m, 576) ndarray of float32
    """
    found = np.empty((len(index), N_FEATURES), dtype=np.float32)
    per_slice = N_CHANNELS * (slices.shape[1] + WINDOW) * (slices.shape[2] + WINDOW)
    offset_x, offset_y = (o.ravel() * BLOCK for o in np.meshgrid(*[np.arange(N_BLOCKS)] * 2, indexing="ij"))
    for part in _chunks(len(slices), per_slice):
        own = slice(*np.searchsorted(index, [part.start, part.stop]))
        if own.start == own.stop:
            continue
        blocks, scale = normalise_blocks(compute_blocks(pad_windows(slices[part])))
        blocks *= scale
        where = (index[own, None] - part.start, slice(None), y[own, None] + offset_y, x[own, None] + offset_x)
        values = blocks[where].reshape(-1, N_BLOCKS**2, 2, N_BINS, 2)
        found[own] = values.transpose(0, 1, 2, 4, 3).reshape(-1, N_FEATURES)
    return found


def _chunks(n: int, floats_each: int) -> Iterator[slice]:
    """Ranges of slices whose maps stay within the memory allowance."""
    size = max(1, CHUNK_FLOATS // floats_each)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
