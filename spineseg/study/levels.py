"""Measure area and shape of a study's kept masks by vertebral level, the table from which statistics start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from spineseg.errors import InputError
from spineseg.levels.choice import JunctionWindow
from spineseg.levels.names import JunctionRange, Request, SliceRange, has_more_levels, parse_stretch
from spineseg.levels.rows import MIN_COVERAGE, measure_rows
from spineseg.measures import LEVEL_SHAPE
from spineseg.study.configuration import StudyConfig
from spineseg.study.keep import CORRECTED
from spineseg.study.level_labels import (
    CarriedLabels,
    LabelFile,
    carry_labels,
    find_label_files,
    measure_line_distance,
    rank_junction_files,
    rank_label_files,
)
from spineseg.study.participants import read_participants
from spineseg.study.sources import find_level_folder
from spineseg.studyfolder.corrections import find_correction
from spineseg.studyfolder.csa import REFERENCE, CsaRow
from spineseg.studyfolder.decisions import read_kept, read_membership
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import Stage, StudyFolder, stage_images
from spineseg.studyfolder.manifests import read_entries
from spineseg.studyfolder.marks import Mark, latest_marks
from spineseg.studyfolder.tables import Identity
from spineseg.volume import NativeGrid, Volume, load_mask

MAX_DISTANCE_MM = 3.0
"""Distance of two centerlines beyond which levels from another image are doubted: a quarter of the cord's width of
12 mm. People who have moved that far have rarely moved only sideways."""


@dataclass(frozen=True)
class _Mask:
    """A mask to measure with its origin; `path` is None if there is no mask."""

    image: StudyImage
    method: str
    path: Path | None
    sha256: str = ""
    message: str = ""
    corrected: bool = False

    @property
    def label(self) -> int | None:
        """Label of the cord in a reference with several labels."""
        return self.image.reference_label if self.method == REFERENCE else None


def measure_levels(folder: StudyFolder, stage: Stage, config: StudyConfig) -> list[CsaRow]:
    """Measure the kept masks of a stage at the levels that the configuration names.

    Parameters
    ----------
    folder : StudyFolder
    stage : {Stage.ALL, Stage.STUDY}
    config : StudyConfig
        If it names no levels, there is one row for each labelled level, or one for the whole mask if none is labelled.

    Returns
    -------
    list of CsaRow
        In the order of the images, from inferior to superior. If something cannot be measured, its row says why.

    Raises
    ------
    InputError
        If a column of participants.tsv or the tables of the stage are missing.
    """
    return _measure_masks(_kept_masks(folder, stage), config, config.levels or ("",))


def measure_other_levels(folder: StudyFolder, stage: Stage, config: StudyConfig, rows: list[CsaRow]) -> list[CsaRow]:
    """Measure the kept masks of a stage at each labelled level not in `rows`, so that all levels are measured."""
    return _other_levels(rows, _measure_masks(_kept_masks(folder, stage), config, [""]) if config.levels else [])


def _other_levels(rows: Sequence[CsaRow], of_all: Sequence[CsaRow]) -> list[CsaRow]:
    """Return the rows of labelled levels that the configuration does not name."""
    known = {(row.image.image_id, row.method, row.level) for row in rows}
    return [row for row in of_all if row.level and (row.image.image_id, row.method, row.level) not in known]


def _kept_masks(folder: StudyFolder, stage: Stage) -> list[_Mask]:
    """Return the kept mask of each image of a stage."""
    images = {image.image_id: image for image in read_images(folder.images)}
    return [
        _Mask(
            images[row.image_id],
            row.method,
            folder.inside(row.mask) if row.mask else None,
            row.sha256,
            row.message or "no mask is kept",
            row.status == CORRECTED or (not row.mask and find_correction(folder, images[row.image_id]) is not None),
        )
        for row in read_kept(folder.kept(stage))
    ]


def measure_method_levels(folder: StudyFolder, stage: Stage, config: StudyConfig) -> list[CsaRow]:
    """Measure every method's masks of a stage by level, to compare methods, repeats and contrasts.

    Parameters
    ----------
    folder : StudyFolder
    stage : {Stage.ALL, Stage.PILOT}
    config : StudyConfig
        With the levels to measure, and the level of the decision's plan.

    Returns
    -------
    list of CsaRow
        By method, then in the order of the images, only of images with labels. Other labelled levels follow, because
        the report draws the area along all of them. At the plan's level the references come after the methods.

    Raises
    ------
    InputError
        If a manifest is missing, or a mask differs from its manifest.
    """
    images = {image.image_id: image for image in stage_images(read_images(folder.images), stage)}
    chunk_of = read_membership(folder).chunks
    files = find_label_files(find_level_folder(config), config.level_marks)
    plan = config.decision.level
    levels = (*(config.levels or ("",)), *((plan,) if plan and plan not in config.levels else ()))
    rows = []
    for method in config.methods:
        entries = read_entries(folder, method, images, chunk_of, check=True)
        masks = [
            _Mask(
                images[image],
                method,
                folder.inside(entry.mask) if entry.mask else None,
                entry.mask_sha256 or "",
                entry.message or "no mask",
            )
            for image, entry in entries.items()
        ]
        # all of them, because the distance of other masks to that of the labelled image is needed
        asked = [row for row in _measure_masks(masks, config, levels, files, placed=True) if _is_placed(row)]
        others = _measure_masks(masks, config, [""], files, placed=True) if "" not in levels else []
        rows += [*asked, *_other_levels(asked, others)]
    if plan:
        drawn = [_Mask(i, REFERENCE, Path(i.reference)) for i in images.values() if i.reference]
        rows += [row for row in _measure_masks(drawn, config, [plan], files, placed=True) if _is_placed(row)]
    return rows


def _is_placed(row: CsaRow) -> bool:
    """Whether labels or numbers of slices define the part of the cord that a row is about."""
    return bool(row.levels_from) or (bool(row.level) and not _may_use_labels(row.level))


def _measure_masks(
    masks: Sequence[_Mask],
    config: StudyConfig,
    levels: Sequence[str],
    files: Mapping[tuple[str, str], Sequence[LabelFile]] | None = None,
    *,
    placed: bool = False,
) -> list[CsaRow]:
    """Measure masks, one of each image, and add raters' marks and columns of participants.tsv.

    With `placed`, an image without labels has rows only of levels that are numbers of slices.
    """
    of_stem = {mask.image.stem: mask for mask in masks if mask.path}
    files = find_label_files(find_level_folder(config), config.level_marks) if files is None else files
    people = read_participants(config.bids_dir or ".")
    for name in config.columns:
        people.check_column(name, "config key 'columns'")
    paths = {name: mask.image.path for mask in masks for name in (mask.image.stem, mask.image.image_id)}
    rows = []
    for mask in masks:
        columns = {name: people.cells.get(mask.image.subject, {}).get(name, "") for name in config.columns}
        marks = [mark for mark in latest_marks(m for m in config.marks.marks if _is_about(m, mask)) if mark.mark]
        words = "; ".join(mark.words() for mark in marks)
        failed = ("failed",) if any(mark.mark in ("fail", "artefact") for mark in marks) else ()
        measured = []
        below = [level for level in levels if level and isinstance(parse_stretch(level), JunctionRange)]
        others = [level for level in levels if level not in below]
        for rank, asked in ((rank_label_files, others), (rank_junction_files, below)):
            try:
                ranked = rank(mask.image, files, paths) if asked else []
                if placed and not ranked:
                    asked = [level for level in asked if not _may_use_labels(level)]
                if asked:
                    measured += _measure_image(mask, ranked, of_stem, config, asked)
            except InputError as error:  # labels that contradict each other
                measured += [_unmeasured(mask, level, str(error)) for level in asked]
        for row in measured:
            rows.append(replace(row, participant=columns, mark=words, flags=(*row.flags, *failed)))
    return rows


def _is_about(mark: Mark, mask: _Mask) -> bool:
    """Whether a mark is about this mask (not one that has since been replaced) or about its image."""
    if mark.image != mask.image.image_id:
        return False
    return mark.method is None or (mark.method == mask.method and mark.is_of(mask.sha256, corrected=mask.corrected))


def _unmeasured(one: _Mask, level: str, note: str, file: LabelFile | None = None) -> CsaRow:
    """Return the row of a level that could not be measured."""
    return CsaRow(
        Identity.of(one.image),
        one.method,
        level,
        corrected=one.corrected,
        levels_from=file.path if file else "",
        flags=("unmeasured",),
        note=note,
    )


def _measure_image(
    one: _Mask, files: Sequence[LabelFile], masks: Mapping[str, _Mask], config: StudyConfig, levels: Sequence[str]
) -> list[CsaRow]:
    """Measure the mask of one image, each level by the first file that shows it whole, else the first that shows it."""
    if one.path is None:
        return [_unmeasured(one, level, one.message, next(iter(files), None)) for level in levels]
    session = f"sub-{one.image.subject}" + (f" ses-{one.image.session}" if one.image.session else "")
    lacking = f"no labels of levels for {session} in {find_level_folder(config) or 'derivatives'}"
    read: dict[tuple[str, str], _Labels | InputError] = {}
    rows = []
    for level in levels:
        if level and not files and _may_use_labels(level):
            rows.append(_unmeasured(one, level, lacking))
            continue
        tried = []
        serving: list[LabelFile | None] = [*files] if _may_use_labels(level) else []
        for file in serving or [None]:
            key = (file.path, file.stem) if file else ("", "")
            if key not in read:
                read[key] = _read_labels(one, file, masks)
            tried.append(_measure_by(one, level, file, read[key]))
            lacks = INCOMPLETE if level else {"unmeasured"}  # the outermost of all levels are unbounded anyway
            if not any(lacks & set(row.flags) for row in tried[-1]):
                break
        rows += _best(tried)
    return rows


INCOMPLETE = frozenset({"unmeasured", "coverage", "unbounded", "joined", "doubted"})
"""Flags of a level for which other labels of the session may be better."""


def _best(tried: Sequence[list[CsaRow]]) -> list[CsaRow]:
    """Choose among the rows of a level, one set for each file; the note says what the first file lacked."""
    whole = [rows for rows in tried if not any(INCOMPLETE & set(row.flags) for row in rows)]
    some = [rows for rows in tried if not any("unmeasured" in row.flags for row in rows)]
    best = next(iter([*whole, *some, *tried]))
    if best is tried[0]:
        return best
    first = tried[0][0]
    why = f"{first.levels_from} not used: {first.note}"
    return [replace(row, note="; ".join(filter(None, (row.note, why)))) for row in best]


@dataclass(frozen=True)
class _Labels:
    """A mask with the labels carried to it, the distance of the labelled image's cord, and why these are doubted."""

    mask: Volume
    labels: CarriedLabels
    distance_mm: float
    doubt: str


