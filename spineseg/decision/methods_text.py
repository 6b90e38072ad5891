"""Plan, rule and numbers in words: for decision.md, and for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spineseg.decision.wording import format_gap
from spineseg.spelling import count_of, join_names

VERDICT_WORDS = {
    "clear": "clear",
    "equivalent": "equally good in practice",
    "undecided": "not settled",
    "none": "no method passes",
    "override": "chosen by a person",
}

REFERENCE_WORDS = {
    "manual": "drawn by a person",
    "corrected": "corrected by a person",
    "silver": "made by a rule and checked",
    "automatic": "made by a program",
    "unknown": "of unknown origin",
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
    error, more = d["references"]["rater_error"], ""
    if "csa" in error or "dice" in error:
        area = max(p["effect_pct"] / 4, error.get("csa", 0.0))
        more = f" In force, because no margin is finer than two raters: {area:.3g} % in bias and error SD"
        more += f", {max(p['margin_dice'], error.get('dice', 0.0)):.3g} Dice"
        more += f", {max(p['margin_nsd'], error.get('nsd', 0.0)):.3g} NSD."
    return (
        f"Aim: {AIM_WORDS[p['aim']]}. Effect that the study wants to see: {p['effect_pct']:g} % of CSA; margins: "
        f"{p['effect_pct'] / 4:g} % in bias and error SD, {p['margin_dice']:g} Dice, {p['margin_nsd']:g} NSD, "
        f"{100 * p['margin_fail']:g} points of failures, {100 * p['margin_preference']:g} points of preference. Level: "
        f"{p['level'] or 'the common stretch'}. Contrasts: {contrasts}. Repeats: "
        f"{' and '.join(named) or 'none declared'}. "
        f"Endpoints in order: {', '.join(p['endpoints'])}. One method for "
        f"{'the dataset' if p['by'] == 'dataset' else 'each contrast'}. "
        f"Plan {plan['sha256'][:12]}, {fixed}.{more}"
    )


def methods_text(d: Mapping[str, Any]) -> str:
    """Return plan, rule and numbers as a paragraph for a paper."""
    p = d["parameters"]
    listed = " and ".join(d["methods"]) if len(d["methods"]) < 3 else ", ".join(d["methods"])
    software = f"spineseg {d['versions'].get('spineseg', '')}, configuration {d['config_sha256'][:12]}."
    pilot = f"{count_of(d['n_participants'], 'participant')} ({count_of(d['n_images'], 'image')})"
    if len(d["methods"]) < 2:
        return f"{listed} segmented a pilot of {pilot}; nothing was compared. {_kept_sentence(d)} {software}"
    is_by_contrast = p["by"] == "contrast"
    over = "participants" if is_by_contrast else "participants, contrasts as strata and sites as clusters"
    each = " Each contrast was analysed separately." if is_by_contrast else ""
    return (
        f"{listed} were compared on a pilot of {pilot}.{_reference_sentence(d)}{_taught_sentence(d)} "
        f"{_plan_sentence(d)} Failures (no mask, coverage below {p['coverage_limit']:g} "
        "unless the mask was called whole and no longer one was, rated as failed, or Dice below 0.7) were judged "
        "first. Endpoints were averaged within participant and "
        f"contrast and compared between methods over {over}: means by differences, standard deviations by log ratios, "
        "with two-sided 90 % intervals (the wider of Student's t and t corrected for skewness, the SD taken as at "
        "least three margins; exact for shares; a ratio of standard deviations also had to be larger than in 95 % of "
        "random exchanges of the methods within participants). A method was called clearly better where the interval "
        "of the ruling endpoint lay beyond the margin and it was no worse in failures and overlap; methods were "
        f"called equivalent where the intervals of all endpoints lay within their margins.{each}{_found_sentence(d)} "
        f"{_kept_sentence(d)} {software}"
    )


def _plan_sentence(d: Mapping[str, Any]) -> str:
    """Say what was planned and when; after a change, both plans and what differs."""
    p, plan = d["parameters"], d["plan"]
    now, fixed = plan["sha256"][:12], plan["fixed_sha256"]
    content = (
        f"set the aim ({p['aim']}), the effect of interest ({p['effect_pct']:g} % of CSA), margins and the order of "
        "endpoints"
    )
    if not fixed:
        return f"The plan (sha256 {now}; not written before the pilot was segmented) {content}."
    if not plan["changes"]:
        return f"A plan fixed before the first image of the pilot was segmented (sha256 {now}) {content}."
    return (
        f"A plan was fixed before the first image of the pilot was segmented (sha256 {fixed[:12]}). It was changed "
        f"after that, when the pilot's masks could be known: {'; '.join(plan['changes'])}. The changed plan "
        f"(sha256 {now}) {content}."
    )


def _taught_sentence(d: Mapping[str, Any]) -> str:
    """Say how many of the pilot's people had been used to train each compared method."""
    taught = {m: row for m, row in d["references"].get("taught", {}).items() if m in d["methods"]}
    parts = [f"{len(row['participants'])} participants' images had been used to train {m}" for m, row in taught.items()]
    return f" {' and '.join(parts)}." if parts else ""


