"""``spineseg drift``: compare two runs of one study."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from spineseg.parameters import output_file

SUMMARY = """Compare two runs of one study: Dice of every image, bias and limits of agreement of the area.

Differences are RUN_B minus RUN_A. Areas are compared on the slices where both runs have cord, then averaged within
participants. The output names what changed between the runs: version, parameters, weights. The exit code is 0 even
if the runs differ."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="results folder of the first run")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="results folder of the second run")
    parser.add_argument("-methods", nargs="+", metavar="NAME", help="default: all that both runs have")
    parser.add_argument("-o", type=output_file, metavar="TSV", help="write one row per image and method")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare the runs, print the summary, write the table."""
    from spineseg.decision.document import jsonable
    from spineseg.study.drift import DRIFT_COLUMNS, compare_runs, summarise_drift
    from spineseg.studyfolder.files import write_table

    rows = compare_runs(args.run_a, args.run_b, args.methods)
    summary = jsonable(summarise_drift(rows))
    print(json.dumps(summary, indent=2) if args.json else "\n".join(_lines(summary)))
    if args.o:
        write_table(args.o, DRIFT_COLUMNS, rows)
    return 0


def _lines(summary: dict[str, Any]) -> list[str]:
    """Return the summary as a few lines per method."""
    lines = []
    for method, s in summary.items():
        lines.append(f"{method}: {s['n_images']} images in both runs, {s['n_identical']} identical")
        lines.append(f"  changed between the runs: {'; '.join(s['changed']) or 'nothing that the sidecars record'}")
        if s["n_status_changed"] or s["n_only_a"] or s["n_only_b"]:
            lines.append(
                f"  {s['n_status_changed']} changed status, {s['n_only_a']} in the first run only, "
                f"{s['n_only_b']} in the second only"
            )
        if s["dice_mean"] is not None:
            lines.append(f"  Dice {s['dice_mean']:.4f} on average, lowest {s['dice_min']:.4f} ({s['dice_min_image']})")
        lines += _area_lines(s)
        lines += [_image_line(image) for image in s["images"]]
    return lines


def _area_lines(summary: dict[str, Any]) -> list[str]:
    """Describe the change of the areas: bias and limits of agreement, each with its interval."""
    lines = []
    for key, unit in (("csa_difference_mm2", "mm2"), ("csa_difference_pct", "%")):
        area = summary[key]
        if area["bias"] is None:
            continue
        people = "1 participant" if area["n"] == 1 else f"{area['n']} participants"
        text = f"  area, {unit}: bias {area['bias']:+.2f} in {people}"
        if area["loa_low"] is not None:
            text += (
                f" (95 % interval {area['bias_low']:+.2f} to {area['bias_high']:+.2f}); limits of agreement "
                f"{area['loa_low']:+.2f} ({area['loa_low_low']:+.2f} to {area['loa_low_high']:+.2f}) and "
                f"{area['loa_high']:+.2f} ({area['loa_high_low']:+.2f} to {area['loa_high_high']:+.2f})"
            )
        lines.append(text)
    return lines


def _image_line(image: dict[str, Any]) -> str:
    """Describe how one image differs between the runs."""
    status = image["status_b"]
    if image["status_a"] != image["status_b"]:
        status = f"{image['status_a']}, now {image['status_b']}"
    if image["dice"] is None:
        return f"  {image['image_id']}: {status}; {image['message']}"
    area = image["csa_difference_mm2"]
    return f"  {image['image_id']}: {status}; Dice {image['dice']:.4f}" + (
        "" if area is None else f", area {area:+.2f} mm2"
    )