def _read_labels(one: _Mask, file: LabelFile | None, masks: Mapping[str, _Mask]) -> _Labels | InputError:
    """Carry the labels of a file to a mask, or return the error that says why they cannot be."""
    assert one.path is not None  # checked by the caller
    try:
        mask, grid = load_mask(one.path, label=one.label)
        if file is None:
            return _Labels(mask, CarriedLabels(), float("nan"), "")
        if file.stem != one.image.stem and grid.forms_disagree:
            raise InputError(
                f"{one.image.path}: sform and qform differ, so labels of {file.stem} cannot be carried to it; "
                "correct its header"
            )
        named = masks.get(file.stem)
        like = _read_mask(named.path, named.label)[1] if named and named.path else None
        labels = carry_labels(file, mask, grid if file.stem == one.image.stem else like)
        return _Labels(mask, labels, *_compare_lines(one.image, file, mask, masks))
    except InputError as error:
        return error


def _measure_by(one: _Mask, level: str, file: LabelFile | None, read: _Labels | InputError) -> list[CsaRow]:
    """Measure one entry of the configuration's levels by one file of labels."""
    if isinstance(read, InputError):
        return [_unmeasured(one, level, str(read), file)]
    try:
        measured = _measure_level(read.mask, read.labels, level, file)
    except InputError as error:
        return [_unmeasured(one, level, str(error), file)]
    base = replace(_unmeasured(one, level, "", file), levels_distance_mm=read.distance_mm)
    return [_row(base, values, read.doubt) for values in measured]


