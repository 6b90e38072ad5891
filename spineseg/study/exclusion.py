"""Subjects and images that a study leaves out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spineseg.bids import image_stem
from spineseg.errors import InputError
from spineseg.reading import read_table, read_yaml

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
    if path.suffix.lower() in (".tsv", ".csv"):
        reasons = {}
        for line, row in read_table(path, ("id",), what="a table with the columns id and reason"):
            if not row["id"]:
                raise InputError(f"{path}, line {line}: id is empty; name a subject or an image")
            reasons[_normalise(row["id"])] = row.get("reason") or NO_REASON
        return reasons
    content = read_yaml(path)
    if content is not None and not isinstance(content, list | dict):
        raise InputError(f"{path}: expected a list or a mapping of subjects and images, found {str(content)[:60]!r}")
    if isinstance(content, dict) and any(isinstance(value, list) for value in content.values()):
        return {
            _normalise(_name(name, path)): f"listed under {title} in {path.name}"
            for title, names in content.items()
            for name in (names if isinstance(names, list) else [names] if names else [])
        }
    if isinstance(content, dict):
        return {_normalise(_name(name, path)): _reason(reason, path) for name, reason in content.items()}
    reasons = {}
    for entry in content or ():
        if isinstance(entry, dict):
            if "id" not in entry or entry.keys() - {"id", "reason"}:
                raise InputError(f"{path}: expected items with id and reason, found {str(entry)[:60]!r}")
            reasons[_normalise(_name(entry["id"], path))] = _reason(entry.get("reason"), path)
        else:
            reasons[_normalise(_name(entry, path))] = NO_REASON
    return reasons


def _name(value: Any, path: Path) -> str:
    """Return a subject or an image; YAML reads 01 as the number 1, which would exclude nobody without a word."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{path}: expected names of subjects and images, found {str(value)[:60]!r}; put it in quotes")
    return value.strip()


def _reason(value: Any, path: Path) -> str:
    """Return a reason."""
    if value is not None and not isinstance(value, str):
        raise InputError(f"{path}: expected a reason in words, found {str(value)[:60]!r}; put it in quotes")
    return value or NO_REASON
