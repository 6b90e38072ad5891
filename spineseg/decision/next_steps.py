"""Advice on what to do after a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spineseg.decision.methods_text import separate_decisions
from spineseg.decision.wording import percent
from spineseg.spelling import count_of, name_some
from spineseg.studyfolder.locks import KeptMethods


def word_preview(held: str) -> str:
    """Say that a decision is a preview, because the study has started with the methods that `held` names."""
    return (
        f"This is a preview of what a new decision would say. The study has started and is held to {held}: another"
        " choice needs another dataset name, or accept_changes in the config."
    )


def next_steps(d: Mapping[str, Any], held: str = "") -> list[str]:
    """Return what a reader can do now, one sentence for each step.

    Parameters
    ----------
    d : mapping
        The content of decision.json.
    held : str
        The methods that a started study is held to, where the decision is a preview.
    """
    if held:
        return [word_preview(held)]
    steps = []
    failed = sorted({image for row in d["failures"].values() for image in row["images"]})
    parts = [(part["kept_failed"], part["kept_flagged"]) for part in separate_decisions(d).values()]
    parts = parts or [(d["failures"].get(d["method"], {}).get("images", []), d["flagged"].get(d["method"], []))]
    kept_failed = [image for images, _ in parts for image in images]
    flagged = [image for _, images in parts for image in images if image not in kept_failed]
    low = sorted({image for row in d["agreement"] for image in row["images_below_0.7"]})
    if not d["n_images"]:
        return ["No image takes part: see under Left out why, and change that."]
    if d["method"] is None and not any(d["method_by_contrast"].values()):
        if failed:
            steps.append(f"Look at the failed images in the QC page first: {name_some(failed)}.")
        steps.append("To continue with a method anyway, set `override` in the config with a reason and your name.")
        return steps
    separate = separate_decisions(d)
    alike: dict[str, list[str]] = {}
    for contrast, part in separate.items():
        for step in _settle(part):
            alike.setdefault(step, []).append(contrast)
    steps += [f"{', '.join(own)}: {step}" for step, own in alike.items()] if separate else _settle(d)
    if separate:
        kept = KeptMethods(d["method"], d["method_by_contrast"]).words()
        steps.append(f"Use {kept}; never compare areas of different contrasts.")
    else:
        steps.append(f"Use {d['method']} for every image of this study; mixing methods shifts the measured areas.")
    kept = "the kept method" if separate else d["method"]
    if kept_failed:
        steps.append(f"Correct or exclude the images in which {kept} failed: {name_some(kept_failed)}.")
    if flagged:
        steps.append(
            f"Look first at the images on which the mask of {kept} is probably wrong (low predicted Dice): "
            f"{name_some(flagged)}."
        )
    if low:
        steps.append(
            f"Look at the images on which methods disagree (Dice below 0.7; one of them failed): {name_some(low)}."
        )
    steps.append("Look through the QC page before any statistics: no number here replaces that.")
    return steps


def _settle(d: Mapping[str, Any]) -> list[str]:
    """Say what could settle an open choice, and what stands in the way."""
    computed, needed = d["computed"], d["parameters"]["min_participants"]
    if computed["verdict"] != "undecided" or computed["basis"] == "single":
        return []
    if computed["basis"] in ("triage", "nothing"):
        return [
            f"To settle the choice, at least {needed} people need a reference, a blind rating (in the pilot's QC page) "
            "or another scan of the same cord, flagged images first. So few people settle it only if the methods "
            "differ a lot; ten to twenty do more often."
        ]
    pilots, steps = d["pilots"], []
    obstacles = pilots["obstacles"]
    power = percent(d["parameters"]["power"])
    if (missing := needed - d["n_compared"]) > 0:
        steps.append(
            f"To settle the choice, add at least {count_of(missing, 'participant')}{_evidence_words(d)}: fewer than "
            f"{needed} people never give a clear verdict, and they are too few to estimate how many would."
        )
    elif pilots["further_needed"]:
        steps.append(
            f"To settle the choice, add about {pilots['further_needed']} participants{_evidence_words(d)} "
            f"({power} chance of a verdict by the whole rule, if they are like the present ones, methods fail in "
            "them as often and they come from the same sites). The smaller the pilot, the rougher is this number."
        )
    elif pilots["searched_up_to"] and not obstacles:
        steps.append(
            f"Not even {pilots['searched_up_to']} participants would settle the choice, if they are like the present "
            "ones: the difference lies at the limit of what matters. Choose by cost, or by what your field uses."
        )
    elif pilots["searched_up_to"]:
        steps.append(
            f"More participants like the present ones would hardly settle the choice: even {pilots['searched_up_to']} "
            f"have a chance below {power}."
        )
    elif not obstacles:
        steps.append("So many people were compared that more will hardly settle the choice: choose by cost.")
    steps += [f"Obstacle: {one['words']}.{' ' * bool(one['helps'])}{one['helps']}" for one in obstacles]
    return steps


def _evidence_words(d: Mapping[str, Any]) -> str:
    """What participants must have to be compared by the ruling endpoint."""
    words = {"preference": " with blind ratings", "repeats": " with repeats", "failure_rate": ""}
    words["change_error"] = " with references of two sessions"
    return words.get(d["endpoint"], " with references")
