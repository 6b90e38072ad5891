"""Lists of subjects and images that a study leaves out, with reasons. An entry that matches nothing is an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spineseg.bids import image_stem
from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.reading import read_heading, read_table, read_yaml
from spineseg.spelling import closest
from spineseg.studyfolder.images import StudyImage, word_exclusion

NO_REASON = "no reason given"

KEYS = ("id", "reason", "contrast", "suffix")
"""Columns of a table and keys of an item, in upper or lower case; suffix means the same as contrast."""

AREA_LIST = "csa_"
"""Start of the names of lists about the cord's area, as in spine-generic's exclude.yml: csa_t1, csa_t2."""

FILE_LISTS = "FILES_"
"""Start of the names of lists that SCT's quality control writes and reads; their entries are image files."""


@dataclass(frozen=True)
class Exclusion:
    """One entry of a list of exclusions.

    Parameters
    ----------
    entry : str
        As it was written: a subject (``01``, ``sub-01``), a subject and session, an image (stem, file name or path),
        or a site.
    reason : str
    where : str
        The key or the file, and the list in it.
    contrast : str
        The only suffix or contrast that the entry is about; empty means all.
    """

    entry: str
    reason: str
    where: str
    contrast: str = ""

    @property
    def name(self) -> str:
        """The entry in the form of the start of an image's name."""
        parts = [part for part in self.entry.strip().strip("/").split("/") if part not in ("", ".")]
        last = parts[-1] if parts else ""
        if _names_two(parts):
            return "/".join(parts)
        folders = [part for part in parts[-2:] if part.startswith(("sub-", "ses-"))]
        if last.startswith("ses-") and len(folders) == 2:  # the folder of a session
            return "_".join(folders)
        return image_stem(last) or last

    def fits(self, image: StudyImage, sites: Sites) -> bool:
        """Whether the entry matches an image, whatever its contrast."""
        name = self.name
        if f"{image.image_id}_".startswith(f"{name}_") or name == image.subject:
            return True
        return sites.holds(name, image.subject)

    def concerns(self, image: StudyImage) -> bool:
        """Whether the entry's list is about the image's contrast."""
        return not self.contrast or self.contrast in (image.suffix, image.contrast)

    def words(self) -> str:
        """Return the reason, and the entry of the list that has it."""
        return word_exclusion(self.reason, self.entry, self.where)


@dataclass(frozen=True)
class Sites:
    """Sites of subjects, from two sources; without either, no entry counts as a site.

    Parameters
    ----------
    of_subject : mapping
        Subject to its site in participants.tsv.
    prefixes : mapping
        Site to the start of its subjects' names, without ``sub-``, from the configuration.
    """

    of_subject: Mapping[str, str]
    prefixes: Mapping[str, str]

    def holds(self, site: str, subject: str) -> bool:
        """Whether a subject belongs to a site."""
        prefix = self.prefixes.get(site)
        return self.of_subject.get(subject) == site or (prefix is not None and subject.startswith(prefix))

    def names(self) -> set[str]:
        """All sites that are known."""
        return {*self.of_subject.values(), *self.prefixes}


NO_SITES = Sites({}, {})


@dataclass(frozen=True)
class Exclusions:
    """All entries that a study leaves out.

    Parameters
    ----------
    entries : tuple of Exclusion
    may_be_unmatched : bool
        Whether an entry may match nothing, as in a list that several datasets share.
    prefixes : mapping
        Site to the start of its subjects' names.
    files : tuple of str
        Files that were read.
    """

    entries: tuple[Exclusion, ...] = ()
    may_be_unmatched: bool = False
    prefixes: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def reason_against(self, image: StudyImage, sites: Sites = NO_SITES) -> str:
        """Return why an image is excluded; empty if it is not."""
        found = (one for one in self.entries if one.concerns(image) and one.fits(image, sites))
        first = next(found, None)
        return first.words() if first else ""

    def check_matched(self, images: Iterable[StudyImage], sites: Sites = NO_SITES) -> None:
        """Refuse an entry that matches no image of the source, because the person meant would stay in the study.

        Raises
        ------
        InputError
            With the entry, its place, and the nearest name.
        """
        images = list(images)
        known = _names_of(images) | sites.names()
        for site, prefix in self.prefixes.items():
            if not prefix:
                raise InputError(
                    f"config key 'excluded.sites.{site}': every subject begins with 'sub-'; write what follows it"
                )
            if not any(image.subject.startswith(prefix) for image in images) and not self.may_be_unmatched:
                raise InputError(f"config key 'excluded.sites.{site}': no subject begins with {prefix!r}")
        subjects = sorted({image.subject for image in images})
        for one in self.entries:
            of_site = [subject for subject in subjects if sites.holds(one.name, subject)]
            if one.name in subjects and set(of_site) - {one.name}:
                raise InputError(
                    f"{one.where}: {one.entry!r} may mean sub-{one.name} or the site {one.name} with"
                    f" {len(of_site)} subjects; write sub-{one.name}, or name the site's subjects"
                )
            named = [image for image in images if image.image_id == one.name]
            if named and not any(map(one.concerns, named)) and not self.may_be_unmatched:
                raise InputError(
                    f"{one.where}: {one.entry!r} is not an image of {one.contrast}, so it would stay in; correct it"
                )
        for one in [] if self.may_be_unmatched else self.find_unmatched(images, sites):
            raise InputError(
                f"{one.where}: {one.entry!r} fits no subject, session or image of the study"
                f"{closest(one.name, known)}; correct it, or set excluded.unmatched to ignore for a list that other"
                " datasets share"
            )

    def find_misspelt(self, images: Iterable[StudyImage], sites: Sites = NO_SITES) -> list[str]:
        """Return the entries that match only if case is ignored, each with the name that may be meant."""
        images = list(images)
        known = {name.lower(): name for name in _names_of(images) | sites.names()}
        return [
            f"{one.entry!r} ({known[one.name.lower()]!r}?)"
            for one in self.find_unmatched(images, sites)
            if known.get(one.name.lower(), one.name) != one.name
        ]

    def find_unmatched(self, images: Iterable[StudyImage], sites: Sites = NO_SITES) -> list[Exclusion]:
        """Return the entries that match no image of the source."""
        images = list(images)
        found = _names_of(images) | set(sites.of_subject.values())
        for image in images:  # every start of its name that ends at the end of an entity
            parts = image.image_id.split("_")
            found |= {"_".join(parts[:n]) for n in range(1, len(parts) + 1)} | {image.subject}
        unknown = (one for one in self.entries if one.name not in found)
        return [one for one in unknown if not any(one.fits(image, sites) for image in images)]


