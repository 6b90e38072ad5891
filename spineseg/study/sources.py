"""Find the images of a study in a BIDS dataset or a table, and check that inputs named in the configuration exist."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spineseg.bids import DATATYPES, datatypes_of, derivative_path, image_stem, parse_name
from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.errors import InputError, one_line
from spineseg.file_digests import absent_content
from spineseg.series import find_bval
from spineseg.study.configuration import StudyConfig
from spineseg.study.image_table import read_image_table
from spineseg.study.references import ENDS, describe_reference, find_references
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.references import ReferenceMask
from spineseg.writing import file_stem

NAME_BYTES = 255
"""Longest name of a file or folder on the common file systems."""

UNPRINTABLE = "its path holds a line break, a tab or another control character"

IMAGE_ENDS = (".nii", ".nii.gz", ".mgz", ".mgh", ".img", ".img.gz", ".mnc", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings of image files, in lower case; only the first two are those of BIDS."""


def find_images(config: StudyConfig) -> list[StudyImage]:
    """Return every image of the source; those whose file cannot be used have a reason.

    Raises
    ------
    InputError
        If the source cannot be read.
    """
    found = read_image_table(config.images) if config.images else _find_in_bids(Path(config.source), config)
    return [_with_short_names(_with_content(_with_reference(image, config)), config) for image in found]


def list_references(config: StudyConfig, images: Iterable[StudyImage]) -> list[ReferenceMask]:
    """Return every mask of the references' folder, or of the table of images, with its use or why it is not used."""
    of_image = {image.stem: image for image in images}
    found = [_used_reference(image) for image in of_image.values() if image.reference]
    if not config.reference_folder or config.images:
        return found
    used = {one.path for one in found}
    for stem, path in _masks_in(config.reference_folder):
        if str(path) not in used:
            found.append(_unused_reference(stem, path, of_image))
    return found + [ReferenceMask(one.path, reason=one.reason) for one in _find_passed_over(config.reference_folder)]


def _used_reference(image: StudyImage) -> ReferenceMask:
    """Return the reference of an image, with a reason if its content is missing or the image is left out."""
    path = Path(image.reference)
    stem = image_stem(path) or ""
    name = stem.removeprefix(image.stem) if stem.startswith(image.stem) else ""
    why = absent_content(image.reference)
    if not image.included:
        why = f"its image is not part of the study: {image.reason}"
    use = "" if why else image.reference_use
    return ReferenceMask(str(path), image.image_id, name, image.reference_kind, image.reference_from, use, why)


def _unused_reference(stem: str, path: Path, of_image: Mapping[str, StudyImage]) -> ReferenceMask:
    """Return a mask that is not used as a reference, with the reason."""
    parts = stem.split("_")  # the longest start of the name that is the name of an image
    begins = ("_".join(parts[:n]) for n in range(len(parts), 0, -1))
    of = next((one for one in begins if one in of_image), "")
    if not of:
        return ReferenceMask(str(path), reason="the dataset has no such image")
    image, name = of_image[of], stem.removeprefix(of)
    why = f"its name is not one of a cord mask, such as {of}{ENDS[0]}"
    label = re.search("_label-([A-Za-z0-9]+)", name)
    if label and label[1] != "SC" and "cord" not in label[1].lower():
        why = f"it is of {label[1]}, not of the cord"
    elif name in ENDS:
        why = f"{image.reference} is used"
    return ReferenceMask(str(path), image.image_id, name, reason=why)


def describe_references(references: Sequence[ReferenceMask]) -> list[str]:
    """Return a line with the number of masks by name, and one line for each mask that is not used."""
    names = Counter(one.name or "by the table of images" for one in references if one.use)
    lines = [f"references by name: {', '.join(f'{n} {name}' for name, n in names.most_common())}"] if names else []
    return lines + [f"{one.path}: not used as a reference: {one.reason}" for one in references if not one.use]


def _with_reference(image: StudyImage, config: StudyConfig) -> StudyImage:
    """Add to an image who made its reference, whether that counts as the truth, and which label is the cord."""
    if not image.reference:
        return image
    reference = describe_reference(Path(image.reference))
    return replace(
        image,
        reference_kind=reference.kind,
        reference_from=reference.made_from,
        reference_use="truth" if reference.kind in config.reference_kinds else "agreement",
        reference_label=config.reference_label,
    )


def check_sources(config: StudyConfig) -> None:
    """Check that the images, subjects, references and masks that the configuration names exist.

    Raises
    ------
    InputError
        In one line that names the key, or the row of the table.
    """
    _check_images(config)
    _check_clicked_levels(config)


