"""Write decision.md: the decision in words that a clinician can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spineseg.decision.methods_text import (
    VERDICT_WORDS,
    describe_plan_in_words,
    methods_text,
    reference_words,
    separate_decisions,
)
from spineseg.decision.next_steps import next_steps
from spineseg.decision.report_tables import (
    endpoint_section,
    error_section,
    left_out_section,
    part_section,
    reliability_section,
    study_section,
)
from spineseg.decision.report_trust import trust_lines
from spineseg.decision.wording import (
    format_gap,
    format_list,
    format_number,
    format_table,
    people,
    percent,
)
from spineseg.measures import AREA_UNIT
from spineseg.spelling import count_of, join_names
from spineseg.studyfolder.locks import KeptMethods

LEARNED = {"propseg": "the cord detectors"}
"""Part of a method that was trained on people, where it is not a network."""


def write_report(d: Mapping[str, Any], held: str = "") -> str:
    """Write decision.md from the content of decision.json.

    Parameters
    ----------
    d : mapping
        As `build_decision` returns it.
    held : str
        The methods that a started study is held to, where the decision is a preview.

    Returns
    -------
    str
        Markdown: the verdict, the numbers and what to do next on the first screen, then the details.
    """
    parts = [
        f"# Which segmentation method to keep: {d['dataset']}{' (a preview)' if held else ''}",
        f"**{_headline(d)}**",
        format_list(_contrast_sentences(d)),
        *_numbers(d),
        "## What to do next",
        format_list(next_steps(d, held)),
        "## How far to trust this",
        format_list(trust_lines(d)),
        *study_section(d),
        *endpoint_section(d),
        *error_section(d),
        *part_section(d, "contrast"),
        *part_section(d, "site"),
        *reliability_section(d),
        *left_out_section(d),
        "## The plan",
        describe_plan_in_words(d),
        "## For the methods section",
        methods_text(d),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict_sentence(d: Mapping[str, Any]) -> str:
    """State the verdict in a sentence or two, with what contradicts it.

    Parameters
    ----------
    d : mapping
        The content of decision.json.
    """
    return " ".join(verdict_sentences(d))


def verdict_sentences(d: Mapping[str, Any]) -> list[str]:
    """Return which method to keep, then each contrast's verdict where contrasts are decided separately."""
    return [_headline(d), *_contrast_sentences(d)]


def _headline(d: Mapping[str, Any]) -> str:
    """Say which method to keep, or which one for each contrast."""
    if d["verdict"] == "override":
        return _override_sentence(d)
    if d["method_by_contrast"]:
        kept = KeptMethods(d["method"], d["method_by_contrast"])
        return f"One method for each contrast, as planned: {kept.words()}."
    return _with_contradictions(d)


def _contrast_sentences(d: Mapping[str, Any]) -> list[str]:
    """State each contrast's verdict where contrasts are decided separately."""
    if d["verdict"] == "override":
        return []
    return [f"{contrast}: {_with_contradictions(part)}" for contrast, part in separate_decisions(d).items()]


def _with_contradictions(d: Mapping[str, Any]) -> str:
    """State the rule's own verdict, and what contradicts it."""
    text, against = _computed_sentence(d), "; ".join(d["contradictions"])
    text = f"{text} But {against}." if against else text
    return text + _taught_sentence(d)


def _taught_sentence(d: Mapping[str, Any]) -> str:
    """Say which methods score too well because they were trained on people of the pilot."""
    by_people: dict[tuple[str, ...], list[str]] = {}
    taught = d["references"].get("taught", {})
    for method in d["methods"]:
        if method in taught:
            by_people.setdefault(tuple(taught[method]["participants"]), []).append(method)
    parts = []
    for who, methods in by_people.items():
        n = f"{len(who)} of these {people(d['n_participants'])}"
        if d["computed"]["basis"] == "endpoint":
            n += f" ({taught[methods[0]]['n_compared']} of the {d['n_compared']} compared)"
        learned = " and ".join(f"{LEARNED.get(method, 'the networks')} of {method}" for method in methods)
        parts.append(f"{n} were used to train {learned}")
    return f" Note: {'; '.join(parts)}. Methods score too well on people they were trained on." if parts else ""


