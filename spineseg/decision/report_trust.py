"""The part of decision.md that says how far to trust the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spineseg.decision.methods_text import VERDICT_WORDS
from spineseg.decision.training import LEARNERS, PREDICTION
from spineseg.decision.wording import format_number, format_signed, format_value, people, ruling_endpoint
from spineseg.spelling import name_some


def trust_lines(d: Mapping[str, Any]) -> list[str]:
    """Return what a reader should know before relying on the verdict, one paragraph of text each."""
    lines = [_sentence(note) for note in d["notes"]]
    lines += [f"The plan was changed after the pilot had started: {change}." for change in d["plan"]["changes"]]
    if d["plan"]["fixed_sha256"] is None:
        lines.append(
            "No plan was written before the pilot: margins and endpoints may have been chosen with the data in view."
        )
    lines += _bias_lines(d) + _reference_lines(d["references"]) + _rating_lines(d["ratings"])
    for contrasts in {tuple(row["left_out"]) for row in d["area_errors"].values() if row["left_out"]}:
        lines.append(f"Too few people have references in {', '.join(contrasts)}: area errors there are not used.")
    return lines + _stability_lines(d) + _taught_lines(d) + _prediction_lines(d) + list(d["cautions"])


def _reference_lines(references: Mapping[str, Any]) -> list[str]:
    """Name references that favour a method, and how much two people's drawings differ."""
    lines = []
    if references["corrected_from"]:
        made = ", ".join(f"{n} from {method}" for method, n in references["corrected_from"].items())
        without = references["without_corrected"]
        kept = (
            ""
            if without is None
            else f"; without them: {without['method'] or 'none'}, {VERDICT_WORDS[without['verdict']]}"
        )
        lines.append(f"References made by correcting a mask, which favours its method: {made}{kept}.")
    error = references["rater_error"]
    if error and not {"csa", "dice"} & set(error):
        lines.append(f"A second person drew {people(round(error['n']))}: too few to set a margin, which needs five.")
    elif error:
        area = f"{error['csa']:.1f} % in area" if "csa" in error else f"{2 * error['dice']:.3f} in Dice"
        lines.append(f"Two people's drawings differ by {area} on average; no margin is finer than that.")
    return lines


def _rating_lines(ratings: Mapping[str, Any]) -> list[str]:
    """Describe the blind ratings: how many, by whom, and how far raters agree."""
    lines = []
    if ratings["n"]:
        again = f"; shown again, {ratings['n_same']} of {ratings['n_again']} answers were the same" * bool(
            ratings["n_again"]
        )
        raters = ", ".join(ratings["raters"])
        lines.append(f"{ratings['n']} blind ratings of {people(ratings['n_participants'])} by {raters}{again}.")
        if ratings["contradictory"]:
            names = " and ".join(ratings["contradictory"])
            lines.append(
                f"The ratings by {names} do not count: shown again, answers agreed no more often than by chance."
            )
        if ratings["n_shared"]:
            lines.append(
                f"Raters agreed with each other in {ratings['n_alike']} of {ratings['n_shared']} answers to the same "
                f"masks (Gwet's AC1 {ratings['agreement']:+.2f}: 0 is chance, 1 is always)."
            )
    return lines


def _stability_lines(d: Mapping[str, Any]) -> list[str]:
    """Say how the conclusion changes when people are left out."""
    lines, stability = [], d["stability"]
    if stability["n_drops"]:
        changed = (
            f"changes the conclusion in {stability['n_flips']} of {stability['n_drops']} cases"
            if stability["n_flips"]
            else "never changes the conclusion"
        )
        lines.append(f"Leaving out one participant at a time ({stability['n_people']} have this endpoint) {changed}.")
    if d["advantage_on_people_left_out"] is not None and d["best"]:
        key = ruling_endpoint(d)
        gap, own = (format_value(d[name], key, signed=True) for name in ("advantage_on_people_left_out", "difference"))
        said = f"With the method chosen on nine tenths of the people and tested on the rest, the advantage is {gap}"
        same = "the same, because every nine tenths choose the same method; this is not a replication"
        lines.append(f"{said}; on all it is {same if gap == own else own}.")
    return lines