def _names_two(parts: Sequence[str]) -> bool:
    """Whether a path's folders and file name have different subjects or sessions, so that neither can be used."""
    *folders, last = parts or ("",)
    own = (image_stem(last) or last).split("_")
    start = max((n for n, part in enumerate(folders) if part.startswith("sub-")), default=len(folders))
    return any(
        part not in own and any(name.startswith(part[:4]) for name in own)
        for part in folders[start:]
        if part.startswith(("sub-", "ses-"))
    )


def _names_of(images: Iterable[StudyImage]) -> set[str]:
    """Return the names of subjects, sessions and images."""
    names = {f"sub-{image.subject}" for image in images} | {image.image_id for image in images}
    return names | {f"sub-{image.subject}_ses-{image.session}" for image in images if image.session}


def read_exclusions(excluded: Any) -> Exclusions:
    """Read the exclusions of the config key ``excluded``.

    Parameters
    ----------
    excluded : None, list, mapping, or path of a file
        A list has names or ``{id, reason, contrast}``; a mapping goes from name to reason. A TSV or CSV file has the
        columns id and reason, and optionally contrast. A YAML file has a list, a mapping, or named lists as
        spine-generic's exclude.yml and the ``qc_fail.yml`` of the Spinal Cord Toolbox do. ``{file, lists, unmatched,
        sites}`` describes a file further: which of its lists are meant, whether entries may match nothing, and how the
        names of a site's subjects begin.

    Raises
    ------
    InputError
        If the file is missing or has another form, or if it has lists and the configuration does not say whether they
        are meant.
    """
    if excluded is None:
        return Exclusions()
    if isinstance(excluded, str):
        return Exclusions(tuple(_read_file(Path(excluded), None)), files=(excluded,))
    if isinstance(excluded, dict) and "file" in excluded:
        prefixes = {site: prefix.removeprefix("sub-") for site, prefix in (excluded.get("sites") or {}).items()}
        entries = _read_file(Path(excluded["file"]), excluded.get("lists"))
        ignore = excluded.get("unmatched", "error") == "ignore"
        return Exclusions(tuple(entries), ignore, prefixes, (excluded["file"],))
    return Exclusions(tuple(_plain_entries(excluded, "config key 'excluded'")))


def _plain_entries(content: Any, where: str) -> Iterable[Exclusion]:
    """Yield the entries of a list, or of a mapping from name to reason."""
    if isinstance(content, dict):
        for name, reason in content.items():
            yield Exclusion(_name(name, where), _reason(reason, where), where)
        return
    for entry in content or ():
        if not isinstance(entry, dict):
            yield Exclusion(_name(entry, where), NO_REASON, where)
        else:
            item = _known_keys(entry, where)
            yield Exclusion(_name(item["id"], where), _reason(item.get("reason"), where), where, _contrast(item, where))


def _known_keys(row: dict[Any, Any], where: str) -> dict[str, Any]:
    """Return a row of a table or an item of a list by its keys; refuse unknown keys."""
    known = {str(key).lower(): value for key, value in row.items()}
    if (
        "id" not in known
        or len(known) < len(row)
        or not known.keys() <= set(KEYS)
        or {"contrast", "suffix"} <= set(known)
    ):
        raise InputError(
            f"{where}: expected id and reason, and contrast where one contrast alone is meant; found"
            f" {', '.join(map(str, row))[:120]}; name the image in id, and leave out what else there is"
        )
    return known


