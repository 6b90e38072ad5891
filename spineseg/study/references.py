"""Masks that a dataset brings to compare with: their names over the years, and who made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spineseg.bids import sidecar_path
from spineseg.methods.registry import OWN_METHODS
from spineseg.reading import read_json

ENDS = (
    *("_label-SC_seg", "_label-SC_mask", "_desc-manual_label-SC_seg", "_space-orig_label-SC_seg"),
    *("_space-orig_desc-manual_label-SC_seg", "_space-other_label-SC_seg", "_seg-manual", "_seg"),
)
"""Ends of the stem of a cord mask, as SCT, spine-generic and BIDS have named them since 2016; an earlier one comes
first where an image has two."""

KINDS = ("manual", "corrected", "silver", "automatic", "unknown")
"""Drawn by a person; a program's output that a person corrected; made by a program and checked; made by a program;
nothing is said."""

TRUE_KINDS = ("manual", "corrected", "unknown")
"""Whose references are the truth unless the configuration says otherwise. Those of unknown origin are named, so that
a person can say what they are."""

SAID_IN = ("Kind", "Manual", "GeneratedBy", "Author", "Description", "Method", "Comment")
"""Keys of a sidecar that tell who made a mask: BIDS, spine-generic, and what people add."""


@dataclass(frozen=True)
class Reference:
    """A mask to compare with.

    Parameters
    ----------
    path : str
    kind : one of KINDS
    made_from : str
        The method of ours whose output it was; empty where none is named.
    """

    path: str
    kind: str
    made_from: str


def find_references(masks: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Return image to the mask that is compared with it, of the masks of a folder (stem and path)."""
    by_end: dict[str, dict[str, Path]] = {}
    for stem, path in masks:
        for end in ENDS:
            if stem.endswith(end):
                by_end.setdefault(stem.removesuffix(end), {}).setdefault(end, path)
    return {image: str(found[min(found, key=ENDS.index)]) for image, found in by_end.items()}


def describe_reference(path: Path) -> Reference:
    """Return a reference with what its sidecar says of who made it.

    Raises
    ------
    InputError
        If the sidecar is damaged.
    """
    sidecar = sidecar_path(path)
    content = read_json(sidecar, "what is known of a reference mask") if sidecar.is_file() else {}
    return Reference(str(path), *origin_of(content))


def origin_of(sidecar: Mapping[str, object]) -> tuple[str, str]:
    """Return the kind of a mask and the method that it was made from, as its sidecar tells.

    Examples
    --------
    >>> origin_of({"Kind": "automatic (an old PropSeg output)"})
    ('automatic', 'propseg')
    >>> origin_of({"GeneratedBy": [{"Name": "sct_deepseg_sc"}, {"Name": "Manual", "Description": "corrected by AB"}]})
    ('corrected', 'deepseg')
    >>> origin_of({"Author": "A. B.", "Date": "2020-01-01"}), origin_of({})
    (('manual', ''), ('unknown', ''))
    """
    said = {key: str(sidecar[key]).lower() for key in SAID_IN if sidecar.get(key)}
    text = " ".join(said.values())
    made_from = next((name for name in OWN_METHODS if name in text), "")
    by_program = bool(made_from) or "automat" in text or "sct_" in text
    by_person = "manual" in text or "drawn" in text or "Author" in said or said.get("Manual") == "true"
    if "unverified" in text or "manual': false" in text or said.get("Manual") == "false":
        by_person = False
    if "silver" in text:
        return "silver", made_from
    if by_program and (by_person or "correct" in text):
        return "corrected", made_from
    if by_program:
        return "automatic", made_from
    return ("manual", "") if by_person else ("unknown", "")
