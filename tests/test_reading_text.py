"""Tables, lists and configurations in other encodings and odd forms are read, or refused with file and line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spineseg.centerline.curve import load_centerline
from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.reading import read_json, read_table, read_text, read_yaml
from spineseg.series import average_series
from spineseg.study.configuration import make_configuration, read_configuration
from spineseg.study.exclusion import read_exclusions
from spineseg.study.image_table import read_image_table
from spineseg.studyfolder.files import read_record
from spineseg.studyfolder.images import read_images
from spineseg.studyfolder.sidecars import Sidecar, read_sidecar
from spineseg.studyfolder.tables import read_metrics, read_slices
from spineseg.training.labelled_images import load_manifest, load_recipe
from spineseg.volume import load_image

SHEET = "subject\tcontrast\tpath\n01\tt2\tsübject.nii.gz\n"
READERS = {
    "images": ("i.tsv", SHEET, lambda path: [(i.subject, Path(i.path).name) for i in read_image_table(path)]),
    "exclude.tsv": ("e.tsv", "id\treason\nsub-01\tbewegt, Tübingen\n", lambda path: read_exclusions(str(path))),
    "exclude.yml": ("e.yml", "- {id: sub-01, reason: bewegt in Tübingen}\n", lambda path: read_exclusions(str(path))),
    "config": ("c.yaml", "dataset: x  # Tübingen\nbids_dir: ü\n", lambda path: read_configuration(path).bids_dir),
    "bval": ("b.bval", "0 800\n800\n", lambda path: mean_of_three(path)),
    "centerline": ("l.csv", "1,1,0\n1,1,2\n", lambda path: load_centerline(path, grid_of(path)).points_vox.tolist()),
    "recipe": ("r.tsv", "subject\timage\ttable\nü\ta.nii\tdata\n", lambda path: load_recipe(path).named),
    "labelled": ("d.tsv", "subject\timage\tcontrast\treference\n1\tsübject.nii.gz\tt2\tsübject.nii.gz\n",
                 lambda path: [i.image.name for i in load_manifest(path)]),
    "json": ("j.json", '{"a": "ü"}\n', lambda path: read_json(path, "a test")),
    "metrics": ("m.tsv", "image_id\tsubject\tmethod\tstatus\na\tü\tp\tok\n",
                lambda path: [row.image.subject for row in read_metrics(path)]),
}  # fmt: skip
"""Readers of text: name of the file, its content, what is read from it."""


def mean_of_three(path: Path) -> list[str]:
    notes: list[str] = []
    average_series(lambda _: np.ones((2, 2, 2), np.float32), 3, path.with_suffix(".nii"), "dwi", path, notes)
    return notes


def grid_of(path: Path):
    image = path.parent / "sübject.nii.gz"
    return load_image(image)[1]


@pytest.fixture
def folder(tmp_path):
    data = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    nib.save(nib.Nifti1Image(data, np.diag([-1, 1, 1, 1.0])), tmp_path / "sübject.nii.gz")
    return tmp_path


READ = {
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16 with a byte order mark": lambda text: text.encode("utf-16"),
    "UTF-16, big endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "Windows line endings": lambda text: text.replace("\n", "\r\n").encode(),
    "line endings of old Macs": lambda text: text.replace("\n", "\r").encode(),
    "no line ending at the end": lambda text: text.rstrip("\n").encode(),
    "empty lines at the end": lambda text: (text + "\n\n").encode(),
}
REFUSED = {
    "Latin-1": lambda text: (text + "# ü\n").encode("latin-1"),
    "NUL": lambda text: (text + "\0\n").encode(),
    "UTF-16 without a byte order mark": lambda text: text.encode("utf-16-le"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "truncated UTF-16": lambda text: text.encode("utf-16")[:-1],
    "arbitrary bytes": lambda text: text.encode() + bytes(range(128, 256)),
}


@pytest.mark.parametrize("form", READ)
@pytest.mark.parametrize("kind", READERS)
def test_text_of_other_systems_is_read(folder, kind, form):
    name, text, read = READERS[kind]
    if form == "empty lines at the end" and kind == "metrics":
        pytest.skip("a table of ours has none")
    (folder / name).write_text(text, encoding="utf-8")
    expected = read(folder / name)
    (folder / name).write_bytes(READ[form](text))
    assert read(folder / name) == expected


@pytest.mark.parametrize("form", REFUSED)
@pytest.mark.parametrize("kind", READERS)
def test_other_encodings_are_refused_with_file_and_line(folder, kind, form):
    name, text, read = READERS[kind]
    (folder / name).write_bytes(REFUSED[form](text))
    with pytest.raises(InputError) as caught:
        read(folder / name)
    assert str(caught.value).startswith(f"{folder / name}, line ")
    assert "UTF-8" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", READERS)
def test_anything_but_a_regular_file_is_one_line(folder, kind):
    name, _, read = READERS[kind]
    (folder / name).mkdir()
    with pytest.raises(InputError):
        read(folder / name)
    (folder / name).rmdir()
    (folder / name).symlink_to(folder / name)
    with pytest.raises(InputError):
        read(folder / name)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "p")
    with pytest.raises(InputError, match="found no plain file"):
        read_text(tmp_path / "p")


def test_a_huge_text_is_refused_unread(tmp_path):
    with (tmp_path / "t").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InputError, match="at most 256 MiB, found 1048576 MiB"):
        read_text(tmp_path / "t")


TABLES = {
    "too few cells": ("a\tb\n1\t2\n1\n", "line 3: expected 2 cells as in the heading, found 1"),
    "too many cells": ("a\tb\n1\t2\n1\t2\t3\n", "line 3: expected 2 cells as in the heading, found 3"),
    "a cell of 131 073 characters": ("a\tb\n" + "x" * 131_073 + "\t1\n", "line 2: a cell that cannot be read"),
    "an unclosed quote": ('a\tb\n"1\t2\n3\t4\n', "a cell that cannot be read"),
    "a column twice": ("a\tb\ta\n1\t2\t3\n", "the column 'a' occurs twice"),
    "no column b": ("a\tc\n1\t2\n", "with the column 'b', found a, c"),
    "semicolons between columns": (
        "a;b\n1;2\n",
        "found a;b; separate the columns by tabs (.tsv) or commas (.csv)",
    ),
    "an escape code": ("a\tb\n1\t\x1b[31mred\n", "line 2: expected text, found a control character in '\\x1b[31mred'"),
    "an empty file": ("", "with a heading, found an empty file"),
    "only spaces": (" \n\t\n", "with a heading, found an empty file"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_invalid_tables_are_refused(tmp_path, kind):
    text, words = TABLES[kind]
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(InputError) as caught:
        list(read_table(tmp_path / "t.tsv", ("a", "b")))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_blanks_around_cells_are_dropped(tmp_path):
    (tmp_path / "t.csv").write_text(' a , b\n 1,"2, 3"\n,\n')
    assert list(read_table(tmp_path / "t.csv", ("a", "b"))) == [(2, {"a": "1", "b": "2, 3"})]
    (tmp_path / "t.tsv").write_text("a \tb\n 1\t2 3  \n\t\n")
    assert list(read_table(tmp_path / "t.tsv", ("a", "b"))) == [(2, {"a": "1", "b": "2 3"})]


# row: a line break within a cell of a table | read as a space
def test_a_line_break_within_a_cell_is_a_blank(tmp_path):
    (tmp_path / "t.tsv").write_text('a\tb\n1\t"2\n\t3"\n4\t5\u20286\n')
    assert list(read_table(tmp_path / "t.tsv", ("a", "b"))) == [
        (3, {"a": "1", "b": "2 3"}),
        (4, {"a": "4", "b": "5 6"}),
    ]


JSON = {
    "list": ("[1]", "JSON without keys (list)"), "number": ("3", "JSON without keys (int)"),
    "null": ("null", "JSON without keys (null)"), "text": ('"x"', "JSON without keys (str)"),
    "a key twice": ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
    "a nested key twice": ('{"b": [{"a": 1, "a": 2}]}', "the key 'a' occurs twice"),
    "a huge number": ('{"a": ' + "9" * 400 + "}", "a number of 400 digits"),
    "more digits than Python reads": ('{"a": ' + "9" * 9000 + "}", "a number of 9000 digits"),
    "infinity": ('{"a": Infinity}', "the number Infinity"), "1e999": ('{"a": 1e999}', "the number 1e999"),
    "NaN": ('{"a": NaN}', "the number NaN"), "deep": ("[" * 100_000, "found no JSON"),
    "truncated": ('{"a": ', "found no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("kind", JSON)
def test_json_that_is_not_a_mapping_is_refused(tmp_path, kind):
    text, words = JSON[kind]
    (tmp_path / "j.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "j.json", "a test")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    with pytest.raises(InputError):
        read_record(tmp_path / "j.json", Sidecar.from_json, "the sidecar of a mask")


@pytest.mark.parametrize("kind", JSON)
def test_a_sidecar_that_is_not_a_mapping_counts_as_missing(tmp_path, kind):
    (tmp_path / "m.json").write_text(JSON[kind][0])
    assert read_sidecar(tmp_path / "m.nii.gz") is None


def nested(values):
    """Yield copies of nested JSON with a value of another type in one place."""
    for key, value in values.items():
        for other in (None, 3, "x", [], {}, [[]], True, 10**19, -1e300):
            if type(other) is not type(value):
                yield {**values, key: other}
        if isinstance(value, dict):
            yield from ({**values, key: inner} for inner in nested(value))


def test_sidecars_with_wrong_types_count_as_missing(tmp_path):
    from spineseg.studyfolder.sidecars import MadeBy

    whole = Sidecar("p", "t2", "ok", MadeBy("1", "c", {}, {}), seconds=1.0, peak_mb=1.0).to_json()
    count = 0
    for content in nested(whole | {"GeneratedBy": whole["GeneratedBy"]}):
        (tmp_path / "m.json").write_text(json.dumps(content))
        read_sidecar(tmp_path / "m.nii.gz")
        count += 1
    assert count > 90


YAMLS = {
    "not closed": ("dataset: [", ", line 1: not a YAML file"),
    "a key twice": ("dataset: x\ndataset: y\n", "the key 'dataset' occurs twice, again in line 2"),
    "deep": ("[" * 5000, "not a YAML file"),
    "a tab": ("dataset:\n\tx: 1\n", ", line 2: not a YAML file"),
    "a Python object": ("dataset: !!python/object/apply:os.system ['touch gone']\n", "not a YAML file"),
}


@pytest.mark.parametrize("kind", YAMLS)
def test_invalid_yaml_is_refused(tmp_path, kind):
    (tmp_path / "c.yaml").write_text(YAMLS[kind][0])
    with pytest.raises(InputError) as caught:
        read_yaml(tmp_path / "c.yaml")
    assert YAMLS[kind][1] in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_aliases_that_multiply_are_refused(tmp_path):
    lines = ["dataset: x", "subjects: &a0 ['01', '02', '03', '04', '05', '06', '07', '08', '09', '10']"]
    lines += [f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="expected at most 1000000 values, found more"):
        read_configuration(tmp_path / "c.yaml")


EXCLUDED = {
    "a number": ("- 01\n", "found '1'; put it in quotes"),
    "a number as key": ("{01: moved}\n", "found '1'; put it in quotes"),
    "an item without id": ("- {reason: x}\n", "expected id and reason"),
    "an item with another key": ("- {id: sub-01, why: x}\n", "expected id and reason"),
    "an empty name": ("- ''\n", "put it in quotes"),
    "a list in a list": ("- [sub-01]\n", "put it in quotes"),
    "a number in a named list": ("t2: [1]\n", "put it in quotes"),
    "a reason that is not text": ("{sub-01: {a: 1}}\n", "expected a reason in words"),
    "a date as reason": ("{sub-01: 2020-01-01}\n", "expected a reason in words"),
    "a plain text": ("sub-01\n", "expected a list or a mapping"),
    "a number alone": ("3\n", "expected a list or a mapping"),
}


@pytest.mark.parametrize("kind", EXCLUDED)
def test_invalid_lists_of_exclusions_are_refused(tmp_path, kind):
    text, words = EXCLUDED[kind]
    (tmp_path / "e.yml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_exclusions(str(tmp_path / "e.yml"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


CONFIGS = {
    "a dataset's name with a line break": {"dataset": "a\nb"}, "a dataset's name with a slash": {"dataset": "a/b"},
    "a dataset named '..'": {"dataset": ".."}, "a dataset's name of 300 characters": {"dataset": "a" * 300},
    "a dataset's name with a space": {"dataset": "a b"},
    "a dataset named '.'": {"dataset": "."}, "n of 2.0": {"pilot": {"subjects": {"n": 2.0}}},
    "n of true": {"pilot": {"subjects": {"n": True}}}, "n of 0": {"pilot": {"subjects": {"n": 0}}},
    "a timeout of infinity": {"methods": [{"name": "a", "command": "x {image} {mask}", "timeout": float("inf")}]},
    "a timeout of 1e300": {"methods": [{"name": "a", "command": "x {image} {mask}", "timeout": 1e300}]},
    "a timeout of NaN": {"methods": [{"name": "a", "command": "x {image} {mask}", "timeout": float("nan")}]},
    "an excluded item without id": {"excluded": [{"reason": "x"}]},
    "excluded numbers": {"excluded": [1]},
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_meaningless_configurations_are_refused(kind):
    with pytest.raises(InputError) as caught:
        make_configuration({"dataset": "x"} | CONFIGS[kind])
    assert "config key '" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("radius", [float("nan"), float("inf"), -1, 0, 1e300])
def test_an_invalid_radius_in_a_configuration(radius):
    keys = {"methods": ["propseg", {"name": "p", "method": "propseg", "options": {"radius": radius}}]}
    with pytest.raises(InputError):
        make_configuration({"dataset": "x"} | keys).methods["p"].params()


@pytest.mark.parametrize("radius", ["nan", "inf", "-1", "0", "1e300", "x"])
def test_an_invalid_radius_on_the_command_line(capsys, tmp_path, radius):
    try:
        code = main(["propseg", "-i", str(tmp_path / "no.nii"), "-c", "t2", "-radius", radius])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert code == 2
    assert "-radius" in captured.err
    assert len(captured.err.splitlines()) == 1


def test_results_tables_with_odd_cells(tmp_path):
    head = "image_id\tmethod\tslice\tcsa_mm2\n"
    for text in (
        head + "a\tp\t1\n",
        head + "a\tp\t1\tinf\n",
        head + "a\tp\tx\t1\n",
        head + "a\tp\t1\t" + "9" * 140_000,
    ):
        (tmp_path / "slices.tsv").write_text(text)
        with pytest.raises(InputError):
            read_slices(tmp_path / "slices.tsv")
    (tmp_path / "images.tsv").write_text("image_id\n" + "x" * 131_073 + "\n")
    with pytest.raises(InputError):
        read_images(tmp_path / "images.tsv")
