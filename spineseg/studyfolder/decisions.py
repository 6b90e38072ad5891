"""Files that record what is decided or fixed: decision, plan, exceptions, kept masks, chunks and the pilot's people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

from spineseg.errors import InputError
from spineseg.provenance import sha256_json
from spineseg.studyfolder.files import listed, read_record, read_rows, write_table
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.locks import KeptMethods, find_lock
from spineseg.studyfolder.manifests import ManifestEntry
from spineseg.writing import write_json

VERDICTS = ("clear", "equivalent", "undecided", "none", "override")


_TEXT, _NUMBER, _LIST, _MAPPING = str | None, float | int | None, list | None, dict | None

DECISION_KEYS: Mapping[str, type | UnionType] = {
    **dict.fromkeys(("dataset", "verdict", "unit", "config_sha256"), str),
    **dict.fromkeys(("method", "best", "runner_up", "endpoint", "endpoint_words"), _TEXT),
    **dict.fromkeys(("n_participants", "n_images", "n_compared", "seed"), int),
    **dict.fromkeys(("difference", "margin", "advantage_on_people_left_out"), _NUMBER),
    **dict.fromkeys(("ci90", "ci95"), _LIST),
    **dict.fromkeys(("override", "probability", "prediction_against_truth"), _MAPPING),
    **dict.fromkeys(
        (
            *("methods", "endpoints", "contradictions", "reasons", "differential_bias", "agreement"),
            *("prediction_fitted_for", "study", "cautions", "notes", "excluded"),
        ),
        list,
    ),
    **dict.fromkeys(
        (
            *(
                "computed",
                "method_by_contrast",
                "plan",
                "failures",
                "per_contrast",
                "per_site",
                "references",
                "ratings",
            ),
            *("area_errors", "summary", "reliability", "predicted_area_error_pct", "flagged", "stability", "pilots"),
            *("parameters", "versions", "code_sha256", "weights_sha256"),
        ),
        dict,
    ),
}
"""Keys that every decision must have, and the types of their values; readers of decisions rely on them."""


@dataclass(frozen=True)
class Decision:
    """``decision.json``: which method to keep.

    Parameters
    ----------
    method : str or None
    verdict : str
        One of `VERDICTS`.
    computed : str or None
        Method that the rule would keep, whatever a person chose.
    document : dict
        The whole content.
    """

    method: str | None
    verdict: str
    computed: str | None
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Decision:
        """Make a record from the file's content."""
        for key, kind in DECISION_KEYS.items():
            if not isinstance(document[key], kind) or isinstance(document[key], bool):
                raise TypeError(f"{key}: {str(document[key])[:40]!r}")
        if document["verdict"] not in VERDICTS:
            raise ValueError(f"expected a verdict among {', '.join(VERDICTS)}, found {document['verdict']!r}")
        if document["method"] is None and document["verdict"] != "none":
            raise ValueError(f"expected a method with the verdict {document['verdict']}, found none")
        for contrast, method in document["method_by_contrast"].items():
            if not isinstance(method, str | None):
                raise TypeError(f"method_by_contrast.{contrast}: {str(method)[:40]!r}")
        return cls(document["method"], document["verdict"], document["computed"]["method"], document)

    @property
    def kept(self) -> KeptMethods:
        """The method that is kept, or one for each contrast."""
        return KeptMethods(self.method, self.document["method_by_contrast"])

    def count_unseen(self, images: Iterable[StudyImage]) -> dict[str, int]:
        """Return contrast to number of images, for contrasts without an image in the pilot."""
        seen = self.document["per_contrast"]
        found = Counter(image.contrast for image in images if image.contrast not in seen)
        return dict(sorted(found.items())) if seen else {}  # a decision without any image says so itself


def read_decision(path: str | Path) -> Decision:
    """Read a decision.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_record(path, Decision.from_json, "a decision")


def write_decision(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write ``decision.json``."""
    write_json(path, document)


def find_decision(path: str | Path) -> Decision | None:
    """Read a decision, or return None where none has been made yet.

    Raises
    ------
    InputError
        If it is damaged.
    """
    return read_decision(path) if Path(path).is_file() else None


def decided_method(path: str | Path) -> str:
    """Return the one method that a decision keeps.

    Raises
    ------
    InputError
        If it keeps none, or one for each contrast, or if the file is missing or damaged.
    """
    kept = read_decision(path).kept
    if kept.by_contrast:
        raise InputError(f"{path}: keeps one method for each contrast ({kept.words()}); name the one that is meant")
    return kept.of_all(("",), str(path))[0]


def study_methods(folder: StudyFolder) -> KeptMethods:
    """Return the methods that a study is held to, or before it has started those decided; none if there is neither.

    Raises
    ------
    InputError
        If the lock or the decision is damaged.
    """
    if lock := find_lock(folder):
        return lock.kept
    decision = find_decision(folder.decision)
    return decision.kept if decision else KeptMethods(None)


@dataclass(frozen=True)
class Plan:
    """``plan.json``: the plan of the decision; `before_pilot` is false if images had been segmented before it."""

    content: Mapping[str, Any]
    sha256: str
    before_pilot: bool

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """Make a record from the file's content."""
        if sha256_json(content["content"]) != content["sha256"]:
            raise ValueError("the plan does not have the checksum that stands beside it")
        return cls(content["content"], content["sha256"], content["before_pilot"])


