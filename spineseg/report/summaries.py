"""Tables of the report: evidence by method, contrasts, failures by kind, and pilots compared with the other images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spineseg.decision.wording import format_interval, format_value, ruling_endpoint
from spineseg.measures import MEASURES
from spineseg.report.frames import StudyTables, contrasts_of
from spineseg.report.review import ReviewImage
from spineseg.report.verdict import probability_shares
from spineseg.studyfolder.decisions import Decision
from spineseg.studyfolder.files import NOT_AVAILABLE
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.locks import KeptMethods
from spineseg.studyfolder.sidecars import NO_CORD

EVIDENCE = (
    *("dice", "nsd", "hd95_mm", "csa_error_pct", "predicted_dice", "csa_mean_mm2", "coverage", "plausible"),
    *("n_components", "csa_roughness", "centre_roughness", "perturb_dice", "perturb_csa_cv", "seconds", "peak_mb"),
)
"""Measures in the table of evidence, in this order."""

HINTS = {True: "higher is better", False: "lower is better", None: ""}

MIN_QUARTILES = 4
"""Least number of images for quartiles; with fewer only the median is given."""

N_VALUES = 12
"""Most values of a column by which pilots and the other images are compared; a column of ages has too many."""

FAR_APART = 0.2
"""Difference beyond which pilots and the other images are called different: in the share of a value, or in standard
deviations of a measure. By Cohen's convention 0.2 is small."""


def summarise_evidence(study: StudyTables) -> list[dict[str, Any]]:
    """Return the table of evidence: median and quartiles of each measure by method.

    A best method is named only where all methods have the same images, which is not so in a study with exceptions.
    """
    if not len(study.metrics):
        return []
    images = {frozenset(part["image_id"]) for _, part in study.metrics.groupby("method")}
    done = study.metrics[study.metrics["status"] != "failed"]  # the time until a failure is no measure of a method
    rows = [_failure_row(study), *_flag_row(study)]
    for measure in (MEASURES[name] for name in EVIDENCE):
        values = {m: done.loc[done["method"] == m, measure.name].dropna() for m in study.methods}
        if not any(len(v) for v in values.values()):
            continue
        medians = {m: round(float(v.median()), measure.decimals) for m, v in values.items() if len(v)}
        cells = {m: _quartiles(v, measure.decimals) for m, v in values.items()}
        rows.append(_evidence_row(measure.heading, cells, medians, measure.higher_is_better))
    return rows if len(images) == 1 else [row | {"best": None} for row in rows]


def _evidence_row(
    heading: str, cells: dict[str, str], values: Mapping[str, float], higher_is_better: bool | None
) -> dict[str, Any]:
    """Return a row of the table of evidence; `values` decide which method is best."""
    best = _best(values, higher_is_better)
    return {"heading": heading, "cells": cells, "best": best, "hint": HINTS[higher_is_better]}


def _failure_row(study: StudyTables) -> dict[str, Any]:
    """Return the row that counts failed and empty images."""
    found = {m: study.metrics.loc[study.metrics["method"] == m, "status"].isin(NO_CORD) for m in study.methods}
    failed = {m: int(values.sum()) for m, values in found.items()}
    cells = {m: f"{failed[m]} of {len(values)}" for m, values in found.items()}
    return _evidence_row("images without a cord mask", cells, failed, False)


def _flag_row(study: StudyTables) -> list[dict[str, Any]]:
    """Return the row that counts masks flagged by their predicted Dice; none where the table lacks it."""
    flags = {m: study.metrics.loc[study.metrics["method"] == m, "flagged"].dropna() for m in study.methods}
    if not any(len(values) for values in flags.values()):
        return []
    counts = {m: int(values.sum()) for m, values in flags.items()}
    cells = {m: f"{counts[m]} of {len(values)}" for m, values in flags.items()}
    return [_evidence_row("masks flagged for a look (low predicted Dice)", cells, counts, False)]


