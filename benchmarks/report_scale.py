"""Measure time, memory and size of a report by number of images, on simulated tables.

There are two methods, two contrasts and four sites.

python benchmarks/report_scale.py [-images 10 10000] [-slices 40] [-work DIR]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spineseg.decision.from_files import Question, decide_from_files
from spineseg.measures import AGREEMENT, METRICS
from spineseg.study.configuration import make_configuration
from spineseg.studyfolder.decisions import Membership, write_decision, write_membership
from spineseg.studyfolder.files import write_table
from spineseg.studyfolder.images import StudyImage, write_images
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.manifests import Manifest, ManifestEntry, Timing, write_manifest, write_timings
from spineseg.studyfolder.sidecars import MadeBy
from spineseg.studyfolder.tables import AGREEMENT_COLUMNS, IDENTITY, METRICS_COLUMNS, SLICES_COLUMNS
from spineseg.writing import write_bytes, write_json

METHODS = ("propseg", "deepseg")
CONTRASTS = (("T2w", "t2"), ("T1w", "t1"))
SITES = ("Bern", "Lyon", "Oslo", "Turin")
PILOTS, CHUNK_IMAGES = 10, 100
FAILED, FLAGGED = 0.02, 0.05
"""Shares of masks."""


def make_study(root: Path, n_images: int, n_slices: int) -> StudyFolder:
    """Write configuration, image table, manifests, tables and decision of a study without images and masks."""
    folder, rng = StudyFolder(root / "results" / "large"), np.random.default_rng(0)
    images = [
        StudyImage(f"sub-{n // 2:05d}_{suffix}", f"{n // 2:05d}", suffix=suffix, contrast=contrast, included=True,
                   pilot=n // 2 < PILOTS)
        for n in range(n_images) for suffix, contrast in [CONTRASTS[n % 2]]
    ]  # fmt: skip
    chunks = {
        image.image_id: f"{'pilot' if image.pilot else 'rest'}-{number // CHUNK_IMAGES + 1:04d}"
        for number, image in enumerate(images)
    }
    people = sorted({image.subject for image in images})
    rows = [f"sub-{person}\t{SITES[n % len(SITES)]}\t{'HC' if n % 3 else 'MS'}" for n, person in enumerate(people)]
    write_bytes(root / "bids" / "participants.tsv", "\n".join(["participant_id\tsite\tgroup", *rows, ""]).encode())
    config = make_configuration({"dataset": "large", "bids_dir": str(root / "bids"), "columns": ["site", "group"]})
    write_json(folder.configuration, config.document)
    write_images(folder.images, images)
    write_membership(folder, Membership(chunks, {}))
    status = {(image.image_id, m): "failed" if rng.random() < FAILED else "ok" for image in images for m in METHODS}
    for method in METHODS:
        for chunk in dict.fromkeys(chunks.values()):
            own = [image for image in images if chunks[image.image_id] == chunk]
            entries = tuple(_entry(folder, image, method, status[image.image_id, method]) for image in own)
            made_by = MadeBy("0", "c" * 64, {}, {})
            write_manifest(folder.manifest(method, chunk), Manifest("large", method, chunk, made_by, entries))
    area = {image.image_id: 75 + 8 * rng.standard_normal() for image in images}
    _write_tables(folder, images, status, area, n_slices, rng)
    question = Question(dataset="large")
    pilot = [image for image in images if image.pilot]
    _write_tables(folder, pilot, status, area, n_slices, rng, Stage.PILOT)
    metrics, agreement, slices = (
        folder.table(Stage.PILOT, name) for name in ("metrics.tsv", "agreement.tsv", "slices.tsv.gz")
    )
    write_decision(
        folder.decision,
        decide_from_files(metrics, agreement, slices=slices, table=folder.images, question=question),
    )
    return folder


def _entry(folder: StudyFolder, image: StudyImage, method: str, status: str) -> ManifestEntry:
    """Return the manifest's entry of one mask."""
    if status == "failed":
        return ManifestEntry(image.image_id, status, method, "no cord was found where the detector looked")
    return ManifestEntry(image.image_id, status, method, "", folder.relative(folder.mask(image, method)), "0" * 64)


