"""Labels of vertebral levels: found by the field's usual file names, and carried to other images of a session."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.bids import image_stem
from spineseg.errors import InputError
from spineseg.file_digests import absent_content
from spineseg.levels.clicked import ClickedImage, read_clicked
from spineseg.levels.files import read_labels
from spineseg.levels.names import NOT_DISCS, PMJ_VALUE
from spineseg.levels.slices import find_discs, find_junction, find_level_borders
from spineseg.provenance import sha256_file
from spineseg.studyfolder.images import StudyImage
from spineseg.volume import NativeGrid, Volume

DISC_ENDS = ("_label-discs_dlabel", "_labels-disc-manual", "_labels-disc", "_seg_labeled_discs")
"""Ends of the names of disc labels: BIDS derivatives, spine-generic's manual ones and others, SCT's."""

LEVEL_ENDS = ("_label-spine_dseg", "_label-SC_seg_labeled", "_seg_labeled")
"""Ends of the names of labelled cords or spines."""

JUNCTION_ENDS = ("_label-pmj_dlabel", "_label-PMJ_dlabel", "_labels-pmj-manual", "_labels-pmj", "_pmj-manual", "_pmj")
"""Ends of the names of labels of the pontomedullary junction alone: BIDS derivatives, spine-generic's, SCT's."""

CLICKED = "_clicked"
"""In place of an end for labels that a person has clicked on the quality-control page."""

ENDS = (CLICKED, *DISC_ENDS, *LEVEL_ENDS, *JUNCTION_ENDS)
"""All ends, best first: clicked discs, then disc labels, because discs bound levels exactly and labelled cords only to
half a slice."""


@dataclass(frozen=True)
class LabelFile:
    """A file of labels.

    Parameters
    ----------
    path : str
    stem : str
        Name of the labelled image, without extension.
    end : str
        One of `ENDS`.
    clicked : ClickedImage or None
        The clicked points, if the file is one of the quality-control page.
    """

    path: str
    stem: str
    end: str
    clicked: ClickedImage | None = None

    @property
    def has_levels(self) -> bool:
        """Whether it marks discs or levels; otherwise only the junction."""
        discs = self.clicked.discs if self.clicked else ()
        return self.end not in JUNCTION_ENDS and (self.clicked is None or any(v not in NOT_DISCS for v in discs))

    def has_junction(self) -> bool:
        """Whether it marks the pontomedullary junction; this reads files of discs."""
        if self.clicked:
            return PMJ_VALUE in self.clicked.discs
        if self.end not in DISC_ENDS:
            return self.end in JUNCTION_ENDS
        try:
            return not absent_content(self.path) and PMJ_VALUE in read_labels(self.path)[0].data
        except InputError:  # reported where its discs are needed
            return False


@dataclass(frozen=True)
class CarriedLabels:
    """Labels on a mask's grid: discs by value, mm, or each voxel's level and the borders of levels; the junction."""

    discs: dict[int, NDArray[np.float64]] | None = None
    values: NDArray | None = None
    borders: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    junction: NDArray[np.float64] | None = None


def find_label_files(folder: Path | None, clicked: Sequence[str | Path] = ()) -> dict[tuple[str, str], list[LabelFile]]:
    """Find the files of labels in a folder and its sub-folders, and clicked labels.

    Parameters
    ----------
    folder : Path or None
    clicked : sequence of path
        Files saved from the quality-control page.

    Returns
    -------
    dict
        Subject and session, without ``sub-`` and ``ses-``, to files, the better kinds first.
    """
    found: dict[tuple[str, str], list[LabelFile]] = {}
    for root, folders, names in os.walk(folder) if folder else ():
        folders.sort()
        for name in sorted(names):
            stem = image_stem(name) or ""
            end = next((end for end in ENDS[1:] if stem.endswith(end)), "")
            if end and (session := _session_of(stem)):
                file = LabelFile(str(Path(root) / name), stem.removesuffix(end), end)
                found.setdefault(session, []).append(file)
    for path in clicked:
        for image in read_clicked(path):
            if image.discs and (session := _session_of(image.stem)):
                found.setdefault(session, []).append(LabelFile(str(path), image.stem, CLICKED, image))
    return {key: sorted(files, key=lambda one: (ENDS.index(one.end), one.path)) for key, files in found.items()}


def _session_of(stem: str) -> tuple[str, str] | None:
    """Return subject and session of an image's name."""
    match = re.match(r"sub-([A-Za-z0-9+]+)(?:_ses-([A-Za-z0-9+]+))?_", stem)
    return (match[1], match[2] or "") if match else None