def _may_use_labels(level: str) -> bool:
    """Whether an entry of the configuration's levels is found by labels if there are any."""
    return not level or not isinstance(parse_stretch(level), SliceRange)


def _measure_level(mask: Volume, labels: CarriedLabels, level: str, file: LabelFile | None) -> list[dict[str, Any]]:
    """Return the rows of one entry of the configuration's levels; if empty, of each level or of the whole mask."""
    stretch = parse_stretch(level) if level else None
    n_slices, chosen, junction = mask.shape[2], None, None
    source = file.path if file else ""
    if isinstance(stretch, SliceRange):
        if stretch.last >= n_slices:
            raise InputError(f"{level}: expected slices within 0:{n_slices - 1}; name slices that the image has")
        chosen = (np.arange(n_slices) >= stretch.first) & (np.arange(n_slices) <= stretch.last)
    elif isinstance(stretch, JunctionRange):
        if labels.junction is None:
            raise InputError(f"{source}: {level}: expected the pontomedullary junction (value 50), found none; mark it")
        middle, extent = (stretch.low_mm + stretch.high_mm) / 2, stretch.high_mm - stretch.low_mm
        junction = JunctionWindow(labels.junction, middle, extent, source)
    by_labels = isinstance(stretch, Request) or stretch is None
    has_labels = labels.discs is not None or labels.values is not None
    rows = measure_rows(
        mask.data,
        mask.zooms,
        per="level" if has_labels and not level else "request",
        requests=[stretch] if isinstance(stretch, Request) else [],
        chosen=chosen,
        discs=labels.discs if by_labels else None,
        level_values=labels.values if by_labels else None,
        borders=labels.borders if labels.values is not None else None,
        junction=junction,
        source=source,
    )
    if by_labels:
        return rows
    for row in rows:
        row["level"] = level
        if chosen is not None:
            row["level_coverage"] = row["n_slices"] / chosen.sum()
    return rows


