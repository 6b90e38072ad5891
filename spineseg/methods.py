"""The segmentation methods by name, and what one image goes through: read, segment, write.

A method is made ready once per process (its weights are read once) and then applied to
any number of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spineseg import __version__
from spineseg.options import params_class
from spineseg.provenance import PeakMemory, sha256_file, weights_of
from spineseg.volume import NativeGrid, Volume, load_image, load_mask, save_volume
from spineseg.writing import file_stem, write_json, write_text

if TYPE_CHECKING:
    from spineseg.foreign import ExistingMasks, Program
    from spineseg.progress import Progress
    from spineseg.segmentation import Segmentation


@dataclass(frozen=True)
class PreparedMethod:
    """A method with its parameters and weights, ready for images.

    Parameters
    ----------
    name : str
    segment : callable
        ``segment(volume, contrast, centerline=..., progress=...)`` returns a Segmentation.
        Of a method that is not ours: ``segment(image, names, volume, grid)``.
    parameters : dict
        As asked for, ready for JSON; part of the key that tells whether a result is still good.
    weights : dict
        File name to SHA-256.
    device : str
    threads : int
    foreign : ExistingMasks or Program, optional
        Where the masks come from, of a method that is not ours.
    """

    name: str
    segment: Callable[..., Segmentation]
    parameters: dict[str, Any]
    weights: dict[str, str]
    device: str = "cpu"
    threads: int = 1
    foreign: ExistingMasks | Program | None = None


@dataclass(frozen=True)
class ImageTask:
    """One image to segment, and the mask to write.

    Parameters
    ----------
    image, output : Path
        Input image; output mask. The sidecar has the mask's name with ``.json``.
    contrast : {"t1", "t2", "t2s", "dwi"}
    bval : Path, optional
        b-values of a diffusion series.
    centerline : Path, optional
        Curve to follow instead of detecting one, NIfTI or CSV.
    masks : dict
        Other drawings of the user on the image's grid: name of the method's option to file.
    soft : bool
        Write probabilities as float32 in place of the binary mask.
    source : str, optional
        How the sidecar names the image; the path by default.
    key : str, optional
        Kept in the sidecar so that a later run can tell whether the result is still good.
    names : dict
        What placeholders stand for (`spineseg.templates`), for methods that are not ours.
    """

    image: Path
    output: Path
    contrast: str
    bval: Path | None = None
    centerline: Path | None = None
    masks: dict[str, Path] = field(default_factory=dict)
    soft: bool = False
    source: str | None = None
    key: str | None = None
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageResult:
    """What became of one image: status, one line of why, and the files written."""

    image: Path
    status: str
    message: str = ""
    mask: Path | None = None
    mask_sha256: str | None = None
    seconds: float | None = 0.0
    peak_mib: float = 0.0
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=())


def prepare_method(
    kind: str,
    params: Any = None,
    *,
    weights: str | None = None,
    device: str = "auto",
    threads: int = 1,
    name: str | None = None,
) -> PreparedMethod:
    """Make a method ready: import it, read its weights, set its threads.

    Parameters
    ----------
    kind : {"propseg", "deepseg"}
    params : PropsegParams or DeepsegParams, optional
        The method's defaults where None.
    weights : str, optional
        The user's own detector (propseg) or networks (deepseg).
    device : {"auto", "cpu", "cuda"}
        deepseg only.
    threads : int
        CPU threads that the method may use.
    name : str, optional
        By which tables and files call it; `kind` by default.

    Raises
    ------
    InputError
        If the method is unknown.
    ModelError
        If the weights cannot be read, or 3-D convolutions are asked of networks that have none.
    """
    params = params_class(kind)() if params is None else params
    digests = weights_of(kind, weights)
    common = {"parameters": asdict(params), "weights": digests, "threads": threads}
    name = name or kind
    if kind == "propseg":
        from spineseg.centerline.detector import load_detector
        from spineseg.propseg import segment as propseg

        detectors: dict[str, Any] = {}

        def segment(volume, contrast, **options):
            if contrast not in detectors:
                detectors[contrast] = load_detector(contrast, weights)
            return propseg.segment_cord(volume, contrast, params, detector=detectors[contrast], **options)

        return PreparedMethod(name, segment, **common)

    from spineseg.deepseg import segment as deepseg
    from spineseg.deepseg.model import Models, load_models

    models = load_models(weights, device=device, threads=threads)
    if isinstance(models, Models):  # SCT's answer by contrast, ours alike for every image
        models = models.for_contrast("any", params.kernel)

    def segment(volume, contrast, **options):
        return deepseg.segment_cord(volume, contrast, params, models=models, **options)

    return PreparedMethod(name, segment, **common, device=models.device)


def segment_file(task: ImageTask, method: PreparedMethod, progress: Progress) -> ImageResult:
    """Segment one image file and write the mask, its by-products and its sidecar, sidecar last.

    Raises
    ------
    InputError
        If the image or one of the user's drawings cannot be used. Nothing has been written then.
    """
    peak = PeakMemory()
    progress.start_image(task.image.name)
    progress.stage("reading")
    volume, grid, drawings = _read_inputs(task)
    if method.foreign is not None:
        progress.stage("segmentation")
        result = method.segment(task.image, task.names, volume, grid)
    else:
        result = method.segment(volume, task.contrast, progress=progress, **drawings)
    progress.stage("writing")
    files = _write_result(task, result, grid)
    progress.end_image(result.status)
    notes = (*grid.notes, *result.notes)
    sidecar = describe_result(task, method, result.status, notes, parameters=result.parameters)
    sidecar["Sources"] += result.sources
    sidecar |= {"MaskSHA256": sha256_file(task.output), "PeakMB": round(result.peak_mib or peak.mib(), 1)}
    sidecar |= _slice_uncertainty(result)
    sidecar |= {"Seconds": round(sum(progress.seconds.values()), 3), "StageSeconds": _rounded(progress.seconds)}
    if method.foreign is not None and not method.foreign.is_timed:  # reading a mask is not what it took to make it
        sidecar |= {"Seconds": None, "StageSeconds": None, "PeakMB": None}
    write_json(sidecar_path(task.output), sidecar)
    return result_from_sidecar(task, sidecar, (*files, sidecar_path(task.output)))


def describe_result(
    task: ImageTask, method: PreparedMethod, status: str, notes: tuple[str, ...], *, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON that lies beside a mask: what made it, from what, and how it went."""
    drawings = {"centerline": task.centerline, **task.masks}
    sources = [task.source or str(task.image), *(str(path) for path in drawings.values() if path)]
    weights = [{"File": name, "SHA256": digest} for name, digest in method.weights.items()]
    made_by = [{"Name": "spineseg", "Version": __version__, "Weights": weights}]
    if method.foreign is not None:
        made_by.append({"Name": method.name, "Version": method.parameters.get("version", "unknown")})
    return {
        "Sources": sources,
        "SpatialReference": "orig",
        "GeneratedBy": made_by,
        "Method": method.name,
        "Contrast": task.contrast,
        "Status": status,
        "Notes": list(notes),
        "Parameters": method.parameters | parameters,
        "Seconds": 0.0,
        "PeakMB": 0.0,
        "Device": method.device,
        "Threads": method.threads,
    } | ({"ContentKey": task.key} if task.key else {})


