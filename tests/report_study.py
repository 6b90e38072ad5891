"""A made-up study for the tests of QC and report: a cord in noise, masks by two methods, real tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from spineseg.bids import derivative_path
from spineseg.provenance import sha256_file
from spineseg.study.gather import TABLE_FOLDER, part_path
from spineseg.study.images import write_images
from spineseg.study.measure import measure_chunk, write_tables
from spineseg.study.segment import read_images
from spineseg.volume import load_image, load_mask, save_volume
from spineseg.writing import write_json, write_text

ZOOMS = (0.5, 0.5, 3.0)
SHAPE = (96, 96, 14)
MaskMaker = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def cord_mask(shape=SHAPE, zooms=ZOOMS, radius_mm=4.5) -> np.ndarray:
    """A cylinder that leans to the left, radius 4.5 mm."""
    i, j, k = np.indices(shape)
    x = (i - shape[0] / 2) * zooms[0] - 0.3 * k * zooms[0]
    y = (j - shape[1] / 2) * zooms[1]
    return x**2 + y**2 < radius_mm**2


def write_cord_image(path: Path, rng: np.random.Generator, *, shape=SHAPE, zooms=ZOOMS) -> np.ndarray:
    """Write a T2-like image (bright fluid, darker cord) in canonical orientation; return the true mask."""
    cord, canal = cord_mask(shape, zooms), cord_mask(shape, zooms, 8.0)
    data = 60 + 200.0 * canal - 110.0 * cord + rng.normal(0, 8, shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([-zooms[0], zooms[1], zooms[2], 1])), path)
    return cord


def shrink(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask that lost its rightmost voxels: a method that is a little too small."""
    return mask & np.roll(mask, 1, axis=0)


def keep(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The true mask."""
    return mask


METHODS: dict[str, MaskMaker] = {"propseg": shrink, "deepseg": keep}


def image_row(image_id: str, path: Path, **values: str) -> dict[str, str]:
    """A row of images.tsv."""
    subject = image_id.split("_")[0].removeprefix("sub-")
    row = {
        "image_id": image_id,
        "subject": subject,
        "session": "",
        "run": "",
        "suffix": image_id.split("_")[-1],
        "datatype": "anat",
    }
    row |= {"contrast": "t2", "path": str(path), "included": "true", "pilot": "true", "chunk": "pilot-0000"}
    return row | values


def make_study(folder: Path, *, n_subjects=3, methods=METHODS, failed=(), empty=(), references=True, seed=0) -> Path:
    """Write images, masks, manifests and tables; return the results folder.

    `failed` and `empty` hold pairs of image_id and method.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(n_subjects):
        for suffix, contrast in (("T2w", "t2"), ("T1w", "t1")):
            stem = f"sub-{n + 1:02d}_{suffix}"
            path = folder / "bids" / f"{stem}.nii.gz"
            truth = write_cord_image(path, rng)
            reference = folder / "bids" / f"{stem}_label-SC_seg.nii.gz"
            _, grid = load_image(path)
            save_volume(reference, truth, grid)
            rows.append(image_row(stem, path, contrast=contrast, reference=str(reference) if references else ""))
    truths = {row["image_id"]: folder / "bids" / f"{row['image_id']}_label-SC_seg.nii.gz" for row in rows}
    return write_results(folder / "results" / "made", rows, truths, methods, failed=failed, empty=empty, rng=rng)


def write_results(results: Path, rows, truths, methods, *, failed=(), empty=(), rng=None, excluded=()) -> Path:
    """Write images.tsv, masks, manifests and the tables of stage all."""
    rng = rng or np.random.default_rng(0)
    write_images(results / "images.tsv", [*rows, *excluded])
    chunks = sorted({row["chunk"] for row in rows})
    for chunk in chunks:
        for method, make_mask in methods.items():
            entries = []
            for row in (row for row in rows if row["chunk"] == chunk):
                entry = _segment(results, row, method, make_mask, truths, rng, failed=failed, empty=empty)
                entries.append(entry)
            manifest = {"dataset": results.name, "method": method, "chunk": chunk, "version": "0", "images": entries}
            write_json(results / "chunks" / method / f"{chunk}.json", manifest)
        tables = measure_chunk(results / "images.tsv", results, chunk, list(methods))
        write_tables(tables, part_path(results, "all", chunk, "").as_posix().rstrip("."))
    gather(results, chunks)
    return results


def gather(results: Path, chunks) -> None:
    """Join the chunks' tables."""
    import gzip

    for name in ("metrics.tsv", "agreement.tsv", "slices.tsv.gz"):
        texts = [part_path(results, "all", chunk, name).read_bytes() for chunk in chunks]
        texts = [(gzip.decompress(t) if name.endswith(".gz") else t).decode().splitlines(keepends=True) for t in texts]
        write_text(
            results / TABLE_FOLDER["all"] / name, "".join(texts[0] + [line for t in texts[1:] for line in t[1:]])
        )


def _segment(results, row, method, make_mask, truths, rng, *, failed, empty) -> dict:
    """Write one mask and return its manifest entry."""
    mask_path = results / derivative_path(row, method)
    if (row["image_id"], method) in failed or row["image_id"] not in truths:
        message = f"{Path(row['path']).name}: expected an image, found 0 in every voxel; check the file"
        return {"image_id": row["image_id"], "status": "failed", "message": message, "mask": None, "mask_sha256": None,
                "sidecar": "", "seconds": 0.2, "peak_mb": 90.0, "warnings": []}  # fmt: skip
    _, grid = load_image(row["path"], contrast=row["contrast"])
    mask = make_mask(load_mask(truths[row["image_id"]])[0].data >= 0.5, rng)
    status = "ok"
    if (row["image_id"], method) in empty:
        mask, status = np.zeros_like(mask), "empty"
    save_volume(mask_path, mask, grid)
    entry = {"image_id": row["image_id"], "status": status, "message": "", "mask": str(mask_path.relative_to(results)),
             "mask_sha256": sha256_file(mask_path), "sidecar": "", "seconds": round(float(rng.uniform(2, 6)), 2),
             "peak_mb": 400.0, "warnings": []}  # fmt: skip
    write_json(mask_path.with_name(mask_path.name.replace(".nii.gz", ".json")), {"Status": status, "Notes": []})
    return entry


def write_decision(results: Path, **values) -> Path:
    """Write a decision as spineseg decide would, with whatever a test changes."""
    n = len({row["subject"] for row in read_images(results / "images.tsv")})
    decision = {
        "dataset": results.name, "method": "deepseg", "verdict": "undecided", "endpoint": "dice",
        "probability": {"propseg": 0.05, "equivalent": 0.12, "deepseg": 0.83}, "difference": 0.031,
        "ci95": [0.012, 0.052], "n_participants": n, "n_images": 2 * n,
        "failures": {"propseg": {"failed": 1, "n": 2 * n}, "deepseg": {"failed": 0, "n": 2 * n}},
        "per_contrast": {}, "excluded": [], "parameters": {}, "versions": {"spineseg": "0.1.0"},
        "weights_sha256": {}, "config_sha256": "0" * 64, "seed": 1,
    }  # fmt: skip
    path = results / "decision.json"
    path.write_text(json.dumps(decision | values))
    return path