def _write_tables(
    folder: StudyFolder,
    images: list[StudyImage],
    status: dict[tuple[str, str], str],
    area: dict[str, float],
    n_slices: int,
    rng: np.random.Generator,
    stage: Stage = Stage.ALL,
) -> None:
    """Write the tables of a stage."""

    def identity(image: StudyImage) -> dict[str, str]:
        return {name: getattr(image, name) for name in IDENTITY}

    def metrics() -> Iterator[dict[str, object]]:
        for image in images:
            for method in METHODS:
                row = identity(image) | {"method": method, "status": status[image.image_id, method]}
                if row["status"] == "ok":
                    values = dict(zip(METRICS, rng.random(len(METRICS)).tolist(), strict=True))
                    values |= {"csa_mean_mm2": area[image.image_id] + rng.standard_normal(), "coverage": 1.0}
                    values |= {"predicted_dice": 0.9 + 0.03 * rng.standard_normal(), "dice": float("nan")}
                    values |= {"flagged": float(rng.random() < FLAGGED), "n_components": 1.0, "n_gaps": 0.0}
                    row |= values | {"plausible": 1.0}
                yield row

    def agreement() -> Iterator[dict[str, object]]:
        for image in images:
            if all(status[image.image_id, m] == "ok" for m in METHODS):
                values = {"dice": 0.94 + 0.02 * rng.standard_normal(), "csa_difference_mm2": rng.standard_normal()}
                names = {"method_a": METHODS[0], "method_b": METHODS[1]}
                yield identity(image) | names | dict.fromkeys(AGREEMENT, 0.9) | values

    def slices() -> Iterator[dict[str, object]]:
        for image in images:
            for method in METHODS:
                if status[image.image_id, method] == "ok":
                    areas = area[image.image_id] + 3 * np.sin(np.linspace(0, 3, n_slices)) + rng.normal(0, 1, n_slices)
                    for k, value in enumerate(areas):
                        more = {"csa_mm2": value, "position_mm": 2.0 * k, "centroid_z_mm": 2.0 * k}
                        yield {"image_id": image.image_id, "method": method, "slice": k, **more}

    write_table(folder.table(stage, "metrics.tsv"), METRICS_COLUMNS, metrics())
    write_table(folder.table(stage, "agreement.tsv"), AGREEMENT_COLUMNS, agreement())
    write_table(folder.table(stage, "slices.tsv.gz"), SLICES_COLUMNS, slices())
    timings = [Timing(i.image_id, m, float(2 + rng.random()), 300.0) for i in images for m in METHODS]
    write_timings(folder.timings(stage), timings)


def main() -> None:
    """Print seconds, peak memory, and the size of page and figures by number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-images", type=int, nargs="+", default=[6, 10000])
    parser.add_argument("-slices", type=int, default=40, help="of each mask")
    parser.add_argument("-work", type=Path, default=Path("build/report_scale"))
    args = parser.parse_args()
    print("| images | seconds | of processor time | MB of memory so far | page, MB | largest SVG, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in args.images:
        root = args.work / str(n)
        folder = StudyFolder(root / "results" / "large")
        if not folder.decision.is_file():
            folder = make_study(root, n, args.slices)
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "spineseg", "report", "-results", str(folder.root)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds, peak = time.perf_counter() - start, after.ru_maxrss / 1024
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        page = folder.report(Stage.ALL).stat().st_size / 1e6
        svg = max((path.stat().st_size for path in folder.figures(Stage.ALL).glob("*.svg")), default=0) / 1e6
        print(f"| {n} | {seconds:.0f} | {processor:.0f} | {peak:.0f} | {page:.1f} | {svg:.1f} |", flush=True)


if __name__ == "__main__":
    main()