def _contrast(row: dict[str, Any], where: str) -> str:
    """Return the only suffix or contrast that a row is about; empty means all."""
    given = row.get("contrast") or row.get("suffix") or ""
    if given in ("", "n/a"):
        return ""
    if not (found := contrast_of_list(str(given))):
        names = [*CONTRASTS, *SUFFIX_CONTRAST]
        raise InputError(f"{where}: {given!r} is not a contrast or suffix{closest(str(given), names)}; it may be empty")
    return found


def _read_file(path: Path, lists: list[str] | None) -> Iterable[Exclusion]:
    """Yield the exclusions of a TSV, CSV or YAML file."""
    if not path.is_file():
        raise InputError(f"config key 'excluded': expected a file, found none at {path}")
    if path.suffix.lower() in (".tsv", ".csv"):
        _refuse_lists(lists, path)
        _known_keys(dict.fromkeys(read_heading(path)), str(path))  # a first name would be taken for the heading
        for line, cells in read_table(path, (), what="a table with the columns id and reason"):
            where = f"{path}, line {line}"
            row = _known_keys(cells, where)
            if not row["id"]:
                raise InputError(f"{where}: id is empty; name a subject or an image")
            reason = row.get("reason", "")
            yield Exclusion(row["id"], NO_REASON if reason in ("", "n/a") else reason, where, _contrast(row, where))
        return
    content = read_yaml(path)
    if content is not None and not isinstance(content, list | dict):
        raise InputError(f"{path}: expected a list or a mapping of subjects and images, found {str(content)[:60]!r}")
    if isinstance(content, dict) and "marks" in content:
        raise InputError(f"{path}: holds marks of the quality-control page; name it with the config key 'marks'")
    if isinstance(content, dict) and any(isinstance(of, list) or _is_list(name) for name, of in content.items()):
        yield from _named_lists(content, path, lists)
    else:
        _refuse_lists(lists, path)
        yield from _plain_entries(content, str(path))


def _refuse_lists(lists: list[str] | None, path: Path) -> None:
    """Refuse a choice of lists if the file has no lists."""
    if lists is not None:
        raise InputError(f"config key 'excluded.lists': {path} has no named lists; leave the key out")


def _named_lists(content: dict[Any, Any], path: Path, chosen: list[str] | None) -> Iterable[Exclusion]:
    """Yield the entries of the lists that are meant: lists of a contrast or of image files, and chosen lists."""
    titles = [str(title) for title in content]
    for name in chosen or ():
        if name not in titles:
            raise InputError(f"config key 'excluded.lists': {path} has no list {name!r}{closest(name, titles)}")
    unclear = [title for title in titles if not _is_list(title)]
    if chosen is None and unclear:
        raise InputError(
            f"{path}: the lists {', '.join(map(repr, unclear))} are named after no contrast; say which lists are"
            f" meant with excluded: {{file: {path}, lists: [...]}} (it has {', '.join(titles)})"
        )
    for title, names in content.items():
        if chosen is not None and str(title) not in chosen:
            continue
        where = f"{path}, list {title}"
        if names is not None and not isinstance(names, list):
            raise InputError(f"{where}: expected a list of subjects and images, found {str(names)[:60]!r}")
        contrast = contrast_of_list(str(title))
        for entry in _plain_entries(names, where):
            reason = f"listed under {title}" if entry.reason == NO_REASON else entry.reason
            if contrast and entry.contrast:
                raise InputError(f"{where}: {entry.entry!r} names a contrast in a list of {contrast}; leave one out")
            yield Exclusion(entry.entry, reason, where, contrast or entry.contrast)


def _is_list(title: Any) -> bool:
    """Whether a title is that of a list that is always meant: a list of a contrast, or of image files."""
    return bool(contrast_of_list(str(title))) or str(title).startswith(FILE_LISTS)


def contrast_of_list(title: str) -> str:
    """Return the suffix or contrast after which a list is named, or an empty string.

    Examples
    --------
    >>> [contrast_of_list(title) for title in ("csa_t1", "T2w", "t2star", "T2*", "csa_dwi", "mtr", "FILES_SEG")]
    ['t1', 'T2w', 'T2star', 't2s', 'dwi', '', '']
    """
    name = title.lower().removeprefix(AREA_LIST).replace("*", "s")
    known = {suffix.lower(): suffix for suffix in SUFFIX_CONTRAST} | {contrast: contrast for contrast in CONTRASTS}
    return known.get(name, "")


def _name(value: Any, where: str) -> str:
    """Return a subject or an image as text; refuse numbers, because YAML reads 01 as 1, which would match nobody."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: expected names of subjects and images, found {str(value)[:60]!r}; put it in quotes")
    return value.strip()


def _reason(value: Any, where: str) -> str:
    """Return a reason."""
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: expected a reason in words, found {str(value)[:60]!r}; put it in quotes")
    return value or NO_REASON
