"""Look at a dataset and write a commented configuration for it."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.spelling import count_of
from spineseg.study.configuration import (
    DEFAULT_SUFFIXES,
    SAME_SUFFIX,
    StudyConfig,
    load_schema,
    make_configuration,
)
from spineseg.study.index import describe_unused
from spineseg.study.level_labels import find_label_files
from spineseg.study.participants import read_participants
from spineseg.study.references import find_references
from spineseg.study.sources import check_sources, find_images, find_level_folder, walk_folders
from spineseg.studyfolder.images import StudyImage
from spineseg.writing import file_stem

PILOT_SIZE = 10
"""Number of people in a drawn pilot: a clear verdict needs six, and a few may be excluded (docs/decision.md)."""

N_ABOVE = 4
"""Folders above the one that was named, in which a dataset is looked for."""

N_FILES = 1000
"""Files looked at for what a folder without subjects holds."""

BY_TABLE = "a dataset in another form needs a table with the columns subject, contrast and path (images: TABLE.tsv)"
"""Advice for images without BIDS names."""

WIDTH = 100
"""Width of a comment line, characters."""


def draft_configuration(bids: Path, shown: str, dataset: str | None = None) -> tuple[str, list[str]]:
    """Return the text of a configuration for a BIDS dataset, and what was found there.

    Parameters
    ----------
    bids : Path
    shown : str
        Its path in the form to write into the configuration.
    dataset : str, optional
        Name of the study; by default that of the folder.

    Returns
    -------
    text : str
        YAML. Every key that is left at its default is a comment with its meaning.
    found : list of str
        What was found, one line each, for people.

    Raises
    ------
    InputError
        If there is no dataset, or no image in it that can be segmented.
    """
    _check_folder(bids)
    name = dataset or re.sub(r"[^A-Za-z0-9_.-]+", "-", bids.resolve().name).strip("-_.") or "study"
    config = make_configuration({"dataset": name, "bids_dir": str(bids)})
    check_sources(config)
    found_images = find_images(config)
    images = [image for image in found_images if not image.reason]
    suffixes = Counter(image.suffix for image in images)
    known = [suffix for suffix in SUFFIX_CONTRAST if suffixes[suffix]]
    others = sorted(set(filter(None, suffixes)) - set(known))
    if not known and others:
        raise InputError(
            f"{bids}: expected images with a suffix among {', '.join(SUFFIX_CONTRAST)}, found {', '.join(others)};"
            f" for another suffix, say in a configuration what its cord looks like: contrasts: {{{others[0]}: t2}}"
        )
    if not known:
        raise InputError(f"{describe_unused(found_images, bids)}; {BY_TABLE}")
    asked = [suffix for suffix in known if suffix in DEFAULT_SUFFIXES or SAME_SUFFIX.get(suffix) in DEFAULT_SUFFIXES]
    asked = asked or known
    people = sorted({image.subject for image in images if image.suffix in asked})
    references = _find_references(bids, images)
    columns = read_participants(bids).columns
    label_files = find_label_files(find_level_folder(config)).values()
    levels = [files for files in label_files if any(file.has_levels for file in files)]

    contrasts, other = (", ".join(f"{suffixes[suffix]} {suffix}" for suffix in some) for some in (known, others))
    sessions = {(image.subject, image.session) for image in images if image.session}
    counted = count_of(len(people), "person", "people") + (
        f", {count_of(len(sessions), 'session', 'sessions')}" if sessions else ""
    )
    found = [f"{bids}: {counted}; images: {contrasts}"]
    found += [f"not segmented unless config key contrasts says what they show: {other}"] if other else []
    found += [f"references: {count_of(count, 'mask', 'masks')} in {folder}" for folder, count in references]
    if not references:
        found.append("references: none found; without them, blind ratings or declared repeats can settle the choice")
    found += [f"participants.tsv: {', '.join(columns)}"] if columns else []
    found += [f"labels of vertebral levels: for {count_of(len(levels), 'image', 'images')}"] if levels else []

    chosen: dict[str, tuple[Any, str]] = {
        "dataset": (name, ""),
        "bids_dir": (shown, ""),
        "contrasts": (asked, f"Found: {contrasts}{f'; of unknown contrast: {other}' if other else ''}."),
        "pilot": _choose_pilot(len(people)),
    }
    if references:
        folder, count = references[0]
        more = f" Also: {', '.join(other for other, _ in references[1:])}." if references[1:] else ""
        chosen["references"] = (folder, f"{count_of(count, 'mask', 'masks')} found there.{more}")
    hints = {
        "columns": f"participants.tsv has {', '.join(columns)}." if columns else "",
        "levels": f"Labels were found for {count_of(len(levels), 'image', 'images')}, so [C2-C3] can be asked for."
        if levels
        else "",
    }
    return _write_text(config, chosen, hints), found


def _check_folder(bids: Path) -> None:
    """Refuse a folder that is not a dataset; the message names a dataset inside it if there is one."""
    if not bids.is_dir():
        raise InputError(
            f"{bids}: expected the folder of a BIDS dataset, found {'a file' if bids.exists() else 'none'}; "
            "give the folder that holds sub-*"
        )
    if any(bids.glob("sub-*/")):
        return
    near = [path.parent for path in sorted(bids.glob("*/sub-*/"))]
    above = [*bids.parents, *bids.resolve().parents][:N_ABOVE]
    near = [folder for folder in above if any(folder.glob("sub-*/"))] or near
    found, hint = ("none", f"did you mean {near[0]}?") if near else _look_inside(bids)
    raise InputError(f"{bids}: expected a BIDS dataset with folders sub-*, found {found}; {hint}")


def _look_inside(folder: Path) -> tuple[str, str]:
    """Return what a folder without subjects holds instead, and what to do about it."""
    files = list(islice((path for path in folder.rglob("*") if path.is_file()), N_FILES))
    if any(path.name.lower().endswith((".nii", ".nii.gz")) for path in files):
        return "images outside of such folders", BY_TABLE
    if any(_is_dicom(path) for path in files):
        return "DICOM files", "convert them to BIDS first, such as by dcm2bids"
    return "none", BY_TABLE


def _is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _find_references(bids: Path, images: Sequence[StudyImage]) -> list[tuple[str, int]]:
    """Return the folders of derivatives with masks of the dataset's images and their number, the fullest first."""
    names = {image.image_id for image in images}
    counted = []
    for folder in sorted(bids.glob("derivatives/*/")):
        masks = (
            (file_stem(path), path) for _, _, inner in walk_folders(folder) for path in sorted(inner.glob("*.nii*"))
        )
        count = len(names & find_references(masks).keys())
        if count:
            counted.append((folder.relative_to(bids).as_posix(), count))
    # the default folder first, because it is the field's usual place for manual masks
    default = load_schema()["properties"]["references"]["default"]
    return sorted(counted, key=lambda one: (one[0] != default, -one[1]))


