"""Measure the masks of one chunk of images: each alone, against its reference, and method against method."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.metrics.compare import compare_masks, compare_with_reference
from spineseg.metrics.quality import PlausibleBounds, compute_quality, slice_hull
from spineseg.metrics.shape import SliceShape, compute_shape
from spineseg.provenance import sha256_file
from spineseg.quality.evidence import JudgedImage
from spineseg.study.contrast_guard import CONTRAST_COLUMNS, guess_contrast
from spineseg.study.predict import (
    EVIDENCE_COLUMNS,
    PREDICTED_COLUMNS,
    judge_image,
    missing_row,
    predict_row,
    read_image,
)
from spineseg.study.segment import read_images
from spineseg.volume import NativeGrid, Volume, load_mask
from spineseg.writing import write_text

IDENTITY = ("image_id", "subject", "session", "run", "suffix", "contrast")
METRICS_COLUMNS = (
    *IDENTITY,
    *("method", "status", "n_slices", "coverage", "n_gaps", "longest_gap_mm", "n_components", "largest_fraction"),
    *("csa_mean_mm2", "csa_sd_mm2", "csa_roughness", "centre_roughness", "plausible", "seconds", "peak_mb"),
    *("dice", "hd95_mm", "assd_mm", "nsd", "csa_error_pct", "perturb_dice", "perturb_csa_cv", "uncertainty"),
    *PREDICTED_COLUMNS,
    *EVIDENCE_COLUMNS,
    *CONTRAST_COLUMNS,
    "message",
)
AGREEMENT_COLUMNS = (
    *IDENTITY,
    *("method_a", "method_b", "dice", "hd95_mm", "assd_mm", "nsd", "nsd_tolerance_mm"),
    *("csa_difference_mm2", "min_slice_dice"),
)
SLICE_SHAPE_COLUMNS = (
    *("csa_mm2", "csa_axial_mm2", "diameter_ap_mm", "diameter_rl_mm", "eccentricity", "solidity"),
    *("orientation_deg", "angle_ap_deg", "angle_rl_deg"),
)
SLICES_COLUMNS = (
    *("image_id", "method", "slice", "position_mm"),
    *SLICE_SHAPE_COLUMNS,
    *("centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "uncertainty"),
)

Row = dict[str, Any]


@dataclass(frozen=True)
class MeasuredMask:
    """A method's mask of one image as the manifest promised it; `mask` is None where there is none.

    `uncertainty` is the method's own doubt by slice, (K,), 0 sure to 1 a guess; None where it tells none.
    """

    entry: Row
    grid: NativeGrid | None = None
    volume: Volume | None = None
    mask: NDArray[np.bool_] | None = None
    shape: SliceShape | None = None
    problem: str = ""
    uncertainty: NDArray[np.float64] | None = None

    @property
    def status(self) -> str:
        """The manifest's status, or failed where the mask does not lie on the image's grid."""
        return "failed" if self.problem else self.entry["status"]


@dataclass(frozen=True)
class ChunkTables:
    """Rows of the three tables of a chunk."""

    metrics: list[Row]
    agreement: list[Row]
    slices: list[Row]


def measure_chunk(
    table: str | Path,
    results: str | Path,
    chunk: str,
    methods: Sequence[str],
    bounds: PlausibleBounds | None = None,
    exceptions: Mapping[str, Row] | None = None,
    perturbed: Mapping[tuple[str, str], Row] | None = None,
) -> ChunkTables:
    """Measure every image of a chunk by every method.

    Parameters
    ----------
    table : path
        images.tsv of the study.
    results : path
        The dataset's results folder, with ``chunks/<method>/<chunk>.json`` and the masks.
    chunk : str
    methods : sequence of str
        Their order is the order of rows and of pairs.
    bounds : PlausibleBounds, optional
    exceptions : mapping, optional
        Image to entry of exceptions.json: measured by that entry's method in place of `methods`.
    perturbed : mapping, optional
        Image and method to how far the method agrees with itself, see `spineseg.study.perturb`.

    Returns
    -------
    ChunkTables
        One metrics row per image and method whatever its status; one agreement row per image and pair.

    Raises
    ------
    InputError
        If a manifest is missing, names other images than another method's, or does not fit a mask.
    """
    results = Path(results)
    rows = {row["image_id"]: row for row in read_images(table)}
    manifests = {method: read_manifest(results, method, chunk) for method in methods}
    _check_same_images(manifests, rows, chunk, Path(table))
    tables = ChunkTables([], [], [])
    for image_id in next(iter(manifests.values()), {}):
        entries = {method: manifest[image_id] for method, manifest in manifests.items()}
        if exceptions and image_id in exceptions:
            entries = {exceptions[image_id]["method"]: exceptions[image_id]}
        _measure_image(rows[image_id], entries, results, bounds or PlausibleBounds(), tables)
    for row in tables.metrics:
        row |= (perturbed or {}).get((row["image_id"], row["method"]), {})
    return tables


def read_manifest(results: Path, method: str, chunk: str) -> dict[str, Row]:
    """Read a chunk's manifest as one entry per image_id, in the manifest's order."""
    path = results / "chunks" / method / f"{chunk}.json"
    if not path.is_file():
        raise InputError(f"{path}: no such manifest; run spineseg segment for {method}, chunk {chunk}, first")
    try:
        return {entry["image_id"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))["images"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a chunk's manifest, found other content; segment the chunk anew") from error


def write_tables(tables: ChunkTables, prefix: str | Path) -> list[Path]:
    """Write ``<prefix>.metrics.tsv``, ``.agreement.tsv`` and ``.slices.tsv.gz``; equal rows give equal bytes."""
    written = []
    for name, columns, rows in (
        ("metrics.tsv", METRICS_COLUMNS, tables.metrics),
        ("agreement.tsv", AGREEMENT_COLUMNS, tables.agreement),
        ("slices.tsv.gz", SLICES_COLUMNS, tables.slices),
    ):
        path = Path(f"{prefix}.{name}")
        write_text(path, format_table(columns, rows))
        written.append(path)
    return written


def format_table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Format rows as TSV: ``n/a`` for what is missing, six significant digits."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_format_cell(row.get(column)) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _format_cell(value: Any) -> str:
    """Format one cell; text loses tabs and line breaks."""
    if value is None or value == "":
        return "n/a"
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            return "n/a"
        return f"{round(float(value), 9) + 0.0:.6g}"  # rounding noise and -0 become 0, so that bytes are stable
    return " ".join(str(value).split())


def _check_same_images(manifests: dict[str, dict], rows: dict[str, Row], chunk: str, table: Path) -> None:
    """Refuse manifests that do not name the same images, all of them in the table."""
    expected: set[str] | None = None
    for method, manifest in manifests.items():
        if missing := sorted(set(manifest) - set(rows)):
            raise InputError(
                f"{table}: no row for image {missing[0]} of {method}'s chunk {chunk}; index and segment anew"
            )
        if expected is not None and set(manifest) != expected:
            odd = sorted(set(manifest) ^ expected)[0]
            raise InputError(
                f"chunk {chunk}: image {odd} is in one method's manifest only; segment the chunk anew by {method}"
            )
        expected = set(manifest)


def _measure_image(
    row: Row, entries: dict[str, Row], results: Path, bounds: PlausibleBounds, tables: ChunkTables
) -> None:
    """Measure one image by all methods and add its rows."""
    masks = load_masks(entries, results)
    reference, problem = _load_reference(row, masks)
    hulls = [slice_hull(m.mask) for m in masks.values() if m.mask is not None]
    common = np.logical_or.reduce(hulls) if hulls else None
    volume, trouble = read_image(row)
    shown = {} if volume is None else guess_contrast(volume, row["contrast"])
    image, like = None, next((m.volume for m in masks.values() if m.volume is not None), None)
    if like is None:
        trouble = ""  # without masks there is nothing to predict
    elif volume is not None:
        image, trouble = judge_image(volume, row["contrast"], like)
    problem = "; ".join(text for text in (problem, trouble) if text)
    identity = {key: row.get(key, "") for key in IDENTITY}
    for method, measured in masks.items():
        own = _metrics_row(method, measured, common, bounds, reference, problem, image)
        tables.metrics.append(identity | shown | own)
        tables.slices.extend(_slice_rows(row["image_id"], method, measured))
    for a, b in combinations(masks, 2):
        tables.agreement.append(identity | {"method_a": a, "method_b": b} | _agreement(masks[a], masks[b]))


def load_masks(entries: dict[str, Row], results: Path) -> dict[str, MeasuredMask]:
    """Load and measure the masks of one image by method, checking each against its manifest entry.

    Raises
    ------
    InputError
        If a mask is missing or has another checksum than the manifest says.
    """
    masks: dict[str, MeasuredMask] = {}
    grid = None
    for method, entry in entries.items():
        if entry["mask"] is None:
            masks[method] = MeasuredMask(entry)
            continue
        path = results / entry["mask"]
        if not path.is_file() or sha256_file(path) != entry["mask_sha256"]:
            found = "another checksum" if path.is_file() else "no file"
            raise InputError(f"{path}: expected the mask of {method}'s manifest, found {found}; segment its chunk anew")
        try:
            volume, own_grid = load_mask(path, like=grid)
        except InputError as error:  # another grid, or no NIfTI: this method's failure, not the study's
            masks[method] = MeasuredMask(entry, problem=str(error))
            continue
        grid = grid or own_grid
        masks[method] = MeasuredMask(
            entry,
            own_grid,
            volume,
            volume.data >= 0.5,
            compute_shape(volume.data, volume.zooms),
            uncertainty=_read_uncertainty(results / str(entry.get("sidecar")), volume.shape[2]),
        )
    return masks


def _read_uncertainty(sidecar: Path, n_slices: int) -> NDArray[np.float64] | None:
    """Read the method's own doubt by slice; None where the mask's sidecar tells none, or of another image."""
    try:
        values = json.loads(sidecar.read_text(encoding="utf-8")).get("SliceUncertainty")
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(values, list) or len(values) != n_slices:
        return None
    return np.array([np.nan if value is None else float(value) for value in values])


def _load_reference(row: Row, masks: dict[str, MeasuredMask]) -> tuple[NDArray | None, str]:
    """Load the image's reference on the masks' grid; None and a reason where it cannot be used."""
    if not row.get("reference"):
        return None, ""
    grid = next((m.grid for m in masks.values() if m.grid is not None), None)
    try:
        volume, _ = load_mask(row["reference"], like=grid)
    except InputError as error:
        return None, f"reference not used: {error}"
    reference = volume.data >= 0.5
    return (reference, "") if reference.any() else (None, "reference not used: it is empty")


def _metrics_row(
    method: str,
    measured: MeasuredMask,
    common: NDArray | None,
    bounds: PlausibleBounds,
    reference: NDArray | None,
    problem: str,
    image: JudgedImage | None,
) -> Row:
    """Return the columns of metrics.tsv that belong to one image and method."""
    entry = measured.entry
    messages = (entry.get("exception"), entry.get("message"), measured.problem, problem)
    row: Row = {
        "method": method,
        "status": measured.status,
        "seconds": _number(entry.get("seconds")),
        "peak_mb": _number(entry.get("peak_mb")),
        "message": "; ".join(text for text in messages if text),
    }
    if measured.mask is None:
        # no mask at all: what it missed is known, what it looks like is not
        missed = {"dice": 0.0, "nsd": 0.0} if reference is not None else {}
        missed |= {"coverage": 0.0 if common is not None and common.any() else None}
        return row | {"n_slices": 0} | missed | missing_row()
    zooms = measured.volume.zooms
    quality = compute_quality(measured.mask, zooms, measured.shape, common, bounds)
    row |= asdict(quality) | predict_row(image, measured.mask, measured.shape, quality)
    if measured.uncertainty is not None and np.isfinite(measured.uncertainty).any():
        row["uncertainty"] = float(np.nanmean(measured.uncertainty))
    csa = measured.shape.csa_mm2[np.isfinite(measured.shape.csa_mm2)]
    if csa.size:
        row |= {"csa_mean_mm2": float(csa.mean()), "csa_sd_mm2": float(csa.std())}
    if reference is not None:
        row |= compare_with_reference(measured.mask, measured.shape, reference, zooms)
    return row


def _number(value: Any) -> float | None:
    """Return the manifest's number; seconds may come by stage and are summed."""
    if isinstance(value, dict):
        return float(sum(value.values()))
    return None if value is None else float(value)


