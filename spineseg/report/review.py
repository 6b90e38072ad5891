"""Collect what there is to review in a study: each image with its masks, measures and warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.measures import ADULTS, PlausibleLimits
from spineseg.methods.registry import sort_methods
from spineseg.studyfolder.corrections import correct_entry, find_correction
from spineseg.studyfolder.decisions import Decision, find_decision, read_exceptions, read_membership
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import RESERVED_FOLDERS, TABLES, Stage, StudyFolder, stage_images
from spineseg.studyfolder.locks import KeptMethods, Lock, find_lock
from spineseg.studyfolder.manifests import ManifestEntry, Timing, read_manifest, read_timings
from spineseg.studyfolder.marks import Mark, Marks, latest_marks
from spineseg.studyfolder.tables import AgreementRow, MetricsRow, read_agreement, read_metrics, read_slices

if TYPE_CHECKING:
    import pandas as pd

    from spineseg.study.choices import PersonsChoice


@dataclass(frozen=True)
class StudyView:
    """A stage of a study, as its pages show it."""

    folder: StudyFolder
    stage: Stage = Stage.ALL
    # methods of the configuration; None for all that have manifests. Masks of other methods are not shown
    methods: Sequence[str] | None = None
    limits: PlausibleLimits | None = ADULTS  # None switches the warnings about the area off
    # image to a person's choice of the method whose mask is kept
    exceptions: Mapping[str, PersonsChoice] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)  # of all raters
    decision: Path | None = None  # Where the decision lies; by default in the folder
    # column of participants.tsv that the study names to subject to value; an unknown value is empty
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRecords:
    """Content of the files of a stage, each read once; empty for a file that does not exist yet."""

    images: list[StudyImage]  # All of the study, the excluded ones too
    chunk_of: Mapping[str, str]  # mapping: image to chunk
    decision: Decision | None = None
    lock: Lock | None = None
    # Method to image to manifest entry, for the methods that the stage shows
    entries: dict[str, dict[str, ManifestEntry]] = field(default_factory=dict)
    metrics: list[MetricsRow] = field(default_factory=list)
    agreement: list[AgreementRow] = field(default_factory=list)
    slices: list[pd.DataFrame] = field(default_factory=list)  # One per file
    timings: list[Timing] = field(default_factory=list)

    @property
    def kept(self) -> KeptMethods:
        """Methods that the study is held to, or those decided if it has not started."""
        return self.lock.kept if self.lock else self.decision.kept if self.decision else KeptMethods(None)


@dataclass(frozen=True)
class MethodResult:
    """Result of one method for one image."""

    name: str
    status: str  # {"ok", "partial", "empty", "failed"}
    message: str = ""
    mask: Path | None = None
    mask_sha256: str = ""
    seconds: float | None = None
    peak_mb: float | None = None
    warnings: tuple[str, ...] = ()
    # mapping: name of a measure to its value; what is not known is missing
    metrics: Mapping[str, float] = field(default_factory=dict)
    # mapping: canonical slice to cross-sectional area; empty when no table tells
    csa_mm2: Mapping[int, float] = field(default_factory=dict)
    csa_corrected: bool = True  # Whether the areas are corrected for the cord's angle, as the study's tables are


@dataclass(frozen=True)
class ReviewImage:
    """One image, ready to be rendered."""

    image: StudyImage
    methods: tuple[MethodResult, ...]
    agreement: tuple[AgreementRow, ...] = ()
    exception: str = ""  # Why another method's mask is kept than the study's; empty where it is not
    # Why the image seems to have another contrast than it is taken for; empty where it does not
    contrast_doubt: str = ""
    corrected: bool = False  # Whether the mask shown is one that a person has changed

    def marks_shown(self, marks: Iterable[Mark]) -> list[Mark]:
        """Return the marks that are about the image, or about the mask that is shown now."""
        masks = {made.name: made.mask_sha256 for made in self.methods}
        return latest_marks(
            mark
            for mark in marks
            if mark.image == self.image.image_id
            and (
                mark.method is None
                or (mark.method in masks and mark.is_of(masks[mark.method], corrected=self.corrected))
            )
        )


def read_stage(view: StudyView, chunks: Sequence[str] | None = None) -> StageRecords:
    """Read the files of a stage, or of some of its chunks from these chunks' own tables.

    Raises
    ------
    InputError
        If images.tsv or the membership of chunks is missing, or a file is damaged.
    """
    folder = view.folder
    images = read_images(folder.images)
    found = StageRecords(
        images,
        read_membership(folder).chunks,
        find_decision(view.decision or folder.decision),
        find_lock(folder),
    )
    wanted = list(dict.fromkeys(found.chunk_of.values())) if chunks is None else chunks
    methods = _stage_methods(view, found)
    metrics, agreement, slices = (
        [folder.table(view.stage, table)]
        if chunks is None
        else [folder.chunk_table(view.stage, c, table) for c in chunks]
        for table in TABLES
    )
    timings = (
        [folder.timings(view.stage)]
        if chunks is None
        else [folder.chunk_timings(m, c) for m in methods for c in chunks]
    )
    return replace(
        found,
        entries={name: _read_entries(folder, name, wanted) for name in methods},
        metrics=[row for path in metrics if path.is_file() for row in read_metrics(path)],
        agreement=[row for path in agreement if path.is_file() for row in read_agreement(path)],
        slices=[read_slices(path) for path in slices if path.is_file()],
        timings=[row for path in timings if path.is_file() for row in read_timings(path)],
    )


def _stage_methods(view: StudyView, found: StageRecords) -> list[str]:
    """Return the methods that a stage shows; in stage study only the kept ones."""
    methods = view.methods
    if methods is None:
        methods = list_methods(view.folder, found.chunk_of)
    kept = {found.kept.of(image.contrast) for image in stage_images(found.images, view.stage)}
    own = [name for name in methods if name in kept] if view.stage == Stage.STUDY else []
    return sort_methods(own or methods)


def list_methods(folder: StudyFolder, chunk_of: Mapping[str, str]) -> list[str]:
    """Return the methods that have a manifest of a chunk."""
    chunks = set(chunk_of.values())
    names = (path.name for path in folder.chunks.iterdir() if path.is_dir() and path.name not in RESERVED_FOLDERS)
    return sort_methods(name for name in names if any(folder.manifest(name, chunk).is_file() for chunk in chunks))


def _read_entries(folder: StudyFolder, method: str, chunks: Sequence[str]) -> dict[str, ManifestEntry]:
    """Return a method's manifest entries by image; a chunk that is not segmented yet has none."""
    paths = (folder.manifest(method, chunk) for chunk in chunks)
    return {image: entry for path in paths if path.is_file() for image, entry in read_manifest(path).entries.items()}


