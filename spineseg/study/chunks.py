"""Choose the pilot, and assign images to chunks (one job each). Adding images changes neither for earlier images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from spineseg.study.choices import PilotChoice
from spineseg.studyfolder.decisions import PILOT, REST, Membership


def choose_pilot(
    subjects: Iterable[str],
    choice: PilotChoice,
    earlier: Membership | None = None,
    groups: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """Choose the pilot's subjects.

    Parameters
    ----------
    subjects : iterable of str
        Subjects with at least one included image.
    choice : PilotChoice
        A draw is without replacement and does not depend on the order of `subjects`.
    earlier : Membership, optional
        If n and seed are the same as in an earlier draw, its subjects are kept as far as they still exist, so that new
        subjects do not change the pilot of a running study.
    groups : mapping, optional
        Subject to the groups that it represents: contrasts of its images, values of strata. If the first n subjects of
        a draw lack a group, the first drawn who has it replaces the last drawn who can be spared; subjects of an
        earlier draw are kept.

    Returns
    -------
    pilot : dict
        ``subjects``, sorted; for a draw also its settings ``n``, ``seed`` and ``strata``.
    """
    known = sorted(set(subjects))
    if choice.subjects is not None:
        return {"subjects": [name for name in known if name in choice.subjects]}
    if choice.n is None:
        return {"subjects": known}
    n, seed = choice.n, choice.seed
    drawn: Mapping[str, Any] = earlier.pilot if earlier else {}
    asked = {"n": n, "seed": seed} | ({"strata": list(choice.strata)} if choice.strata else {})
    before = set(drawn["subjects"]) if {**drawn, **asked} == drawn and len(drawn) == len(asked) + 1 else set()

    def rank(name: str) -> tuple[bool, str]:
        # a hash, not a random generator: a subject's rank must not depend on the other subjects
        return name not in before, hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    ranked = sorted(known, key=rank)
    return asked | {"subjects": sorted(_cover_groups(ranked, n, before, groups or {}))}


def _cover_groups(
    ranked: Sequence[str], n: int, fixed: Collection[str], groups: Mapping[str, Collection[str]]
) -> list[str]:
    """Return n of the ranked subjects: the first ones, unless a group would then have nobody."""
    drawn, others = list(ranked[:n]), ranked[n:]
    for group in sorted({name for subject in ranked for name in groups.get(subject, ())}):
        having = Counter(name for subject in drawn for name in groups.get(subject, ()))
        if having[group]:
            continue
        for newcomer in (subject for subject in others if group in groups.get(subject, ())):
            brought = set(groups[newcomer])
            spared = [
                subject
                for subject in reversed(drawn)
                if subject not in fixed and all(having[name] > 1 or name in brought for name in groups.get(subject, ()))
            ]
            if spared:
                drawn[drawn.index(spared[0])] = newcomer
                break
    return drawn


def assign_chunks(images: Iterable[tuple[str, bool, str]], size: int, earlier: Mapping[str, str]) -> dict[str, str]:
    """Assign images to chunks of at most `size`.

    Parameters
    ----------
    images : iterable of (str, bool, str)
        Image, whether it is in the pilot, and a label that all images of its chunk share, in the order of the table.
        The label is the contrast if a study keeps one method for each, so that a job needs one method; else it is
        empty.
    size : int, at least 1
    earlier : dict of str to str
        Image to chunk of an earlier index. Images stay in their chunk, whatever `size` is now, unless they have entered
        or left the pilot, or no longer have the label of their chunk. Other images fill the last chunk, then new ones.

    Returns
    -------
    chunks : dict of str to str
        Image to chunk, such as ``pilot-0001``.
    """
    images = list(images)
    chunks: dict[str, str] = {}
    filled: Counter[str] = Counter()
    shared: dict[str, str] = {}
    for image, in_pilot, kind in images:
        chunk = earlier.get(image, "")
        if chunk.startswith(f"{PILOT if in_pilot else REST}-") and shared.setdefault(chunk, kind) == kind:
            chunks[image] = chunk
            filled[chunk] += 1
    newest = {group: max((_number(c) for c in filled if c.startswith(group)), default=0) for group in (PILOT, REST)}
    last = {(chunk.split("-")[0], shared[chunk]): chunk for chunk in sorted(filled, key=_number)}
    for image, in_pilot, kind in images:
        if image in chunks:
            continue
        group = PILOT if in_pilot else REST
        chunk = last.get((group, kind), "")
        if not chunk or filled[chunk] >= size:
            newest[group] += 1
            chunk = last[group, kind] = f"{group}-{newest[group]:04d}"
        chunks[image] = chunk
        filled[chunk] += 1
    return chunks


def _number(chunk: str) -> int:
    return int(chunk.rsplit("-", 1)[1])
