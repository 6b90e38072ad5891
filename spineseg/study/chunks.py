"""Which images the pilot holds and which images one job takes; both stay as they are when images are added."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spineseg.writing import write_json

PILOT, REST = "pilot", "rest"
"""First part of a chunk's name: chunks hold pilot images or others, so that the pilot touches no others."""

_CHUNK = re.compile(rf"({PILOT}|{REST})-[0-9]+")


@dataclass(frozen=True)
class Membership:
    """What an earlier index has settled.

    Parameters
    ----------
    chunks : dict of str to str
        Image to chunk.
    pilot : dict
        ``{"n", "seed", "subjects"}`` of a drawn pilot; empty where none was drawn.
    """

    chunks: dict[str, str] = field(default_factory=dict)
    pilot: dict[str, Any] = field(default_factory=dict)


def load_membership(path: str | Path) -> Membership:
    """Read an earlier membership; a missing or damaged file counts as none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        chunks = {image: chunk for image, chunk in content["chunks"].items() if _CHUNK.fullmatch(chunk)}
        return Membership(chunks, dict(content["pilot"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Membership()


def save_membership(path: str | Path, membership: Membership) -> None:
    """Write the membership for the next index of the same study."""
    write_json(path, {"chunks": membership.chunks, "pilot": membership.pilot})


def choose_pilot(subjects: Iterable[str], choice: Any, earlier: Membership | None = None) -> dict[str, Any]:
    """Choose the pilot's subjects.

    Parameters
    ----------
    subjects : iterable of str
        Subjects with at least one included image.
    choice : "all", list of str, or {"n": int, "seed": int}
        The config key ``pilot.subjects``. A draw is without replacement and does not depend on the order.
    earlier : Membership, optional
        A draw of the same n and seed keeps the subjects that are still there, so that new subjects do
        not change the pilot of a running study.

    Returns
    -------
    pilot : dict
        ``subjects``, sorted, and for a draw ``n`` and ``seed``.
    """
    known = sorted(set(subjects))
    if choice == "all":
        return {"subjects": known}
    if isinstance(choice, list):
        asked = {name.removeprefix("sub-") for name in choice}
        return {"subjects": [name for name in known if name in asked]}
    n, seed = choice["n"], choice.get("seed", 1)
    drawn = earlier.pilot if earlier else {}
    before = set(drawn["subjects"]) if (drawn.get("n"), drawn.get("seed")) == (n, seed) else set()

    def rank(name: str) -> tuple[bool, str]:
        # a hash, not a generator: the rank of one subject must not depend on who else is there
        return name not in before, hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    return {"n": n, "seed": seed, "subjects": sorted(sorted(known, key=rank)[:n])}


def assign_chunks(images: Iterable[tuple[str, bool]], size: int, earlier: dict[str, str]) -> dict[str, str]:
    """Deal images to chunks of at most `size`.

    Parameters
    ----------
    images : iterable of (str, bool)
        Image and whether it is in the pilot, in the order of the table.
    size : int, at least 1
    earlier : dict of str to str
        Image to chunk of an earlier index. Images stay where they were, unless they have entered or
        left the pilot or their chunk holds more than `size`; others fill the last chunk, then new ones.

    Returns
    -------
    chunks : dict of str to str
        Image to chunk, such as ``pilot-0001``.
    """
    images = list(images)
    chunks: dict[str, str] = {}
    filled: Counter[str] = Counter()
    for image, in_pilot in images:
        chunk = earlier.get(image, "")
        if chunk.startswith(f"{PILOT if in_pilot else REST}-") and filled[chunk] < size:
            chunks[image] = chunk
            filled[chunk] += 1
    last = {group: max((_number(c) for c in filled if c.startswith(group)), default=1) for group in (PILOT, REST)}
    for image, in_pilot in images:
        if image in chunks:
            continue
        group = PILOT if in_pilot else REST
        if filled[_name(group, last[group])] >= size:
            last[group] += 1
        chunks[image] = _name(group, last[group])
        filled[chunks[image]] += 1
    return chunks


def _name(group: str, number: int) -> str:
    return f"{group}-{number:04d}"


def _number(chunk: str) -> int:
    return int(chunk.rsplit("-", 1)[1])
