"""Plan, rule and numbers in words: for decision.md, and for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spineseg.decision.wording import format_interval, format_margin, format_value

VERDICT_WORDS = {
    "clear": "clear",
    "equivalent": "equally good in practice",
    "undecided": "not settled",
    "none": "no method passes",
    "override": "chosen by a person",
}

AIM_WORDS = {
    "groups": "compare groups: a constant bias cancels",
    "change": "see change within people: precision within a person counts",
    "absolute": "measure absolute areas: bias counts",
}


def describe_plan_in_words(d: Mapping[str, Any]) -> str:
    """Return the plan in a paragraph, with its hash."""
    p, plan = d["plan"]["content"], d["plan"]
    contrasts = ", ".join(f"{c} (weight {w:g})" for c, w in p["contrasts"].items()) or "all, equally weighted"
    repeats = p["repeats"]
    named = ["runs"] * repeats["by_run"] + [f"sessions {', '.join(repeats['sessions'])}"] * bool(repeats["sessions"])
    fixed = "not written before the pilot"
    if plan["fixed_sha256"]:
        is_same = plan["fixed_sha256"] == plan["sha256"]
        fixed = "written before the pilot" + ("" if is_same else f", {plan['fixed_sha256'][:12]}")
    return (
        f"Aim: {AIM_WORDS[p['aim']]}. Effect that the study wants to see: {p['effect_pct']:g} % of CSA; margins: "
        f"{p['effect_pct'] / 4:g} % in bias and error SD, {p['margin_dice']:g} Dice, {p['margin_nsd']:g} NSD, "
        f"{100 * p['margin_fail']:g} points of failures, {100 * p['margin_preference']:g} points of preference. Level: "
        f"{p['level'] or 'the common stretch'}. Contrasts: {contrasts}. Repeats: "
        f"{' and '.join(named) or 'none declared'}. "
        f"Endpoints in order: {', '.join(p['endpoints'])}. One method for "
        f"{'the dataset' if p['by'] == 'dataset' else 'each contrast'}. "
        f"Plan {plan['sha256'][:12]}, {fixed}."
    )


def methods_text(d: Mapping[str, Any]) -> str:
    """Return plan, rule and numbers as a paragraph for a paper."""
    p = d["parameters"]
    listed = " and ".join(d["methods"]) if len(d["methods"]) < 3 else ", ".join(d["methods"])
    key = "failures" if d["endpoint"] == "failure_rate" else d["endpoint"]
    found = ""
    if d["difference"] is not None:
        found = (
            f" By {d['endpoint_words']}, {d['best']} differed from {d['runner_up']} by "
            f"{format_value(d['difference'], key, signed=True)} (90 % interval {format_interval(d['ci90'], key)}; "
            f"{d['n_compared']} participants; margin {format_margin(d['margin'], key)})."
        )
    kept = f"{d['method']} was kept" if d["method"] else "no method was kept"
    if d["verdict"] == "override":
        kept += f" by the choice of {d['override']['by']} ({d['override']['reason']})"
    planned = "A plan fixed before the pilot" if d["plan"]["fixed_sha256"] else "The plan"
    changed = "; it was changed afterwards (see above)" if d["plan"]["changes"] else ""
    return (
        f"{listed} were compared on a pilot of {d['n_participants']} participants ({d['n_images']} images). {planned} "
        f"(sha256 {d['plan']['sha256'][:12]}) set the aim ({p['aim']}), the effect of interest ({p['effect_pct']:g} % "
        "of CSA), "
        f"margins and the order of endpoints{changed}. Failures (no mask, coverage below {p['coverage_limit']:g}, "
        "rated as failed, "
        "or Dice below 0.7) were judged first. Endpoints were averaged within participant and contrast and compared "
        "between methods over "
        "participants, contrasts as strata and sites as clusters: means by differences, standard deviations by log "
        "ratios, "
        "with two-sided 90 % intervals (the wider of Student's t and t corrected for skewness, the SD taken as at "
        "least "
        "three margins; exact for shares). A method was called clearly better where the interval of the ruling "
        "endpoint "
        "lay beyond the margin and it was no worse in failures and overlap; methods were called equivalent where the "
        f"intervals of all endpoints lay within their margins.{found} The verdict was "
        f"{VERDICT_WORDS[d['computed']['verdict']]}; "
        f"{kept}. spineseg {d['versions'].get('spineseg', '')}, configuration {d['config_sha256'][:12]}."
    )
