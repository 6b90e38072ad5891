"""The package from Python: load an image, segment the cord, measure and compare masks, decide on a method.

`spineseg` itself offers these names and imports this module when one of them is first used.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spineseg.bids import parse_name
from spineseg.centerline.curve import Centerline
from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.file_digests import stamps_of
from spineseg.methods.declared import DeclaredMethod
from spineseg.methods.protocol import ImageInput, Method
from spineseg.methods.registry import OWN_METHODS, own_method
from spineseg.metrics.table import Row
from spineseg.segmentation import Segmentation
from spineseg.studyfolder.layout import StudyFolder
from spineseg.volume import NativeGrid, check_same_grid, load_image
from spineseg.volume import load_mask as load_mask_volume
from spineseg.writing import file_stem

if TYPE_CHECKING:
    from spineseg.progress import Progress
    from spineseg.studyfolder.decisions import Decision

__all__ = ["StudyFolder", "compare", "decide", "load", "load_mask", "measure", "segment"]

DEVICES = ("auto", "cpu", "cuda")
"""Devices that networks can run on; auto uses a GPU if there is one."""

PER = ("request", "slice", "level")
"""What one row of measures covers: all requested slices, one slice, or one level."""

SOURCE_OF = {
    ImageInput: "an image from load(path)",
    Segmentation: "a segmentation from segment(image) or load_mask(path)",
    Centerline: "a Centerline, such as segment(image).centerline",
}
"""How to get an object of each type; quoted in error messages."""

Image = ImageInput
"""The type that `load` returns."""


def load(path: str | Path, contrast: str | None = None, *, bval: str | Path | None = None) -> Image:
    """Load an image.

    Parameters
    ----------
    path : str or Path
        NIfTI, or any other format that nibabel reads. A series is averaged over time.
    contrast : {"t1", "t2", "t2s", "dwi"}, optional
        By default taken from the BIDS suffix of the file name, such as ``T2w``.
    bval : str or Path, optional
        b-values of a diffusion series; by default the file beside the series.

    Returns
    -------
    image : Image
        Has ``volume`` (float32, canonical orientation: axis 0 R to L, 1 P to A, 2 I to S), ``grid`` (the file's
        own), ``contrast`` and ``path``.

    Raises
    ------
    InputError
        If the file cannot be used, or neither `contrast` nor the file name gives a known contrast.

    Examples
    --------
    >>> image = load("sub-01_T2star.nii.gz")
    >>> image.contrast, image.volume.shape
    ('t2s', (196, 213, 11))
    """
    path = _path_of(path, "an image")
    if contrast is not None and contrast not in CONTRASTS:
        word = str(contrast)
        near = SUFFIX_CONTRAST.get(word) or (word.lower() if word.lower() in CONTRASTS else None)
        hint = f"; did you mean {near!r}?" if near else ""
        raise InputError(f"contrast={contrast!r}: expected one of {', '.join(CONTRASTS)}{hint}")
    if contrast is None:
        name = parse_name(file_stem(path))
        contrast = SUFFIX_CONTRAST.get(name.suffix) if name else None
    bval = None if bval is None else _path_of(bval, "b-values")
    volume, grid = load_image(path, contrast=contrast, bval=bval)
    if contrast is None:
        raise InputError(f"{path}: its name has no known contrast; give contrast=, one of {', '.join(CONTRASTS)}")
    return ImageInput(path, volume, grid, contrast)


def load_mask(path: str | Path, *, like: Image | Segmentation | None = None, label: int | None = None) -> Segmentation:
    """Load a cord mask, for example a manual one, as the type that `segment` returns.

    Parameters
    ----------
    path : str or Path
    like : Image or Segmentation, optional
        Image or segmentation whose grid the mask must share.
    label : int, optional
        Label of the cord, in a mask with several labels.

    Raises
    ------
    InputError
        If the mask cannot be used.
    GeometryError
        If the mask and `like` have different grids.
    """
    path = _path_of(path, "a mask")
    if like is not None:
        _check_type("like", like, (ImageInput, Segmentation))
    label = None if label is None else _whole_number("label", label)
    volume, grid = load_mask_volume(path, like=like.grid if like else None, label=label)
    mask = volume.data >= 0.5
    return Segmentation(volume.data, mask, None, "ok" if mask.any() else "empty", tuple(grid.notes), grid=grid)


def segment(
    image: Image,
    method: str = "propseg",
    *,
    centerline: Centerline | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: Progress | None = None,
    **options: Any,
) -> Segmentation:
    """Segment the spinal cord.

    Parameters
    ----------
    image : Image
        From `load`.
    method : {"propseg", "deepseg"}
    centerline : Centerline, optional
        Curve to follow instead of a detected centerline.
    device : {"auto", "cpu", "cuda"}
        Device on which the networks run.
    threads : int
    progress : spineseg.progress.Progress, optional
        Receives and prints the stages of the segmentation.
    **options
        Options of the command line, with ``_`` for ``-``: ``max_area=150``, ``thr=0.4``, ``weights="my_networks/"``.

    Returns
    -------
    segmentation : Segmentation
        Mask, status and notes; ``save`` writes it on the image's own grid.

    Raises
    ------
    InputError
        If the method or an option is unknown, or the image cannot be used.

    Examples
    --------
    >>> segmentation = segment(load("sub-01_T2star.nii.gz"), "propseg")
    >>> segmentation.status
    'ok'
    >>> mask, = segmentation.save("sub-01_T2star_seg.nii.gz")
    """
    _check_type("image", image, (ImageInput,))
    if centerline is not None:
        _check_type("centerline", centerline, (Centerline,))
    if device not in DEVICES:
        raise InputError(f"device={device!r}: expected one of {', '.join(DEVICES)}")
    if not isinstance(method, str):
        raise InputError(f"method={method!r}: expected one of {', '.join(OWN_METHODS)}")
    if (threads := _whole_number("threads", threads)) < 1:
        raise InputError(f"threads={threads!r}: expected a whole number of 1 or more")
    if progress is not None and not hasattr(progress, "stage"):
        raise InputError(f"progress: expected a spineseg.progress.Progress, found {type(progress).__name__}")
    if by_file := {"init_centerline", "init-centerline"} & options.keys():
        raise InputError(f"{by_file.pop()}: is an option of the command line; in Python give centerline=, a Centerline")
    # a number of numpy is a number
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    if lists := [name for name, value in options.items() if not isinstance(value, Hashable)]:
        raise InputError(f"{method}: option {lists[0]!r}: expected one value, found {options[lists[0]]!r}")
    own = options.get(own_method(method).weights_option)
    prepared = _prepare(method, tuple(sorted(options.items())), device, threads, stamps_of(own))
    drawings = {"centerline": centerline} if centerline is not None else {}
    result = prepared.segment(replace(image, drawings={**image.drawings, **drawings}), progress)
    return replace(result, grid=image.grid)


@lru_cache(maxsize=4)
def _prepare(
    method: str,
    options: tuple[tuple[str, Any], ...],
    device: str,
    threads: int,
    stamps: tuple[tuple[int, ...], ...],
) -> Method:
    """Prepare a method once, not per image; `stamps` distinguish old and new weights under the same name."""
    return DeclaredMethod(method, method, options=dict(options)).prepare(device=device, threads=threads)


def measure(
    segmentation: Segmentation,
    *,
    soft: bool = False,
    per: str = "request",
    levels: str | None = None,
    discs: str | Path | None = None,
    correction: str = "product",
) -> list[Row]:
    """Measure cross-sectional area and shape.

    Parameters
    ----------
    segmentation : Segmentation
        From `segment` or `load_mask`.
    soft : bool
        Sum `cord_prob` (partial volumes) instead of the voxels of the binary mask.
    per : {"request", "slice", "level"}
        One row for all slices (or for `levels`), one per slice, or one per level.
    levels : str, optional
        Levels to measure, such as ``"2:3"`` or ``"C2-C3"``; needs `discs`.
    discs : str or Path, optional
        Labels of the discs, on the grid of the mask.
    correction : {"product", "exact", "none"}
        Correction for the angle between cord and slice.

    Returns
    -------
    rows : list of dict
        The columns that ``spineseg csa`` prints (docs/measures.md): ``csa_mm2``, ``diameter_ap_mm`` ...
        ``pandas.DataFrame(rows)`` makes a table of them.

    Examples
    --------
    >>> row, = measure(load_mask("sub-01_T2star_label-SC_seg.nii.gz"))
    >>> 30 < row["csa_mm2"] < 110
    True
    """
    from spineseg.levels.files import load_labels
    from spineseg.levels.names import parse_request
    from spineseg.levels.rows import measure_rows
    from spineseg.levels.slices import find_discs
    from spineseg.metrics.shape import CORRECTIONS

    if per not in PER:
        raise InputError(f"per={per!r}: expected one of {', '.join(PER)}")
    if correction not in CORRECTIONS:
        raise InputError(f"correction={correction!r}: expected one of {', '.join(CORRECTIONS)}")
    if levels is not None and not isinstance(levels, str):
        raise InputError(f"levels={levels!r}: expected text, such as 'C2-C3' or '2:3'")
    discs = None if discs is None else _path_of(discs, "disc labels")
    if discs is None and (levels or per == "level"):
        asked = f"levels={levels!r}" if levels else f"per={per!r}"
        raise InputError(f"{asked}: expected discs=, the labels of the discs, found none")
    grid = _grid_of(segmentation)
    return measure_rows(
        segmentation.cord_prob if soft else segmentation.cord_mask,
        grid.zooms,
        per=per,
        requests=[parse_request(levels)] if levels else [],
        discs=None if discs is None else find_discs(load_labels(discs, grid), grid.zooms, str(discs), grid),
        correction=correction,
        source=str(discs),
    )


def compare(
    a: Segmentation, b: Segmentation, *, soft: bool = False, tolerance_mm: float | None = None
) -> dict[str, float]:
    """Compare two masks of one image. If one of them is a reference, give it second.

    Parameters
    ----------
    a, b : Segmentation
        Two segmentations on the same grid.
    soft : bool
        Areas sum `cord_prob` (partial volumes); overlap and distances threshold it at 0.5.
    tolerance_mm : float, mm, optional
        Tolerance of the normalised surface distance; by default 0.5 mm or one voxel in plane.

    Returns
    -------
    values : dict of str to float
        ``dice``, ``hd95_mm``, ``assd_mm``, ``csa_difference_mm2`` ... as ``spineseg dice`` prints them.

    Raises
    ------
    GeometryError
        If the two masks have different grids.
    InputError
        If `a` or `b` is not a segmentation, or `tolerance_mm` is not a length.

    Examples
    --------
    >>> image = load("sub-01_T2star.nii.gz")
    >>> truth = load_mask("sub-01_T2star_label-SC_seg.nii.gz", like=image)
    >>> compare(segment(image), truth)["dice"] > 0.9
    True
    """
    from spineseg.metrics.compare import describe_pair

    check_same_grid(_grid_of(b), _grid_of(a), "the second mask")
    if tolerance_mm is not None and not (isinstance(tolerance_mm, Real) and 0 <= tolerance_mm < math.inf):
        raise InputError(f"tolerance_mm={tolerance_mm!r}: expected a length of 0 mm or more")
    first, second = (one.cord_prob if soft else one.cord_mask for one in (a, b))
    values, _ = describe_pair(first, second, _grid_of(a).zooms, tolerance_mm=tolerance_mm)
    return values


def decide(
    metrics: str | Path,
    agreement: str | Path | None = None,
    *,
    slices: str | Path | None = None,
    levels: str | Path | None = None,
    methods: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Decision:
    """Decide which method a study keeps, from the tables of its pilot.

    Parameters
    ----------
    metrics, agreement, slices, levels : str or Path
        ``metrics.tsv``, ``agreement.tsv``, ``slices.tsv.gz`` and ``levels.tsv`` (docs/outputs.md).
    methods : sequence of str
        Methods in the order that breaks ties; by default the methods in the table.
    settings : mapping, optional
        The same settings as under the config key ``decision``.

    Returns
    -------
    decision : Decision
        Has ``method``, ``verdict`` and the whole ``document``.

    Raises
    ------
    InputError
        If a table or a setting cannot be used.
    """
    from spineseg.decision.from_files import Question, decide_from_files
    from spineseg.decision.params import DecisionParams
    from spineseg.study.configuration import complete_document
    from spineseg.studyfolder.decisions import Decision

    if settings is not None and not isinstance(settings, Mapping):
        raise InputError(f"settings: expected a mapping, such as {{'aim': 'groups'}}, found {type(settings).__name__}")
    if isinstance(methods, str):
        raise InputError(f"methods={methods!r}: expected a list of names, such as [{methods!r}]")
    checked = complete_document({"dataset": "library", "decision": dict(settings or {})})["decision"]
    tables = (metrics, *(table for table in (agreement, slices, levels) if table is not None))
    for table in tables:
        _path_of(table, "a table")
    question = Question(methods=methods, params=DecisionParams.from_config(checked), fitted=tuple(OWN_METHODS))
    return Decision.from_json(decide_from_files(metrics, agreement, slices=slices, levels=levels, question=question))


def _grid_of(segmentation: Segmentation) -> NativeGrid:
    """Return the grid of a segmentation. Segmentations inside a method have none."""
    _check_type("mask", segmentation, (Segmentation,))
    if segmentation.grid is None:
        raise InputError("this segmentation knows no grid; take it from spineseg.segment or load_mask")
    return segmentation.grid


def _whole_number(name: str, value: object) -> int:
    """Return a whole number of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name}={value!r}: expected a whole number")
    return int(value)


def _path_of(value: str | Path, what: str) -> Path:
    """Return a path, refusing an image, an array or a table in memory."""
    if not isinstance(value, str | os.PathLike):
        advice = "name a file in it" if isinstance(value, StudyFolder) else "save it to a file first"
        raise InputError(f"expected the path of {what}, found {type(value).__name__}; {advice}")
    return Path(value)


def _check_type(name: str, value: object, kinds: tuple[type, ...]) -> None:
    """Raise an error if a value is not of the expected types: a loaded image, a segmentation or a curve."""
    if not isinstance(value, kinds):
        due = " or ".join(SOURCE_OF[kind] for kind in kinds)
        raise InputError(f"{name}: expected {due}, found {type(value).__name__}")
