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

from collections.abc import Iterator, Sequence
from functools import lru_cache

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

TILE_Y, TILE_X = 32, 16  # outputs per matrix product of a pass: the band of 8 fills a fifth and a third of the matrix
CHUNK_FLOATS = 400_000  # size of the 36-channel map of a chunk, 1.6 MB, so that its data stay near the cache


def _cell_kernels() -> NDArray[np.float32]:
    """One-dimensional weights of the 8 pixels of a block for its two cells, (2, 8)."""
    pixel = np.arange(BLOCK)
    gauss = np.exp(-((pixel - BLOCK / 2) ** 2) / (2 * SIGMA**2))  # OpenCV centres on pixel 4, not 3.5
    position = (pixel + 0.5) / 4 - 0.5
    return np.stack([gauss * np.maximum(0, 1 - np.abs(position - cell)) for cell in (0, 1)]).astype(np.float32)


CELL_KERNELS = _cell_kernels()


def pad_windows(slices: NDArray) -> NDArray[np.float32]:
    """Pad (n, Y, X) by mirroring so that a window is centred on every pixel; returns (n, Y + 31, X + 31)."""
    rows, columns = (_mirrored(n) for n in slices.shape[1:])
    return slices.astype(np.float32, copy=False).take(rows, axis=1).take(columns, axis=2)


