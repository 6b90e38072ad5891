"""docs/inputs.md names tests that exist, and its last tables are made from the tests' own cases.

``python tests/test_inputs_docs.py`` writes these tables again.
"""

import re
from pathlib import Path

import test_external_methods as external
import test_reading_text as text
import test_reading_weights as weights

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "inputs.md"
START = "<!-- made from the tests by tests/test_inputs_docs.py -->\n"
LEAST_ROWS = 80

TABLES = (
    ("Text of other systems", "read", text.READ, text.test_text_of_other_systems_is_read),
    ("Text in other encodings", "refused with file and line", text.REFUSED,
     text.test_other_encodings_are_refused_with_file_and_line),
    ("Tables", "refused with file and line", text.TABLES, text.test_tables_that_are_none),
    ("JSON: manifests, decisions, locks; a sidecar counts as none", "refused", text.JSON,
     text.test_json_that_is_no_mapping),
    ("YAML", "refused", text.YAMLS, text.test_yaml_that_is_none),
    ("Lists of exclusions", "refused", text.EXCLUDED, text.test_lists_of_exclusions_that_are_none),
    ("Configurations", "refused before anything runs", text.CONFIGS, text.test_configurations_that_mean_nothing),
    ("Networks (`-weights`)", "refused", weights.NETWORK, weights.test_networks_that_are_damaged),
    ("Detectors (`-detector`)", "refused", weights.DETECTOR, weights.test_detectors_that_are_damaged),
)  # fmt: skip


def generated() -> str:
    """Return the tables: one row per case of a test."""
    parts = [
        f"{len(external.HOSTILE)} names of files with quotes, commands, line breaks and codes are arguments of programs"
        " (`test_a_file_name_is_never_a_command`).\n"
    ]
    for title, outcome, cases, test in TABLES:
        rows = "".join(f"| {case} | {outcome} |\n" for case in cases)
        head = f"### {title}\n\nEach is a case of `{test.__name__}`.\n\n| input | what happens |\n| --- | --- |\n"
        parts.append(head + rows)
    return "\n".join(parts)


def test_the_tables_are_those_of_the_tests():
    assert DOCS.read_text().partition(START)[2] == generated()


def test_every_test_that_is_named_exists():
    names = set(re.findall(r"`(test_\w+)`", DOCS.read_text()))
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    existing = {name for text in texts for name in re.findall(r"def (test_\w+)", text)}
    assert names - existing == set()


def test_there_are_enough_kinds():
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert len([row for row in rows if not row.startswith(("| input", "| ---"))]) >= LEAST_ROWS


if __name__ == "__main__":
    DOCS.write_text(DOCS.read_text().partition(START)[0] + START + generated())
