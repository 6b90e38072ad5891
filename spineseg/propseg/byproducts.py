"""Files beside the mask: meshes, the centerline of the tube, and areas along it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spineseg.propseg.surface import Tube, compute_areas

if TYPE_CHECKING:
    from spineseg.volume import Volume

Floats = NDArray[np.float64]

BYPRODUCTS = ("centerline", "mesh", "low_resolution_mesh", "init_tube", "centerline_coord", "cross")
"""Names that a caller may ask for; the file endings are in `make_byproducts`."""

TANGENT_MM = 15.0
"""Length of tube to which a tangent is fitted: a vertebral level, so that an error of one ring does not tilt it."""


def make_byproducts(
    wanted: tuple[str, ...], volume: Volume, zooms: Floats, tubes: dict[str, Tube], suffix: str = ""
) -> dict[str, Any]:
    """Make the requested by-products.

    Parameters
    ----------
    wanted : names from `BYPRODUCTS`
    volume : the image; its affine gives world coordinates
    zooms : (3,) ndarray, mm; voxel size that the tubes were made with (that of the image times ``rescale``)
    tubes : "surface" (one ring per slice), "propagated" and "initial"
    suffix : added to the file names; "_CSF" for those of the fluid

    Returns
    -------
    dict; end of the file name to an (I, J, K) array or a text
    """
    made: dict[str, Any] = {}
    surface = tubes["surface"]
    meshes = {
        "mesh": (f"{suffix}_mesh.vtk", "surface"),
        "low_resolution_mesh": (f"{suffix}_mesh_low_resolution.vtk", "propagated"),
        "init_tube": (f"{suffix}_init_tube.vtk", "initial"),
    }
    for name, (ending, tube) in meshes.items():
        if name in wanted and tube in tubes:
            made[ending] = format_mesh(tubes[tube], zooms, volume.affine)
    if "centerline" in wanted and not suffix:
        made["_centerline.nii.gz"] = draw_centerline(surface, volume.shape, zooms)
    if "centerline_coord" in wanted and not suffix:
        world = to_world(np.column_stack([surface.centers, surface.slices * zooms[2]]), zooms, volume.affine)
        made["_centerline.txt"] = "".join("{:.4f} {:.4f} {:.4f}\n".format(*point) for point in world)
    if "cross" in wanted:
        made[f"_cross_sectional_areas{suffix}.txt"] = format_areas(surface, zooms)
    return made


def to_world(points_mm: Floats, zooms: Floats, affine: Floats) -> Floats:
    """Convert local coordinates (..., 3), mm, to the image's RAS+ world coordinates, mm."""
    return (points_mm / zooms) @ affine[:3, :3].T + affine[:3, 3]


def draw_centerline(tube: Tube, shape: tuple[int, int, int], zooms: Floats) -> NDArray[np.uint8]:
    """Mark one voxel per slice at the centre of its ring, (I, J, K)."""
    drawn = np.zeros(shape, np.uint8)
    voxel = np.clip(np.rint(tube.centers / zooms[:2]).astype(int), 0, np.array(shape[:2]) - 1)
    drawn[voxel[:, 0], voxel[:, 1], tube.slices] = 1
    return drawn


def compute_tilts(tube: Tube, zooms: Floats) -> Floats:
    """Compute the angle between the tube and the slice normal at each ring, (R,), radians."""
    position = tube.slices * float(zooms[2])
    near = (np.abs(position[:, None] - position) <= max(TANGENT_MM, zooms[2])).astype(float)
    near /= near.sum(1, keepdims=True)
    mean = near @ position
    spread = np.maximum(near @ position**2 - mean**2, 1e-9)
    slope = (near @ (position[:, None] * tube.centers) - mean[:, None] * (near @ tube.centers)) / spread[:, None]
    return np.arctan(np.linalg.norm(slope, axis=1))


def format_areas(tube: Tube, zooms: Floats) -> str:
    """Write slice and area across the tube (mm²) of each slice as tab-separated text; slices count from 0."""
    areas = compute_areas(tube.vertices()) * np.cos(compute_tilts(tube, zooms))
    rows = "".join(f"{k}\t{area:.3f}\n" for k, area in zip(tube.slices, areas, strict=True))
    return "slice\tarea_mm2\n" + rows


def format_mesh(tube: Tube, zooms: Floats, affine: Floats) -> str:
    """Write a closed triangle mesh as legacy VTK text, in RAS+ world mm."""
    points = to_world(tube.vertices_mm(float(zooms[2])), zooms, affine).reshape(-1, 3)
    triangles = _triangles(tube)
    lines = [
        "# vtk DataFile Version 3.0",
        "spinal cord surface, RAS+ world coordinates in mm",
        "ASCII",
        "DATASET POLYDATA",
        f"POINTS {len(points)} float",
        *("{:.4f} {:.4f} {:.4f}".format(*point) for point in points),
        f"POLYGONS {len(triangles)} {4 * len(triangles)}",
        *("3 {} {} {}".format(*triangle) for triangle in triangles),
    ]
    return "\n".join(lines) + "\n"


def _triangles(tube: Tube) -> NDArray[np.intp]:
    """Return the triangles (T, 3) of the wall between neighbouring rings and of a fan at each open end."""
    n_rings, n_vertices = tube.radii.shape
    vertex = np.arange(n_vertices)
    ahead = (vertex + 1) % n_vertices
    base = np.arange(n_rings)[:, None] * n_vertices
    step = np.diff(tube.slices)
    joined = np.flatnonzero(step <= np.median(step)) if n_rings > 1 else np.zeros(0, int)
    low, high = base[joined], base[joined] + n_vertices
    wall = [(low + vertex, low + ahead, high + ahead), (low + vertex, high + ahead, high + vertex)]
    sides = [np.stack(t, axis=-1).reshape(-1, 3) for t in wall]
    starts = np.setdiff1d(np.arange(n_rings), joined + 1)
    ends = np.setdiff1d(np.arange(n_rings), joined)
    first = np.zeros_like(vertex[1:-1])
    down = np.stack([base[starts] + first, base[starts] + vertex[2:], base[starts] + vertex[1:-1]], axis=-1)
    up = np.stack([base[ends] + first, base[ends] + vertex[1:-1], base[ends] + vertex[2:]], axis=-1)
    return np.concatenate([*sides, down.reshape(-1, 3), up.reshape(-1, 3)])
