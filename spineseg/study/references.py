"""Reference masks in a dataset: their usual file names, and who made them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spineseg.bids import sidecar_path
from spineseg.methods.registry import OWN_METHODS
from spineseg.reading import read_json

ENDS = (
    *("_label-SC_seg", "_label-SC_mask", "_desc-manual_label-SC_seg", "_space-orig_label-SC_seg"),
    *("_space-orig_desc-manual_label-SC_seg", "_space-other_label-SC_seg", "_seg-manual", "_seg"),
)
"""Ends of the stem of a cord mask in SCT, spine-generic and BIDS since 2016. If an image has two such masks, the one
that is earlier in this list is used."""

KINDS = ("manual", "corrected", "silver", "automatic", "unknown")
"""Kinds of references, in this order: drawn by a person; a program's output that a person corrected; made by a program
and checked; made by a program; not stated."""

TRUE_KINDS = ("manual", "corrected", "unknown")
"""Kinds that count as the truth unless the configuration says otherwise. References of unknown origin are reported, so
that a person can state what they are."""

SAID_IN = ("Kind", "Manual", "GeneratedBy", "Author", "Description", "Method", "Comment")
"""Keys of a sidecar that say who made a mask: those of BIDS, of spine-generic, and others that people add."""

NO_NAMES = ("", "n/a", "na", "none", "unknown", "anonymous")
"""Values of Author that name nobody."""


def _words(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of whole words; ``_`` separates words, as in names of programs and files."""
    return re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])")


AUTOMATIC = (
    "(?:semi-?)?auto(?:mat|seg)[a-z]*|auto|(?:ai|machine)[ -](?:assisted|based|generated|made|learning|segmented)"
    "|artificial intelligence|deep learning|neural network|cnn|predict(?:ed|ion|ions)|inferred|inference"
    "|thresholding|(?:multi-?)?atlas[ -]based|(?:warped|propagated) (?:from|template|atlas)[a-z]*"
)
PROGRAM = _words(
    "|".join((*OWN_METHODS, AUTOMATIC, "sct_[a-z0-9_]+", "spinal cord toolbox", "totalspineseg", "spineps"))
    + "|nn-?u-?net(?:v[0-9])?|u-?net|sciseg[a-z0-9]*|contrast[ -]agnostic"
)
EDITOR = _words("fsleyes|fslview|itk-?snap|(?:3d ?)?slicer|mricron|mricrogl")
"""Names of programs in which people draw; a mask made by one of them was made by a person."""

PERSON = _words("manual|manually|drawn|redrawn|traced|by hand|hand-drawn")
CORRECTED = _words("corrected|correction|corrections|edited|edits")
SILVER = _words("silver")
KIND = re.compile("|".join(p.pattern for p in (PERSON, CORRECTED, SILVER, _words(f"{AUTOMATIC}|unknown"))))
"""Words with which the key Kind overrules all others."""

OTHER = re.compile(
    r"(?:compar[a-z]*(?: (?:with|to|against))?|(?:check|validat|evaluat|test)[a-z]* against) [a-z0-9_-]+"
    r"|(?<![a-z])(?:bias|motion|field|distortion|eddy|eddy[ -]current|intensity|n4)[ -](?:field[ -])?correct[a-z]*"
)
"""Words that do not say who made a mask: what it was compared with, and corrections of the image."""

DENIED = re.compile(
    r"(?<![a-z])(?:un(?:corrected|edited)|(?:not|never|without|no|non|to be|needs?|should be|must be|[a-z]+n't)[ -]+"
    r"(?:(?:yet|been|be|any|further|a|manually|manual|by hand)[ -]+)*"
    r"(?:correct[a-z]*|edit[a-z]*|manual|manually|drawn|traced|by hand))(?![a-z])"
)
"""Words that deny a correction or a drawing."""


@dataclass(frozen=True)
class Reference:
    """A reference mask.

    Parameters
    ----------
    path : str
    kind : one of KINDS
    made_from : str
        The built-in method whose mask it was made from; empty if none is named.
    """

    path: str
    kind: str
    made_from: str