def rank_label_files(
    image: StudyImage, files: Mapping[tuple[str, str], Sequence[LabelFile]], paths: Mapping[str, str | Path]
) -> list[LabelFile]:
    """Return the labels that can be used for an image: its own, then those of other images of its session.

    Parameters
    ----------
    image : StudyImage
    files : mapping
        As returned by `find_label_files`.
    paths : mapping of str to path
        Name of an image, without extension, to its file. Discs clicked on another image of the same name do not count
        as its own.

    Raises
    ------
    InputError
        If discs were clicked on other images of the same name, or two files of one kind for one image differ.
    """
    of_session = files.get((image.subject, image.session), ())
    of_session = [file for file in of_session if file.has_levels]
    return _rank(image, of_session, paths)


def rank_junction_files(
    image: StudyImage, files: Mapping[tuple[str, str], Sequence[LabelFile]], paths: Mapping[str, str | Path]
) -> list[LabelFile]:
    """Return the files that mark the pontomedullary junction, in the order of `rank_label_files`."""
    of_session = files.get((image.subject, image.session), ())
    marking = [file for file in of_session if file.has_junction()]
    return _rank(image, marking, paths) or rank_label_files(image, files, paths)


def _rank(image: StudyImage, files: Sequence[LabelFile], paths: Mapping[str, str | Path]) -> list[LabelFile]:
    """Return an image's own files, then the others; if it has own files, no others that contradict each other."""
    names = (image.stem, image.image_id)
    own = [replace(file, stem=image.stem) for file in files if file.stem in names]
    others = [file for file in files if file.stem not in names]
    if not own:
        return _fitting(others, paths)
    ranked = _fitting(own, paths)
    try:
        return [*ranked, *_fitting(others, paths)]
    except InputError:
        return ranked


def _fitting(files: Sequence[LabelFile], paths: Mapping[str, str | Path]) -> list[LabelFile]:
    """Return the files not clicked on another image of their name; InputError if two contradict each other."""
    fitting = [f for f in files if not f.clicked or f.stem not in paths or f.clicked.is_of(paths[f.stem])]
    for file in files:
        if file.clicked and not any(other.clicked and other.stem == file.stem for other in fitting):
            raise InputError(
                f"{file.path}: expected discs of {paths[file.stem]}, found those of another image of this name or of "
                "this one before it was changed; click them again, or take them out of 'level_marks'"
            )
    kept: dict[tuple[str, str], LabelFile] = {}
    for other in fitting:
        first = kept.setdefault((other.stem, other.end), other)
        if first is not other and (first.clicked or not _are_same(first, other)):
            raise InputError(
                f"{other.path}: expected labels of {other.stem} in one file, found others in {first.path}; keep one, "
                "or name the folder (config key level_labels)"
            )
    return [*kept.values()]


def _are_same(a: LabelFile, b: LabelFile) -> bool:
    """Whether two files have the same bytes; a file without local content counts as equal to any other."""
    if absent_content(a.path) or absent_content(b.path):
        return True
    return sha256_file(a.path) == sha256_file(b.path)


