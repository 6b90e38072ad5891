"""List the images of a study once: each is included, or there is a reason why not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spineseg.bids import DATATYPES, image_stem, parse_name
from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.study.chunks import Membership, assign_chunks, choose_pilot
from spineseg.study.exclusion import exclusion_reason, read_exclusions
from spineseg.study.sheet import read_sheet

DEFAULT_SUFFIXES = ("T1w", "T2w", "T2star", "dwi")
"""What a study segments unless told otherwise: the anatomical images and diffusion, not fMRI."""

REFERENCE_END = "_label-SC_seg"
"""End of the stem of a manual cord mask, as SCT and spine-generic name it."""

SAME_SUFFIX = {"T2star": "T2starw", "T2starw": "T2star"}
"""Two spellings of one suffix, by BIDS version: asking for one asks for both."""


def index_images(
    config: dict[str, Any], chunk_size: int, earlier: Membership | None = None
) -> tuple[list[dict[str, str]], Membership]:
    """List every image of a study.

    Parameters
    ----------
    config : dict
        Complete study configuration (`configuration.complete_configuration`).
    chunk_size : int
        Most images that one job takes.
    earlier : Membership, optional
        Pilot and chunks of the index before this one.

    Returns
    -------
    rows : list of dict
        The rows of images.tsv.
    membership : Membership
        To be given to the next index.

    Raises
    ------
    InputError
        If nothing is left to segment, or the source cannot be read.
    """
    earlier = earlier or Membership()
    rows = read_sheet(config["images"]) if config["images"] else list(_find_images(Path(config["bids_dir"]), config))
    _select(rows, config)
    included = [row for row in rows if row["included"] == "true"]
    if not included:
        raise InputError(_nothing_left(rows, config))
    pilot = choose_pilot((row["subject"] for row in included), config["pilot"]["subjects"], earlier)
    if not pilot["subjects"]:
        raise InputError("config key 'pilot.subjects': none of these subjects has an image in the study")
    chosen = set(pilot["subjects"])
    for row in included:
        row["pilot"] = "true" if row["subject"] in chosen else "false"
    members = [(row["image_id"], row["pilot"] == "true") for row in included]
    chunks = assign_chunks(members, chunk_size, earlier.chunks)
    for row in included:
        row["chunk"] = chunks[row["image_id"]]
    return rows, Membership(chunks, pilot if "seed" in pilot else {})


def source_fingerprint(config: dict[str, Any]) -> str:
    """Return a digest that changes when images, masks or exclusions are added or removed.

    Only folders are looked at, not the files in them, so that it is cheap enough for every start of a
    study: a folder's time changes when a file in it appears, disappears or is renamed.
    """
    digest = hashlib.sha256()
    if config["images"]:
        digest.update(Path(config["images"]).read_bytes())
    else:
        for root in filter(None, (Path(config["bids_dir"]), reference_folder(config))):
            for _, _, folder in walk_folders(root):
                digest.update(f"{folder} {folder.stat().st_mtime_ns}\n".encode())
    if isinstance(config["excluded"], str):
        digest.update(Path(config["excluded"]).read_bytes())
    return digest.hexdigest()


def reference_folder(config: dict[str, Any]) -> Path | None:
    """Return the folder of manual masks, inside the dataset or of its own, or None where there is none."""
    if not config["references"] or config["images"]:
        return None
    inside = Path(config["bids_dir"]) / config["references"]
    return next((folder for folder in (inside, Path(config["references"])) if folder.is_dir()), None)


def list_subjects(root: Path) -> list[str]:
    """Return the subjects that have a folder in a BIDS dataset, without ``sub-``, sorted."""
    return [entry.name.removeprefix("sub-") for entry in _folders(root) if entry.name.startswith("sub-")]


def walk_folders(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield subject, session and path of every folder that can hold images, sorted."""
    for subject in _folders(root):
        if not subject.name.startswith("sub-"):
            continue
        for inner in _folders(subject.path):
            if inner.name in DATATYPES:
                yield subject.name[4:], "", Path(inner.path)
            elif inner.name.startswith("ses-"):
                for datatype in _folders(inner.path):
                    if datatype.name in DATATYPES:
                        yield subject.name[4:], inner.name[4:], Path(datatype.path)


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    """Return the sub-folders of a folder, sorted by name."""
    with os.scandir(path) as entries:
        return sorted((entry for entry in entries if entry.is_dir()), key=lambda entry: entry.name)