def _quartiles(values: pd.Series, decimals: int) -> str:
    """Return median and quartiles as text."""
    if not len(values):
        return NOT_AVAILABLE
    low, middle, high = np.round(np.percentile(values, [25, 50, 75]), decimals) + 0.0  # no minus zero
    if len(values) < MIN_QUARTILES:
        return f"{middle:.{decimals}f}"
    return f"{middle:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def _best(values: Mapping[str, float], higher: bool | None) -> str | None:
    """Return the method with the best value, None where they tie or neither direction is better."""
    if higher is None or len(values) < 2 or len(set(values.values())) < len(values):
        return None
    return max(values, key=lambda m: values[m] if higher else -values[m])


def summarise_contrasts(study: StudyTables, decision: Decision | None) -> list[dict[str, Any]]:
    """Return one row per contrast: images, failures and medians by method, and the decision's numbers."""
    compared = decision.document["per_contrast"] if decision else {}
    rows = []
    for contrast in contrasts_of(study.metrics):
        part = study.metrics[study.metrics["contrast"] == contrast]
        pairs = study.agreement[study.agreement["contrast"] == contrast]
        rows.append(
            {
                "contrast": contrast,
                "n": part["image_id"].nunique(),
                "cells": {method: _contrast_cells(part[part["method"] == method]) for method in study.methods},
                "between": _between(pairs),
                "better": _better_in(compared.get(contrast, {})),
            }
        )
    return rows