def carry_labels(file: LabelFile, mask: Volume, like: NativeGrid | None = None) -> CarriedLabels:
    """Transform labels to a mask's grid, through the scanner's coordinates.

    Parameters
    ----------
    file : LabelFile
    mask : Volume
    like : NativeGrid, optional
        Grid of the image that the file names. Labels on another grid may belong to another image or place.

    Raises
    ------
    InputError
        If the file cannot be read, has no such labels, or has another grid than its image.
    """
    if file.clicked:
        to_index = np.linalg.inv(mask.affine)
        clicked = file.clicked.discs.items()
        places = {v: (to_index[:3, :3] @ place + to_index[:3, 3]) * mask.zooms for v, place in clicked}
        discs = {value: place for value, place in places.items() if value not in NOT_DISCS}
        return CarriedLabels(discs or None, junction=places.get(PMJ_VALUE))
    if why := absent_content(file.path):
        raise InputError(f"{file.path}: {why}")
    labels, grid = read_labels(file.path, like=like)
    if grid.forms_disagree:
        raise InputError(
            f"{file.path}: expected one place in the scanner, found sform and qform that differ; correct its header"
        )
    if file.end in JUNCTION_ENDS:
        place = find_junction(labels.data, labels.zooms, file.path, grid)
        return CarriedLabels(junction=_move({PMJ_VALUE: place}, labels, mask)[PMJ_VALUE])
    if file.end in DISC_ENDS:
        marked = {}
        if PMJ_VALUE in labels.data:
            marked[PMJ_VALUE] = find_junction(labels.data, labels.zooms, file.path, grid)
        if not (np.isin(labels.data, [0, *NOT_DISCS]).all() and marked):
            marked |= find_discs(labels.data, labels.zooms, file.path, grid)
        moved = _move(marked, labels, mask)
        at = moved.pop(PMJ_VALUE, None)
        return CarriedLabels(moved or None, junction=at)
    inside = np.argwhere(mask.data > 0)
    back = np.linalg.inv(labels.affine) @ mask.affine
    index = np.rint(inside @ back[:3, :3].T + back[:3, 3]).astype(int)
    there = ((index >= 0) & (index < labels.shape)).all(axis=1)
    values = np.zeros(mask.shape, np.float32)
    values[tuple(inside[there].T)] = labels.data[tuple(index[there].T)]
    return CarriedLabels(values=values, borders=_move(find_level_borders(labels.data, labels.zooms), labels, mask))


def _move(places: Mapping[int, NDArray[np.float64]], labels: Volume, mask: Volume) -> dict[int, NDArray[np.float64]]:
    """Transform places (3,), mm, in one image to another, through the scanner's coordinates."""
    to_mask = np.linalg.inv(mask.affine) @ labels.affine
    return {v: (to_mask[:3, :3] @ (at / labels.zooms) + to_mask[:3, 3]) * mask.zooms for v, at in places.items()}


def measure_line_distance(a: Volume, b: Volume) -> float:
    """Measure the distance between the middles of two cords in the scanner, mm, where both are visible.

    Returns
    -------
    float, mm
        Median distance from the slices of `a` to the line of `b`; NaN where they share no stretch of cord.
    """
    here, there = _middle_mm(a), _middle_mm(b)
    if len(here) < 1 or len(there) < 2:
        return float("nan")
    steps = np.linspace(0, len(there) - 1, 20 * len(there))
    line = np.column_stack([np.interp(steps, np.arange(len(there)), there[:, axis]) for axis in range(3)])
    distance = np.linalg.norm(here[:, None] - line, axis=2)
    nearest = distance.argmin(axis=1)
    beside = (nearest > 0) & (nearest < len(line) - 1)  # the other points lie beyond the ends of the line
    return float(np.median(distance.min(axis=1)[beside])) if beside.any() else float("nan")


def _middle_mm(mask: Volume) -> NDArray[np.float64]:
    """Return the middle of each slice with cord in the scanner, (n, 3), mm."""
    k = np.flatnonzero((mask.data > 0).any(axis=(0, 1)))
    points = [[*np.argwhere(mask.data[:, :, one] > 0).mean(axis=0), one] for one in k]
    return np.reshape(points, (-1, 3)) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
