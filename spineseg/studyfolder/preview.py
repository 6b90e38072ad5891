"""How a new decision differs from the one that a study is held to."""

from __future__ import annotations

from spineseg.studyfolder.decisions import Decision


def compare_decisions(held: Decision, new: Decision) -> list[str]:
    """Say in which way a new decision differs from the one that a study is held to: what is kept, then the evidence.

    Parameters
    ----------
    held, new : Decision
    """
    found = []
    before, after = ([one.kept.words(), one.verdict] for one in (held, new))
    if before != after:
        found.append(f"it would keep {after[0]} ({after[1]}), not {before[0]} ({before[1]})")
    for name, words in (("n_participants", "participants"), ("n_images", "images")):
        if held.document[name] != new.document[name]:
            found.append(f"{new.document[name]} {words} in place of {held.document[name]}")
    for method in new.document["failures"]:
        counts = [one.document["failures"].get(method) for one in (held, new)]
        shown = [f"{c['n_failed']} of {c['n_images']}" if c else "none" for c in counts]
        if shown[0] != shown[1]:
            found.append(f"{method} failed on {shown[1]} images in place of {shown[0]}")
    return found