def _computed_sentence(d: Mapping[str, Any]) -> str:
    """State the rule's own verdict."""
    method, verdict, basis = (d["computed"][key] for key in ("method", "verdict", "basis"))
    best, rival = d["best"], d["runner_up"]
    if verdict == "none":
        if not d["n_images"]:
            return "Keep no method yet: there are no images to compare."
        return (
            f"Keep no method as it is: every method failed in more than {percent(d['parameters']['max_fail'])} of the "
            f"images ({_failure_words(d)}), so correct the masks by hand or change the acquisition or the settings."
        )
    if basis == "single":
        return f"Keep {method}: it is the only method that was run and it failed seldom, but nothing was compared."
    if basis == "failures":
        return f"Keep {method}: it fails in fewer people than {rival}, and the evidence is clear{_gap_words(d)}."
    if verdict == "clear":
        return (
            f"Keep {method}: it is better than {rival} by {d['endpoint_words']}, and the evidence is "
            f"clear{_gap_words(d)}."
        )
    if verdict == "equivalent":
        return (
            f"Keep {method}: {best} and {rival} are equally good in practice by everything that was measured, and "
            f"{_why_kept(d, method)}."
        )
    n = d["references"]["n_participants"]
    few = f"the references of {people(n)} are too few" if n else "there is no reference that counts as the truth"
    rated = (d.get("ratings") or {}).get("n_participants", 0)
    lacking = f"{few}, and " + (
        f"the ratings of {people(rated)} settle nothing" if rated else "no rating or repeat settles the choice"
    )
    if basis == "triage":
        fits = (
            "" if {best, rival} <= set(d["prediction_fitted_for"]) else ", which was not fitted for all these methods"
        )
        better, worse = (best, rival) if d["difference"] > 0 else (rival, best)
        alike = abs(d["difference"]) <= d["margin"]
        looks = f"{best} and {rival} look alike" if alike else f"{better} looks better than {worse}"
        return (
            f"Keep {method} for now: {lacking}. By the predicted Dice{fits}, {looks}{_gap_words(d)}"
            f"{_but_fails(d, better) if method != better and not alike else ''}; {'more ' if rated else ''}blind "
            f"ratings or references of {d['parameters']['min_participants']} people or more could settle it."
        )
    if basis == "nothing":
        return f"Keep {method} for now: {lacking}; {_why_kept(d, method)}."
    little = " by less than what counts" if abs(d["difference"]) <= d["margin"] else ""
    if d["difference"] == 0:
        says = f"{best} and {rival} are alike so far"
        return f"Keep {method} for now: by {d['endpoint_words']} {says}, {_not_settled(d)}; {_why_kept(d, method)}."
    if d["difference"] < 0:
        says = f"{rival} is better than {best}{little} so far{_but_fails(d, rival)}"
    else:
        says = f"it is better{little} so far"
    return f"Keep {method} for now: by {d['endpoint_words']} {says}, {_not_settled(d)}."


def _not_settled(d: Mapping[str, Any]) -> str:
    """Say that the choice is open, the difference, and what keeps it open where the numbers alone do not show it."""
    text = f"and that is not settled{_gap_words(d)}"
    kinds = ("sites", "failures", "groups", "overlap")
    in_way = [one["words"] for one in d["pilots"].get("obstacles", ()) if one["kind"] in kinds]
    return f"{text}, because {'; '.join(in_way)}" if in_way else text


def _failure_words(d: Mapping[str, Any]) -> str:
    """Write every method's share of failures, which can differ from the share of all images together."""
    shares = ", ".join(f"{method} {percent(row['rate'] or 0.0)}" for method, row in d["failures"].items())
    return f"{shares}; the mean of the contrasts' shares by person"


def _but_fails(d: Mapping[str, Any], method: str) -> str:
    """Say why a method is not kept though it looks better than the kept one."""
    limit = d["parameters"]["max_fail"]
    if (d["failures"][method]["rate"] or 0.0) > limit:
        return f", but fails in more than {percent(limit)} of the images ({_failure_words(d)})"
    if d["parameters"]["prefer"] == d["method"]:
        return f", but {d['method']} is preferred in the configuration"
    return ", but not by all that was compared" if len(d["methods"]) > 2 else ", but fails more often"


def _why_kept(d: Mapping[str, Any], method: str) -> str:
    """Say why a method is kept if nothing distinguishes it from the other."""
    if d["parameters"]["prefer"] == method:
        return f"{method} is preferred in the configuration"
    before = d["methods"][: d["methods"].index(method)]
    limit = d["parameters"]["max_fail"]
    if before and all((d["failures"][m]["rate"] or 0.0) > limit for m in before):
        return f"{method} is the first of those that do not fail in more than {percent(limit)} of the images"
    return f"{method} comes first in the list of methods"


def _gap_words(d: Mapping[str, Any]) -> str:
    """Write the difference with its interval, in brackets."""
    gap = format_gap(d)
    if gap is None:
        return ""
    return (
        f" (by {gap.size}{gap.unit} in {people(d['n_compared'])}"
        + (f", 90 % interval {gap.interval}" if gap.interval else "")
        + f"; up to {gap.margin} counts as none)"
    )


