"""The lock of a study: its method, or one for each contrast, and the code and weights that make its masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from spineseg.errors import InputError
from spineseg.spelling import join_names
from spineseg.studyfolder.files import listed, read_record
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.sidecars import MadeBy
from spineseg.writing import write_json


@dataclass(frozen=True)
class KeptMethods:
    """The method whose masks are kept, or one for each contrast.

    Parameters
    ----------
    method : str or None
        Method for every contrast that is not in `by_contrast`; None where no method is good enough.
    by_contrast : mapping
        Contrast to method or None; empty where one method is kept for the whole dataset.
    """

    method: str | None
    by_contrast: Mapping[str, str | None] = field(default_factory=dict)

    def of(self, contrast: str) -> str | None:
        """Return the method that is kept for a contrast."""
        return self.by_contrast.get(contrast, self.method)

    def of_all(self, contrasts: Iterable[str], where: str) -> tuple[str, ...]:
        """Return the methods that are kept for some contrasts, each once.

        Raises
        ------
        InputError
            If no method is kept for one of them; `where` is the decision's file.
        """
        found = {contrast: self.of(contrast) for contrast in sorted(set(contrasts))}
        lacking = [contrast for contrast, method in found.items() if method is None]
        if lacking and self.by_contrast:
            raise InputError(
                f"{where}: keeps no method for {' and '.join(lacking)}; read decision.md, then leave the contrast out"
                " (config key contrasts) or choose one method by the config key override"
            )
        if lacking:
            raise InputError(f"{where}: keeps no method; read decision.md, or choose one by the config key override")
        return tuple(dict.fromkeys(filter(None, found.values())))

    def words(self) -> str:
        """Say which method is kept, or which one for which contrasts.

        Examples
        --------
        >>> KeptMethods("a").words(), KeptMethods("a", {"t1": "a", "t2": "b", "dwi": "a"}).words()
        ('a', 'a for t1 and dwi, b for t2')
        >>> KeptMethods("a", {"t1": "a", "t2": "a", "dwi": "a"}).words()
        'a for every contrast'
        """
        if not self.by_contrast:
            return self.method or "no method"
        contrasts: dict[str | None, list[str]] = {}
        for contrast, method in self.by_contrast.items():
            contrasts.setdefault(method, []).append(contrast)
        if len(contrasts) == 1 < len(self.by_contrast):
            (method,) = contrasts
            return f"{method or 'no method'} for every contrast"
        return ", ".join(f"{method or 'no method'} for {join_names(own)}" for method, own in contrasts.items())


@dataclass(frozen=True)
class AcceptedChange:
    """A change within a study that a person has accepted."""

    changes: tuple[str, ...]
    reason: str
    by: str


@dataclass(frozen=True)
class Lock:
    """``study/lock.json``: what a study is held to from its first image on.

    Parameters
    ----------
    kept : KeptMethods
    made_by : mapping
        Method to the code, parameters and weights that make its masks, for the methods that the study uses.
    accepted : tuple of AcceptedChange
    pilot : mapping
        Image of the pilot to the checksum of its content when the study started.
    images : tuple of str
        All images when the study started; empty if an earlier version of spineseg started it.
    """

    kept: KeptMethods
    made_by: Mapping[str, MadeBy]
    accepted: tuple[AcceptedChange, ...] = ()
    pilot: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        content = asdict(self)
        return content.pop("kept") | content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Lock:
        """Make a record from the file's content, also that of an earlier version."""
        if content["made_by"].keys() & {"code", "parameters"}:  # as written when a study had one method only
            own = {content["method"]: content["made_by"]}
            content = {**content, "made_by": own, "by_contrast": {}, "pilot": {}}
        accepted = [AcceptedChange(listed(a["changes"]), a["reason"], a["by"]) for a in listed(content["accepted"])]
        kept = KeptMethods(content["method"], content["by_contrast"])
        made_by = {method: MadeBy.from_json(made) for method, made in content["made_by"].items()}
        if not made_by or not made_by.keys() <= {kept.method, *kept.by_contrast.values()}:
            raise ValueError(f"expected what makes the masks of {kept.words()}, found that of {list(made_by)}")
        return cls(kept, made_by, tuple(accepted), content["pilot"], listed(content.get("images", [])))


def find_lock(folder: StudyFolder) -> Lock | None:
    """Return the lock of a study, or None if it has not started.

    Raises
    ------
    InputError
        If the file is damaged, or from a version of spineseg that did not record the code.
    """
    if not folder.lock.is_file():
        return None
    mend = (
        "a study that an older spineseg started cannot continue with this one: give the new run another dataset name,"
        " or delete the file to start the study here"
    )
    return read_record(folder.lock, Lock.from_json, "the lock of a study, with the digest of its code", mend)


def write_lock(folder: StudyFolder, lock: Lock) -> None:
    """Write ``study/lock.json``."""
    write_json(folder.lock, lock.to_json())