def _agreement(a: MeasuredMask, b: MeasuredMask) -> Row:
    """Compare two methods' masks of one image; nothing where one has no mask."""
    if a.mask is None or b.mask is None:
        return {}
    return compare_masks(a.mask, a.shape, b.mask, b.shape, a.volume.zooms)


def _slice_rows(image_id: str, method: str, measured: MeasuredMask) -> list[Row]:
    """Rows of slices.tsv.gz from the mask's first to its last slice, empty slices in between included."""
    if measured.mask is None or not measured.mask.any():
        return []
    shape, affine = measured.shape, measured.volume.affine
    found = np.flatnonzero(np.isfinite(shape.csa_mm2))
    world = shape.centroid_vox @ affine[:3, :3].T + affine[:3, 3]
    zoom = float(measured.volume.zooms[2])
    return [
        {
            "image_id": image_id,
            "method": method,
            "slice": k,
            "position_mm": k * zoom,
            **{name: float(getattr(shape, name)[k]) for name in SLICE_SHAPE_COLUMNS},
            **{f"centroid_{axis}_mm": float(world[k, n]) for n, axis in enumerate("xyz")},
            "uncertainty": None if measured.uncertainty is None else float(measured.uncertainty[k]),
        }
        for k in range(int(found[0]), int(found[-1]) + 1)
    ]