def _choose_pilot(n_people: int) -> tuple[Any, str]:
    """Return the pilot for a number of people, and why."""
    if n_people <= PILOT_SIZE + 2:
        return {"subjects": "all"}, f"All: {count_of(n_people, 'person is', 'people are')} few."
    draw = {"subjects": {"n": PILOT_SIZE, "seed": 1}}
    return draw, f"{PILOT_SIZE} of the {n_people} people, drawn; no verdict is clear below six."


def _write_text(config: StudyConfig, chosen: dict[str, tuple[Any, str]], hints: dict[str, str]) -> str:
    """Return the configuration as text: the chosen keys, then the others as comments."""
    parts = [
        f"# The study {config.dataset}. Paths are relative to the folder of this file.\n"
        "# What is commented out has the value shown; config/README.md of the repository explains every key.\n"
    ]
    schema = load_schema()["properties"]
    for key, (value, why) in chosen.items():
        parts.append(_entry(key, value, [schema[key]["description"], why]))
    for key, schema_part in schema.items():
        if key not in chosen:
            texts = [schema_part["description"], hints.get(key, "")]
            parts.append(_entry(key, schema_part.get("default"), texts, is_comment=True))
    return "\n".join(parts)


def _entry(key: str, value: Any, texts: Iterable[str], *, is_comment: bool = False) -> str:
    """Return one key with its comment."""
    comment = textwrap.fill(" ".join(filter(None, texts)), WIDTH, initial_indent="# ", subsequent_indent="# ")
    flow = yaml.safe_dump([value], default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return f"{comment}\n{'# ' if is_comment else ''}{key}: {flow.strip()[1:-1]}\n"
