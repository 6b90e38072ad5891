"""Subjects and images that a study leaves out, and why."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spineseg.bids import image_stem
from spineseg.errors import InputError

NO_REASON = "no reason given"


def read_exclusions(excluded: Any) -> dict[str, str]:
    """Return what is excluded and why.

    Parameters
    ----------
    excluded : None, list, mapping, or path of a file
        A list holds names or ``{id, reason}``; a mapping goes from name to reason. A TSV file has the
        columns id and reason; a YAML file holds a list, a mapping, or named lists as the exclude.yml of
        spine-generic and the ``qc_fail.yml`` of the Spinal Cord Toolbox do (the list's name is the reason).

    Returns
    -------
    reasons : dict of str to str
        A name is a subject (``01``, ``sub-01``), a subject and session (``sub-01_ses-2``), or an
        image (stem or file name); see `exclusion_reason`.

    Raises
    ------
    InputError
        If the file is missing or of another form.
    """
    if excluded is None:
        return {}
    if isinstance(excluded, str):
        return _read_file(Path(excluded))
    if isinstance(excluded, dict):
        return {_normalise(name): reason or NO_REASON for name, reason in excluded.items()}
    entries = [entry if isinstance(entry, dict) else {"id": entry} for entry in excluded]
    return {_normalise(entry["id"]): entry.get("reason") or NO_REASON for entry in entries}


def exclusion_reason(image_id: str, subject: str, reasons: Mapping[str, str]) -> str | None:
    """Return why an image is excluded, or None where it is not.

    Examples
    --------
    >>> exclusion_reason("sub-01_ses-2_T2w", "01", {"sub-01_ses-2": "motion"})
    'motion'
    >>> exclusion_reason("sub-011_T2w", "011", {"sub-01": "withdrew"}) is None
    True
    """
    names = (name for name in reasons if name in (image_id, subject) or f"{image_id}_".startswith(f"{name}_"))
    name = next(names, None)
    return None if name is None else reasons[name]


def _normalise(name: object) -> str:
    """Reduce a file name or path to the stem of its image."""
    base = str(name).rsplit("/", 1)[-1]
    return image_stem(base) or base


def _read_file(path: Path) -> dict[str, str]:
    """Read exclusions from a TSV or YAML file."""
    if not path.is_file():
        raise InputError(f"config key 'excluded': expected a file, found none at {path}")
    if path.suffix == ".tsv":
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        if any("id" not in row for row in rows):
            raise InputError(f"{path}: expected the columns id and reason, found {', '.join(rows[0])}")
        return {_normalise(row["id"]): row.get("reason") or NO_REASON for row in rows}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not a YAML file ({str(error).splitlines()[0]})") from error
    if isinstance(content, str) or not isinstance(content, list | dict | None):
        raise InputError(f"{path}: expected a list or a mapping of subjects and images, found {content!r}")
    if isinstance(content, dict) and any(isinstance(value, list) for value in content.values()):
        return {
            _normalise(name): f"listed under {title} in {path.name}"
            for title, names in content.items()
            for name in names or []
        }
    return read_exclusions(content)
