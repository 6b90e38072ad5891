"""A digest of code changes with the code that computes a result, and with nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spineseg.code_digest import PACKAGE, digest_code, read_outlines
from spineseg.methods.declared import FILE_STEP
from spineseg.methods.registry import OWN_METHODS
from spineseg.study.steps import STEPS

SHOW = """
import json
from spineseg.methods.declared import DeclaredMethod, FILE_STEP
from spineseg.methods.registry import OWN_METHODS
from spineseg.code_digest import digest_code
from spineseg.study.steps import STEPS, digest_step
found = {name: digest_code(FILE_STEP, own.adapter) for name, own in OWN_METHODS.items()}
found["external"] = digest_code(FILE_STEP, "spineseg.methods.external")
print(json.dumps(found | {f"step {step}": digest_step(step) for step in STEPS}))
"""


class Copy:
    """A copy of the package's sources in another folder."""

    def __init__(self, root: Path):
        self.root, self.package = root / "code", root / "code" / "spineseg"
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(PACKAGE, self.package, ignore=ignored)
        (self.package / "weights").symlink_to(PACKAGE / "weights")
        self.cache = root / "cache"

    def show(self) -> dict[str, str]:
        """The digests of every method and step."""
        environment = os.environ | {"PYTHONPATH": str(self.root), "XDG_CACHE_HOME": str(self.cache)}
        done = subprocess.run(
            [sys.executable, "-c", SHOW], env=environment, cwd=self.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def edit(self, name: str, pattern: str, text: str) -> None:
        """Replace text in a source file."""
        path = self.package / name
        new, count = re.subn(pattern, text, path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1, f"{name}: {pattern}"
        path.write_text(new)

    def append(self, name: str, text: str) -> None:
        """Add to a source file."""
        with (self.package / name).open("a") as stream:
            stream.write(text)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("original")).show()


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def steps_of(names: set[str]) -> set[str]:
    return {name.removeprefix("step ") for name in names if name.startswith("step ")}


def test_a_copy_has_the_digests_of_the_original(original, copy):
    assert copy.show() == original
    here = {name: digest_code(FILE_STEP, own.adapter) for name, own in OWN_METHODS.items()}
    assert here == {name: original[name] for name in here}


def test_a_constant_of_propseg_changes_propseg_alone(original, copy):
    copy.edit("propseg/refine.py", r"^ALPHA = .*$", "ALPHA = 5000.0")
    assert changed(original, copy.show()) == {"propseg"}


def test_a_constant_of_deepseg_leaves_propseg_alone(original, copy):
    copy.append("deepseg/segment.py", "\nADDED_CONSTANT = 3\n")
    found = changed(original, copy.show())
    assert "deepseg" in found
    assert not {"propseg", "external"} & found


def test_a_constant_of_the_metrics_changes_what_measures_and_no_mask(original, copy):
    copy.edit("metrics/intrinsic.py", r"^SPIKE_SD = .*$", "SPIKE_SD = 5.0")
    found = changed(original, copy.show())
    assert "step measure" in found
    assert not {"propseg", "deepseg", "external"} & found
    assert not {"index", "decide", "lock", "keep", "gather"} & steps_of(found)


def test_the_report_changes_the_report_only(original, copy):
    copy.append("report/page.py", "\nADDED_CONSTANT = 3\n")
    assert changed(original, copy.show()) == {"step report"}


@pytest.mark.parametrize(
    ("name", "steps"),
    [("qc/page.js", {"page"}), ("qc.css", {"page"}), ("qc.html", {"page"}), ("report.html", {"report"}),
     ("report.css", {"report"})],
)  # fmt: skip
def test_templates_count_for_their_page(original, copy, name, steps):
    copy.append(f"report/templates/{name}", "\n")
    assert changed(original, copy.show()) == {f"step {step}" for step in steps}


def test_a_change_in_reading_images_changes_every_method(original, copy):
    copy.append("methods/segment_file.py", "\nADDED_CONSTANT = 3\n")
    assert {"propseg", "deepseg", "external"} <= changed(original, copy.show())


def test_comments_docstrings_and_layout_do_not_count(original, copy):
    for path in copy.package.rglob("*.py"):
        text = path.read_text()
        assert text.startswith('"""')
        text = '"""Edited. ' + text[3:]
        text = re.sub(r"^((?:def|class) .*)$", r"# edited\n\n\1", text, flags=re.MULTILINE)
        text = re.sub(r'^( +)"""(\w)', r'\1"""Edited: \2', text, flags=re.MULTILINE)
        path.write_text(text + "\n\n# the end\n")
    assert copy.show() == original


def test_a_changed_string_that_is_not_a_docstring_counts(original, copy):
    copy.append("propseg/refine.py", '\nTEXT = "a"\n')
    first = copy.show()
    copy.edit("propseg/refine.py", '^TEXT = "a"$', 'TEXT = "b"')
    assert changed(first, copy.show()) == {"propseg"}
    assert changed(original, first) == {"propseg"}


def test_a_module_imported_inside_a_function_counts(original, copy):
    (copy.package / "propseg" / "added.py").write_text('"""Added."""\n\nVALUE = 1\n')
    copy.append(
        "propseg/refine.py", "\n\ndef added():\n    from spineseg.propseg.added import VALUE\n    return VALUE\n"
    )
    first = copy.show()
    (copy.package / "propseg" / "added.py").write_text('"""Added."""\n\nVALUE = 2\n')
    assert changed(first, copy.show()) == {"propseg"}


def test_a_module_imported_for_types_only_does_not_count(original, copy):
    (copy.package / "propseg" / "added.py").write_text('"""Added."""\n\nVALUE = 1\n')
    copy.append(
        "propseg/refine.py",
        "\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from spineseg.propseg.added import VALUE\n",
    )
    first = copy.show()
    (copy.package / "propseg" / "added.py").write_text('"""Added."""\n\nVALUE = 2\n')
    assert copy.show() == first


def test_the_package_of_a_module_counts(original, copy):
    copy.append("propseg/__init__.py", "\nADDED_CONSTANT = 3\n")
    assert changed(original, copy.show()) == {"propseg"}


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"spineseg.errors": 3}', "{}", '{"spineseg.errors": ["x", []]}',
                                  "[" * 100_000])  # fmt: skip
