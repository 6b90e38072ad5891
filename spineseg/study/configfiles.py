"""Check configuration files and the paths in them first, because later error messages would be less clear."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.reading import read_yaml

OPTIONS = ("--configfile", "--configfiles")


def check_configfiles(words: Sequence[str]) -> None:
    """Refuse words after ``--configfile`` that are not files, or that hold no configuration.

    Parameters
    ----------
    words : sequence of str
        Words of Snakemake's command line; Snakemake takes every word after ``--configfile`` for a file.

    Raises
    ------
    InputError
        ``profiles/default``, the first file that Snakemake reads, shows it.
    """
    named = False
    for word in words:
        if word.startswith("-"):
            option, _, word = word.partition("=")
            named = option in OPTIONS
        if not named or not word:
            continue
        if not Path(word).exists():
            is_target = not word.endswith((".yaml", ".yml", ".json"))
            advice = f"targets go before it: snakemake {word} --configfile FILE" if is_target else "check the path"
            raise InputError(f"{word}: expected a configuration file after --configfile, found none; {advice}")
        read_keys(word)


def read_keys(path: str | Path) -> Mapping[str, object]:
    """Read a configuration file.

    Raises
    ------
    InputError
        If it cannot be read, or has no keys.
    """
    document = read_yaml(path)
    if not isinstance(document, Mapping):
        found = "nothing" if document is None else repr(document)[:60]
        raise InputError(f"{path}: expected keys and values, such as dataset: my-study, found {found}")
    return document


PATH_KEYS = ("bids_dir", "images", "references", "level_labels", "level_marks", "marks", "excluded")
"""Keys whose texts are paths: the value itself, the items of a list, or folder and file of a mapping."""


def check_paths(document: Mapping[str, Any]) -> None:
    """Refuse a path that only a shell expands (``~``, ``$HOME``), because its folder would be reported as missing.

    Raises
    ------
    InputError
    """
    for key in PATH_KEYS:
        value = document[key]
        value = [value.get("folder"), value.get("file")] if isinstance(value, Mapping) else value
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.startswith(("~", "$")):
                raise InputError(
                    f"config key {key!r}: expected a full path, found {text!r}, whose beginning only a shell"
                    f" expands; write {Path(os.path.expandvars(text)).expanduser()}"
                )