def _override_sentence(d: Mapping[str, Any]) -> str:
    """State the override in one sentence, with what the rule would have said."""
    override, computed = d["override"], d["computed"]
    each = "; ".join(
        f"{contrast} by {one['method'] or 'no method'} ({VERDICT_WORDS[one['verdict']]})"
        for contrast, one in computed.get("by_contrast", {}).items()
    )
    rule = (
        f"the rule would keep, one method for each contrast as planned, {each}"
        if each
        else (
            f"the rule would keep {computed['method']} ({VERDICT_WORDS[computed['verdict']]})"
            if computed["method"]
            else "the rule would keep no method"
        )
    )
    return f"Keep {override['method']}: {override['by']} chose it ({override['reason']}); {rule}."


def _numbers(d: Mapping[str, Any]) -> list[str]:
    """Table of the methods."""
    columns = {
        "Dice with reference": lambda m: format_number(d["summary"][m]["dice"], 3),
        "Area error: bias, %": lambda m: _error(d, m, "bias_pct"),
        "Area error: SD, %": lambda m: _error(d, m, "sd_pct"),
        "Predicted Dice": lambda m: _predicted(d, m),
        "To look at": lambda m: str(len(d["flagged"][m])),
        f"Mean area, {AREA_UNIT}": lambda m: format_number(d["summary"][m]["csa_mean_mm2"], 1),
    }
    rows = {name: [cell(m) for m in d["methods"]] for name, cell in columns.items()}
    shown = [name for name, cells in rows.items() if set(cells) - {"-", "0"}]
    table = []
    for number, method in enumerate(d["methods"]):
        failures = d["failures"][method]
        where = [contrast for contrast, own in d["method_by_contrast"].items() if own == method]
        is_kept = bool(where) or (method == d["method"] and not d["method_by_contrast"])
        only = f" for {join_names(where)}" if 0 < len(where) < len(d["method_by_contrast"]) else ""
        kept = method + f" (kept{only})" * is_kept
        failed = f"{failures['n_failed']} of {failures['n_images']}"
        table.append([kept, failed, *(rows[name][number] for name in shown)])
    text = f"{count_of(d['n_images'], 'image')} of {count_of(d['n_participants'], 'participant')}."
    text += (
        " Means are over participants, for each method on its own images. Under Every endpoint they are on the images "
        "of both methods, with contrasts weighted by the plan."
    )
    if "Dice with reference" in shown or "Predicted Dice" in shown:
        text += f" Dice is the overlap with {reference_words(d)}: 1 is perfect, below 0.7 a mask is useless."
    if "Predicted Dice" in shown:
        text += (
            " The predicted Dice is computed from mask and image, without a reference. Here it is the mean over "
            "existing masks; under Every endpoint, failed masks count 0."
        )
    return [format_table(["Method", "Failed images", *shown], table), text, _agreement(d)]


def _error(d: Mapping[str, Any], method: str, name: str) -> str:
    """Write one number of the error of the area."""
    row = d["area_errors"].get(method)
    if row is None or row[name] is None:
        return "-"
    return f"{row[name]:+.1f}" if name == "bias_pct" else f"{row[name]:.1f}"


def _predicted(d: Mapping[str, Any], method: str) -> str:
    """Write the predicted Dice, with a note where it was not fitted for the method."""
    value = format_number(d["summary"][method]["predicted_dice"], 3)
    return value if method in d["prediction_fitted_for"] or value == "-" else f"{value} (not fitted for this method)"


def _agreement(d: Mapping[str, Any]) -> str:
    """Say how well the methods agree with each other."""
    lines = []
    for row in d["agreement"]:
        if row["dice"] is None:
            continue
        csa = row["csa_difference_mm2"]
        text = f"{row['method_a']} and {row['method_b']} overlap with a mean Dice of {format_number(row['dice'], 3)}"
        if csa["bias"] is not None:
            is_a = csa["bias"] >= 0
            larger = row["method_a"] if is_a else row["method_b"]
            text += f"; areas by {larger} are larger by {abs(csa['bias']):.1f} {AREA_UNIT} on average"
            if csa["loa_low"] is not None:
                low, high = (csa["loa_low"], csa["loa_high"]) if is_a else (-csa["loa_high"], -csa["loa_low"])
                text += f" (in 95 % of people by {low:+.1f} to {high:+.1f} {AREA_UNIT})"
        lines.append(text + ".")
    return " ".join(lines)
