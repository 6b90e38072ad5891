"""Paths of everything in ``results/<dataset>``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from spineseg.bids import derivative_path
from spineseg.studyfolder.images import StudyImage


class Stage(StrEnum):
    """The parts of a study that have separate tables and pages."""

    ALL = "all"
    """Every image by every method."""
    PILOT = "pilot"
    """The pilot's images by every method, on which the decision rests."""
    STUDY = "study"
    """Every image by the method that was decided on."""


def stage_images(images: Iterable[StudyImage], stage: Stage) -> list[StudyImage]:
    """Return the included images that belong to a stage, in their order."""
    return [image for image in images if image.included and (image.pilot or stage != Stage.PILOT)]


TABLES = ("metrics.tsv", "agreement.tsv", "slices.tsv.gz")
"""The tables that are measured chunk by chunk and gathered for each stage."""

PAGE_IDENTITY = "report_id.txt"
"""File with the identity of a quality-control page, in the page's folder."""

RESERVED_FOLDERS = ("measures", "perturbed")
"""Folders in ``chunks/`` beside those of the methods."""


@dataclass(frozen=True)
class StudyFolder:
    """The results folder of one dataset.

    Parameters
    ----------
    root : Path
        ``results/<dataset>``. Paths inside it that files name are relative to it.
    """

    root: Path

    def __post_init__(self) -> None:
        """Accept text in place of a path."""
        object.__setattr__(self, "root", Path(self.root))

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.root.resolve().name

    # the study as a whole
    @property
    def configuration(self) -> Path:
        """The configuration with its defaults."""
        return self.root / "study.json"

    @property
    def images(self) -> Path:
        """The table of images."""
        return self.root / "images.tsv"

    @property
    def references(self) -> Path:
        """The table of references, used or not."""
        return self.root / "references.tsv"

    @property
    def description(self) -> Path:
        """``dataset_description.json``, which makes the folder a BIDS derivative."""
        return self.root / "dataset_description.json"

    @property
    def readme(self) -> Path:
        """The README of the results."""
        return self.root / "README"

    @property
    def plan(self) -> Path:
        """The plan of the decision, written before the pilot."""
        return self.root / "plan.json"

    @property
    def decision(self) -> Path:
        """The decision, for programs."""
        return self.root / "decision.json"

    @property
    def decision_text(self) -> Path:
        """The decision, for people."""
        return self.root / "decision.md"

    @property
    def preview(self) -> Path:
        """The new decision of a study that has started and keeps its earlier one."""
        return self.root / "preview" / self.decision.name

    @property
    def checklist(self) -> Path:
        """The reporting checklist for a paper, filled in."""
        return self.root / "checklist.md"

    @property
    def lock(self) -> Path:
        """The lock: method, code, parameters and weights that the study must use from its first image on."""
        return self.root / Stage.STUDY / "lock.json"

    @property
    def exceptions(self) -> Path:
        """Manifest of the images whose mask is kept by another method than the study's."""
        return self.root / Stage.STUDY / "exceptions.json"

    # chunks
    @property
    def chunks(self) -> Path:
        """Folder of the jobs' records."""
        return self.root / "chunks"

    @property
    def membership(self) -> Path:
        """Record of which images belong to which chunk, and who was drawn for the pilot."""
        return self.chunks / "membership.json"

    @property
    def file_digests(self) -> Path:
        """Checksums of the study's input files."""
        return self.chunks / "file_digests.json"

    @property
    def kept_records(self) -> Path:
        """Record of the masks written to `labels`, and of the images on which corrected ones were drawn."""
        return self.chunks / "kept_masks.json"

    def manifest(self, method: str, chunk: str) -> Path:
        """Results of a method for a chunk's images."""
        return self.chunks / method / f"{chunk}.json"

    def chunk_timings(self, method: str, chunk: str) -> Path:
        """Times of a method for a chunk's images."""
        return self.chunks / method / f"{chunk}.timings.tsv"

    def perturbed(self, method: str, chunk: str) -> Path:
        """Agreement of a method with itself on changed copies of a chunk's images."""
        return self.chunks / "perturbed" / method / f"{chunk}.json"

    def perturbed_image(self, method: str, image_id: str) -> Path:
        """The same for one image, from which an interrupted job continues."""
        return self.chunks / "perturbed" / method / "images" / f"{image_id}.json"

    def chunk_table(self, stage: Stage, chunk: str, table: str) -> Path:
        """One of `TABLES` of a chunk; the stages all and pilot share it, because they run the same methods."""
        folder = self.chunks / "measures"
        return (folder / Stage.STUDY if stage == Stage.STUDY else folder) / f"{chunk}.{table}"

    # stages
    def stage(self, stage: Stage) -> Path:
        """The folder of a stage's tables and pages; for the stage all it is the study's own folder."""
        return self.root if stage == Stage.ALL else self.root / stage

    def table(self, stage: Stage, table: str) -> Path:
        """A gathered table of a stage."""
        return self.stage(stage) / "tables" / table

    def kept(self, stage: Stage) -> Path:
        """The table of the mask that is kept for each image."""
        return self.table(stage, "kept.tsv")

    def csa(self, stage: Stage) -> Path:
        """Area and shape of the kept masks by vertebral level."""
        return self.table(stage, "csa.tsv")

    def change(self, stage: Stage) -> Path:
        """Change of the area between sessions of a follow-up."""
        return self.table(stage, "change.tsv")

    def levels(self, stage: Stage) -> Path:
        """Area and shape of every method's masks by level, by which methods, repeats and contrasts are compared."""
        return self.table(stage, "levels.tsv")

    def sct_tables(self, stage: Stage) -> Path:
        """The folder of the areas in SCT's format, ``csa-SC_<suffix>.csv``."""
        return self.table(stage, "sct")

    def timings(self, stage: Stage) -> Path:
        """The table of time and memory by image."""
        return self.table(stage, "timings.tsv")

    def report(self, stage: Stage) -> Path:
        """The report."""
        return self.stage(stage) / "report.html"

    def figures(self, stage: Stage) -> Path:
        """The folder of the report's figures."""
        return self.stage(stage) / "figures"

    def qc(self, stage: Stage) -> Path:
        """The quality-control page's folder."""
        return self.stage(stage) / "qc"

    def page_identity(self, stage: Stage) -> Path:
        """The identity of the quality-control page, which files of marks name."""
        return self.qc(stage) / PAGE_IDENTITY

    # masks
    def mask(self, image: StudyImage, method: str) -> Path:
        """A method's mask of an image; its sidecar has the same name with ``.json``."""
        return self.root / derivative_path(image.image_id, image.subject, image.session, image.datatype, method)

    @property
    def labels(self) -> Path:
        """The folder of the kept masks, where other tools of the field look for them."""
        return self.root / "derivatives" / "labels"

    def kept_mask(self, image: StudyImage) -> Path:
        """The kept mask of an image."""
        return self.labels / derivative_path(image.image_id, image.subject, image.session, image.datatype)

    def relative(self, path: Path) -> str:
        """Return a path in the form in which the study's files contain it, relative to the folder."""
        return path.relative_to(self.root).as_posix()

    def inside(self, name: str) -> Path:
        """Return the path of a file from its name in one of the study's files."""
        return self.root / name