def _between(pairs: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the Dice of each pair of methods with the pair's name, which is empty if there is only one pair."""
    if not len(pairs):
        return [("", NOT_AVAILABLE)]
    grouped = pairs.groupby(["method_a", "method_b"], sort=False)
    rows = [(f"{a} and {b}", _quartiles(rows["dice"].dropna(), MEASURES["dice"].decimals)) for (a, b), rows in grouped]
    return rows if len(rows) > 1 else [("", rows[0][1])]


def _contrast_cells(own: pd.DataFrame) -> dict[str, str]:
    """Return one method's results in one contrast."""
    return {
        "failed": f"{int(own['status'].isin(NO_CORD).sum())} of {len(own)}",
        **{name: _quartiles(own[name].dropna(), MEASURES[name].decimals) for name in ("dice", "csa_mean_mm2")},
    }


def _better_in(numbers: Mapping[str, Any]) -> str:
    """Return the decision's probabilities within one contrast as text."""
    return ", ".join(f"{share.name} {share.text}" for share in probability_shares(numbers))


def describe_disagreement(decision: Decision | None) -> str:
    """Return a sentence if contrasts favour different methods; empty where they agree or nothing was compared."""
    if decision is None:
        return ""
    content = decision.document
    key = ruling_endpoint(content)
    rows = {contrast: row for contrast, row in content["per_contrast"].items() if row.get("difference") is not None}
    settled = {contrast: row["favours"] for contrast, row in rows.items() if row["favours"]}
    if len(set(settled.values())) > 1:
        return "The contrasts disagree: " + "; ".join(f"{c} favours {m}" for c, m in settled.items()) + "."
    if not rows or content["best"] is None or len({row["difference"] > 0 for row in rows.values()}) < 2:
        return ""
    leanings = [
        f"{contrast} favours {content['best'] if row['difference'] > 0 else content['runner_up']}"
        f" ({format_value(row['difference'], key, signed=True)}"
        f"{f', 90 % interval {interval}' if (interval := format_interval(row['ci90'], key)) else ''}; n = {row['n']})"
        for contrast, row in rows.items()
    ]
    return "The contrasts favour different methods, but none clearly: " + "; ".join(leanings) + "."


@dataclass(frozen=True)
class FailureKind:
    """A kind of failure, with the number of images on which each method has it and one of these images."""

    kind: str
    counts: Mapping[str, int]
    example: str


def summarise_failures(reviews: Sequence[ReviewImage], methods: Sequence[str]) -> list[FailureKind]:
    """Return failures and partial masks by kind, the most frequent first; a kind is a message without its numbers."""
    counts: dict[str, Counter[str]] = {}
    examples: dict[str, str] = {}
    for review in reviews:
        for result in review.methods:
            if result.status == "ok":
                continue
            kind = f"{result.status}: {_kind_of(result.message, review.image)}" if result.message else result.status
            counts.setdefault(kind, Counter())[result.name] += 1
            examples.setdefault(kind, review.image.image_id)
    kinds = [FailureKind(kind, {m: own[m] for m in methods}, examples[kind]) for kind, own in counts.items()]
    return sorted(kinds, key=lambda row: (-sum(row.counts.values()), row.kind))


def _kind_of(message: str, image: StudyImage) -> str:
    """Return a message without what differs from image to image: paths, its name and numbers."""
    named = re.sub(r"\S*" + re.escape(image.stem) + r"\S*", "the image", message)
    return re.sub(r"\d+([.]\d+)?", "#", re.sub(r"/\S+", "a file", named))


@dataclass(frozen=True)
class PilotRow:
    """One row of the table that compares pilots with the other images."""

    what: str
    pilot: str
    rest: str
    is_far: bool = False


def compare_pilots(
    images: Sequence[StudyImage], columns: Mapping[str, Mapping[str, str]], study: StudyTables, kept: KeptMethods
) -> list[PilotRow]:
    """Compare pilots with the images for which the decision is used; empty where all images are pilots.

    Parameters
    ----------
    images : sequence of StudyImage
    columns : mapping
        Column of participants.tsv to subject to value.
    study : StudyTables
        Tables of the stage.
    kept : KeptMethods
        The methods whose measures are compared.
    """
    pilots = [image for image in images if image.included and image.pilot]
    rest = [image for image in images if image.included and not image.pilot]
    if not pilots or not rest:
        return []
    people = {image.subject for image in pilots}
    others = {image.subject for image in rest} - people
    rows = [PilotRow("participants", str(len(people)), str(len(others)))]
    rows += [PilotRow("images", str(len(pilots)), str(len(rest)))]
    rows += _shares("contrast", [i.contrast for i in pilots], [i.contrast for i in rest])
    for column, values in columns.items():
        rows += _shares(
            column, [values.get(p, "") for p in sorted(people)], [values.get(p, "") for p in sorted(others)]
        )
    pairs = zip(study.metrics["method"], study.metrics["contrast"], strict=True)
    measured = study.metrics[[method == kept.of(contrast) for method, contrast in pairs]]
    is_pilot = measured["image_id"].isin({image.image_id for image in pilots})
    for measure in (MEASURES[name] for name in ("csa_mean_mm2", "predicted_dice", "coverage")):
        a, b = measured[is_pilot][measure.name].dropna(), measured[~is_pilot][measure.name].dropna()
        if len(a) and len(b):
            spread = float(pd.concat([a, b]).std())
            far = len(a) > 1 and spread > 0 and abs(float(a.mean() - b.mean())) > FAR_APART * spread
            words = f"{measure.heading}, {kept.words()}: median (quartiles)"
            rows.append(PilotRow(words, _quartiles(a, measure.decimals), _quartiles(b, measure.decimals), far))
    return rows


def _shares(what: str, pilots: Sequence[str], rest: Sequence[str]) -> list[PilotRow]:
    """Return a row for each value of a column, with its share among pilots and among the other images."""
    values = sorted(set(pilots) | set(rest))
    if len(values) > N_VALUES or not pilots or not rest:
        return []
    shares = {value: (pilots.count(value) / len(pilots), rest.count(value) / len(rest)) for value in values}
    return [
        PilotRow(f"{what}: {value or 'not known'}", f"{100 * a:.0f} %", f"{100 * b:.0f} %", abs(a - b) > FAR_APART)
        for value, (a, b) in shares.items()
    ]
