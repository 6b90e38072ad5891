"""decision.md: the decision in words that a clinician can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spineseg.decision.report_tables import (
    contrast_section,
    left_out_section,
    reliability_section,
    secondary_section,
)
from spineseg.decision.wording import (
    format_list,
    format_number,
    format_p,
    format_share,
    format_signed,
    format_table,
    name_some,
    percent,
)
from spineseg.measures import MEASURES

VERDICT_WORDS = {
    "clear": "clear",
    "equivalent": "equally good in practice",
    "undecided": "not settled",
    "none": "no method passes",
    "override": "chosen by a person",
}


def write_report(d: Mapping[str, Any]) -> str:
    """Write decision.md from the content of decision.json.

    Parameters
    ----------
    d : mapping
        As `build_decision` returns it.

    Returns
    -------
    str
        Markdown: the verdict in one sentence, the numbers, what to do next, then the details.
    """
    parts = [
        f"# Which segmentation method to keep: {d['dataset']}",
        f"**{verdict_sentence(d)}**",
        "## The numbers",
        *_numbers(d),
        "## What to do next",
        format_list(next_steps(d)),
        "## How far to trust this",
        format_list(_trust(d)),
        *contrast_section(d),
        *secondary_section(d),
        *reliability_section(d),
        *left_out_section(d),
        "## How it was decided",
        _method_of_decision(d),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict_sentence(d: Mapping[str, Any]) -> str:
    """Say the verdict in one sentence.

    Parameters
    ----------
    d : mapping
        The content of decision.json.
    """
    if d["verdict"] == "override":
        return _override_sentence(d)
    return _computed_sentence(d, d["computed"]["method"], d["computed"]["verdict"], d["computed"]["basis"])


def _computed_sentence(d: Mapping[str, Any], method: str | None, verdict: str, basis: str) -> str:
    """The rule's own verdict in one sentence."""
    if verdict == "none":
        if not d["n_images"]:
            return "Keep no method yet: there are no images to judge by."
        return (
            f"Keep no method as it is: every method failed in more than {percent(d['parameters']['max_fail'])} of the "
            "images, so correct the masks by hand or change the acquisition or the settings."
        )
    if basis == "single":
        return f"Keep {method}: it is the only method that was run and it failed seldom, but nothing was compared."
    best, rival = d["best"], d["runner_up"]
    probability = d["probability"]
    if basis == "failures":
        sure = percent(probability[best])
        return (
            f"Keep {method}: it is the only method that worked in enough images "
            f"({'' if verdict == 'clear' else 'not settled: '}the probability that {rival} fails in more people "
            f"is {sure})."
        )
    if verdict == "clear":
        return (
            f"Keep {method}: it is better than {rival} by {d['endpoint_words']}, and the evidence is clear "
            f"(probability {percent(probability[best])})."
        )
    if verdict == "equivalent":
        preferred = d["parameters"]["prefer"] == method
        why = "it is preferred in the configuration" if preferred else "it comes first in the list of methods"
        return (
            f"Keep {method}: {best} and {rival} are equally good in practice (probability "
            f"{percent(probability['equivalent'])}), and {why}."
        )
    if not d["n_compared"]:
        return f"Keep {method} for now: the methods could not be compared in any participant."
    why = "it is preferred in the configuration" if d["parameters"]["prefer"] == method else "it did better so far"
    doubt = "the evidence does not settle the choice"
    if probability["equivalent"] >= 0.5:  # more probable than not
        doubt = "the difference probably does not matter, though that is not settled"
    return (
        f"Keep {method} for now: {why}, but {doubt} (probability that {best} is better "
        f"{percent(probability[best])}, that {rival} is better {percent(probability[rival])}, that it does not matter "
        f"{percent(probability['equivalent'])})."
    )


def _override_sentence(d: Mapping[str, Any]) -> str:
    """The override in one sentence, with what the rule would have said."""
    override, computed = d["override"], d["computed"]
    rule = (
        f"the rule would keep {computed['method']} ({VERDICT_WORDS[computed['verdict']]})"
        if computed["method"]
        else "the rule would keep no method"
    )
    return f"Keep {override['method']}: {override['by']} chose it ({override['reason']}); {rule}."