def _compare_lines(image: StudyImage, file: LabelFile, mask: Volume, masks: Mapping[str, _Mask]) -> tuple[float, str]:
    """Return the distance of the labelled image's cord from this one, mm, and why its levels are doubted."""
    if file.stem == image.stem:
        return 0.0, ""
    if file.stem not in masks:
        return float("nan"), f"levels come from {file.stem}, whose cord could not be compared"
    distance = measure_line_distance(mask, _read_mask(masks[file.stem].path, masks[file.stem].label)[0])
    if np.isnan(distance):
        return distance, f"levels come from {file.stem}, which shows no common stretch of cord"
    if distance > MAX_DISTANCE_MM:
        return distance, f"levels come from {file.stem}, whose cord lies {distance:.1f} mm away: the person has moved"
    return distance, ""


@lru_cache(maxsize=2)  # images of a session are measured one after the other
def _read_mask(path: Path, label: int | None) -> tuple[Volume, NativeGrid]:
    """Read the mask of a labelled image, and its grid."""
    return load_mask(path, label=label)


def _row(base: CsaRow, measured: dict[str, Any], doubt: str) -> CsaRow:
    """Make a row from the measures, with its flags."""
    values = {name: float(measured.get(name, np.nan)) for name in LEVEL_SHAPE}
    level, note = str(measured.get("level", "")), str(measured.get("note", ""))
    coverage, n_slices = values["level_coverage"], int(measured["n_slices"])
    flags = {
        "unmeasured": n_slices == 0,
        "coverage": coverage < MIN_COVERAGE,
        "unbounded": bool(level) and bool(np.isnan(coverage)),
        "joined": "missing" in note and has_more_levels(str(measured.get("vert_level", "")), base.level),
        "tilted": bool(measured["tilted"]),
        "doubted": bool(doubt),
    }
    return replace(
        base,
        level=level,
        vert_level=str(measured.get("vert_level", "")),
        slices=str(measured.get("slices", "")),
        n_slices=n_slices,
        tilted=int(measured["tilted"]),
        values=values,
        flags=tuple(name for name, holds in flags.items() if holds),
        note="; ".join(filter(None, (note, doubt))),
    )
