"""Images for which a person keeps another method's mask than the study's: off unless the configuration names them.

They mix methods, so each is flagged wherever its numbers are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.study.declared import declared_methods
from spineseg.study.spelling import closest

EXCEPTIONS = Path("study") / "exceptions.json"
"""Manifest of the excepted images of a study by one method, below the results of the dataset."""


def check_exceptions(config: Mapping[str, Any], images: Iterable[str] | None) -> None:
    """Refuse exceptions for unknown images or methods.

    Parameters
    ----------
    config : dict
        Complete configuration.
    images : iterable of str or None
        Images of the study; None where they are not known yet.

    Raises
    ------
    InputError
        In one line that names the key.
    """
    methods, known = declared_methods(config), None if images is None else set(images)
    for image, exception in config["exceptions"].items():
        where = f"config key 'exceptions.{image}"
        if exception["method"] not in methods:
            raise InputError(f"{where}.method': expected one of methods, found {exception['method']!r}"
                             f"{closest(exception['method'], methods)}")  # fmt: skip
        if known is not None and image not in known:
            raise InputError(f"{where}': the study has no such image{closest(image, known)}")


def exceptions_from(config: Mapping[str, Any], method: str | None) -> dict[str, dict[str, str]]:
    """Return image to ``{method, reason, by}`` where another method than `method` is to be kept."""
    if method is None:
        return {}
    return {image: dict(e) for image, e in config["exceptions"].items() if e["method"] != method}


def word_exception(exception: Mapping[str, str], method: str) -> str:
    """Say in a few words that an image is an exception, and why."""
    return f"exception: {exception['method']} instead of {method} ({exception['reason']}; {exception['by']})"


def read_exceptions(path: str | Path | None) -> dict[str, dict[str, Any]]:
    """Return image to entry of ``exceptions.json``; none where no file is given.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    if path is None:
        return {}
    try:
        return {entry["image_id"]: entry for entry in json.loads(Path(path).read_text(encoding="utf-8"))["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the study's exceptions; delete it and run snakemake again") from error
