"""decision.md: the decision in words that a clinician can act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

VERDICT_WORDS = {
    "clear": "clear",
    "equivalent": "equally good in practice",
    "undecided": "not settled",
    "none": "no method passes",
    "override": "chosen by a person",
}

METRIC_WORDS = {
    "dice": "Dice with the reference",
    "nsd": "surface within tolerance of the reference",
    "hd95_mm": "95 % surface distance to the reference, mm",
    "assd_mm": "mean surface distance to the reference, mm",
    "csa_error_abs_pct": "size of the area error, %",
    "coverage": "share of the cord's slices found",
    "plausible": "share of slices with a plausible shape",
    "n_components": "separate pieces",
    "csa_roughness": "roughness of the area along the cord, 1/mm²",
    "centre_roughness": "roughness of the centre line, mm",
    "seconds": "seconds per image",
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
        _bullets(_next_steps(d)),
        "## How far to trust this",
        _bullets(_trust(d)),
        *_contrasts(d),
        *_secondary(d),
        *_left_out(d),
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
            f"Keep no method as it is: every method failed in more than {_percent(d['parameters']['max_fail'])} of the "
            "images, so correct the masks by hand or change the acquisition or the settings."
        )
    if basis == "single":
        return f"Keep {method}: it is the only method that was run and it failed seldom, but nothing was compared."
    best, rival = d["best"], d["runner_up"]
    probability = d["probability"]
    if basis == "failures":
        sure = _percent(probability[best])
        return (
            f"Keep {method}: it is the only method that worked in enough images "
            f"({'' if verdict == 'clear' else 'not settled: '}the probability that {rival} fails in more people "
            f"is {sure})."
        )
    if verdict == "clear":
        return (
            f"Keep {method}: it is better than {rival} by {d['endpoint_words']}, and the evidence is clear "
            f"(probability {_percent(probability[best])})."
        )
    if verdict == "equivalent":
        why = "it is preferred in the configuration" if d["parameters"]["prefer"] == method else "it is the faster one"
        return (
            f"Keep {method}: {best} and {rival} are equally good in practice (probability "
            f"{_percent(probability['equivalent'])}), and {why}."
        )
    if not d["n_compared"]:
        return f"Keep {method} for now: the methods could not be compared in any participant."
    why = "it is preferred in the configuration" if d["parameters"]["prefer"] == method else "it did better so far"
    return (
        f"Keep {method} for now, because {why}, but the evidence does not settle the choice: better is {best} with "
        f"probability {_percent(probability[best])}, {rival} with {_percent(probability[rival])}, neither with "
        f"{_percent(probability['equivalent'])}."
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
    header = ["Method", "Failed images", "Slices found", "Mean area, mm²", "Seconds per image"]
    if has_dice:
        header.insert(2, "Dice with reference")
    rows = []
    for method in d["methods"]:
        failures, summary = d["failures"][method], d["summary"][method]
        row = [
            method + (" (kept)" if method == d["method"] else ""),
            f"{failures['n_failed']} of {failures['n_images']}",
            _share(summary["coverage"]),
            _number(summary["csa_mean_mm2"], 1),
            _number(d["seconds_per_image"][method], 1),
        ]
        if has_dice:
            row.insert(2, _number(summary["dice"], 3))
        rows.append(row)
    counted = f"{d['n_images']} images of {d['n_participants']} participants. Means are over participants."
    return [_table(header, rows), counted, _comparison(d), _agreement(d)]


def _comparison(d: Mapping[str, Any]) -> str:
    """The pair's difference with its interval and probabilities."""
    if d["computed"]["basis"] != "endpoint" or not d["n_compared"]:
        return ""
    unit = f" {d['unit']}" if d["unit"] else ""
    probability, best, rival = d["probability"], d["best"], d["runner_up"]
    interval = ""
    if d["ci95"][0] is not None:
        interval = f" (95 % interval {_signed(d['ci95'][0])} to {_signed(d['ci95'][1])})"
    return (
        f"Judged by {d['endpoint_words']}, in {d['n_compared']} participants: {best} is better than {rival} by "
        f"{_signed(d['difference'])}{unit} on average{interval}; differences up to {d['rope']:g}{unit} count as none. "
        f"Probability that {best} is better: {_percent(probability[best])}; that the difference does not matter: "
        f"{_percent(probability['equivalent'])}; that {rival} is better: {_percent(probability[rival])}. "
        f"Wilcoxon signed-rank test: p = {_p(d['p_wilcoxon'])}."
    )


def _agreement(d: Mapping[str, Any]) -> str:
    """How the methods agree with each other."""
    lines = []
    for row in d["agreement"]:
        if row["dice"] is None:
            continue
        csa = row["csa_difference_mm2"]
        text = f"{row['method_a']} and {row['method_b']} overlap with a mean Dice of {_number(row['dice'], 3)}"
        if csa["bias"] is not None:
            is_a = csa["bias"] >= 0
            larger = row["method_a"] if is_a else row["method_b"]
            text += f"; areas by {larger} are larger by {abs(csa['bias']):.1f} mm² on average"
            if csa["loa_low"] is not None:
                low, high = (csa["loa_low"], csa["loa_high"]) if is_a else (-csa["loa_high"], -csa["loa_low"])
                text += f" (in 95 % of people by {low:+.1f} to {high:+.1f} mm²)"
        lines.append(text + ".")
    return " ".join(lines)


