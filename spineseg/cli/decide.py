"""``spineseg decide``: which method a dataset keeps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

SUMMARY = "Decide from a pilot's tables which method the dataset keeps, and say how sure that is."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-metrics", type=Path, required=True, metavar="TSV", help="metrics.tsv of the pilot")
    parser.add_argument("-agreement", type=Path, metavar="TSV", help="agreement.tsv of the pilot")
    parser.add_argument("-slices", type=Path, metavar="TSV", help="slices.tsv.gz; needed to compare contrasts")
    parser.add_argument("-table", type=Path, metavar="TSV", help="images.tsv, to list what was left out and why")
    parser.add_argument(
        "-config",
        type=Path,
        metavar="FILE",
        help="JSON or YAML with dataset, methods, decision, override; other keys are not read",
    )
    parser.add_argument("-o", type=Path, default=Path("decision.json"), metavar="FILE", help="default decision.json")
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")


def run(args: argparse.Namespace) -> int:
    """Read the tables, decide, write decision.json and decision.md."""
    import json

    from spineseg.decision.from_files import decide_from_files
    from spineseg.decision.report_text import verdict_sentence, write_report
    from spineseg.writing import write_json, write_text

    decision = decide_from_files(
        args.metrics, args.agreement, slices=args.slices, table=args.table, config=_read_config(args.config)
    )
    write_text(args.o.with_suffix(".md"), write_report(decision))
    write_json(args.o, decision)
    print(json.dumps(decision, indent=2) if args.json else verdict_sentence(decision))
    return 0


def _read_config(path: Path | None) -> dict[str, Any]:
    """Read a JSON or YAML file; JSON is YAML."""
    import yaml

    from spineseg.errors import InputError

    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: expected JSON or YAML; {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys such as dataset, methods, decision, found {type(content).__name__}")
    return content