def _image_files(folder: Path) -> list[tuple[str, str]]:
    """Return stem and name of every NIfTI file in a folder, sorted; compressed before plain."""
    named = ((image_stem(name), name) for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208 names, not paths
    return sorted(((stem, name) for stem, name in named if stem is not None), key=lambda x: (x[0], -len(x[1])))


def _find_images(root: Path, config: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield a row per image of a BIDS dataset; a reason is set where the file itself is the obstacle."""
    folder = reference_folder(config)
    references = _find_references(folder) if folder else {}
    seen: dict[str, str] = {}
    for subject, session, path in walk_folders(root):
        for stem, name in _image_files(path):
            row = _describe(stem, subject, session, path)
            row["path"] = str(path / name)
            row["reference"] = references.get(stem, "")
            bval = path / f"{stem}.bval"
            row["bval"] = str(bval) if row["suffix"] == "dwi" and bval.is_file() else ""
            if stem in seen:
                row["reason"] = f"duplicate: same name as {seen[stem]}"
            elif not (path / name).is_file():
                row["reason"] = "broken link: the image's content is elsewhere (datalad get fetches it)"
            seen.setdefault(stem, row["path"])
            yield row


def _describe(stem: str, subject: str, session: str, folder: Path) -> dict[str, str]:
    """Return what the name and the place of an image say."""
    row = {"image_id": stem, "subject": subject, "session": session, "datatype": folder.name}
    name = parse_name(stem)
    if name is None:
        return row | {"suffix": "", "reason": "its name does not follow BIDS"}
    row |= {"run": name.run, "suffix": name.suffix, "contrast": SUFFIX_CONTRAST.get(name.suffix, "")}
    if name.subject != subject or name.session not in ("", session):
        row["reason"] = "its name is of another subject or session than its folder"
    elif name.entities.get("part", "mag") != "mag":
        row["reason"] = f"not a magnitude image (part-{name.entities['part']})"
    return row


def _find_references(root: Path) -> dict[str, str]:
    """Return image to manual mask for the masks in a folder."""
    return {
        stem.removesuffix(REFERENCE_END): str(folder / name)
        for _, _, folder in walk_folders(root)
        for stem, name in _image_files(folder)
        if stem.endswith(REFERENCE_END)
    }


def _select(rows: list[dict[str, str]], config: dict[str, Any]) -> None:
    """Set ``included`` and ``reason`` of every row, and contrasts that the configuration overrides."""
    subjects = config["subjects"]
    asked = None if subjects == "all" else {name.removeprefix("sub-") for name in subjects}
    excluded = read_exclusions(config["excluded"])
    suffixes, overrides = contrasts_asked_for(config["contrasts"])
    shown = {overrides.get(suffix, SUFFIX_CONTRAST.get(suffix)) for suffix in suffixes}
    for row in rows:
        row["contrast"] = overrides.get(row["image_id"], overrides.get(row["suffix"], row.get("contrast", "")))
        # a table says itself which images the study has, so any suffix of an asked contrast will do
        wanted = row["contrast"] in shown if config["images"] else row["suffix"] in suffixes
        if row.get("reason"):
            pass
        elif asked is not None and row["subject"] not in asked:
            row["reason"] = "subject not asked for (config key subjects)"
        elif why := exclusion_reason(row["image_id"], row["subject"], excluded):
            row["reason"] = f"excluded: {why}"
        elif not row["contrast"]:
            row["reason"] = f"no contrast is known for suffix {row['suffix']}"
        elif not wanted:
            row["reason"] = "contrast not asked for (config key contrasts)"
        row["included"] = "false" if row.get("reason") else "true"


def contrasts_asked_for(contrasts: list[str] | dict[str, str]) -> tuple[set[str], dict[str, str]]:
    """Return the suffixes to segment, and suffix or image to contrast where the default is overridden.

    Examples
    --------
    >>> suffixes, overrides = contrasts_asked_for({"T2star": "t2s", "sub-01_T2star": "t2"})
    >>> sorted(suffixes), overrides["sub-01_T2star"]
    (['T2star', 'T2starw'], 't2')
    """
    overrides = dict(contrasts) if isinstance(contrasts, dict) else {}
    suffixes = {key for key in contrasts if not key.startswith("sub-")} or set(DEFAULT_SUFFIXES)
    for suffix, twin in SAME_SUFFIX.items():
        if suffix in suffixes and twin not in suffixes:
            suffixes = suffixes | {twin}
            overrides |= {twin: overrides[suffix]} if suffix in overrides else {}
    return suffixes, overrides


def _nothing_left(rows: list[dict[str, str]], config: dict[str, Any]) -> str:
    """Return one line that says why no image is included."""
    source = config["images"] or config["bids_dir"]
    if not rows:
        return f"{source}: found no NIfTI image in the subjects' folders {', '.join(DATATYPES)}"
    reasons = [row["reason"] for row in rows]
    most = max(set(reasons), key=reasons.count)
    return f"{source}: none of its {len(rows)} images is part of the study; most often: {most}"
