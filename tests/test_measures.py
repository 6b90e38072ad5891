"""Every measure is defined once, for tables, decision, report, page and docs."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import spineseg.measures as measures_module
from spineseg.decision.comparison import KINDS
from spineseg.decision.description import SUMMARY
from spineseg.errors import InputError
from spineseg.measures import (
    AGREEMENT,
    EVIDENCE_MEASURES,
    MEASURES,
    METRICS,
    SLICE_SHAPE,
    SOURCES,
    PlausibleLimits,
)
from spineseg.metrics.intrinsic import IntrinsicMeasures
from spineseg.metrics.shape import SliceShape
from spineseg.studyfolder.manifests import TIMING_COLUMNS
from spineseg.studyfolder.tables import (
    AGREEMENT_COLUMNS,
    IDENTITY,
    METRICS_COLUMNS,
    SLICES_COLUMNS,
    AgreementRow,
    MetricsRow,
    SliceRow,
)

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spineseg"
OUTPUTS = ROOT / "docs" / "outputs.md"
UNIT_ENDINGS = {"_mm2": "mm²", "_mm": "mm", "_pct": "%", "_mb": "MiB"}
TEXTS = {"method", "status", "guessed_contrast", "contrast_doubt", "message", "method_a", "method_b"}


def test_every_numeric_column_is_a_measure():
    assert set(METRICS_COLUMNS) - set(IDENTITY) - TEXTS == set(METRICS) <= set(MEASURES)
    assert set(AGREEMENT_COLUMNS) - set(IDENTITY) - TEXTS == set(AGREEMENT) <= set(MEASURES)
    assert {"seconds", "peak_mb"} == set(TIMING_COLUMNS[2:]) <= set(MEASURES)
    assert not {"seconds", "peak_mb"} & {*METRICS_COLUMNS, *AGREEMENT_COLUMNS, *SLICES_COLUMNS}


def test_columns_are_those_of_the_rows():
    for columns, row in ((METRICS_COLUMNS, MetricsRow), (AGREEMENT_COLUMNS, AgreementRow), (SLICES_COLUMNS, SliceRow)):
        assert len(columns) == len(set(columns))
        assert {one.name for one in fields(row)} - {"image", "values"} <= set(columns)


def test_every_measure_has_a_description_a_source_and_the_unit_in_its_name():
    for name, measure in MEASURES.items():
        assert measure.name == name
        assert measure.words.strip() == measure.words != ""
        assert measure.meaning
        assert measure.source in SOURCES
        assert 0 <= measure.decimals <= 4
        assert measure.heading.startswith(measure.words)
        assert measure.heading == measure.words or measure.heading.endswith(f", {measure.unit}")
        for ending, unit in UNIT_ENDINGS.items():
            if name.endswith(ending):
                assert measure.unit == unit
                break
    words = [measure.words for measure in MEASURES.values()]
    assert len(words) == len(set(words))


def test_computed_values_have_the_names_of_measures():
    assert {one.name for one in fields(IntrinsicMeasures)} - {"spikes"} <= set(METRICS)
    assert set(SLICE_SHAPE) <= {one.name for one in fields(SliceShape)}
    assert set(EVIDENCE_MEASURES) <= set(METRICS)


def test_measures_in_the_decision_have_a_direction():
    assert {*SUMMARY, *KINDS} <= set(MEASURES)
    assert [name for name in KINDS if MEASURES[name].higher_is_better is None] == ["bias"]


@pytest.mark.skipif(not OUTPUTS.is_file(), reason="the docs are not in this copy")
def test_the_docs_name_every_column():
    text = OUTPUTS.read_text()
    named = set(re.findall(r"`(\w+)`", text))
    columns = dict.fromkeys((*METRICS_COLUMNS, *AGREEMENT_COLUMNS, *TIMING_COLUMNS, *SLICES_COLUMNS))
    assert [name for name in columns if name not in named] == []


def strings(node: ast.AST) -> list[str]:
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def definitions(path: Path) -> list[str]:
    """Places that give a column of a measure another unit or description: dict entries, and calls with both."""
    units = {measure.unit for measure in MEASURES.values() if measure.unit} | {"mm2", "mm^2"}
    words = {measure.words for measure in MEASURES.values()}
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        pairs = []
        if isinstance(node, ast.Dict):
            pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]
        elif isinstance(node, ast.Call | ast.Tuple | ast.List):
            items = node.args if isinstance(node, ast.Call) else node.elts
            pairs = [(items[0], item) for item in items[1:]] if items else []
        for key, value in pairs:
            if not (isinstance(key, ast.Constant) and key.value in MEASURES):
                continue
            texts = strings(value) if isinstance(value, ast.Constant | ast.Tuple | ast.List | ast.Call) else []
            if set(texts) & (units | words) or any(text.endswith(f", {unit}") for text in texts for unit in units):
                found.append(f"line {node.lineno}: {key.value}: {texts}")
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "measures.py")
SHARED = {"cli/drift.py", "study/drift.py"}
"""Columns such as `csa_difference_pct` are not measures of the study's tables."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_defines_units_or_words(path):
    found = definitions(path)
    if path.relative_to(PACKAGE).as_posix() in SHARED:
        found = [line for line in found if "csa_difference" not in line]
    assert found == []


def test_the_search_for_definitions_finds_them(tmp_path):
    module = tmp_path / "m.py"
    module.write_text(
        'a = {"dice": "mm", "hd95_mm": ("x", "mm")}\nb = Axis("csa_mean_mm2", "area, mm²")\nc = ("n_gaps", "gaps")\n'
        'd = {"dice": 0.9, "x": "mm"}\ne = ("dice", "nsd")\n'
    )
    assert len(definitions(module)) == 4


TEMPLATES = PACKAGE / "report" / "templates"
SCRIPTS = sorted(TEMPLATES.glob("qc/*.js"))


@pytest.mark.parametrize(
    "path", [*SCRIPTS, TEMPLATES / "qc.html", TEMPLATES / "report.html"], ids=lambda path: path.name
)
def test_templates_hold_no_limits_and_no_units_of_columns(path):
    assert SCRIPTS
    text = path.read_text()
    limits = PlausibleLimits()
    numbers = {f"{limits.csa_mm2[1]:g}", f"{limits.eccentricity:g}", f"{limits.solidity:g}"}
    lines = [line for line in text.splitlines() if "csa" in line or "plausib" in line]
    assert not [line for line in lines if numbers & set(re.findall(r"\d+(?:\.\d+)?", line))]
    own_unit = re.compile(r"[\"'](?:csa\w*_mm2|hd95_mm)[\"']\s*[:,]\s*[\"'].*mm")
    assert not [line for line in text.splitlines() if own_unit.search(line)]


def test_limits_are_checked():
    for values in ({"csa_mm2": (5.0, 5.0)}, {"diameter_mm": (-1.0, 5.0)}, {"csa_mm2": (float("nan"), 5.0)}):
        with pytest.raises(InputError, match=next(iter(values))):
            PlausibleLimits(**values)
    assert PlausibleLimits.from_config(None) == PlausibleLimits.from_config({}) == PlausibleLimits()
    assert PlausibleLimits.from_config({"csa_mm2": [1, 9]}).csa_mm2 == (1.0, 9.0)
    assert measures_module.MEASURES["plausible"].source == "mask"
