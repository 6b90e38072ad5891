"""Warnings by which a reviewer knows which images to look at first, and why."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from spineseg.measures import MEASURES, PlausibleLimits
from spineseg.report.review import MethodResult, ReviewImage
from spineseg.spelling import count_of
from spineseg.studyfolder.tables import AgreementRow

FAILED, BAD, LOOK, NOTE, COMMON = 4, 3, 2, 1, 0
"""Severities: there is no result; a result is wrong; a person should look; good to know; true of every such image."""

DOUBTFUL = "doubtful"
"""Status shown in place of "ok" for a mask whose worst warning is `BAD`."""

DICE_FAILED = 0.70
"""Dice between two methods below which at least one has failed (the limit of HippUnfold's check of its masks)."""

DICE_LOOK = 0.85
"""Dice between two methods below which their masks differ by about a voxel all around and are worth a look."""

COVERAGE_LOOK = 0.80
"""Share of the field of view with cord below which a mask counts as partial."""

PLAUSIBLE_SHARE = 0.90
"""Share of plausible slices below which the shape is worth a look. It is below 1 because slices at the conus and at the
ends are often not plausible."""

AREA_RATIO = 1.25
"""Ratio of the areas of neighbouring slices, or of two methods in one slice, above which there is a warning. The cord's
area changes by about one per cent per mm."""

MEAN = re.compile(r"mean of \d+ volumes|mean of \d+ of \d+ volumes \(b > \d+ s/mm²\)")
"""Note on a series that was averaged as intended (`spineseg.series`)."""

COMMON_SHARE, COMMON_IMAGES = 0.8, 3
"""Share, and number, of the images of a suffix from which on a note is common to them: it then says how such images are
read, not that one of them is unusual."""

LARGEST_FRACTION = 0.99
"""Share of the mask's voxels in its largest piece; below it the other pieces are more than stray voxels."""


@dataclass(frozen=True)
class Flag:
    """One warning: `severity` (FAILED to NOTE), the method it is about or "", and one line."""

    severity: int
    method: str
    text: str


def find_flags(review: ReviewImage, limits: PlausibleLimits | None, problems: Sequence[str] = ()) -> list[Flag]:
    """Return the warnings of an image, the worst first.

    Parameters
    ----------
    limits : limits of plausible areas; with None there are no warnings about areas
    problems : files that could not be shown, one line each
    """
    said = {result.message for result in review.methods}
    flags = [Flag(FAILED, "", problem) for problem in problems if problem not in said]
    # warnings about the image come before warnings about its masks
    flags += [Flag(LOOK, "", text) for text in (review.contrast_doubt, review.exception) if text]
    flags += [flag for result in review.methods for flag in _method_flags(result, limits)]
    flags += [flag for pair in review.agreement for flag in _pair_flags(pair)]
    flags += [flag for a, b in combinations(review.methods, 2) for flag in _area_difference(a, b)]
    if not review.methods:
        flags.append(Flag(FAILED, "", "no method has a result for this image"))
    return sorted(_join_equal(flags), key=lambda flag: -flag.severity)


def _join_equal(flags: list[Flag]) -> list[Flag]:
    """Join equal warnings about several methods."""
    methods: dict[tuple[int, str], list[str]] = {}
    for flag in flags:
        methods.setdefault((flag.severity, flag.text), []).append(flag.method)
    return [Flag(severity, " and ".join(filter(None, names)), text) for (severity, text), names in methods.items()]


def badness(flags: Sequence[Flag]) -> float:
    """Return a number that is larger for worse images: the worst flag counts first, then the others except notes.

    Examples
    --------
    >>> badness([Flag(LOOK, "", "in 2 pieces"), Flag(NOTE, "", "a note"), Flag(NOTE, "", "another")])
    202.0
    """
    if not flags:
        return 0.0
    worst = max(flag.severity for flag in flags)
    return 100.0 * worst + sum(flag.severity for flag in flags if flag.severity > NOTE)


def find_common_notes(images: Iterable[tuple[str, Sequence[Flag]]]) -> set[tuple[str, str]]:
    """Return the notes that nearly every image of a suffix has: the suffix, and the note without its numbers.

    Parameters
    ----------
    images : iterable of (suffix, flags)
    """
    n_images: Counter[str] = Counter()
    n_notes: Counter[tuple[str, str]] = Counter()
    for suffix, flags in images:
        n_images[suffix] += 1
        n_notes.update({(suffix, _without_numbers(flag.text)) for flag in flags if flag.severity == NOTE})
    return {
        note
        for note, n in n_notes.items()
        if n_images[note[0]] >= COMMON_IMAGES and n >= COMMON_SHARE * n_images[note[0]]
    }


def lower_common_notes(suffix: str, flags: Sequence[Flag], common: Collection[tuple[str, str]]) -> list[Flag]:
    """Return an image's flags, with notes that all such images have as `COMMON` and last."""
    lowered = [
        replace(flag, severity=COMMON)
        if flag.severity == NOTE and (MEAN.fullmatch(flag.text) or (suffix, _without_numbers(flag.text)) in common)
        else flag
        for flag in flags
    ]
    return sorted(lowered, key=lambda flag: -flag.severity)


def _without_numbers(text: str) -> str:
    """Return a note without its numbers, which differ from image to image."""
    return re.sub(r"\d+([.]\d+)?", "#", text)


def shown_status(name: str, status: str, flags: Sequence[Flag]) -> str:
    """Return a mask's status as pages show it: `DOUBTFUL` in place of "ok" where it is probably wrong."""
    is_bad = any(flag.severity == BAD and name in (flag.method.split(" and ")) for flag in flags)
    return DOUBTFUL if status == "ok" and is_bad else status


def _method_flags(result: MethodResult, limits: PlausibleLimits | None) -> list[Flag]:
    """Return the warnings about one mask."""
    name, metrics = result.name, result.metrics
    if result.status == "failed":
        return [Flag(FAILED, name, f"failed: {result.message or 'no mask was written'}")]
    if result.status == "empty":
        return [Flag(FAILED, name, "found no cord: the mask is empty")]
    flags = []
    coverage = metrics.get("coverage")
    if result.status == "partial":
        flags.append(Flag(LOOK, name, f"partial: {result.message or 'cord in a part of the image only'}"))
    elif coverage is not None and coverage < COVERAGE_LOOK:
        flags.append(Flag(LOOK, name, f"covers {coverage:.0%} of the slices that should hold cord"))
    if metrics.get("n_gaps"):
        longest = metrics.get("longest_gap_mm")
        size = f", the longest {longest:.0f} {MEASURES['longest_gap_mm'].unit}" if longest else ""
        flags.append(Flag(LOOK, name, f"{count_of(metrics['n_gaps'], 'gap')} along the cord{size}"))
    if metrics.get("n_components", 1) > 1 and metrics.get("largest_fraction", 0) < LARGEST_FRACTION:
        flags.append(Flag(LOOK, name, f"in {metrics['n_components']:.0f} separate pieces"))
    flags += _dice_flags(name, metrics.get("dice"), "the reference")
    flags += _prediction_flags(name, metrics)
    if (share := metrics.get("plausible")) is not None and share < PLAUSIBLE_SHARE:
        flags.append(Flag(LOOK, name, f"{1 - share:.0%} of the slices have an unlikely size or shape"))
    flags += _area_flags(name, result.csa_mm2, limits)
    said = {result.message}
    flags += [Flag(NOTE, name, text) for text in result.warnings if text not in said]
    return flags


def _dice_flags(name: str, dice: float | None, other: str) -> list[Flag]:
    """Return a warning where the overlap with another mask is low."""
    if dice is None or dice >= DICE_LOOK:
        return []
    severity = BAD if dice < DICE_FAILED else LOOK
    return [Flag(severity, name, f"low overlap with {other}: Dice {dice:.2f}")]


def _prediction_flags(name: str, metrics: Mapping[str, float]) -> list[Flag]:
    """Return a warning where the mask is probably wrong according to its predicted Dice."""
    if not metrics.get("flagged") or metrics.get("predicted_dice") is None:
        return []
    interval = f"{metrics.get('predicted_dice_low', 0):.2f} to {metrics.get('predicted_dice_high', 1):.2f}"
    return [Flag(BAD, name, f"probably wrong: predicted Dice {metrics['predicted_dice']:.2f} (90 %: {interval})")]


def _pair_flags(pair: AgreementRow) -> list[Flag]:
    """Return warnings about the agreement of two methods."""
    names = f"{pair.method_a} and {pair.method_b}"
    dice = pair.values.get("dice")
    if dice is None or dice >= DICE_LOOK:
        return []
    if dice < DICE_FAILED:
        return [Flag(BAD, "", f"{names} disagree: Dice {dice:.2f}")]
    return [Flag(LOOK, "", f"{names} differ: Dice {dice:.2f}")]


def _area_flags(name: str, areas: Mapping[int, float], limits: PlausibleLimits | None) -> list[Flag]:
    """Return warnings about the area along the cord; the first and last slice, which may be cut off, do not count."""
    inner = sorted(k for k, area in areas.items() if area > 0)[1:-1]
    flags = []
    low, high = limits.csa_mm2 if limits else (0, math.inf)
    outside = [k for k in inner if not low <= areas[k] <= high]
    if outside:
        limit = f"{low:.0f}-{high:.0f} {MEASURES['csa_mean_mm2'].unit}"
        where = f"{count_of(len(outside), 'slice')} with an area outside {limit} ({_slices(outside)})"
        flags.append(Flag(LOOK, name, where))
    jumps = [b for a, b in pairwise(inner) if b == a + 1 and _is_far(areas[a], areas[b])]
    if jumps:
        flags.append(Flag(LOOK, name, f"{count_of(len(jumps), 'jump')} of area between slices ({_slices(jumps)})"))
    return flags


def _area_difference(a: MethodResult, b: MethodResult) -> list[Flag]:
    """Return a warning where the areas of two methods differ although both masks have status ok."""
    common = sorted(k for k, area in a.csa_mm2.items() if area > 0 and b.csa_mm2.get(k, 0) > 0)[1:-1]
    far = [k for k in common if _is_far(a.csa_mm2[k], b.csa_mm2[k])]
    if not far:
        return []
    words = f"areas of {a.name} and {b.name} differ by more than a quarter in {count_of(len(far), 'slice')}"
    return [Flag(LOOK, "", f"{words} ({_slices(far)})")]


def _is_far(a: float, b: float) -> bool:
    """Whether two areas differ by more than a quarter."""
    return max(a, b) > AREA_RATIO * min(a, b)


def _slices(slices: list[int]) -> str:
    """Return slice numbers as text, at most five of them."""
    shown = ", ".join(map(str, slices[:5]))
    return f"{shown} ..." if len(slices) > 5 else shown