def find_plan(folder: StudyFolder) -> Plan | None:
    """Read the plan of a study, or return None where there is none.

    Raises
    ------
    InputError
        If it is damaged.
    """
    if not folder.plan.is_file():
        return None
    mend = "restore it from a copy, or delete it: the decision then says that no plan was made before the pilot"
    return read_record(folder.plan, Plan.from_json, "the plan of a decision", mend)


def write_plan(folder: StudyFolder, plan: Plan) -> None:
    """Write the plan of a study."""
    write_json(folder.plan, asdict(plan))


@dataclass(frozen=True)
class Exceptions:
    """``study/exceptions.json``: the images whose mask is kept by another method than the study's."""

    instead_of: str
    images: tuple[ManifestEntry, ...]

    @property
    def entries(self) -> dict[str, ManifestEntry]:
        """Image to entry."""
        return {entry.image_id: entry for entry in self.images}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Exceptions:
        """Make a record from the file's content."""
        return cls(content["instead_of"], tuple(map(ManifestEntry.from_json, listed(content["images"]))))


def read_exceptions(path: str | Path) -> Exceptions:
    """Read the exceptions of a study.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    return read_record(path, Exceptions.from_json, "the study's exceptions")


def write_exceptions(folder: StudyFolder, exceptions: Exceptions) -> None:
    """Write ``study/exceptions.json``."""
    write_json(folder.exceptions, asdict(exceptions))


@dataclass(frozen=True)
class KeptRow:
    """Which mask is kept of one image: a row of ``kept.tsv``.

    Parameters
    ----------
    image_id, subject, session, contrast : str
    method : str
        Empty where no method's mask is kept.
    status : str
        Status of the segmentation; ``corrected`` if a person has changed the mask, ``none`` if no method is kept.
    mask, source : str
        The kept mask and the method's mask that it is a copy of, below the results folder.
    sha256 : str
    message : str
    """

    image_id: str
    subject: str
    session: str
    contrast: str
    method: str = ""
    status: str = "none"
    mask: str = ""
    source: str = ""
    sha256: str = ""
    message: str = ""


KEPT_COLUMNS = tuple(KeptRow.__dataclass_fields__)


def read_kept(path: str | Path) -> list[KeptRow]:
    """Read ``kept.tsv``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_rows(path, lambda cells: KeptRow(**{name: cells[name] for name in KEPT_COLUMNS}), KEPT_COLUMNS)


def write_kept(path: str | Path, rows: Sequence[KeptRow]) -> None:
    """Write ``kept.tsv``."""
    write_table(path, KEPT_COLUMNS, map(vars, rows))


PILOT, REST = "pilot", "rest"
"""First part of a chunk's name. A chunk holds either pilot images or others, so that the pilot runs only its own."""

_CHUNK = re.compile(rf"({PILOT}|{REST})-[0-9]+")


@dataclass(frozen=True)
class Membership:
    """What an index fixes for later ones: the chunks, and the people drawn for the pilot.

    Parameters
    ----------
    chunks : dict of str to str
        Image to chunk, such as ``pilot-0001``.
    pilot : dict
        ``{"n", "seed", "subjects"}`` of a drawn pilot; empty where none was drawn.
    """

    chunks: Mapping[str, str] = field(default_factory=dict)
    pilot: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Membership:
        """Make a record from the file's content."""
        for image, chunk in content["chunks"].items():
            if not _CHUNK.fullmatch(chunk):
                raise ValueError(f"{image}: expected a chunk such as pilot-0001, found {chunk!r}")
        if content["pilot"]:
            n, seed, subjects = (content["pilot"][key] for key in ("n", "seed", "subjects"))
            if {type(n), type(seed)} != {int} or not all(map(str.isprintable, listed(subjects))):
                raise ValueError(f"expected a pilot with n, seed and subjects, found {content['pilot']}")
        return cls(content["chunks"], content["pilot"])

    def images_of(self, chunk: str) -> list[str]:
        """Return the images of a chunk."""
        return [image for image, own in self.chunks.items() if own == chunk]


def read_membership(folder: StudyFolder) -> Membership:
    """Read which images belong to which chunk.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    mend = "delete it and images.tsv, and run the study again; a drawn pilot is then drawn again"
    return read_record(folder.membership, Membership.from_json, "the chunks of a study", mend)


def find_membership(folder: StudyFolder) -> Membership:
    """Read which images belonged to which chunk in an earlier index, if there was one.

    Raises
    ------
    InputError
        If the file is damaged: without it the pilot would be drawn again.
    """
    return read_membership(folder) if folder.membership.is_file() else Membership()


def write_membership(folder: StudyFolder, membership: Membership) -> None:
    """Write which images belong to which chunk."""
    write_json(folder.membership, asdict(membership))


@dataclass(frozen=True)
class Perturbed:
    """Agreement of a method with itself on slightly changed copies of a chunk's images.

    Parameters
    ----------
    method, chunk : str
    n : int
        Number of copies of each image.
    images : dict
        Image to the measures ``perturb_dice`` and ``perturb_csa_cv``; None where not known.
    """

    method: str
    chunk: str
    n: int
    images: Mapping[str, Mapping[str, float | None]]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Perturbed:
        """Make a record from the file's content."""
        return cls(content["method"], content["chunk"], content["n"], content["images"])


def read_perturbed(path: str | Path) -> Perturbed:
    """Read the file that ``spineseg perturb`` wrote for a chunk.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    return read_record(path, Perturbed.from_json, "what spineseg perturb writes")


def write_perturbed(path: str | Path, perturbed: Perturbed) -> None:
    """Write a method's agreement with itself on a chunk's images."""
    write_json(path, asdict(perturbed))
