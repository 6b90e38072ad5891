"""Check configuration files and the paths in them first, because later error messages would be less clear."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.reading import read_yaml

OF_THE_COMMAND = frozenset(("cores", "jobs", "threads", "mem_mb", "memory", "profile", "profiles"))
"""Words that people look for among the keys of a study."""

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


@contextmanager
def naming_file(*files: str | Path) -> Iterator[None]:
    """Put the configuration's file before an error that begins with one of its keys."""
    try:
        yield
    except InputError as error:
        if not files or not str(error).startswith(("config key", "configuration:")):
            raise
        here = Path.cwd()
        shown = [str(file.relative_to(here) if file.is_relative_to(here) else file) for file in map(Path, files)]
        raise InputError(f"{', '.join(shown)}: {error}") from error


def place_key(name: str, where: str, schema: Mapping[str, Any]) -> str:
    """Return where an unknown key belongs: under another key, or on the command line; nothing if nowhere.

    Examples
    --------
    >>> place_key("cores", "", {})
    '; processors, memory and profile are options of the command (-cores, -profile)'
    >>> place_key("aim", "", {"properties": {"decision": {"properties": {"aim": {}}}}})
    "; 'aim' stands under decision"
    """
    if name in OF_THE_COMMAND:
        return "; processors, memory and profile are options of the command (-cores, -profile)"
    places = [place for place in _find_key(name, schema) if place != where]
    return f"; {name!r} stands under {' or '.join(places)}" if places else ""


def _find_key(name: str, schema: Mapping[str, Any], place: str = "") -> list[str]:
    """Return the keys under which a key of this name may stand."""
    found = [place] if place and name in schema.get("properties", {}) else []
    for key, part in schema.get("properties", {}).items():
        found += _find_key(name, part, f"{place}.{key}" if place else key)
    for part in schema.get("oneOf", ()):
        found += _find_key(name, part, place)
    return list(dict.fromkeys(found))
