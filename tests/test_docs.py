"""Tables of the docs that are generated from the code. With SPINESEG_WRITE_DOCS=1 this test writes them."""

from __future__ import annotations

import ast
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spineseg.decision import params
from spineseg.decision.params import DecisionParams, decision_schema
from spineseg.measures import AGREEMENT, LEVEL_MEANING, MEASURES, METRICS, SHAPE_MEANING, SLICE_SD, SOURCES
from spineseg.study.configuration import load_schema
from spineseg.studyfolder.csa import COLUMNS as CSA_COLUMNS
from spineseg.studyfolder.csa import FLAGS, CsaRow
from spineseg.studyfolder.images import IMAGE_COLUMNS
from spineseg.studyfolder.tables import SLICES_COLUMNS

ROOT = Path(__file__).parents[1]
LAST = "<!-- end -->"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def row(name: str) -> list[str]:
    measure = MEASURES[name]
    better = {True: "higher", False: "lower", None: ""}[measure.higher_is_better]
    return [f"`{name}`", measure.unit, better, SOURCES[measure.source], measure.meaning]


def measures_table() -> str:
    """Every measure of the tables, in their order."""
    names = dict.fromkeys((*METRICS, *AGREEMENT, "seconds", "peak_mb"))
    return table(["column", "unit", "better", "made from", "meaning"], [row(name) for name in names])


def write_value(value: Any) -> str:
    """A default as one line of YAML."""
    return "`" + json.dumps(value, ensure_ascii=False).replace('"', "") + "`"


def configuration_table() -> str:
    """Every key of the configuration, from its schema."""
    rows = []
    for key, part in load_schema()["properties"].items():
        default = write_value(part["default"]) if "default" in part else "needed"
        rows.append([f"`{key}`", part["x-expected"], default, part.get("x-meaning", part["description"])])
    return table(["key", "value", "default", "meaning"], rows)


def reasons_of_fields(owner: type) -> dict[str, str]:
    """The texts below the fields of a dataclass."""
    (tree,) = ast.parse(inspect.getsource(owner)).body
    assert isinstance(tree, ast.ClassDef)
    reasons = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            reasons[field.target.id] = " ".join(str(text.value.value).split())
    return reasons


def meanings_of_fields(owner: type) -> dict[str, str]:
    """The meanings below Parameters in the docstring of a dataclass."""
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in (inspect.getdoc(owner) or "").splitlines():
        if line and not line.startswith(" ") and " : " in line:
            names = line.split(" : ")[0].split(", ")
        elif line.startswith("    "):
            meanings |= {name: f"{meanings.get(name, '')} {line.strip()}".strip() for name in names}
    return meanings


def decision_table() -> str:
    """Every key of `decision`, with the reason of its default."""
    meanings, reasons = meanings_of_fields(DecisionParams), reasons_of_fields(DecisionParams)
    rows = []
    for key, part in decision_schema()["properties"].items():
        if key in params.OBSOLETE or key in params.RENAMED:
            continue
        field = DecisionParams.__dataclass_fields__[key]
        default = None if key in ("repeats", "contrasts") else field.default
        meaning = " ".join(filter(None, (meanings.get(key), reasons.get(key))))
        expected = part.get("x-expected", "a name, or null")
        rows.append([f"`{key}`", expected, write_value(default), meaning.replace("`AIMS`", "these three")])
    return table(["key", "value", "default", "meaning, and reason of the default"], rows)


UNITS = (("_mm2", "mm²"), ("_mm", "mm"), ("_deg", "degrees"), ("_vox", "voxels"))
PLACES = {
    "n_slices": "slices with cord that count",
    "tilted": "how many of these slices are tilted beyond 30 degrees",
    "note": "remarks on the row",
    "uncertainty": "the method's own uncertainty about its mask in the slice, 0 sure to 1 a guess",
    "slices": "slices, counted from below",
    "vert_level": "levels by SCT's numbers",
    "flags": "why the row should be checked before use, see below",
    "position_mm": "height of the slice above the lowest one",
    "slice": "counted from 0, from inferior to superior",
    **{f"centroid_{axis}_mm": "centre of the mask, scanner coordinates" for axis in "xyz"},
}
"""Columns that no docstring explains by themselves."""


def column_row(name: str, meanings: dict[str, str]) -> list[str]:
    unit = next((words for end, words in UNITS if name.endswith(end)), "")
    of_sd = {sd: shape for shape, sd in SLICE_SD.items()}
    meaning = f"standard deviation of `{of_sd[name]}` over slices" if name in of_sd else meanings[name]
    return [f"`{name}`", unit, meaning]


def images_table() -> str:
    """Every column of images.tsv."""
    return table(["column", "meaning"], [[f"`{name}`", meaning] for name, meaning in IMAGE_COLUMNS.items()])


def shape_table() -> str:
    """Every column of slices.tsv.gz and csa.tsv, except those that identify the image."""
    meanings = SHAPE_MEANING | LEVEL_MEANING | meanings_of_fields(CsaRow) | PLACES
    names = dict.fromkeys(name for name in (*SLICES_COLUMNS, *CSA_COLUMNS) if name not in IMAGE_COLUMNS)
    return table(["column", "unit", "meaning"], [column_row(name, meanings) for name in names])


def flags_table() -> str:
    """What a flag in csa.tsv means."""
    return table(["flag", "meaning"], [[f"`{name}`", meaning] for name, meaning in FLAGS.items()])


PAGES: list[tuple[str, str, Callable[[], str]]] = [
    ("docs/outputs.md", "<!-- made by tests/test_docs.py -->", measures_table),
    ("docs/outputs.md", "<!-- columns of images.tsv, made by tests/test_docs.py -->", images_table),
    ("docs/outputs.md", "<!-- columns of shape, made by tests/test_docs.py -->", shape_table),
    ("docs/outputs.md", "<!-- flags, made by tests/test_docs.py -->", flags_table),
    ("config/README.md", "<!-- made by tests/test_docs.py -->", configuration_table),
    ("config/README.md", "<!-- decision keys, made by tests/test_docs.py -->", decision_table),
]


@pytest.mark.parametrize(("page", "first", "make"), PAGES)
def test_a_table_of_the_docs_is_that_of_the_code(page, first, make):
    path = ROOT / page
    start, rest = path.read_text().split(first)
    wanted = f"{start}{first}\n{make()}\n{LAST}{rest.partition(LAST)[2]}"
    if os.environ.get("SPINESEG_WRITE_DOCS"):
        path.write_text(wanted)
    assert path.read_text() == wanted, f"{page} shows another table; SPINESEG_WRITE_DOCS=1 writes it"


def test_every_key_and_measure_says_what_it_means():
    assert all(measure.meaning for measure in MEASURES.values())
    rows = decision_table().splitlines()[2:]
    assert not [line for line in rows if line.endswith("|  |")]