@lru_cache(maxsize=64)
def _mirrored(n: int) -> NDArray[np.intp]:
    """Indices of n pixels and of those that a window needs beyond either end, mirrored."""
    return np.pad(np.arange(n), (WINDOW // 2, WINDOW // 2 - 1), mode="reflect")


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
    square = np.square(gx, dtype=np.float64)
    magnitude = np.sqrt(square + np.square(gy, dtype=np.float64)).astype(np.float32)  # as numpy.hypot, in half the time
    position = np.arctan2(gy, gx) * np.float32(N_BINS / (2 * np.pi)) - np.float32(0.5)
    low = np.floor(position)
    upper = magnitude * (position - low)
    lower = magnitude - upper
    first = np.where(low < 0, low + N_BINS, low)
    n, height, width = slices.shape
    maps = np.empty((n, N_BINS, height, width), dtype=np.float32)
    starts = [(first == direction).astype(np.float32) for direction in range(N_BINS)]
    for direction, starts_here in enumerate(starts):  # whole planes nine times are faster than two scatters
        np.multiply(lower, starts_here, out=maps[:, direction])
        maps[:, direction] += upper * starts[direction - 1]
    return maps


@lru_cache(maxsize=256)
def _band(n_outputs: int, stride: int, cell: int) -> NDArray[np.float32]:
    """Matrix (n_outputs, inputs) that correlates a line with the cell's kernel at every stride-th position."""
    matrix = np.zeros((n_outputs, stride * (n_outputs - 1) + BLOCK), dtype=np.float32)
    for row in range(n_outputs):
        matrix[row, row * stride : row * stride + BLOCK] = CELL_KERNELS[cell]
    return matrix


@lru_cache(maxsize=256)
def _upright_band(n_outputs: int, stride: int, cell: int) -> NDArray[np.float32]:
    """Matrix (inputs, n_outputs), its rows in one piece: a product with a transposed view takes twice as long."""
    return np.ascontiguousarray(_band(n_outputs, stride, cell).T)


def _tiles(n_outputs: int, stride: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Output and input ranges that cover a line of outputs."""
    for start in range(0, n_outputs, size):
        stop = min(start + size, n_outputs)
        yield slice(start, stop), slice(start * stride, (stop - 1) * stride + BLOCK)


def compute_blocks(slices: NDArray[np.float32], stride: int = 1) -> NDArray[np.float32]:
    """Compute the raw histogram of the block that begins at every stride-th pixel.

    Returns (n, 36, Y', X') ndarray of float32: before normalisation; Y' = (Y - 8) // stride + 1. Channels by cell-x,
    bin, cell-y (see `window_weights`).

    Parameters
    ----------
    slices : (n, Y, X) ndarray of float32, 0 to 255; Y and X at least 8
    stride : int, default 1
    """
    maps = compute_orientations(slices)
    n, _, height, width = maps.shape
    rows, columns = ((size - BLOCK) // stride + 1 for size in (height, width))
    along_y = np.empty((n, N_BINS, 2, rows, width), dtype=np.float32)
    for out, inp in _tiles(rows, stride, TILE_Y):
        for cell in (0, 1):
            kernel = _band(out.stop - out.start, stride, cell)
            np.matmul(kernel, maps[:, :, inp], out=along_y[:, :, cell, out])
    blocks = np.empty((n, 2, N_BINS, 2, rows, columns), dtype=np.float32)
    for out, inp in _tiles(columns, stride, TILE_X):
        for cell in (0, 1):
            kernel = _upright_band(out.stop - out.start, stride, cell)
            np.matmul(along_y[..., inp], kernel, out=blocks[:, cell, ..., out])
    return blocks.reshape(n, N_CHANNELS, rows, columns)


def describe_slices(slices: NDArray, stride: int = 1, *, mirror: bool = True) -> NDArray[np.float32]:
    """Compute the normalised histogram of every block of slices.

    Parameters
    ----------
    slices : (n, Y, X) ndarray, 0 to 255; pixels of 1 mm
    stride : {1, 2, 4, 8}, default 1
    mirror : mirror the slices at their borders, so that every pixel has a whole window

    Returns
    -------
    (n, 36, Y', X') ndarray of float32
        With `mirror` the window centred on pixel (y, x) begins at block (y, x) / stride, without it 16 pixels
        before; its 16 blocks are 8 / stride apart.
    """
    blocks = compute_blocks(pad_windows(slices) if mirror else np.asarray(slices, dtype=np.float32), stride)
    for epsilon, clip in ((HYS_EPSILON, HYS_CLIP), (HYS_EPSILON_2, None)):  # L2-Hys: norm, clip, norm
        norm = np.sqrt(np.einsum("ncyx,ncyx->nyx", blocks, blocks))[:, None]
        blocks *= 1 / (norm + np.float32(epsilon))
        if clip is not None:
            np.minimum(blocks, np.float32(clip), out=blocks)
    return blocks


def window_weights(weights: NDArray) -> NDArray[np.float32]:
    """Reorder descriptor weights (576,) of OpenCV for the channels of `compute_blocks`, (16, 36).

    OpenCV orders block-x, block-y, cell-x, cell-y, bin; rows of the result are block-x, block-y.
    """
    w = np.asarray(weights, dtype=np.float32).reshape(N_BLOCKS**2, 2, 2, N_BINS)
    return np.ascontiguousarray(w.transpose(0, 1, 3, 2).reshape(N_BLOCKS**2, N_CHANNELS))


def score_blocks(
    blocks: NDArray[np.float32], models: Sequence[tuple[NDArray, float]], shape: tuple[int, int], stride: int = 1
) -> NDArray[np.float32]:
    """Score windows with linear models from the result of `describe_slices`.

    Parameters
    ----------
    blocks : (n, 36, Y', X') ndarray of float32
    models : weights, (576,) ndarray in OpenCV's order, and bias of each of m
    shape : (2,) ints; rows and columns of the slices
    stride : {1, 2, 4, 8}; as given to `describe_slices`

    Returns
    -------
    (m, n, ceil(Y / stride), ceil(X / stride)) ndarray of float32
    """
    n, channels, height, width = blocks.shape
    rows, columns = (-(-size // stride) for size in shape)
    step = BLOCK // stride
    weights = np.concatenate([window_weights(each) for each, _ in models])
    votes = (weights @ blocks.reshape(n, channels, -1)).reshape(n, len(models), -1, height, width)
    score = np.empty((len(models), n, rows, columns), dtype=np.float32)
    score[:] = np.array([bias for _, bias in models], dtype=np.float32)[:, None, None, None]
    for block in range(N_BLOCKS**2):
        y, x = step * (block % N_BLOCKS), step * (block // N_BLOCKS)
        score += votes[:, :, block, y : y + rows, x : x + columns].swapaxes(0, 1)
    return score


def gather_descriptors(
    blocks: NDArray[np.float32], index: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the descriptors of windows, in OpenCV's order; gives (m, 576) ndarray of float32.

    Parameters
    ----------
    blocks : (n, 36, Y', X') ndarray of float32; of `describe_slices` with stride 1
    index, y, x : (m,) ndarrays of int
        Slice, row and column of the block that each window begins with (its centre, for mirrored slices).
    """
    offset_x, offset_y = (o.ravel() * BLOCK for o in np.meshgrid(*[np.arange(N_BLOCKS)] * 2, indexing="ij"))
    values = blocks[index[:, None], :, y[:, None] + offset_y, x[:, None] + offset_x]
    values = values.reshape(-1, N_BLOCKS**2, 2, N_BINS, 2)
    return values.transpose(0, 1, 2, 4, 3).reshape(-1, N_FEATURES)


def score_slices(slices: NDArray, models: Sequence[tuple[NDArray, float]], stride: int = 1) -> NDArray[np.float32]:
    """Score the window around every pixel with linear models, chunk by chunk: one description serves all.

    Parameters
    ----------
    slices : (n, Y, X) ndarray, 0 to 255; pixels of 1 mm; borders are mirrored, so any size works
    models : weights, (576,) ndarray in OpenCV's order, and bias of each of m
    stride : {1, 2, 4, 8}; score every stride-th pixel only

    Returns
    -------
    (m, n, ceil(Y / stride), ceil(X / stride)) ndarray of float32
    """
    n, height, width = slices.shape
    floats_each = N_CHANNELS * (height + WINDOW) * (width + WINDOW) // stride**2
    size = max(1, CHUNK_FLOATS // floats_each)
    starts = range(0, n, size)
    described = (describe_slices(slices[start : start + size], stride) for start in starts)
    return np.concatenate([score_blocks(blocks, models, (height, width), stride) for blocks in described], axis=1)


def halve_slices(slices: NDArray) -> NDArray[np.float32]:
    """Average squares of 2 x 2 pixels of (n, Y, X); an odd last row or column is repeated."""
    even = np.pad(slices, ((0, 0), (0, slices.shape[1] % 2), (0, slices.shape[2] % 2)), mode="edge")
    return 0.25 * (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2])


def double_scores(score: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate scores of halved slices, (n, Y', X'), linearly to the pixels of the slices, (n, Y, X).

    A window's middle lies half a pixel before its centre pixel, so pixel 2c and halved pixel c see the same
    middle.
    """
    for axis in (1, 2):
        after = np.concatenate([score.take(range(1, score.shape[axis]), axis), score.take([-1], axis)], axis)
        score = np.stack([score, (score + after) / 2], axis + 1)
        score = score.reshape(*score.shape[:axis], -1, *score.shape[axis + 2 :])
    return score[:, : shape[0], : shape[1]]
