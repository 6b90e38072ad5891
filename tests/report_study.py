"""A synthetic study for the tests of QC and report: a cord in noise, masks by two methods, computed tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_study import MADE_BY, save_nifti, study_folder, study_image, write_index, write_result

from spineseg.decision.from_files import Question, decide_from_files
from spineseg.measures import ADULTS
from spineseg.study.gather import gather_tables
from spineseg.study.measure import measure_chunk
from spineseg.studyfolder.decisions import Decision, read_decision, read_membership
from spineseg.studyfolder.decisions import write_decision as write_decision_record
from spineseg.studyfolder.images import read_included
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.manifests import Manifest, Timing, write_manifest, write_timings
from spineseg.studyfolder.tables import write_chunk_tables

ZOOMS = (0.5, 0.5, 3.0)
SHAPE = (96, 96, 14)
AFFINE = np.diag([-ZOOMS[0], ZOOMS[1], ZOOMS[2], 1.0])
MaskMaker = Callable[[np.ndarray], np.ndarray]


def cord_mask(shape=SHAPE, radius_mm=4.5) -> np.ndarray:
    """A cylinder that leans to the left, radius 4.5 mm."""
    i, j, k = np.indices(shape)
    x = (i - shape[0] / 2) * ZOOMS[0] - 0.3 * k * ZOOMS[0]
    y = (j - shape[1] / 2) * ZOOMS[1]
    return x**2 + y**2 < radius_mm**2


def write_cord(image: Path, rng: np.random.Generator, *, shape=SHAPE) -> Path:
    """Write a T2-like image (bright fluid, darker cord) in canonical orientation; return the true mask's file."""
    cord, canal = cord_mask(shape), cord_mask(shape, 8.0)
    save_nifti(image, 60 + 200.0 * canal - 110.0 * cord + rng.normal(0, 8, shape), AFFINE, np.float32)
    return save_nifti(image.with_name(image.name.replace(".nii.gz", "_label-SC_seg.nii.gz")), cord, AFFINE)


def shrink(mask: np.ndarray) -> np.ndarray:
    """A mask that lost its rightmost voxels: a method that is a little too small."""
    return mask & np.roll(mask, 1, axis=0)


def keep(mask: np.ndarray) -> np.ndarray:
    """The true mask."""
    return mask


METHODS: dict[str, MaskMaker] = {"propseg": shrink, "deepseg": keep}

Pairs = Collection[tuple[str, str]]
"""Pairs of image_id and method."""


def make_study(
    root: Path,
    *,
    n_subjects: int = 3,
    methods: Mapping[str, MaskMaker] = METHODS,
    failed: Pairs = (),
    empty: Pairs = (),
    references: bool = True,
) -> StudyFolder:
    """Write images, masks, manifests and the tables of stage `all`; each participant has a chunk."""
    rng = np.random.default_rng(0)
    folder, images, chunks = study_folder(root, "made"), [], {}
    for n in range(1, n_subjects + 1):
        for suffix, contrast in (("T2w", "t2"), ("T1w", "t1")):
            path = root / "bids" / f"sub-{n:02d}_{suffix}.nii.gz"
            truth = str(write_cord(path, rng))
            values = {"contrast": contrast, "path": str(path), "reference": truth if references else ""}
            images.append(study_image(f"{n:02d}", suffix, **values))
            chunks[images[-1].image_id] = f"pilot-{n:04d}"
    write_index(folder, images, chunks)
    for method, make_mask in methods.items():
        _segment(folder, method, make_mask, rng, failed, empty)
    measure_stage(folder, Stage.ALL, list(methods))
    return folder


def _segment(
    folder: StudyFolder, method: str, make_mask: MaskMaker, rng: np.random.Generator, failed: Pairs, empty: Pairs
) -> None:
    """Write a method's masks, manifests and timings of every chunk."""
    images, membership = {image.image_id: image for image in read_included(folder.images)}, read_membership(folder)
    for chunk in dict.fromkeys(membership.chunks.values()):
        entries, timings = [], []
        for name in membership.images_of(chunk):
            image, mask, message = images[name], make_mask(cord_mask()), ""
            if (name, method) in failed:
                mask, message = None, f"{Path(image.path).name}: {method} has stopped"  # the same for all methods
            elif (name, method) in empty:
                mask = np.zeros_like(mask)
            entries.append(write_result(folder, image, method, mask, affine=AFFINE, message=message))
            timings.append(Timing(name, method, round(float(rng.uniform(2, 6)), 2), 400.0))
        manifest = Manifest(folder.name, method, chunk, MADE_BY, tuple(entries))
        write_manifest(folder.manifest(method, chunk), manifest)
        write_timings(folder.chunk_timings(method, chunk), timings)


def measure_stage(folder: StudyFolder, stage: Stage, methods: Sequence[str]) -> None:
    """Write the tables of a stage, as the workflow does."""
    for chunk in dict.fromkeys(read_membership(folder).chunks.values()):
        write_chunk_tables(folder, stage, chunk, measure_chunk(folder, chunk, methods, ADULTS))
    gather_tables(folder, stage, methods)


def decide(folder: StudyFolder, **changes: Any) -> Decision:
    """Decide from the tables as the workflow does, and write the decision with the changes of a test."""
    metrics, agreement, slices = (
        folder.table(Stage.ALL, name) for name in ("metrics.tsv", "agreement.tsv", "slices.tsv.gz")
    )
    question = Question(dataset=folder.name, fitted=("propseg", "deepseg"))
    document = decide_from_files(metrics, agreement, slices=slices, table=folder.images, question=question)
    write_decision_record(folder.decision, document | changes)
    return read_decision(folder.decision)