def result_from_sidecar(task: ImageTask, sidecar: dict[str, Any], files: tuple[Path, ...] = ()) -> ImageResult:
    """Return what a sidecar tells of its image."""
    notes, status = tuple(sidecar["Notes"]), sidecar["Status"]
    return ImageResult(
        task.image,
        status,
        notes[-1] if notes and status != "ok" else "",
        None if status == "failed" else task.output,
        sidecar.get("MaskSHA256"),
        sidecar["Seconds"],
        sidecar["PeakMB"],
        notes,
        files,
    )


def _slice_uncertainty(result: Segmentation) -> dict[str, Any]:
    """Return the method's doubt per slice of the canonical volume, from below; null where there is no mask."""
    if result.uncertainty is None:
        return {}
    # three digits: more would differ between processors
    return {"SliceUncertainty": [None if np.isnan(x) else round(float(x), 3) for x in result.uncertainty]}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    """Milliseconds are enough."""
    return {name: round(value, 3) for name, value in seconds.items()}


def _read_inputs(task: ImageTask) -> tuple[Volume, NativeGrid, dict[str, Any]]:
    """Read the image and what the user drew on it."""
    volume, grid = load_image(task.image, contrast=task.contrast, bval=task.bval)
    drawings: dict[str, Any] = {name: load_mask(path, like=grid)[0].data for name, path in task.masks.items()}
    if task.centerline is not None:
        from spineseg.centerline.curve import load_centerline

        drawings["centerline"] = load_centerline(task.centerline, grid)
    return volume, grid, drawings


def sidecar_path(mask: str | Path) -> Path:
    """Return the path of the JSON beside a mask."""
    return Path(mask).with_name(file_stem(mask) + ".json")


def _write_result(task: ImageTask, result: Segmentation, grid: NativeGrid) -> tuple[Path, ...]:
    """Write the mask (or probabilities) and the by-products; return the files."""
    if task.soft:
        save_volume(task.output, result.cord_prob.clip(0, 1), grid, np.float32)
    else:
        save_volume(task.output, result.cord_mask, grid, np.uint8)
    files = [task.output]
    for ending, content in result.extra.items():
        path = task.output.with_name(file_stem(task.image) + ending)
        if isinstance(content, np.ndarray):
            save_volume(path, content, grid, np.uint8 if content.dtype == bool else content.dtype.type)
        else:
            write_text(path, content)
        files.append(path)
    return tuple(files)
