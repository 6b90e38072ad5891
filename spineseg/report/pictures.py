"""Render one image with its masks into the files that the quality-control page shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from PIL import Image

from spineseg.errors import InputError
from spineseg.report import mosaics
from spineseg.report.outlines import path_data, trace_outlines
from spineseg.report.palette import REFERENCE
from spineseg.report.preview import draw_preview
from spineseg.report.review import ReviewImage
from spineseg.volume import NativeGrid, Volume, load_image, load_mask
from spineseg.writing import write_bytes, write_text

MASK_THRESHOLD = 0.5
"""Threshold of soft masks: half of the voxel is cord."""


@dataclass(frozen=True)
class Layers:
    """An image and its masks in memory, in canonical orientation."""

    volume: Volume
    grid: NativeGrid
    masks: Mapping[str, NDArray[np.bool_]]  # mapping of str to (I, J, K) bool: by method, and the reference
    problems: tuple[str, ...] = ()  # Masks that could not be loaded, one line each


def load_layers(review: ReviewImage) -> Layers:
    """Load an image and the masks of all methods and the reference; one that does not fit becomes a problem.

    Raises
    ------
    InputError
        If the image itself cannot be read.
    """
    image = review.image
    volume, grid = load_image(image.path, contrast=image.contrast or None, bval=image.bval_path)
    paths = {result.name: result.mask for result in review.methods if result.mask is not None}
    if image.reference:
        paths[REFERENCE] = Path(image.reference)
    masks, problems = {}, []
    for layer, path in paths.items():
        try:
            masks[layer] = load_layer(path, grid, image.reference_label if layer == REFERENCE else None)
        except InputError as error:
            problems.append(f"{layer} cannot be shown: {error}")
    return Layers(volume, grid, masks, tuple(problems))


def load_layer(path: str | Path, grid: NativeGrid, label: int | None = None) -> NDArray[np.bool_]:
    """Load a mask, which may be soft, on the image's grid; InputError where it cannot be used."""
    return load_mask(path, like=grid, label=label)[0].data >= MASK_THRESHOLD


def draw_image(review: ReviewImage, layers: Layers, qc_dir: Path, name: str) -> dict[str, Any]:
    """Draw the tiles, the sagittal strip and the outlines of one image.

    Parameters
    ----------
    name : folder of the image below ``images/``

    Returns
    -------
    picture : dict
        Files relative to `qc_dir`, and sizes.
    """
    volume, masks = layers.volume, layers.masks
    plan = mosaics.plan_tiles(volume.shape, volume.zooms, list(masks.values()))
    tiles = mosaics.render_tiles(volume, plan)
    strip = mosaics.render_sagittal(volume, plan)
    loops = {layer: trace_outlines(mask) for layer, mask in masks.items()}
    shown = _extent(masks, volume.shape[2])
    folder = f"images/{name}"
    write_bytes(qc_dir / folder / "axial.webp", mosaics.encode(Image.fromarray(mosaics.lay_out(tiles, plan))))
    write_bytes(qc_dir / folder / "sagittal.webp", mosaics.encode(Image.fromarray(strip.picture)))
    write_bytes(qc_dir / folder / "preview.webp", draw_preview(tiles, plan, loops, shown))
    detail = {
        "tiles": _tile_geometry(plan),
        "native": _native_axis(layers.grid),
        "sagittal": _strip_geometry(strip, volume),
        "affine": np.round(volume.affine[:3], 6).tolist(),
        "extent": shown,
        "layers": [_layer(layer, mask, loops[layer], strip, review, volume) for layer, mask in masks.items()],
    }
    text = json.dumps(detail, separators=(",", ":"), allow_nan=False)
    write_text(qc_dir / folder / "detail.js", f"spinesegDetail({json.dumps(name)},{text});\n")
    files = {key: f"{folder}/{file}" for key, file in _FILES.items()}
    return files | {"slices": int(volume.shape[2]), "zooms": [round(float(z), 3) for z in volume.zooms]}


_FILES = {"axial": "axial.webp", "sagittal": "sagittal.webp", "preview": "preview.webp", "detail": "detail.js"}


def _extent(masks: Mapping[str, NDArray[np.bool_]], n_slices: int) -> list[int]:
    """Return the first and the last canonical slice of all masks together; of the image where there is no mask."""
    filled = [np.flatnonzero(mask.any(axis=(0, 1))) for mask in masks.values() if mask.any()]
    if not filled:
        return [0, n_slices - 1]
    return [int(min(f[0] for f in filled)), int(max(f[-1] for f in filled))]


def _tile_geometry(plan: mosaics.TileGrid) -> dict[str, Any]:
    """Return the positions by which outlines are placed on the tiles, in the sheet's order, superior first."""
    return {
        "size": plan.size_px,
        "columns": plan.columns,
        "pixel": plan.pixel_mm,
        "zooms": plan.zooms.tolist(),
        "centres": np.round(plan.centres_vox, 2).tolist(),
    }


def _strip_geometry(strip: mosaics.SagittalStrip, volume: Volume) -> dict[str, Any]:
    """Return the positions by which outlines are placed on the sagittal strip."""
    return {
        "first": strip.first_vox,
        "columns": int(strip.picture.shape[1]),
        "zooms": [float(volume.zooms[1]), float(volume.zooms[2])],
        "across": strip.columns_vox.tolist(),
    }


def _native_axis(grid: NativeGrid) -> dict[str, Any]:
    """Return which axis of the file runs along the person, and whether opposite to the canonical axis."""
    ornt = orientations.io_orientation(grid.affine)
    axis = int(np.flatnonzero(ornt[:, 0] == 2)[0])
    return {"axis": axis, "flipped": bool(ornt[axis, 1] < 0)}


def _layer(
    layer: str,
    mask: NDArray[np.bool_],
    loops: list[list[NDArray]],
    strip: mosaics.SagittalStrip,
    review: ReviewImage,
    volume: Volume,
) -> dict[str, Any]:
    """Return one mask's outlines, in the order of the tiles, and its area by canonical slice."""
    result = next((r for r in review.methods if r.name == layer and r.csa_mm2), None)
    areas = result.csa_mm2 if result else axial_areas(mask, volume.zooms)
    return {
        "name": layer,
        "paths": [path_data(slice_loops) for slice_loops in reversed(loops)],
        "sagittal": path_data(trace_outlines(strip.cut(mask)[:, :, None])[0]),
        "csa": [round(areas[k], 1) if k in areas else None for k in range(mask.shape[2])],
        "corrected": bool(result and result.csa_corrected),
    }


def axial_areas(mask: NDArray[np.bool_], zooms: NDArray) -> dict[int, float]:
    """Return the area of the mask in each slice that has one, mm², without correction for the cord's angle."""
    counts = mask.sum(axis=(0, 1))
    pixel_mm2 = float(zooms[0] * zooms[1])
    return {int(k): float(counts[k]) * pixel_mm2 for k in np.flatnonzero(counts)}