def _numbers(d: Mapping[str, Any]) -> list[str]:
    """Table of the methods, and the comparison in a sentence or two."""
    has_dice = any(row["dice"] is not None for row in d["summary"].values())
    header = ["Method", "Failed images", "Slices found", "Mean area, mm²"]
    if has_dice:
        header.insert(2, "Dice with reference")
    has_prediction = any(row["predicted_dice"] is not None for row in d["summary"].values())
    if has_prediction:
        header[2:2] = ["Predicted Dice", "To look at"]
    rows = []
    for method in d["methods"]:
        failures, summary = d["failures"][method], d["summary"][method]
        row = [
            method + (" (kept)" if method == d["method"] else ""),
            f"{failures['n_failed']} of {failures['n_images']}",
            format_share(summary["coverage"]),
            format_number(summary["csa_mean_mm2"], 1),
        ]
        if has_dice:
            row.insert(2, format_number(summary["dice"], 3))
        if has_prediction:
            row[2:2] = [format_number(summary["predicted_dice"], 3), str(len(d["flagged"][method]))]
        rows.append(row)
    counted = f"{d['n_images']} images of {d['n_participants']} participants. Means are over participants."
    if has_dice or has_prediction:
        counted += " Dice is the overlap with a mask drawn by a person: 1 is perfect, below 0.7 a mask is useless."
    if has_prediction:
        counted += " Where nobody has drawn one it is predicted from mask and image."
    return [format_table(header, rows), counted, _comparison(d), _agreement(d)]


def _comparison(d: Mapping[str, Any]) -> str:
    """The pair's difference with its interval and probabilities."""
    if d["computed"]["basis"] != "endpoint" or not d["n_compared"]:
        return ""
    unit = f" {d['unit']}" if d["unit"] else ""
    probability, best, rival = d["probability"], d["best"], d["runner_up"]
    interval = ""
    if d["ci95"][0] is not None:
        interval = f" (95 % interval {format_signed(d['ci95'][0])} to {format_signed(d['ci95'][1])})"
    return (
        f"Judged by {d['endpoint_words']}, in {d['n_compared']} participants: {best} is better than {rival} by "
        f"{format_signed(d['difference'])}{unit} on average{interval}; differences up to {d['rope']:g}{unit} count as "
        f"none. Probability that {best} is better: {percent(probability[best])}; that the difference does not matter: "
        f"{percent(probability['equivalent'])}; that {rival} is better: {percent(probability[rival])}. "
        f"Wilcoxon signed-rank test: p {_equals(d['p_wilcoxon'])}."
    )


def _agreement(d: Mapping[str, Any]) -> str:
    """How the methods agree with each other."""
    lines = []
    for row in d["agreement"]:
        if row["dice"] is None:
            continue
        csa = row["csa_difference_mm2"]
        text = f"{row['method_a']} and {row['method_b']} overlap with a mean Dice of {format_number(row['dice'], 3)}"
        if csa["bias"] is not None:
            is_a = csa["bias"] >= 0
            larger = row["method_a"] if is_a else row["method_b"]
            text += f"; areas by {larger} are larger by {abs(csa['bias']):.1f} mm² on average"
            if csa["loa_low"] is not None:
                low, high = (csa["loa_low"], csa["loa_high"]) if is_a else (-csa["loa_high"], -csa["loa_low"])
                text += f" (in 95 % of people by {low:+.1f} to {high:+.1f} mm²)"
        lines.append(text + ".")
    return " ".join(lines)


def next_steps(d: Mapping[str, Any]) -> list[str]:
    """Return what a reader can do now, a sentence each."""
    steps = []
    failed = sorted({image for row in d["failures"].values() for image in row["images"]})
    kept_failed = d["failures"].get(d["method"], {}).get("images", [])
    low = sorted({image for row in d["agreement"] for image in row["images_below_0.7"]})
    if d["method"] is None:
        if failed:
            steps.append(f"Look at the failed images in the QC page first: {name_some(failed)}.")
        steps.append("To go on with a method nevertheless, set `override` in the config with a reason and your name.")
        return steps
    steps.append(f"Use {d['method']} for every image of this study; mixing methods shifts the measured areas.")
    if kept_failed:
        steps.append(f"Correct or exclude the images in which {d['method']} failed: {name_some(kept_failed)}.")
    flagged = [image for image in d["flagged"].get(d["method"], []) if image not in kept_failed]
    if flagged:
        steps.append(
            f"Look first at the images on which the mask of {d['method']} is probably wrong (low predicted Dice): "
            f"{name_some(flagged)}."
        )
    if low:
        steps.append(
            f"Look at the images on which methods disagree (Dice below 0.7; one of them failed): {name_some(low)}."
        )
    steps += _more_pilots(d)
    if d["endpoint"] in ("predicted_dice", "composite", "scan_rescan_cov", "inter_contrast_sd"):
        needed = d["parameters"]["min_references"]
        steps.append(
            f"Draw reference masks in at least {needed} participants (better {d['parameters']['min_participants']}): "
            "they replace this indirect evidence."
        )
    steps.append("Look through the QC page before any statistics: no number here replaces that.")
    return steps