def _check_clicked_levels(config: StudyConfig) -> None:
    """Check that the files of clicked discs can be read."""
    for path in config.level_marks:
        from spineseg.levels.clicked import read_clicked  # loads numpy, which few configurations need

        try:
            read_clicked(path)
        except InputError as error:
            raise InputError(f"config key 'level_marks': {error}") from error


def _check_images(config: StudyConfig) -> None:
    """Check the table or the folders of images."""
    if config.images:
        read_image_table(config.images)
        return
    if not config.bids_dir:
        raise InputError("config keys 'bids_dir' and 'images': expected one of them, found neither")
    root = Path(config.bids_dir)
    if not root.is_dir():
        found = "a file" if root.exists() else "none"
        raise InputError(f"config key 'bids_dir': expected a folder, found {found} at {root}")
    if not any(entry.name.startswith("sub-") for entry in _folders(root)):
        raise InputError(f"config key 'bids_dir': expected folders named sub-*, found none in {root}")
    if config.level_labels is not None and find_level_folder(config) is None:
        raise InputError(
            f"config key 'level_labels': expected a folder, found none at {root / config.level_labels}"
            f" nor at {config.level_labels}"
        )
    if config.references and not config.is_default_references and config.reference_folder is None:
        raise InputError(
            f"config key 'references': expected a folder, found none at {root / config.references}"
            f" nor at {config.references}; null means that there are no manual masks"
        )


def find_level_folder(config: StudyConfig) -> Path | None:
    """Return the folder of labels of levels; None if there is none."""
    inside = Path(config.bids_dir) if config.bids_dir else None
    if config.level_labels is None:
        found = [inside / "derivatives"] if inside else []
    else:
        found = [root / config.level_labels for root in (inside, Path()) if root]
    return next((folder for folder in found if folder.is_dir()), None)


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
        return sorted((entry for entry in entries if _is_folder(entry)), key=lambda entry: entry.name)


