"""Tables of the docs that follow from the code. With SPINESEG_WRITE_DOCS=1 this test writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spineseg.measures import AGREEMENT, MEASURES, METRICS, SOURCES

DOCS = Path(__file__).parents[1] / "docs"
FIRST, LAST = "<!-- made by tests/test_docs.py -->", "<!-- end -->"


def row(name: str) -> str:
    measure = MEASURES[name]
    better = {True: "higher", False: "lower", None: ""}[measure.higher_is_better]
    return f"| `{name}` | {measure.unit} | {better} | {SOURCES[measure.source]} | {measure.meaning} |"


def measures_table() -> str:
    """Every measure of the tables, in their order."""
    names = dict.fromkeys((*METRICS, *AGREEMENT, "seconds", "peak_mb"))
    return "\n".join(["| column | unit | better | made from | meaning |", *["|" + " --- |" * 5], *map(row, names)])


@pytest.mark.parametrize(("page", "make"), [("outputs.md", measures_table)])
def test_a_table_of_the_docs_is_that_of_the_code(page, make):
    path = DOCS / page
    start, rest = path.read_text().split(FIRST)
    wanted = f"{start}{FIRST}\n{make()}\n{LAST}{rest.split(LAST)[1]}"
    if os.environ.get("SPINESEG_WRITE_DOCS"):
        path.write_text(wanted)
    assert path.read_text() == wanted, f"docs/{page} shows another table; SPINESEG_WRITE_DOCS=1 writes it"