def _next_steps(d: Mapping[str, Any]) -> list[str]:
    """What a reader can do now."""
    steps = []
    failed = sorted({image for row in d["failures"].values() for image in row["images"]})
    kept_failed = d["failures"].get(d["method"], {}).get("images", [])
    low = sorted({image for row in d["agreement"] for image in row["images_below_0.7"]})
    if d["method"] is None:
        if failed:
            steps.append(f"Look at the failed images in the QC page first: {_some(failed)}.")
        steps.append("To go on with a method nevertheless, set `override` in the config with a reason and your name.")
        return steps
    steps.append(f"Use {d['method']} for every image of this study; mixing methods shifts the measured areas.")
    if kept_failed:
        steps.append(f"Correct or exclude the images in which {d['method']} failed: {_some(kept_failed)}.")
    if low:
        steps.append(
            f"Look at the images on which methods disagree (Dice below 0.7; one of them failed): {_some(low)}."
        )
    steps += _more_pilots(d)
    if d["endpoint"] in ("composite", "scan_rescan_cov", "inter_contrast_sd"):
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
            f"({_percent(d['parameters']['power'])} chance of a verdict, if they are like the present ones)."
        ]
    if pilots["searched_up_to"] and d["n_compared"] >= 2:
        return [
            f"Not even {pilots['searched_up_to']} participants would settle the choice, if they are like the present "
            "ones: the difference lies at the limit of what matters. Choose by cost, or by what your field uses."
        ]
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
        lines.append(f"Failures of the two methods differ with p = {_p(d['mcnemar_p'])} (exact McNemar, participants).")
    proxies = {k: v for k, v in d["proxies_against_truth"].items() if v["spearman"] is not None}
    if proxies:
        listed = ", ".join(f"{METRIC_WORDS[k]} {v['spearman']:+.2f}" for k, v in proxies.items())
        lines.append(
            f"How the indirect measures rank the masks compared with Dice (Spearman, 1 or -1 is best): {listed}."
        )
    return lines + list(d["cautions"])


def _contrasts(d: Mapping[str, Any]) -> list[str]:
    """Table by contrast."""
    if not d["per_contrast"]:
        return []
    rows = []
    for contrast, row in d["per_contrast"].items():
        interval = row["ci95"]
        difference = "-" if row["difference"] is None else _signed(row["difference"])
        if interval and interval[0] is not None:
            difference += f" ({_signed(interval[0])} to {_signed(interval[1])})"
        failed = ", ".join(f"{m} {n}" for m, n in row["n_failed"].items())
        rows.append([contrast, str(row["n_images"]), failed, row["endpoint"], difference, _p(row["p_holm"])])
    pair = f"{d['best']} minus {d['runner_up']}" if d["runner_up"] else "Difference"
    header = ["Contrast", "Images", "Failed", "Judged by", f"Advantage ({pair})", "p (Holm)"]
    return ["## By contrast", _table(header, rows)]


def _secondary(d: Mapping[str, Any]) -> list[str]:
    """Table of the further metrics of the pair."""
    if not d["secondary"]:
        return []
    best, rival = d["best"], d["runner_up"]
    rows = [
        [
            METRIC_WORDS[name],
            _number(r["means"][best], 3),
            _number(r["means"][rival], 3),
            r["better"] or "-",
            _p(r["p_holm"]),
        ]
        for name, r in d["secondary"].items()
    ]
    header = ["Measure (mean over participants)", best, rival, "Better", "p (Holm)"]
    return ["## Further measures (they do not decide)", _table(header, rows)]


def _left_out(d: Mapping[str, Any]) -> list[str]:
    """List of what did not take part."""
    if not d["excluded"]:
        return []
    by_reason: dict[str, list[str]] = {}
    for row in d["excluded"]:
        by_reason.setdefault(row["reason"], []).append(row.get("image_id") or row.get("participant", ""))
    lines = [f"{reason[0].upper()}{reason[1:]}: {_some(names)}." for reason, names in by_reason.items()]
    return ["## Left out", _bullets(lines)]


def _method_of_decision(d: Mapping[str, Any]) -> str:
    """The rule in a paragraph, with its thresholds."""
    p = d["parameters"]
    return (
        f"A method that fails (no mask, an empty one, or less than {_percent(p['coverage_limit'])} of the cord) in "
        f"more than {_percent(p['max_fail'])} of the images is dropped. The others are compared participant by "
        "participant, runs, sessions and contrasts averaged first. The verdict needs a posterior probability of "
        f"{_percent(p['min_probability'])} (Bayesian signed-rank test) and at least {p['min_participants']} people. "
        f"Intervals: BCa bootstrap, {p['n_bootstrap']} resamples, seed {d['seed']}. spineseg "
        f"{d['versions'].get('spineseg', '')}, configuration {d['config_sha256'][:12]}. All numbers: `decision.json`."
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _bullets(lines: Iterable[str]) -> str:
    """Format a list."""
    return "\n".join(f"- {line}" for line in lines)


def _some(names: list[str], limit: int = 8) -> str:
    """List names, the first few of many."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _percent(share: float | None) -> str:
    """Format a share; certainty is never printed, for no sample gives it."""
    if share is None:
        return "unknown"
    if share >= 0.995:
        return "over 99 %"
    return "under 1 %" if share < 0.005 else f"{share:.0%}".replace("%", " %")


def _share(value: float | None) -> str:
    """Format a measured share in percent."""
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, digits: int) -> str:
    """Format a number; small ones keep two digits."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10**-digits else f"{value:.2g}"


def _signed(value: float) -> str:
    """Format a difference with its sign."""
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.1f}"


def _p(value: float | None) -> str:
    """Format a p value."""
    if value is None:
        return "-"
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
