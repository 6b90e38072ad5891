"""Draw a small picture of an image: a few tiles with the outlines of all masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spineseg.report.mosaics import TileGrid, encode
from spineseg.report.palette import color_of, rgb

N_TILES = 8
"""Tiles of a preview, from the upper to the lower end of the cord."""

SCALE = 2
"""Magnification, so that an outline one pixel wide is thin compared with a voxel."""


def draw_preview(
    tiles: NDArray[np.uint8], plan: TileGrid, loops: dict[str, list[list[NDArray]]], extent: list[int]
) -> bytes:
    """Draw a row of tiles with every mask's outline, slice numbers and directions.

    Parameters
    ----------
    tiles : (n, size, size) uint8 ndarray
        As `render_tiles` returns them.
    plan : TileGrid
    loops : dict
        Layer to the corner loops of each canonical slice (`trace_outlines`).
    extent : [int, int]
        First and last canonical slice to choose from.

    Returns
    -------
    picture : bytes
        WebP file, 8 tiles wide.
    """
    wanted = np.unique(np.linspace(extent[1], extent[0], N_TILES).round().astype(int))[::-1]
    size = plan.size_px * SCALE
    sheet = Image.new("RGB", (size * len(wanted), size))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(10, size // 12))
    for column, k in enumerate(wanted):
        index = len(plan.slices) - 1 - int(k)
        tile = Image.fromarray(tiles[index]).resize((size, size), Image.Resampling.BILINEAR)
        sheet.paste(tile, (column * size, 0))
        for number, layer in enumerate(loops):
            for points in loops[layer][int(k)]:
                line = corner_pixels(points, plan, index) * SCALE + [column * size, 0]
                draw.line([tuple(p) for p in np.vstack([line, line[:1]])], fill=rgb(color_of(layer, number)), width=2)
        draw.text((column * size + 4, 2), str(k), fill="white", font=font, stroke_width=1, stroke_fill="black")
    letters = {
        "A": (size / 2, 2, "ma"),
        "P": (size / 2, size - 2, "md"),
        "R": (4, size / 2, "lm"),
        "L": (size - 4, size / 2, "rm"),
    }
    for letter, (x, y, anchor) in letters.items():
        draw.text((x, y), letter, fill="#ffd95a", font=font, anchor=anchor, stroke_width=1, stroke_fill="black")
    return encode(sheet)


def corner_pixels(points: NDArray, plan: TileGrid, index: int) -> NDArray[np.float64]:
    """Return the pixels (n, 2) of corners (n, 2) on tile `index`, counted to the person's left and to posterior."""
    step = plan.zooms[:2] / plan.pixel_mm
    offset = (points - 0.5 - plan.centres_vox[index]) * step * [1, -1]
    return offset + plan.size_px / 2
