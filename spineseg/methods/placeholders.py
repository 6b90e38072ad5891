"""Paths and commands with placeholders in braces, filled in for each image.

``{subject}`` is ``sub-01`` and ``{session}`` is ``ses-2``; ``sub-{subject}`` and ``ses-{session}`` say the same.
Where an image has no session or run, the placeholder goes with the ``_``, ``/`` and ``ses-`` before it, so that one
template serves datasets with and without sessions.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.errors import InputError

if TYPE_CHECKING:
    from spineseg.studyfolder.images import StudyImage

IMAGE_NAMES = ("subject", "session", "run", "suffix", "datatype", "contrast", "image_id", "stem")
"""Placeholders that every template may hold; `stem` is the image's file name without extension."""

COMMAND_NAMES = (*IMAGE_NAMES, "image", "mask", "folder", "threads", "bval")
"""Placeholders of commands: files, and the processors that may be used."""

_PREFIX = {"subject": "sub-", "session": "ses-", "run": "run-"}


def placeholders(template: str) -> list[str]:
    """Return the names in braces; ``{{`` and ``}}`` stand for braces.

    Examples
    --------
    >>> placeholders("x/{subject}/{image_id}.nii.gz {{y}}")
    ['subject', 'image_id']

    Raises
    ------
    InputError
        If a brace is not closed.
    """
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise InputError(f"expected placeholders such as {{subject}}, found {template!r} ({error})") from error


def image_names(image: StudyImage) -> dict[str, str]:
    """Return what the placeholders of an image of the study stand for."""
    return {name: getattr(image, name) for name in (*IMAGE_NAMES, "bval")}


def fill_path(template: str, names: Mapping[str, str]) -> Path:
    """Return the path of an image.

    Examples
    --------
    >>> names = {"subject": "01", "session": "", "suffix": "T2w", "image_id": "sub-01_T2w"}
    >>> fill_path("sct/{subject}/{session}/anat/{image_id}_seg.nii.gz", names).as_posix()
    'sct/sub-01/anat/sub-01_T2w_seg.nii.gz'
    >>> fill_path("sub-{subject}_ses-{session}_{suffix}.nii", names | {"session": "2"}).as_posix()
    'sub-01_ses-2_T2w.nii'
    """
    return Path(_fill(template, names))


def fill_command(template: str, names: Mapping[str, str]) -> str:
    """Return the command for an image, each value quoted for the shell.

    Examples
    --------
    >>> fill_command("tool -i {image} -c {contrast}", {"image": "/a b/x.nii", "contrast": "t2"})
    "tool -i '/a b/x.nii' -c t2"
    """
    return _fill(template, names, quote=True)


def _fill(template: str, names: Mapping[str, str], *, quote: bool = False) -> str:
    """Replace the placeholders; an absent session or run goes with what leads to it."""
    filled = ""
    for literal, name, _, _ in string.Formatter().parse(template):
        filled += literal
        if name is None:
            continue
        value, prefix = names.get(name, ""), _PREFIX.get(name, "")
        if not value and prefix:
            filled = re.sub(rf"[_/]?(?:{prefix})?$", "", filled)
        elif prefix and not filled.endswith(prefix):
            value = prefix + value
        filled += shlex.quote(value) if quote and value else value
    return filled
