"""``spineseg decide``: decide which method a dataset keeps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.parameters import output_file

if TYPE_CHECKING:
    from spineseg.decision.from_files import Question

SUMMARY = "Decide from a pilot's tables which method the dataset keeps, and report how certain the decision is."

CONFIG_KEYS = ("dataset", "methods", "decision", "override")
"""Keys of the configuration that the decision depends on; the decision stores the hash of these keys only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-metrics", type=Path, required=True, metavar="TSV", help="metrics.tsv of the pilot")
    parser.add_argument("-agreement", type=Path, metavar="TSV", help="agreement.tsv of the pilot")
    parser.add_argument("-slices", type=Path, metavar="TSV", help="slices.tsv.gz; needed to compare contrasts")
    parser.add_argument("-levels", type=Path, metavar="TSV", help="levels.tsv, for areas at the level of the plan")
    parser.add_argument("-table", type=Path, metavar="TSV", help="images.tsv, to list what was left out and why")
    parser.add_argument(
        "-config", type=Path, metavar="FILE", help="a study's configuration: dataset, methods, decision, override"
    )
    parser.add_argument(
        "-o", type=output_file, default=Path("decision.json"), metavar="FILE", help="default decision.json"
    )
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")


def run(args: argparse.Namespace) -> int:
    """Read the tables, decide, write decision.json and decision.md."""
    import json

    from spineseg.decision.from_files import decide_from_files
    from spineseg.decision.report_text import verdict_sentence, write_report
    from spineseg.study.configuration import read_configuration
    from spineseg.study.gather import check_tables
    from spineseg.studyfolder.decisions import write_decision
    from spineseg.studyfolder.layout import TABLES, Stage, StudyFolder
    from spineseg.studyfolder.locks import find_lock
    from spineseg.writing import all_or_none, write_text

    question = _read_question(args.config)
    of_pilot = StudyFolder(args.table.parent).table(Stage.PILOT, TABLES[0]) if args.table else None
    if args.config and args.metrics == of_pilot:
        check_tables(StudyFolder(args.table.parent), Stage.PILOT, read_configuration(args.config))
    tables = {"slices": args.slices, "table": args.table, "levels": args.levels}
    decision = decide_from_files(args.metrics, args.agreement, **tables, question=question)
    folder = StudyFolder(args.o.parent.parent)
    lock = find_lock(folder) if args.o == folder.preview else None
    with all_or_none():
        write_text(args.o.with_suffix(".md"), write_report(decision, lock.kept.words() if lock else ""))
        write_decision(args.o, decision)
    print(json.dumps(decision, indent=2) if args.json else verdict_sentence(decision))
    return 0


def _read_question(path: Path | None) -> Question:
    """Return the question that the configuration asks; its methods may be other programs."""
    from spineseg.decision.from_files import Question
    from spineseg.decision.params import DecisionParams
    from spineseg.methods.registry import OWN_METHODS
    from spineseg.study.configuration import read_document, read_marks_of, reference_settings
    from spineseg.study.participants import read_participants
    from spineseg.study.steps import digest_step

    if path is None:
        return Question(fitted=tuple(OWN_METHODS))
    document = read_document(path)
    return Question(
        dataset=document["dataset"],
        methods=[method if isinstance(method, str) else method["name"] for method in document["methods"]],
        params=DecisionParams.from_config(document["decision"]),
        override=document["override"],
        config={key: document[key] for key in CONFIG_KEYS},
        fitted=[method for method in document["methods"] if isinstance(method, str)],
        code={"measures": digest_step("measure")},
        marks=read_marks_of(document["marks"]),
        reference_kinds=reference_settings(document)["kinds"],
        strata=document["pilot"].get("strata", ()),
        participants=read_participants(document["bids_dir"]).cells if document["bids_dir"] else {},
    )