def _more_pilots(d: Mapping[str, Any]) -> list[str]:
    """Advice on further participants where the evidence is not settled."""
    if d["computed"]["verdict"] != "undecided" or d["computed"]["basis"] == "single":
        return []
    pilots, needed = d["pilots"], d["parameters"]["min_participants"]
    if pilots["further_needed"]:
        return [
            f"To settle the choice, add about {pilots['further_needed']} participants to the pilot "
            f"({percent(d['parameters']['power'])} chance of a verdict, if they are like the present ones)."
        ]
    if pilots["searched_up_to"] and d["endpoint"] == "predicted_dice" and d["n_compared"] >= needed:
        return [
            "More participants alone would not settle the choice: a prediction may err in the same way for all masks "
            "of a method. Reference masks would."
        ]
    if pilots["searched_up_to"] and d["n_compared"] >= 2:
        return [
            f"Not even {pilots['searched_up_to']} participants would settle the choice, if they are like the present "
            "ones: the difference lies at the limit of what matters. Choose by cost, or by what your field uses."
        ]
    if d["n_compared"] >= needed and d["computed"]["basis"] == "endpoint":
        return []  # their number is not what is missing; the notes say what is
    further = max(1, needed - d["n_compared"])
    return [f"To settle the choice, add at least {further} participants to the pilot."]


def _trust(d: Mapping[str, Any]) -> list[str]:
    """Stability, notes, proxies against truth, conflicts of interest."""
    lines = [note[0].upper() + note[1:] + "." for note in d["notes"]]
    stability = d["stability"]
    if stability["n_drops"]:
        changed = (
            f"changes the conclusion in {stability['n_flips']} of {stability['n_drops']} cases"
            if stability["n_flips"]
            else "never changes the conclusion"
        )
        lines.append(f"Leaving out one participant at a time {changed}.")
    if d["mcnemar_p"] is not None and any(row["n_failed"] for row in d["failures"].values()):
        lines.append(
            f"Failures of the two methods differ with p {_equals(d['mcnemar_p'])} (exact McNemar, participants)."
        )
    proxies = {k: v for k, v in d["proxies_against_truth"].items() if v["spearman"] is not None}
    if proxies:
        listed = ", ".join(f"{MEASURES[k].words} {v['spearman']:+.2f}" for k, v in proxies.items())
        lines.append(
            f"How the indirect measures rank the masks compared with Dice (Spearman, 1 or -1 is best): {listed}."
        )
    check = d["prediction_against_truth"]
    if check:
        bias = ", ".join(f"{m} {format_signed(b)}" for m, b in check["bias"].items() if b is not None)
        lines.append(
            f"Predicted against measured Dice, {check['n']} masks: off by {format_number(check['mean_abs_error'], 3)} "
            f"on average; predicted minus measured by method: {bias}; {percent(check['covered'])} lie in their 90 % "
            "interval."
        )
    return lines + list(d["cautions"])


def _method_of_decision(d: Mapping[str, Any]) -> str:
    """The rule in a paragraph, with its thresholds."""
    p = d["parameters"]
    return (
        f"A method that fails (no mask, an empty one, or less than {percent(p['coverage_limit'])} of the cord) in "
        f"more than {percent(p['max_fail'])} of the images is dropped. The others are compared participant by "
        "participant, runs, sessions and contrasts averaged first. The verdict needs a posterior probability of "
        f"{percent(p['min_probability'])} (Bayesian signed-rank test) and at least {p['min_participants']} people. "
        f"Intervals: BCa bootstrap, {p['n_bootstrap']} resamples, seed {d['seed']}. spineseg "
        f"{d['versions'].get('spineseg', '')}, configuration {d['config_sha256'][:12]}. All numbers: `decision.json`."
    )


def _equals(p: float | None) -> str:
    """Return a p value with its sign of relation."""
    text = format_p(p)
    return text if text.startswith("<") else f"= {text}"
