"""Names of a BIDS dataset: entities of an image file, and the paths of its derivatives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

IMAGE_EXTENSIONS = (".nii.gz", ".nii")
DATATYPES = ("anat", "dwi", "func")
"""Folders of a subject that can hold images of the cord; ``fmap`` and others hold none."""

_NAME = re.compile(r"sub-(?P<subject>[A-Za-z0-9+]+)(?P<rest>(?:_[a-zA-Z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)")
_SUFFIX_DATATYPES = {"dwi": ("dwi",), "bold": ("func",), "sbref": ("func", "dwi")}


@dataclass(frozen=True)
class ImageName:
    """The name of an image file, split into its parts.

    Parameters
    ----------
    stem : str
        File name without ``.nii`` or ``.nii.gz``; identifies the image in a study.
    subject : str
        Without ``sub-``.
    suffix : str
        Last part of the stem, such as ``T2w``.
    entities : dict of str to str
        Key and value of every other part, in the order of the name (``ses``, ``acq``, ``run``, ...).
    """

    stem: str
    subject: str
    suffix: str
    entities: dict[str, str]

    @property
    def session(self) -> str:
        """Session without ``ses-``; empty when there is none."""
        return self.entities.get("ses", "")

    @property
    def run(self) -> str:
        """Run as written in the name; empty when there is none."""
        return self.entities.get("run", "")


def image_stem(path: str | Path) -> str | None:
    """Return the file name without its image extension, or None if it is not a NIfTI name.

    Examples
    --------
    >>> image_stem("sub-01/anat/sub-01_T2w.nii.gz"), image_stem("sub-01_dwi.bval")
    ('sub-01_T2w', None)
    """
    name = Path(path).name
    return next((name[: -len(end)] for end in IMAGE_EXTENSIONS if name.endswith(end)), None)


def parse_name(stem: str) -> ImageName | None:
    """Split a stem into its entities, or return None if it does not follow BIDS.

    Examples
    --------
    >>> name = parse_name("sub-01_ses-2_acq-sag_run-1_T2w")
    >>> name.subject, name.session, name.run, name.suffix
    ('01', '2', '1', 'T2w')
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    pairs = [part.split("-", 1) for part in match["rest"].split("_")[1:]]
    entities = dict(pairs)
    if len(entities) < len(pairs):
        return None
    return ImageName(stem, match["subject"], match["suffix"], entities)


FORMS = ("rec", "desc", "proc", "space", "res", "echo", "part")
"""Entities that distinguish forms of one acquisition: reconstruction, processing, echoes."""

AVERAGES = ("mean", "average", "avg", "moco")
"""Endings of values of other entities that people use for the average of a series."""


def acquisition_of(stem: str) -> str:
    """Return a name that the forms of one acquisition share, such as a series and its own average.

    Examples
    --------
    >>> acquisition_of("sub-01_rec-average_dwi"), acquisition_of("sub-01_acq-mean_run-1_bold")
    ('sub-01_dwi', 'sub-01_run-1_bold')
    >>> acquisition_of("sub-01_acq-sag_run-2_T2w")  # an acquisition of its own
    'sub-01_acq-sag_run-2_T2w'
    """
    name = parse_name(stem)
    if name is None:
        return stem
    parts = [f"sub-{name.subject}"]
    for key, value in name.entities.items():
        if key in FORMS:
            continue
        ending = next((end for end in AVERAGES if value.lower().endswith(end)), "") if key == "acq" else ""
        rest = value[: len(value) - len(ending)]
        parts += [f"{key}-{rest}"] if rest else []
    return "_".join([*parts, name.suffix])


def format_stem(subject: str, suffix: str, *, session: str = "", run: str = "") -> str:
    """Return the stem of an image of one person, for files whose own name is not BIDS.

    Examples
    --------
    >>> format_stem("01", "T2w", session="2")
    'sub-01_ses-2_T2w'
    """
    parts = [f"sub-{subject}", f"ses-{session}" if session else "", f"run-{run}" if run else "", suffix]
    return "_".join(part for part in parts if part)


def datatype_of(suffix: str) -> str:
    """Return the usual folder of images of a suffix: ``anat``, ``dwi`` or ``func``."""
    return datatypes_of(suffix)[0]


def datatypes_of(suffix: str) -> tuple[str, ...]:
    """Return the folders that BIDS allows for images of a suffix, the usual one first."""
    return _SUFFIX_DATATYPES.get(suffix, ("anat",))


def image_folder(subject: str, session: str, datatype: str) -> Path:
    """Return the folder of an image inside a dataset, such as ``sub-01/ses-2/anat``."""
    return Path(f"sub-{subject}", *([f"ses-{session}"] if session else []), datatype)


def derivative_path(image_id: str, subject: str, session: str, datatype: str, method: str | None = None) -> Path:
    """Return the path of an image's cord mask inside a derivative dataset.

    Parameters
    ----------
    image_id, subject, session, datatype : str
        Of the image; an empty string if there is no session.
    method : str, optional
        Method of the mask. Without it, the path is that of the kept mask, which other tools of the field look for.

    Examples
    --------
    >>> derivative_path("sub-01_T2w", "01", "", "anat", "propseg").as_posix()
    'sub-01/anat/sub-01_T2w_desc-propseg_label-SC_seg.nii.gz'
    >>> derivative_path("sub-01_T2w", "01", "", "anat").as_posix()
    'sub-01/anat/sub-01_T2w_label-SC_seg.nii.gz'
    """
    described = f"_desc-{method}" if method else ""
    return image_folder(subject, session, datatype) / f"{image_id}{described}_label-SC_seg.nii.gz"


def sidecar_path(mask: str | Path) -> Path:
    """Return the JSON file beside an image.

    Examples
    --------
    >>> sidecar_path("sub-01_T2w_label-SC_seg.nii.gz").name
    'sub-01_T2w_label-SC_seg.json'
    """
    mask = Path(mask)
    return mask.with_name(f"{image_stem(mask) or mask.stem}.json")
