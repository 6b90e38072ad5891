"""The segmentation methods by name, and what one image goes through: read, segment, write.

A method is made ready once per process (its weights are read once) and then applied to
any number of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spineseg.errors import InputError
from spineseg.provenance import PeakMemory, build_sidecar, sha256_file, weights_of
from spineseg.volume import NativeGrid, file_stem, load_image, load_mask, save_volume
from spineseg.writing import write_json, write_text

if TYPE_CHECKING:
    from spineseg.progress import Progress
    from spineseg.segmentation import Segmentation

METHODS = ("propseg", "deepseg")


@dataclass(frozen=True)
class PreparedMethod:
    """A method with its parameters and weights, ready for images.

    Parameters
    ----------
    name : str
    segment : callable
        ``segment(volume, contrast, centerline=..., progress=...)`` returns a Segmentation.
    parameters : dict
        As asked for, ready for JSON; part of the key that tells whether a result is still good.
    weights : dict
        File name to SHA-256.
    device : str
    threads : int
    """

    name: str
    segment: Callable[..., Segmentation]
    parameters: dict[str, Any]
    weights: dict[str, str]
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class ImageResult:
    """What became of one image: status, one line of why, and the files written."""

    image: Path
    status: str
    message: str = ""
    mask: Path | None = None
    mask_sha256: str | None = None
    seconds: float = 0.0
    peak_mib: float = 0.0
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=())


def params_class(method: str) -> type:
    """Return the parameter dataclass of a method, importing only that method."""
    if method == "propseg":
        from spineseg.propseg.segment import PropsegParams

        return PropsegParams
    if method == "deepseg":
        from spineseg.deepseg.segment import DeepsegParams

        return DeepsegParams
    raise InputError(f"method {method!r}: expected one of {', '.join(METHODS)}")


def params_from_dict(method: str, values: dict[str, Any]) -> Any:
    """Build a method's parameters from names and values, refusing names it does not have."""
    cls = params_class(method)
    known = {f.name for f in fields(cls)}
    for name in values:
        if name not in known:
            raise InputError(f"{method} parameter {name!r}: expected one of {', '.join(sorted(known))}")
    return cls(**values)


def prepare_method(
    name: str, params: Any = None, *, weights: str | None = None, device: str = "auto", threads: int = 1
) -> PreparedMethod:
    """Make a method ready: import it, read its weights, set its threads.

    Parameters
    ----------
    name : {"propseg", "deepseg"}
    params : PropsegParams or DeepsegParams, optional
        The method's defaults where None.
    weights : str, optional
        The user's own detector (propseg) or networks (deepseg).
    device : {"auto", "cpu", "cuda"}
        deepseg only.
    threads : int
        CPU threads that the method may use.

    Raises
    ------
    InputError
        If the method is unknown.
    ModelError
        If the weights cannot be read.
    """
    params = params_class(name)() if params is None else params
    digests = weights_of(name, weights)
    common = {"parameters": asdict(params), "weights": digests, "threads": threads}
    if name == "propseg":
        from spineseg.centerline.detector import load_detector
        from spineseg.propseg import segment as propseg

        detectors: dict[str, Any] = {}

        def segment(volume, contrast, **options):
            if contrast not in detectors:
                detectors[contrast] = load_detector(contrast, weights)
            return propseg.segment_cord(volume, contrast, params, detector=detectors[contrast], **options)

        return PreparedMethod(name, segment, **common)

    import torch

    from spineseg.deepseg import segment as deepseg
    from spineseg.deepseg.model import load_models

    torch.set_num_threads(threads)
    models = load_models(weights, device=device)

    def segment(volume, contrast, **options):
        return deepseg.segment_cord(volume, contrast, params, models=models, **options)

    return PreparedMethod(name, segment, **common, device=models.device)


def segment_file(
    image: str | Path,
    output: str | Path,
    method: PreparedMethod,
    contrast: str,
    *,
    bval: str | Path | None = None,
    centerline: str | Path | None = None,
    masks: dict[str, Path] | None = None,
    soft: bool = False,
    source: str | None = None,
    key: str | None = None,
    progress: Progress,
) -> ImageResult:
    """Segment one image file and write the mask, its by-products and its sidecar, sidecar last.

    Parameters
    ----------
    image, output : path
        Input image; output mask. The sidecar has the mask's name with ``.json``.
    method : PreparedMethod
    contrast : {"t1", "t2", "t2s", "dwi"}
    bval : path, optional
        b-values of a diffusion series.
    centerline : path, optional
        Curve to follow instead of detecting one, NIfTI or CSV.
    masks : dict, optional
        Other drawings of the user on the image's grid: name of the method's option to file.
    soft : bool
        Write probabilities as float32 in place of the binary mask.
    source : str, optional
        How the sidecar names the image; the path by default.
    key : str, optional
        Kept in the sidecar so that a later run can tell whether the result is still good.
    progress : Progress

    Raises
    ------
    InputError
        If the image or the centerline cannot be used. Nothing has been written then.
    """
    image, output = Path(image), Path(output)
    peak = PeakMemory()
    progress.start_image(image.name)
    progress.stage("reading")
    volume, grid = load_image(image, contrast=contrast, bval=bval)
    options: dict[str, Any] = {"progress": progress}
    if centerline is not None:
        from spineseg.centerline.curve import load_centerline

        options["centerline"] = load_centerline(centerline, grid)
    for name, path in (masks or {}).items():
        options[name] = load_mask(path, like=grid)[0].data
    result = method.segment(volume, contrast, **options)
    progress.stage("writing")
    files = _write_result(output, result, grid, image, soft=soft)
    progress.end_image(result.status)
    notes = (*grid.notes, *result.notes)
    sidecar = build_sidecar(
        sources=[source or str(image)],
        method=method.name,
        contrast=contrast,
        status=result.status,
        notes=notes,
        parameters=method.parameters | result.parameters,
        weights=method.weights,
        seconds=progress.seconds,
        peak_mib=peak.mib(),
        device=method.device,
        threads=method.threads,
    )
    digest = sha256_file(output)
    sidecar |= {"MaskSHA256": digest} | ({"ContentKey": key} if key else {})
    write_json(sidecar_path(output), sidecar)
    return ImageResult(
        image,
        result.status,
        notes[-1] if notes and result.status != "ok" else "",
        output,
        digest,
        sidecar["Seconds"],
        sidecar["PeakMB"],
        notes,
        (*files, sidecar_path(output)),
    )


def sidecar_path(mask: str | Path) -> Path:
    """Return the path of the JSON beside a mask."""
    return Path(mask).with_name(file_stem(mask) + ".json")


def _write_result(output: Path, result: Segmentation, grid: NativeGrid, image: Path, *, soft: bool) -> tuple[Path, ...]:
    """Write the mask (or probabilities) and the by-products; return the files."""
    if soft:
        save_volume(output, result.cord_prob.clip(0, 1), grid, np.float32)
    else:
        save_volume(output, result.cord_mask, grid, np.uint8)
    files = [output]
    for ending, content in result.extra.items():
        path = output.with_name(file_stem(image) + ending)
        if isinstance(content, np.ndarray):
            save_volume(path, content, grid, np.uint8 if content.dtype == bool else content.dtype.type)
        else:
            write_text(path, content)
        files.append(path)
    return tuple(files)