def _prediction_lines(d: Mapping[str, Any]) -> list[str]:
    """Say how far the predicted Dice can be trusted, where it can be checked, and the predicted errors of the area."""
    lines = []
    if check := d["prediction_against_truth"]:
        bias = ", ".join(f"{m} {format_signed(b)}" for m, b in check["bias"].items() if b is not None)
        rank = "" if check["spearman"] is None else f", rank correlation {check['spearman']:.2f}"
        lines.append(
            f"Predicted against measured Dice, {check['n']} masks: off by {format_number(check['mean_abs_error'], 3)} "
            f"on average{rank}; predicted minus measured by method: {bias}; "
            f"{round(check['covered'] * check['n'])} of {check['n']} lie in their 90 % interval."
        )
    if d["endpoint"] == "predicted_dice":
        parts = [
            f"{m} {row['network']:+.1f} by the network, {row['edges']:+.1f} by the edges"
            for m, row in d["predicted_area_error_pct"].items()
            if row["network"] is not None and row["edges"] is not None
        ]
        if parts:
            lines.append(f"Predicted error of the area, %: {'; '.join(parts)}.")
    return lines


def _taught_lines(d: Mapping[str, Any]) -> list[str]:
    """Name the people on whom the compared methods were trained, and say what is not known about that."""
    taught, lines = d["references"].get("taught", {}), []
    by_people: dict[tuple[str, ...], list[str]] = {}
    for name in d["methods"]:
        if name in taught:
            by_people.setdefault(tuple(taught[name]["participants"]), []).append(name)
    for who, names in by_people.items():
        lines.append(
            f"{' and '.join(names)} learned from {name_some(who)} (recognised by the content of their images). To "
            "decide without these people, name them in `decision.training_subjects`."
        )
    if learned := taught.get(PREDICTION, {}).get("participants"):
        nobody = "" if d["prediction_against_truth"] else ", of whom none has a reference"
        lines.append(
            f"The predicted Dice learned from {len(learned)} of these people, on whom it looks more accurate than it "
            f"is; it is checked only on the others{nobody}."
        )
    own = [name for name in d["methods"] if name in LEARNERS]
    if own and not by_people and not d["parameters"]["training_subjects"]:
        lines.append(
            f"The shipped networks of {' and '.join(own)} were trained on none of these image files. It is not known "
            "whether a method was trained on these people in another way (other files of public data, other weights): "
            "name such people in `decision.training_subjects`."
        )
    return lines


def _bias_lines(d: Mapping[str, Any]) -> list[str]:
    """Name constant biases, slopes that differ from 1, and warn of biases that differ between groups."""
    lines, limit = [], d["parameters"]["effect_pct"] / 2
    for method, row in d["area_errors"].items():
        bias, sd = row["bias_pct"], row["sd_pct"]
        if bias is None or sd is None or row["n"] < d["parameters"]["min_references"]:
            continue
        low, high = row["bias_ci95"]  # None where all errors are the same
        if abs(bias) > d["parameters"]["effect_pct"] / 4 and (low is None or low * high > 0):
            size = "larger" if bias > 0 else "smaller"
            steady = f"; it is precise about that (SD {sd:.1f} %)" if sd <= d["parameters"]["effect_pct"] / 2 else ""
            cancels = (
                ""
                if d["parameters"]["aim"] == "absolute"
                else ", which cancels between groups and over time if it is constant"
            )
            much = f"{abs(bias):.{int(abs(bias) < 10)}f} %"  # so that a bias of 0.4 % is not printed as 0
            lines.append(f"Areas by {method} are {much} {size} than the references{cancels}{steady}.")
    for method, row in d["area_errors"].items():
        low, high = row["slope_ci95"]
        if low is None or low <= 1 <= high:
            continue
        says = (
            "small cords too large and large ones too small, so it hides atrophy"
            if row["slope"] < 1
            else ("small cords too small and large ones too large, so it exaggerates differences")
        )
        lines.append(
            f"{method} draws {says}: an area that differs by 10 % differs by {10 * row['slope']:.1f} % in its masks "
            f"(slope {row['slope']:.2f}, 95 % interval {low:.2f} to {high:.2f}, {people(row['n'])})."
        )
    for row in d["differential_bias"]:
        if row["is_warned"]:
            low, high = row["ci90"]
            lines.append(
                f"Warning: the bias of {row['of']} differs by {row['difference_pct']:+.1f} % (90 % interval "
                f"{low:+.1f} to "
                f"{high:+.1f}) between {row['column']} {row['level']} and the others; that is more than half of the "
                "effect "
                f"({limit:g} %) and does not cancel."
            )
        elif not row["is_excluded"] and row["by"] == "group":
            low, high = row["ci90"]
            lines.append(
                f"The bias of {row['of']} between {row['column']} {row['level']} and the others: "
                f"{row['difference_pct']:+.1f} % (90 % interval {low:+.1f} to {high:+.1f}); "
                f"half of the effect ({limit:g} %) is not excluded."
            )
    return lines


def _sentence(text: str) -> str:
    """Return the text with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
