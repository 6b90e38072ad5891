"""Paths and commands with placeholders in braces, filled in for each image.

``{subject}`` is ``sub-01`` and ``{session}`` is ``ses-2``; ``sub-{subject}`` and ``ses-{session}`` mean the same.
If an image has no session or run, the placeholder is removed together with the ``_``, ``/`` and ``ses-`` before it,
so that one template serves datasets with and without sessions.

In a command, names never become part of the text that the shell parses: each placeholder becomes a variable in
double quotes, and its value goes into the environment. A command that would defeat this is refused when the
configuration is read.
"""

from __future__ import annotations

import re
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
"""Placeholders that a command may hold: also files and the number of CPU threads."""

_VARIABLE = "SPINESEG_"
"""Prefix of the environment variables that hold the values of placeholders."""

_MARK = "\x01"
"""Stands for a placeholder while a command is checked."""

_SHELL_C = r"\b(?:ba|da|z|k|tc|c)?sh\s+(?:-\w+\s+)*-\w*c\b"

_BEGINS = (
    r"(?:^|[;|&({\n]|\b(?:exec|command|builtin|sudo|env|nohup|time|then|do|else|if|while|until)\s)"
    r"\s*(?:\w+=\S*\s+)*(?:[^\s;|&()]*/)?"
)
"""Pattern of the text that may precede the name of a command."""

_INNER_SHELL = re.compile(
    "|".join(
        (
            rf"{_SHELL_C}\s+(?:\\.|[^\s;|&])*{_MARK}",
            rf"{_MARK}.*\b(?:xargs|parallel)\b.*{_SHELL_C}",
            rf"\beval\b[^;|&\n]*{_MARK}",
            rf"{_BEGINS}(?:trap|let|declare|typeset|local|unset|read|source|\.|ssh|su|runuser|watch|parallel)\s[^;|&\n]*{_MARK}",
            rf"{_BEGINS}(?:python[\d.]*|perl|ruby|node|php|lua|Rscript|octave)\s+(?:-\S+\s+)*-\w*[cer]\s*{_MARK}",
            rf"{_BEGINS}(?:[gmn]?awk|sed)\s+(?:-\S+\s+)*{_MARK}",
            rf"\[\[?(?=[^\]]*\s-(?:eq|ne|lt|le|gt|ge|v)\s)[^\]]*{_MARK}",
        )
    ),
    re.DOTALL,
)
"""Patterns that would execute a name as code: another shell, here or on another machine, a builtin that evaluates its
arguments, an interpreter that takes its program from the command line, a comparison of numbers."""

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
    """Return the values of the placeholders for an image of the study."""
    return {name: getattr(image, name) for name in (*IMAGE_NAMES, "bval", "reference")}


def fill_path(template: str, names: Mapping[str, str]) -> Path:
    """Return the path that a template gives for an image.

    Examples
    --------
    >>> names = {"subject": "01", "session": "", "suffix": "T2w", "image_id": "sub-01_T2w"}
    >>> fill_path("sct/{subject}/{session}/anat/{image_id}_seg.nii.gz", names).as_posix()
    'sct/sub-01/anat/sub-01_T2w_seg.nii.gz'
    >>> fill_path("sub-{subject}_ses-{session}_{suffix}.nii", names | {"session": "2"}).as_posix()
    'sub-01_ses-2_T2w.nii'
    """
    return Path(_fill(template, names))


def fill_command(template: str, names: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the command for an image and the environment variables with its values.

    Examples
    --------
    >>> fill_command("tool -i {image} -c {contrast}", {"image": "/a b/x.nii", "contrast": "t2"})
    ('tool -i "$SPINESEG_image" -c "$SPINESEG_contrast"', {'SPINESEG_image': '/a b/x.nii', 'SPINESEG_contrast': 't2'})
    """
    used = [name for name in placeholders(template) if names.get(name)]
    return _fill(template, names, in_shell=True), {_VARIABLE + name: names[name] for name in used}


def check_command(template: str) -> None:
    """Refuse a command in which a placeholder would be split into several words or executed as code.

    Raises
    ------
    InputError
        If a placeholder stands in quotes, in backticks, in a comment, in arithmetic, after a backslash or ``$``, or
        within the text of another shell; or if the command holds a here-document.
    """
    text = "".join(
        literal + (_MARK if name is not None else "") for literal, name, _, _ in string.Formatter().parse(template)
    )
    quote, escaped, before = "", False, " "
    for letter in text:
        if letter == _MARK and (quote or escaped or before == "$"):
            place = {"": f"after {before}", "#": "in a comment"}.get(quote, f"within {quote}")
            raise InputError(
                f"expected placeholders as separate words, found one {place} in {template!r}; "
                "take it out: names with blanks and quotes arrive whole as it is"
            )
        if escaped:
            escaped = False
        elif letter == "\\" and quote not in ("'", "#"):
            escaped = True
        elif quote == "#":
            quote = "" if letter == "\n" else quote
        elif letter == quote:
            quote = ""
        elif not quote and (letter in "'\"`" or (letter == "#" and (before.isspace() or before in ";|&()"))):
            quote = letter
        before = letter
    if "<<" in text.replace("<<<", ""):
        raise InputError(f"expected a command without here-documents, found {template!r}; write a script and call it")
    if re.search(rf"\(\([^)]*{_MARK}|\$\{{[^}}]*{_MARK}|\$\[[^\]]*{_MARK}", text):
        raise InputError(f"expected placeholders outside of arithmetic and ${{...}}, found {template!r}; take them out")
    if _INNER_SHELL.search(text):
        raise InputError(
            f"expected placeholders where nothing reads them as commands, found {template!r}; "
            "write a script and call it with them as arguments"
        )


def _fill(template: str, names: Mapping[str, str], *, in_shell: bool = False) -> str:
    """Replace the placeholders; an absent session or run is removed together with the prefix before it."""
    filled = ""
    for literal, name, _, _ in string.Formatter().parse(template):
        filled += literal
        if name is None:
            continue
        value, prefix = names.get(name, ""), _PREFIX.get(name, "")
        if not value and prefix:
            filled = re.sub(rf"[_/]?(?:{prefix})?$", "", filled)
        elif prefix and not filled.endswith(prefix):
            filled += prefix
        filled += f'"${_VARIABLE}{name}"' if in_shell and value else value
    return filled