def _image_files(folder: Path) -> list[tuple[str, str]]:
    """Return stem and name of every NIfTI file in a folder, sorted; compressed before plain."""
    named = ((image_stem(name), name) for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208 names, not paths
    return sorted(((stem, name) for stem, name in named if stem is not None), key=lambda x: (x[0], -len(x[1])))


def _find_in_bids(root: Path, config: StudyConfig) -> Iterator[StudyImage]:
    """Yield every image of a BIDS dataset."""
    references = find_references(_masks_in(config.reference_folder)) if config.reference_folder else {}
    seen: dict[str, str] = {}
    for subject, session, folder in walk_folders(root):
        for stem, name in _image_files(folder):
            image = _describe(stem, subject, session, folder)
            path = str(folder / name)
            image = replace(
                image,
                path=path,
                reference=references.get(stem, ""),
                bval=_find_b_values(folder / name) if image.suffix == "dwi" else "",
            )
            image = _as_printable(image)
            if not image.reason:  # an image that is left out does not make another one a duplicate
                if stem in seen:
                    image = replace(image, reason=f"duplicate: same name as {seen[stem]}")
                seen.setdefault(stem, path)
            yield image
    yield from _find_passed_over(root)


def _find_passed_over(root: Path) -> Iterator[StudyImage]:
    """Yield the images that a study does not look at because of their folder or name, each with the reason."""
    for name in _names(root, files=True):
        if _is_image(name):
            yield _passed_over(root / name, "", "beside the folders of subjects, in none of them")
    for name in _names(root, files=False):
        folder = root / name
        if not name.lower().startswith("sub-"):
            continue  # derivatives, sourcedata, code
        if not name.startswith("sub-"):
            why = f"its subject's folder is named {name}, expected sub-..."
            yield from (_passed_over(path, name[4:], why) for path in _images_below(folder))
            continue
        yield from _passed_over_in(folder, name[4:])
        for session in _names(folder, files=False):
            if session.startswith("ses-"):
                yield from _passed_over_in(folder / session, name[4:])


def _passed_over_in(folder: Path, subject: str) -> Iterator[StudyImage]:
    """Yield the images of a subject's or session's folder that are in none of the folders for images."""
    for name in _names(folder, files=True):
        if _is_image(name):
            yield _passed_over(folder / name, subject, f"in none of the folders {', '.join(DATATYPES)}")
    for name in _names(folder, files=False):
        inner = folder / name
        if name in DATATYPES:
            for other in _names(inner, files=True):
                if _is_image(other) and image_stem(other) is None:
                    yield _passed_over(inner / other, subject, "no name of a NIfTI file: expected .nii.gz or .nii")
            for deeper in _names(inner, files=False):
                if image_stem(deeper) is None:
                    why = f"in a folder within {name}"
                    yield from (_passed_over(path, subject, why) for path in _images_below(inner / deeper))
        elif not (name.startswith("ses-") and inner.parent.name.startswith("sub-")):
            why = f"in the folder {name}: only {', '.join(DATATYPES)} hold images of the cord"
            yield from (_passed_over(path, subject, why) for path in _images_below(inner))


def _passed_over(path: Path, subject: str, reason: str) -> StudyImage:
    """Describe an image that the study does not look at."""
    stem = image_stem(path) or path.name
    named = parse_name(stem)
    image = StudyImage(
        stem,
        subject or (named.subject if named else ""),
        named.session if named else "",
        run=named.run if named else "",
        suffix=named.suffix if named else "",
        path=str(path),
        reason=reason,
    )
    return _as_printable(image)


def _as_printable(image: StudyImage) -> StudyImage:
    """Leave out an image whose path has control characters, and escape these for tables and terminals."""
    if image.path.isprintable():
        return image
    return replace(
        image,
        image_id=one_line(image.image_id),
        subject=one_line(image.subject),
        session=one_line(image.session),
        path=one_line(image.path),
        bval=one_line(image.bval),
        reference=one_line(image.reference),
        reason=UNPRINTABLE,
    )


def _names(folder: Path, *, files: bool) -> list[str]:
    """Return the names of the files (including links without content) or of the folders in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_folder(entry) != files and not entry.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder; false for a link that loops."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_ENDS)


def _images_below(folder: Path) -> Iterator[Path]:
    """Yield every image in a folder and its folders, sorted; links to folders are not followed."""
    if folder.is_symlink():
        return
    for name in _names(folder, files=True):
        if _is_image(name):
            yield folder / name
    for name in _names(folder, files=False):
        yield from _images_below(folder / name)


def _find_b_values(image: Path) -> str:
    """Return the b-values of a diffusion series, beside it or inherited; also a link whose content is missing."""
    beside = image.with_name(f"{file_stem(image)}.bval")
    found = beside if beside.is_symlink() else find_bval(image)
    return str(found) if found else ""


def _describe(stem: str, subject: str, session: str, folder: Path) -> StudyImage:
    """Describe an image from its name and folder."""
    image = StudyImage(stem, subject, session, datatype=folder.name)
    name = parse_name(stem)
    if name is None:
        return replace(image, reason="its name does not follow BIDS")
    image = replace(image, run=name.run, suffix=name.suffix, contrast=SUFFIX_CONTRAST.get(name.suffix, ""))
    if name.subject != subject or name.session not in ("", session):
        return replace(image, reason="its name is of another subject or session than its folder")
    fitting = datatypes_of(name.suffix)
    if image.contrast and folder.name not in fitting:
        why = f"{name.suffix} in the folder {folder.name}, where BIDS has it in {' or '.join(fitting)}"
        return replace(image, reason=f"{why}: is it what its name says? move or rename it")
    if name.entities.get("part", "mag") != "mag":
        return replace(image, reason=f"not a magnitude image (part-{name.entities['part']})")
    return image


def _masks_in(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield stem and path of every NIfTI file in a folder of masks."""
    for _, _, folder in walk_folders(root):
        for stem, name in _image_files(folder):
            yield stem, folder / name


def _with_short_names(image: StudyImage, config: StudyConfig) -> StudyImage:
    """Set the reason of an image whose masks would have names too long for file systems."""
    made = [
        derivative_path(image.image_id, image.subject, image.session, image.datatype, name) for name in config.methods
    ]
    longest = max(len(os.fsencode(part)) for path in made for part in path.parts)
    if image.reason or longest <= NAME_BYTES:
        return image
    return replace(
        image, reason=f"its masks' names would have {longest} bytes, at most {NAME_BYTES} can be: shorten its own"
    )


def _with_content(image: StudyImage) -> StudyImage:
    """Set the reason of an image if its content, or that of its b-values, is missing."""
    if image.reason:
        return image
    if why := absent_content(image.path):
        return replace(image, reason=why)
    if not Path(image.path).is_file():
        return replace(image, reason="a folder or a pipe, not a file, despite its name")
    if image.bval and (why := absent_content(image.bval)):
        return replace(image, reason=f"its b-values: {why}")
    return image
