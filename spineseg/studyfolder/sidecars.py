"""The sidecar of a mask: the JSON beside it with its method, sources and result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.studyfolder.files import listed, read_record
from spineseg.writing import write_json


class Result(Protocol):
    """The attributes that a sidecar, an entry of a manifest and a row of measures share."""

    @property
    def status(self) -> str:
        """One of `STATUSES`."""

    @property
    def message(self) -> str:
        """Why the status is not ok."""


STATUSES = ("ok", "partial", "empty", "failed")
"""In this order: cord found along the field of view; in a part of it; none found (an empty mask); no mask, because the
image cannot be segmented."""

NO_CORD = ("empty", "failed")
"""Statuses of an image in which a method has found no cord."""

KILLED = "the process ended on this image as when memory runs out"
"""Start of the message of an image whose process was killed (`spineseg.memory_limit.ended_for_memory`).

The cause is the machine, not the image or the method. Such a failure counts in no comparison, and the next run tries
the image again.
"""

SHOWN_DIGITS = 12
"""Digits of a checksum that a message shows; the files have all of them."""


@dataclass(frozen=True)
class MadeBy:
    """Code, parameters, weights and libraries that made some masks.

    Parameters
    ----------
    version : str
        Version of spineseg, for people; `code` is what is compared.
    code : str
        Digest of the code that computes the masks (`spineseg.code_digest`).
    parameters : dict
    weights : dict of str to str
        File name to SHA-256.
    libraries : dict of str to str
        Versions of the libraries that compute. They may change the last digits, and are recorded but not compared.
    """

    version: str
    code: str
    parameters: Mapping[str, Any]
    weights: Mapping[str, str]
    libraries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MadeBy:
        """Make a record from a file's content."""
        return cls(
            content["version"],
            content["code"],
            content["parameters"],
            content["weights"],
            content["libraries"],
        )

    def is_current(self, now: MadeBy) -> bool:
        """Whether a mask, according to its sidecar, was made by the present code, weights and parameters.

        For a parameter that was left open, the sidecar has the value that was used for that image.

        Examples
        --------
        >>> before = MadeBy("1", "c" * 64, {"thr": 0.45}, {"a": "0" * 64})
        >>> [before.is_current(replace(before, parameters={"thr": thr})) for thr in (None, 0.5)]
        [True, False]
        """
        by_image = {key: self.parameters.get(key) for key, value in now.parameters.items() if value is None}
        return not self.changes_to(replace(now, parameters=dict(now.parameters) | by_image))

    def changes_to(self, now: MadeBy) -> list[str]:
        """Name the differences that may change a mask, with both values.

        Examples
        --------
        >>> before = MadeBy("1", "c" * 64, {"thr": None}, {"a": "0" * 64})
        >>> before.changes_to(MadeBy("2", "d" * 64, {"thr": 0.4}, {"a": "0" * 64}))
        ['code cccccccccccc (version 1), now dddddddddddd (version 2)', 'thr null, now 0.4']
        """
        changes = []
        if self.code != now.code:
            before, after = (f"{made.code[:SHOWN_DIGITS]} (version {made.version})" for made in (self, now))
            changes.append(f"code {before}, now {after}")
        for key in sorted(self.parameters.keys() | now.parameters.keys()):
            old, new = (json.dumps(made.parameters.get(key)) for made in (self, now))
            if old != new:
                changes.append(f"{key} {old}, now {new}")
        for file in sorted(self.weights.keys() | now.weights.keys()):
            old, new = (made.weights.get(file, "none")[:SHOWN_DIGITS] for made in (self, now))
            if old != new:
                changes.append(f"weights {file} {old}, now {new}")
        return changes