def _reference_sentence(d: Mapping[str, Any]) -> str:
    """Say how many images had a reference and who made them, or that none had."""
    kinds = d["references"].get("kinds", {})
    n, ratings = d["references"]["n_images"], d["ratings"]["n"]
    said = f" {ratings} blind ratings were given." if ratings else ""
    if not n:
        return f" No image had a reference mask that counts as the truth.{said}"
    listed = f" ({', '.join(f'{count} {REFERENCE_WORDS[kind]}' for kind, count in kinds.items())})" if kinds else ""
    return f" {count_of(n, 'image')} had a reference mask that counts as the truth{listed}.{said}"


def _found_sentence(d: Mapping[str, Any]) -> str:
    """State the difference by the ruling endpoint, for each contrast where they are decided separately."""
    if parts := separate_decisions(d):
        said = [f" In {contrast}:{text}" for contrast, part in parts.items() if (text := _gap_sentence(part))]
        return "".join(said)
    text = _gap_sentence(d)
    return f" {text[1:2].upper()}{text[2:]}" if text else ""


def _gap_sentence(d: Mapping[str, Any]) -> str:
    """State one difference with its interval and margin."""
    gap = format_gap(d)
    if gap is None:
        return ""
    return (
        f" by {d['endpoint_words']}, {d['best']} differed from {d['runner_up']} by "
        f"{gap.signed}{gap.unit} ({f'90 % interval {gap.interval}; ' if gap.interval else ''}"
        f"{count_of(d['n_compared'], 'participant')}; margin {gap.margin}{gap.unit})."
    )


def reference_words(d: Mapping[str, Any]) -> str:
    """Say what the references are, as far as their sidecars or the configuration do."""
    kinds = d["references"].get("kinds", {})
    if not kinds:
        return "a reference mask"
    if len(kinds) == 1:
        return f"the reference masks, {REFERENCE_WORDS[next(iter(kinds))]}"
    return f"the reference masks ({', '.join(f'{n} {REFERENCE_WORDS[kind]}' for kind, n in kinds.items())})"


def separate_decisions(d: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each contrast's decision where contrasts are decided separately; else an empty dict."""
    return {c: {**d, **row["alone"]} for c, row in d["per_contrast"].items() if c in d["method_by_contrast"]}


def _kept_sentence(d: Mapping[str, Any]) -> str:
    """State the verdict, the method that was kept (or each contrast's), and who chose it if a person did."""
    verdict = VERDICT_WORDS[d["computed"]["verdict"]]
    if d["method_by_contrast"]:
        alike: dict[tuple[str, str], list[str]] = {}
        for contrast, method in d["method_by_contrast"].items():
            words = VERDICT_WORDS[d["per_contrast"][contrast]["verdict"]]
            alike.setdefault((method or "no method", words), []).append(contrast)
        parts = [f"{method} for {join_names(own)} ({words})" for (method, words), own in alike.items()]
        return f"The method was chosen for each contrast alone: {'; '.join(parts)}."
    kept = f"{d['method']} was kept" if d["method"] else "no method was kept"
    if d["verdict"] == "override":
        kept += f" by the choice of {d['override']['by']} ({d['override']['reason']})"
    return f"The verdict was {verdict}; {kept}."