def find_references(masks: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Return image to its reference, from the masks of a folder (stem and path)."""
    by_end: dict[str, dict[str, Path]] = {}
    for stem, path in masks:
        for end in ENDS:
            if stem.endswith(end):
                by_end.setdefault(stem.removesuffix(end), {}).setdefault(end, path)
    return {image: str(found[min(found, key=ENDS.index)]) for image, found in by_end.items()}


def describe_reference(path: Path) -> Reference:
    """Return a reference with its origin from its sidecar.

    Raises
    ------
    InputError
        If the sidecar is damaged.
    """
    sidecar = sidecar_path(path)
    content = read_json(sidecar, "what is known of a reference mask") if sidecar.is_file() else {}
    return Reference(str(path), *origin_of(content))


def origin_of(sidecar: Mapping[str, object]) -> tuple[str, str]:
    """Return the kind of a mask and the method that it was made from, according to its sidecar.

    The key Kind overrules the others if it names a kind. Manual: false overrules an author, who may be the person who
    ran the program. Names of people are never read as words.

    Examples
    --------
    >>> origin_of({"Kind": "automatic (an old PropSeg output)"})
    ('automatic', 'propseg')
    >>> origin_of({"GeneratedBy": [{"Name": "sct_deepseg_sc"}, {"Name": "Manual", "Description": "corrected by AB"}]})
    ('corrected', 'deepseg')
    >>> origin_of({"GeneratedBy": [{"Name": "nnU-Net"}], "Manual": False, "Author": "Lab X"})
    ('automatic', '')
    >>> origin_of({"Author": "A. B.", "Date": "2020-01-01"}), origin_of({})
    (('manual', ''), ('unknown', ''))
    """
    said = [(key, text) for key in SAID_IN for key, text in _said(key, sidecar.get(key))]
    names = [text for key, text in said if key == "Name"]
    editors = [text for text in names if EDITOR.match(text)]
    programs = [t for t in names if not (PERSON.search(t) or CORRECTED.search(t) or t in editors)]
    programs += [text for key, text in said if key == "Author" and PROGRAM.search(text)]
    authors = [*editors, *(t for key, t in said if key == "Author" and t not in (*NO_NAMES, *programs))]
    told = {key: text for key, text in said if key == "Manual"}.get("Manual")
    words = " . ".join(text for key, text in said if key != "Author" and text not in programs)
    kind = " ".join(text for key, text in said if key == "Kind")
    if KIND.search(kind):
        words, programs, authors, told = kind, [], [], None
    made_from = next((name for name in OWN_METHODS for _, text in said if _names(name, text)), "")
    kind = _kind_of_words(words, programs=bool(programs), authors=bool(authors), told=told)
    return kind, "" if kind in ("manual", "unknown") else made_from


def _said(key: str, value: object, depth: int = 3) -> Iterator[tuple[str, str]]:
    """Yield key and text, in lower case, of everything in a value of a sidecar, down to the depth that BIDS has."""
    if isinstance(value, Mapping) and depth:
        for inner, item in value.items():
            if str(inner) in (*SAID_IN, "Name"):
                yield from _said(str(inner), item, depth - 1)
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _said(key, item, depth - 1)
    elif isinstance(value, Mapping | list):
        return
    elif value not in (None, ""):
        yield "Name" if key == "GeneratedBy" else key, " ".join(str(value).lower().split())


def _names(method: str, text: str) -> bool:
    """Whether a text names a method, except in a comparison with it."""
    return bool(_words(method).search(OTHER.sub(" ", text)))


def _kind_of_words(words: str, *, programs: bool, authors: bool, told: str | None) -> str:
    """Return the kind of a mask from the words, from whether programs and authors are named, and from Manual."""
    words = OTHER.sub(" ", words)
    denied = DENIED.search(words) is not None or told in ("false", "no", "0")
    words = DENIED.sub(" ", words)
    if SILVER.search(words):
        return "silver"
    corrected = CORRECTED.search(words) is not None
    by_program = programs or PROGRAM.search(words) is not None
    if told in ("false", "no", "0"):
        return "corrected" if corrected else "automatic"
    by_person = PERSON.search(words) is not None or told in ("true", "yes", "1")
    if "unverified" in words:
        by_person = authors = False
    if denied:  # the author is then the person who ran the program
        by_program, authors = by_program or not by_person, False
    if by_program:
        return "corrected" if by_person or authors or corrected else "automatic"
    if by_person or authors:
        return "manual"
    return "corrected" if corrected else "unknown"