@dataclass(frozen=True)
class Sidecar:
    """The JSON beside a mask; see docs/outputs.md for its keys.

    Parameters
    ----------
    method, contrast, status : str
    made_by : MadeBy
    maker : str
        Version of a program or of existing masks, as the user states it; empty for the built-in methods.
    sources : tuple of str
        Files that the mask was made from.
    notes : tuple of str
        Notes for people, one line each.
    key : str
        Digest of everything that the result depends on; empty outside of a study.
    mask_sha256 : str
        Checksum of the mask; empty where there is none.
    seconds, peak_mb : float or None
    stage_seconds : dict or None
    device : str
    threads : int
    slice_uncertainty : tuple of float or None, optional
        Uncertainty of each canonical slice, from below.
    more : dict
        Further keys, such as the mask and the decision from which a kept mask was copied.
    """

    method: str
    contrast: str
    status: str
    made_by: MadeBy
    maker: str = ""
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    key: str = ""
    mask_sha256: str = ""
    seconds: float | None = None
    peak_mb: float | None = None
    stage_seconds: Mapping[str, float] | None = None
    device: str = "cpu"
    threads: int = 1
    slice_uncertainty: tuple[float | None, ...] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """Why the status is not ok, in one line."""
        return self.notes[-1] if self.notes and self.status != "ok" else ""

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        made = self.made_by
        weights = [{"File": name, "SHA256": digest} for name, digest in made.weights.items()]
        own = {"Name": "spineseg", "Version": made.version, "CodeSHA256": made.code, "Weights": weights}
        content: dict[str, Any] = {
            "Sources": list(self.sources),
            "SpatialReference": "orig",
            "GeneratedBy": [own | {"Libraries": dict(made.libraries)}],
            "Method": self.method,
            "Contrast": self.contrast,
            "Status": self.status,
            "Notes": list(self.notes),
            "Parameters": dict(made.parameters),
            "Seconds": self.seconds,
            "PeakMB": self.peak_mb,
            "Device": self.device,
            "Threads": self.threads,
        }
        if self.maker:
            content["GeneratedBy"].append({"Name": self.method, "Version": self.maker})
        optional = {
            "ContentKey": self.key,
            "MaskSHA256": self.mask_sha256,
            "StageSeconds": self.stage_seconds,
            "SliceUncertainty": None if self.slice_uncertainty is None else list(self.slice_uncertainty),
        }
        return content | {key: value for key, value in optional.items() if value} | dict(self.more)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sidecar:
        """Make a record from a file's content."""
        own, *others = content["GeneratedBy"]
        uncertainty = content.get("SliceUncertainty")
        return cls(
            method=content["Method"],
            contrast=content["Contrast"],
            status=content["Status"],
            made_by=MadeBy(
                own["Version"],
                own["CodeSHA256"],
                content["Parameters"],
                {weights["File"]: weights["SHA256"] for weights in own["Weights"]},
                own["Libraries"],
            ),
            maker=str(others[0]["Version"]) if others else "",
            sources=listed(content["Sources"]),
            notes=listed(content["Notes"]),
            key=content.get("ContentKey", ""),
            mask_sha256=content.get("MaskSHA256", ""),
            seconds=content["Seconds"],
            peak_mb=content["PeakMB"],
            stage_seconds=content.get("StageSeconds"),
            device=content["Device"],
            threads=content["Threads"],
            slice_uncertainty=None if uncertainty is None else listed(uncertainty),
            more={key: value for key, value in content.items() if key not in _SIDECAR_KEYS},
        )


_SIDECAR_KEYS = {
    *("Sources", "SpatialReference", "GeneratedBy", "Method", "Contrast", "Status", "Notes", "Parameters", "Seconds"),
    *("PeakMB", "Device", "Threads", "ContentKey", "MaskSHA256", "StageSeconds", "SliceUncertainty"),
}


def is_killed(result: Result) -> bool:
    """Whether an image failed only because its process was killed (`KILLED`)."""
    return result.status == "failed" and result.message.startswith(KILLED)


def read_sidecar(mask: str | Path) -> Sidecar | None:
    """Return the sidecar of a mask; None if spineseg wrote none, or if it is damaged.

    The origin of a mask without it is unknown: it is computed again, or counts as a person's.
    """
    try:
        return read_record(sidecar_path(mask), Sidecar.from_json, "the sidecar of a mask")
    except InputError:
        return None


def write_sidecar(mask: str | Path, sidecar: Sidecar) -> Path:
    """Write the JSON beside a mask and return its path."""
    path = sidecar_path(mask)
    write_json(path, sidecar.to_json())
    return path