def collect_reviews(view: StudyView, records: StageRecords, chunks: Sequence[str] | None = None) -> list[ReviewImage]:
    """Join images, manifest entries and measures into one record per image.

    Raises
    ------
    InputError
        If the study's excepted images are damaged.
    """
    kept = {image.image_id: records.kept.of(image.contrast) for image in records.images}
    chosen = {i: c for i, c in view.exceptions.items() if kept.get(i) and c.method != kept[i]}
    entries: dict[str, list[ManifestEntry]] = {}
    for method, manifest in records.entries.items():
        for image_id, entry in manifest.items():
            if view.stage != Stage.STUDY or kept.get(image_id) in (None, method):
                entries.setdefault(image_id, []).append(entry)
    # in stage study an image with an exception shows only the mask of its own method
    if view.stage == Stage.STUDY and chosen and view.folder.exceptions.is_file():
        excepted = read_exceptions(view.folder.exceptions).entries
        entries |= {image_id: [entry] for image_id, entry in excepted.items() if image_id in chosen}
    metrics = {(row.image.image_id, row.method): row for row in records.metrics}
    timings = {(row.image_id, row.method): row for row in records.timings}
    areas = _areas(records.slices)
    agreement: dict[str, list[AgreementRow]] = {}
    for pair in records.agreement:
        if {pair.method_a, pair.method_b} <= set(records.entries):
            agreement.setdefault(pair.image.image_id, []).append(pair)
    reviews = []
    for image in stage_images(records.images, view.stage):
        if chunks is not None and records.chunk_of.get(image.image_id) not in chunks:
            continue
        correction = find_correction(view.folder, image) if view.stage == Stage.STUDY else None
        if correction:
            own = [correct_entry(entry, correction) for entry in entries.get(image.image_id, ())]
            entries[image.image_id] = own
        made = {(image.image_id, entry.method): entry for entry in entries.get(image.image_id, ())}
        doubts = (metrics[key].contrast_doubt for key in made if key in metrics)
        reviews.append(
            ReviewImage(
                image,
                tuple(
                    _method_result(view.folder, entry, metrics.get(key), timings.get(key), areas.get(key, {}))
                    for key, entry in made.items()
                ),
                tuple(agreement.get(image.image_id, ())),
                chosen[image.image_id].words(str(kept[image.image_id])) if image.image_id in chosen else "",
                next(filter(None, doubts), ""),
                correction is not None,
            )
        )
    return reviews


def _areas(frames: Sequence[pd.DataFrame]) -> dict[tuple[str, str], dict[int, float]]:
    """Return the area of every slice, by image and method."""
    return {
        (str(image), str(method)): dict(zip(part["slice"].tolist(), part["csa_mm2"].tolist(), strict=True))
        for frame in frames
        for (image, method), part in frame[frame["csa_mm2"].notna()].groupby(["image_id", "method"], sort=False)
    }


def _method_result(
    folder: StudyFolder,
    entry: ManifestEntry,
    measured: MetricsRow | None,
    timing: Timing | None,
    areas: Mapping[int, float],
) -> MethodResult:
    """Join what the manifest and the tables say of one mask."""
    return MethodResult(
        entry.method,
        measured.status if measured else entry.status,  # measuring has checked whether the mask fits the image
        measured.message if measured and measured.message else entry.message,
        folder.inside(entry.mask) if entry.mask else None,
        entry.mask_sha256 or "",
        timing.seconds if timing else None,
        timing.peak_mb if timing else None,
        entry.warnings,
        measured.values if measured else {},
        areas,
    )
