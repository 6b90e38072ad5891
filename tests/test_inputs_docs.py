"""The tables of docs/inputs.md come from the tests: from their cases and comments ``# row: input | what happens``.

``python tests/test_inputs_docs.py`` writes the tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import test_external_methods as external
import test_odd_inputs as odd
import test_reading_text as text
import test_reading_weights as weights

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "inputs.md"
START = "<!-- made from the tests by tests/test_inputs_docs.py -->\n"
LEAST_KINDS = 80

SECTIONS = {
    "Values of a mask": ("test_reading_masks.py",),
    "Damaged and oversized files": ("test_reading_damage.py", "test_fuzz_reading.py"),
    "Odd headers": ("test_reading_limits.py",),
    "Series": ("test_reading_series.py",),
    "Faults in a study": ("workflow/test_run.py", "workflow/test_slurm.py", "workflow/test_chaos.py", "test_killed.py"),
    "Output, options and names": (
        *("test_reading_writing.py", "test_cli.py", "test_index.py", "test_reading_text.py", "test_exclusion.py"),
        "test_external_methods.py",
    ),
}
"""Heading to the files whose comments are its rows."""

TABLES = (
    ("Text of other systems", "read", text.READ, text.test_text_of_other_systems_is_read),
    ("Text in other encodings", "refused with file and line", text.REFUSED,
     text.test_other_encodings_are_refused_with_file_and_line),
    ("Tables", "refused with file and line", text.TABLES, text.test_invalid_tables_are_refused),
    ("JSON: manifests, decisions, locks (such a sidecar counts as missing)", "refused", text.JSON,
     text.test_json_that_is_not_a_mapping_is_refused),
    ("YAML", "refused", text.YAMLS, text.test_invalid_yaml_is_refused),
    ("Lists of exclusions", "refused", text.EXCLUDED, text.test_invalid_lists_of_exclusions_are_refused),
    ("Configurations", "refused before anything runs", text.CONFIGS, text.test_meaningless_configurations_are_refused),
    ("Networks (`-weights`)", "refused", weights.NETWORK, weights.test_damaged_networks_are_refused),
    ("Detectors (`-detector`)", "refused", weights.DETECTOR, weights.test_damaged_detectors_are_refused),
)  # fmt: skip

_ROWS = re.compile(r"((?:^# row: .*\n(?:^#   .*\n)*)+)^def (test_\w+)", re.MULTILINE)


def commented_rows() -> dict[str, list[tuple[str, str, list[str]]]]:
    """Return the rows that comments describe (input, what happens, tests), by file."""
    rows: dict[str, list[tuple[str, str, list[str]]]] = {}
    further: list[tuple[str, str]] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        own = rows.setdefault(path.relative_to(ROOT / "tests").as_posix(), [])
        for comment, test in _ROWS.findall(path.read_text()):
            for one in comment.replace("\n#   ", " ").splitlines():
                told = one.removeprefix("# row: ")
                if told.startswith("with `"):
                    further.append((told[6:-1], test))
                else:
                    given, outcome = told.split(" | ")
                    own.append((given, outcome, [test]))
    for first, test in further:
        next(row for own in rows.values() for row in reversed(own) if first == row[2][0])[2].append(test)
    return rows


def table(title: str, intro: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a heading, a sentence and a table."""
    lines = [columns, ("---",) * len(columns), *rows]
    return f"## {title}\n\n{intro}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def generated() -> str:
    """Return the tables."""
    parts = [
        table(
            "Images, by a command and in a study",
            f"Each is a case of `{odd.test_odd_images.__name__}`: one study contains all of them.",
            ("image", "by `spineseg propseg`", "in a study"),
            [(name, case.by_command, case.in_study) for name, case in odd.IMAGES.items()],
        ),
        table(
            "Masks, by a command and as references of a study",
            f"Each is a case of `{odd.test_odd_masks.__name__}`. What is read has the right area.",
            ("mask", "by `spineseg csa`", "as a reference in a study"),
            [(name, case.by_command, case.in_study) for name, case in odd.MASKS.items()],
        ),
    ]
    commented = commented_rows()
    for title, files in SECTIONS.items():
        rows = [row for file in files for row in commented[file]]
        told = [(given, outcome, ", ".join(f"`{test}`" for test in tests)) for given, outcome, tests in rows]
        intro = f"Tests in {', '.join(f'`tests/{file}`' for file in files)}."
        parts.append(table(title, intro, ("input", "what happens", "test"), told))
    parts.append(
        "## Text, configuration and weights\n\n"
        f"{len(external.HOSTILE)} file names with quotes, commands, line breaks and escape codes are given to"
        " programs as arguments (`test_a_file_name_is_never_a_command`).\n"
    )
    for title, outcome, cases, test in TABLES:
        intro = f"Each is a case of `{test.__name__}`."
        rows_of_cases = [(case, outcome) for case in cases]
        parts.append("#" + table(title, intro, ("input", "what happens"), rows_of_cases))
    return "\n".join(parts)


def test_the_tables_are_those_of_the_tests():
    assert DOCS.read_text().partition(START)[2] == "\n" + generated()


def test_every_test_that_is_named_exists():
    names = set(re.findall(r"`(test_\w+)`", DOCS.read_text()))
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    existing = {name for text in texts for name in re.findall(r"def (test_\w+)", text)}
    assert names - existing == set()


def test_every_comment_is_in_a_table():
    for name, rows in commented_rows().items():
        assert not rows or sum(name in files for files in SECTIONS.values()) == 1, name
        n_rows = len(re.findall("^# row: (?!with)", (ROOT / "tests" / name).read_text(), re.MULTILINE))
        assert len(rows) == n_rows, name


def test_there_are_enough_kinds():
    assert len(odd.IMAGES) + len(odd.MASKS) >= LEAST_KINDS


if __name__ == "__main__":
    DOCS.write_text(DOCS.read_text().partition(START)[0] + START + "\n" + generated())
