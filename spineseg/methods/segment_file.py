"""Process one image file: read it, segment it, write the mask and its sidecar."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spineseg.bids import sidecar_path
from spineseg.errors import InputError, KilledError, MachineError, ModelError, OutputError, find_shortage
from spineseg.methods.protocol import ImageInput, Method
from spineseg.provenance import PeakMemory
from spineseg.segmentation import Segmentation
from spineseg.studyfolder.sidecars import Sidecar, write_sidecar
from spineseg.volume import load_image, load_mask
from spineseg.writing import all_or_none, file_stem

if TYPE_CHECKING:
    from spineseg.progress import Progress


@dataclass(frozen=True)
class ImageTask:
    """One image to segment, and the mask to write.

    Parameters
    ----------
    image, output : Path
        Input image and output mask. The sidecar has the mask's name, ending in ``.json``.
    contrast : {"t1", "t2", "t2s", "dwi"}
    bval : Path, optional
        b-values of a diffusion series.
    centerline : Path, optional
        Curve to follow instead of detecting one, NIfTI or CSV.
    masks : dict
        Other drawings of the user on the image's grid: name of the method's option to file.
    soft : bool
        Write probabilities as float32 instead of the binary mask.
    key : str
        Stored in the sidecar so that a later run can see whether the result is still valid.
    names : dict
        Values of the placeholders, for methods that are not ours.
    """

    image: Path
    output: Path
    contrast: str
    bval: Path | None = None
    centerline: Path | None = None
    masks: Mapping[str, Path] = field(default_factory=dict)
    soft: bool = False
    key: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageResult:
    """Result of one image.

    Parameters
    ----------
    task : ImageTask
    sidecar : Sidecar
        Status, notes, seconds and everything else that is recorded about the mask.
    files : tuple of Path
        The files written, the mask first.
    image : ImageInput or None
    segmentation : Segmentation or None
        Image and segmentation in memory; None if an earlier result was reused or the image failed.
    """

    task: ImageTask
    sidecar: Sidecar
    files: tuple[Path, ...] = ()
    image: ImageInput | None = None
    segmentation: Segmentation | None = None


def segment_file(task: ImageTask, method: Method, progress: Progress) -> ImageResult:
    """Segment one image file and write the mask, its by-products and its sidecar, sidecar last.

    Raises
    ------
    InputError
        If the image or one of the user's drawings cannot be used. In that case nothing is written.
    """
    peak = PeakMemory()
    progress.start_image(task.image.name)
    progress.stage("reading")
    image = _read_input(task)
    progress.stage("segmentation")
    result = method.segment(image, progress)
    progress.stage("writing")
    with all_or_none(sidecar_path(task.output)):
        files, mask_sha256 = result.write(task.output, image.grid, file_stem(task.image), soft=task.soft)
        progress.end_image(result.status)
        sidecar = describe_result(task, method, result.status, (*image.grid.notes, *result.notes))
        sidecar = replace(
            sidecar,
            made_by=replace(sidecar.made_by, parameters={**sidecar.made_by.parameters, **result.parameters}),
            sources=(*sidecar.sources, *result.sources),
            mask_sha256=mask_sha256,
            slice_uncertainty=_slice_uncertainty(result),
        )
        if method.is_timed:
            sidecar = replace(
                sidecar,
                seconds=round(sum(progress.seconds.values()), 3),
                peak_mb=round(result.peak_mib or peak.mib(), 1),
                stage_seconds={name: round(value, 3) for name, value in progress.seconds.items()},
            )
        files = (*files, write_sidecar(task.output, sidecar))
    return ImageResult(task, sidecar, files, image, result)


def segment_or_explain(task: ImageTask, method: Method, progress: Progress) -> ImageResult:
    """Segment one image file; if that fails, write a sidecar without a mask that gives the reason.

    Errors that are not the image's fault are raised and not recorded.

    Raises
    ------
    MachineError
        If memory or disk space is missing.
    ModelError
        If the weights cannot be used.
    KilledError
        If the system killed a program for lack of memory.
    """
    try:
        return segment_file(task, method, progress)
    except (ModelError, KilledError):
        raise
    except Exception as error:  # one image must not stop the study; the sidecar and the log give the reason
        if shortage := find_shortage(error):
            name = "" if isinstance(shortage, OutputError) else f"{task.image.name}: "
            raise MachineError(f"{name}{shortage}") from error
        progress.end_image("failed")
        if not isinstance(error, InputError):
            traceback.print_exc(file=sys.stderr)
        message = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        return explain_failure(task, method, message)


def explain_failure(task: ImageTask, method: Method, message: str) -> ImageResult:
    """Write a sidecar without a mask that gives the reason why an image failed."""
    task.output.unlink(missing_ok=True)
    sidecar = describe_result(task, method, "failed", (" ".join(message.split()),))
    return ImageResult(task, sidecar, (write_sidecar(task.output, sidecar),))


def describe_result(task: ImageTask, method: Method, status: str, notes: tuple[str, ...]) -> Sidecar:
    """Return the sidecar of a mask: what made it, its sources, its status and notes."""
    drawings = {"centerline": task.centerline, **task.masks}
    return Sidecar(
        method=method.name,
        contrast=task.contrast,
        status=status,
        made_by=method.made_by,
        maker=method.maker,
        sources=(str(task.image), *(str(path) for path in drawings.values() if path)),
        notes=notes,
        key=task.key,
        device=method.device,
        threads=method.threads,
    )


def _read_input(task: ImageTask) -> ImageInput:
    """Read the image and the user's drawings on its grid."""
    volume, grid = load_image(task.image, contrast=task.contrast, bval=task.bval)
    drawings: dict[str, Any] = {
        name: load_mask(path, like=grid, any_positive=True)[0].data for name, path in task.masks.items()
    }
    if task.centerline is not None:
        from spineseg.centerline.curve import load_centerline

        drawings["centerline"] = load_centerline(task.centerline, grid)
    return ImageInput(task.image, volume, grid, task.contrast, task.names, drawings)


def _slice_uncertainty(result: Segmentation) -> tuple[float | None, ...] | None:
    """Return the uncertainty of each slice, from inferior to superior; None if the method gives none."""
    if result.uncertainty is None:
        return None
    # three digits: further ones differ between processors
    return tuple(None if np.isnan(x) else round(float(x), 3) for x in result.uncertainty)