def test_the_digest_cache_is_not_part_of_the_code(original, copy, text):
    assert copy.show() == original
    (stored,) = copy.cache.rglob("code-*.json")
    stored.write_text(text)
    assert copy.show() == original
    assert copy.show() == original


def test_a_cache_folder_that_cannot_be_written_is_harmless(original, copy):
    copy.cache.write_text("a file where the folder would be")
    assert copy.show() == original


@pytest.mark.parametrize(
    ("name", "steps"),
    [("quality.json", {"measure"}), ("deepseg_segment.safetensors", {"measure"}), ("optic_t2.safetensors", {"measure"}),
     ("deepseg_segment_3d.safetensors", set()), ("MODEL_CARD.md", set())],
)  # fmt: skip
def test_weights_that_predict_the_dice_of_masks_belong_to_the_measures(original, copy, name, steps):
    """Weights that make masks are recorded beside the code of their method (`MadeBy.weights`)."""
    (copy.package / "weights").unlink()
    shutil.copytree(PACKAGE / "weights", copy.package / "weights")
    with (copy.package / "weights" / name).open("ab") as stream:
        stream.write(b"\n")
    assert changed(original, copy.show()) == {f"step {step}" for step in steps}


def test_every_root_is_a_module_or_a_file():
    # any other name would silently add nothing to a digest
    outlines = read_outlines()
    roots = {FILE_STEP, "spineseg.methods.external", *(own.adapter for own in OWN_METHODS.values())}
    roots |= {root for step in STEPS.values() for root in step}
    assert not [root for root in roots if "/" not in root and root not in outlines]
    assert not [root for root in roots if "/" in root and not (PACKAGE / root).is_file()]


def test_a_root_that_is_not_a_module_is_an_error():
    with pytest.raises((KeyError, ValueError, ImportError)):
        digest_code("spineseg.no_such_module")
