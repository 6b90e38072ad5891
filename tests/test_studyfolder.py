"""Every file of a study reads back as written, equal rows give equal bytes, and a damaged file is one line."""

from __future__ import annotations

import errno
import gzip
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_study import CHUNK, MADE_BY, study_folder, study_image, write_decision

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.measures import AGREEMENT, METRICS
from spineseg.provenance import sha256_json
from spineseg.studyfolder import decisions as d
from spineseg.studyfolder import images as im
from spineseg.studyfolder import locks as lk
from spineseg.studyfolder import manifests as m
from spineseg.studyfolder import sidecars as sc
from spineseg.studyfolder import tables as t
from spineseg.studyfolder.files import read_text_table, write_table
from spineseg.studyfolder.layout import TABLES, Stage, StudyFolder
from spineseg.writing import compress, write_text

ENTRY = m.ManifestEntry("sub-1_T2w", "ok", "a", "", "sub-1/x.nii.gz", "0" * 64, "k", ("note",))
FAILED = m.ManifestEntry("sub-2_T2w", "failed", "a", "no image")
IDENTITY = t.Identity("sub-1_T2w", "1", "", "2", "T2w", "t2")
ROWS = t.ChunkTables(
    [t.MetricsRow(IDENTITY, "a", "ok", {"dice": 0.9, "n_slices": 12.0}, "t2", "", "")],
    [t.AgreementRow(IDENTITY, "a", "b", {"dice": 0.9})],
    [t.SliceRow("sub-1_T2w", "a", 3, {"csa_mm2": 70.5})],
)


def write_tables(folder: StudyFolder) -> list[Path]:
    return t.write_chunk_tables(folder, Stage.ALL, CHUNK, ROWS)


@dataclass(frozen=True)
class Reader:
    """One kind of file: a function that writes it and returns its path, and its reader."""

    name: str
    write: Callable[[StudyFolder], Path]
    read: Callable[[StudyFolder, Path], Any]
    numbers: tuple[str, ...] = ()


def wrote(path: Path, action: Any) -> Path:
    """Return the path of what an action wrote."""
    del action
    return path


LOCK = lk.Lock(
    lk.KeptMethods("a", {"t2": "a"}), {"a": MADE_BY}, (lk.AcceptedChange(("x",), "r", "me"),), {"i": "0" * 64}
)

JSON_READERS = [
    Reader("decision", lambda f: wrote(f.decision, write_decision(f, "a")), lambda f, p: d.read_decision(p)),
    Reader("found decision", lambda f: wrote(f.decision, write_decision(f, "a")), lambda f, p: d.find_decision(p)),
    Reader("decided method", lambda f: wrote(f.decision, write_decision(f, "a")), lambda f, p: d.decided_method(p)),
    Reader(
        "lock",
        lambda f: wrote(f.lock, lk.write_lock(f, LOCK)),
        lambda f, p: lk.find_lock(f),
    ),
    Reader(
        "exceptions",
        lambda f: wrote(f.exceptions, d.write_exceptions(f, d.Exceptions("a", (ENTRY, FAILED)))),
        lambda f, p: d.read_exceptions(p),
    ),
    Reader(
        "membership",
        lambda f: wrote(
            f.membership,
            d.write_membership(f, d.Membership({"i": CHUNK}, {"n": 1, "seed": 2, "subjects": ["1"]})),
        ),
        lambda f, p: d.read_membership(f),
    ),
    Reader(
        "found membership",
        lambda f: wrote(f.membership, d.write_membership(f, d.Membership({"i": CHUNK}))),
        lambda f, p: d.find_membership(f),
    ),
    Reader(
        "perturbed",
        lambda f: wrote(
            f.perturbed("a", CHUNK),
            d.write_perturbed(f.perturbed("a", CHUNK), d.Perturbed("a", CHUNK, 3, {"i": {"perturb_dice": None}})),
        ),
        lambda f, p: d.read_perturbed(p),
    ),
    Reader(
        "manifest",
        lambda f: wrote(
            f.manifest("a", CHUNK),
            m.write_manifest(f.manifest("a", CHUNK), m.Manifest("x", "a", CHUNK, MADE_BY, (ENTRY, FAILED))),
        ),
        lambda f, p: m.read_manifest(p),
    ),
    Reader(
        "entries",
        lambda f: wrote(
            f.manifest("a", CHUNK),
            m.write_manifest(f.manifest("a", CHUNK), m.Manifest("x", "a", CHUNK, MADE_BY, (ENTRY,))),
        ),
        lambda f, p: m.read_entries(f, "a", ["sub-1_T2w"], {"sub-1_T2w": CHUNK}),
    ),
]
PLAN = d.Plan({"aim": "groups"}, sha256_json({"aim": "groups"}), True)
JSON_READERS.append(Reader("plan", lambda f: wrote(f.plan, d.write_plan(f, PLAN)), lambda f, p: d.find_plan(f)))
TABLE_READERS = [
    Reader(
        "images",
        lambda f: wrote(f.images, im.write_images(f.images, [study_image("1"), study_image("2", included=False)])),
        lambda f, p: im.read_images(p),
        ("included", "pilot"),
    ),
    Reader(
        "included images",
        lambda f: wrote(f.images, im.write_images(f.images, [study_image("1")])),
        lambda f, p: im.read_included(p),
        ("included",),
    ),
    Reader(
        "kept",
        lambda f: wrote(f.kept(Stage.ALL), d.write_kept(f.kept(Stage.ALL), [d.KeptRow("i", "1", "", "t2")])),
        lambda f, p: d.read_kept(p),
    ),
    Reader(
        "timings",
        lambda f: wrote(f.timings(Stage.ALL), m.write_timings(f.timings(Stage.ALL), [m.Timing("i", "a", 2.5, None)])),
        lambda f, p: m.read_timings(p),
        ("seconds", "peak_mb"),
    ),
    Reader("metrics", lambda f: write_tables(f)[0], lambda f, p: t.read_metrics(p), ("dice", "n_slices")),
    Reader("agreement", lambda f: write_tables(f)[1], lambda f, p: t.read_agreement(p), ("dice",)),
    Reader("slices", lambda f: write_tables(f)[2], lambda f, p: t.read_slices(p), ("slice", "csa_mm2")),
    Reader("profiles", lambda f: write_tables(f)[2], lambda f, p: t.read_profiles(p, ["sub-1_T2w"])),
    Reader(
        "joined",
        lambda f: write_tables(f)[0],
        lambda f, p: t.join_chunk_tables(f, Stage.ALL, "metrics.tsv", ["sub-1_T2w"], {"sub-1_T2w": CHUNK}),
    ),
    Reader(
        "joined slices",
        lambda f: write_tables(f)[2],
        lambda f, p: t.join_chunk_tables(f, Stage.ALL, "slices.tsv.gz", ["sub-1_T2w"], {"sub-1_T2w": CHUNK}),
    ),
]
READERS = JSON_READERS + TABLE_READERS
MAY_BE_ABSENT = {"found decision", "lock", "found membership", "plan"}
"""Files that a study writes later: the reader returns None or an empty record if there is none."""


def named(readers):
    return pytest.mark.parametrize("reader", readers, ids=[reader.name for reader in readers])


@pytest.fixture
def folder(tmp_path):
    return study_folder(tmp_path)


def put_text(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def refusal(reader: Reader, folder: StudyFolder, path: Path) -> str:
    """Return the one line of the InputError, which names the file and says what to do."""
    with pytest.raises(InputError) as caught:
        reader.read(folder, path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert any(word in message for word in ("run the study again", "delete", "give the name")), message
    return message


def test_every_reader_of_the_package_is_tested():
    readers = {
        f"{module.__name__.rsplit('.')[-1]}.{name}"
        for module in (d, im, lk, m, sc, t)
        for name, one in vars(module).items()
        if name.startswith(("read_", "find_")) and getattr(one, "__module__", "") == module.__name__
    }
    assert readers == {
        *(f"decisions.{n}" for n in ("read_decision", "find_decision", "read_exceptions", "read_kept")),
        "locks.find_lock",
        *(f"decisions.{n}" for n in ("read_membership", "find_membership", "read_perturbed", "find_plan")),
        *("images.read_images", "images.read_included"),
        *("manifests.read_manifest", "manifests.read_entries", "manifests.read_timings", "sidecars.read_sidecar"),
        *("tables.read_metrics", "tables.read_agreement", "tables.read_slices", "tables.read_profiles"),
    }


@named(READERS)
def test_files_are_read_as_written(reader, folder):
    path = reader.write(folder)
    assert path.is_file()
    assert reader.read(folder, path) is not None


@named(READERS)
def test_a_missing_file(reader, folder):
    path = reader.write(folder)
    path.unlink()
    if reader.name in MAY_BE_ABSENT:
        assert reader.read(folder, path) in (None, d.Membership())
    else:
        assert "no such table" in (found := refusal(reader, folder, path)) or "no file to read" in found


@named(READERS)
def test_a_folder_in_its_place(reader, folder):
    path = reader.write(folder)
    path.unlink()
    path.mkdir()
    if reader.name not in MAY_BE_ABSENT:
        refusal(reader, folder, path)


@named(READERS)
def test_a_file_without_permission_is_not_called_damaged(reader, folder, monkeypatch):
    """The message must not advise to delete it either."""
    path = reader.write(folder)

    def refuse(*_args, **_more):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for name in ("read_bytes", "open", "read_text"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("gzip.open", refuse)
    with pytest.raises(InputError) as caught:
        reader.read(folder, path)
    found = str(caught.value)
    assert found.startswith(str(path))
    assert "Permission denied" in found
    assert "change the permissions" in found
    assert "delete" not in found


@named(READERS)
@pytest.mark.parametrize("content", [b"", b"\n", b"\0\xff\xfe\x80", b"\xff\xfe{\0}\0", b"{", b"[" * 100_000],
                         ids=["empty", "line", "bytes", "utf-16", "brace", "deep"])  # fmt: skip
def test_a_file_of_another_program(reader, folder, content):
    path = reader.write(folder)
    path.write_bytes(content)
    refusal(reader, folder, path)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
        refusal(reader, folder, path)


@named(JSON_READERS)
@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "true", "[{}]", "NaN"])
def test_json_of_another_kind(reader, folder, text):
    path = reader.write(folder)
    path.write_text(text)
    found = refusal(reader, folder, path)
    assert "found JSON without keys" in found or "found no JSON (the number NaN)" in found


@named(JSON_READERS)
def test_every_cut_of_the_json(reader, folder):
    path = reader.write(folder)
    text = path.read_text().rstrip()
    for length in range(len(text)):
        path.write_text(text[:length])
        assert "found no JSON" in refusal(reader, folder, path)


def places(content: Any, path: tuple = ()):
    """The path to every key of a JSON value."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed_at(content: Any, way: tuple, change: Callable[[Any, Any], None]) -> Any:
    """A copy of a JSON value with one place changed by ``change(container, key)``."""
    copy = json.loads(json.dumps(content))
    inside = copy
    for key in way[:-1]:
        inside = inside[key]
    change(inside, way[-1])
    return copy


FREE = ("by_contrast", "parameters", "weights", "libraries", "override", "chunks", "images", "pilot", "content")
"""Keys whose content has no fixed keys inside (images of a perturbed chunk are named by image)."""


@named(JSON_READERS)
def test_a_missing_key(reader, folder):
    path = reader.write(folder)
    content = json.loads(path.read_text())
    optional = {field.name for field in fields(m.ManifestEntry)} - {"image_id", "status", "method", "warnings"}
    for way in places(content):
        if isinstance(way[-1], int) or way[-1] in optional or way == ("override",):
            continue
        if len(way) > 1 and way[-2] in FREE and reader.name != "membership":
            continue  # a parameter, a file of weights, an image
        if reader.name == "lock" and way == ("made_by", "a"):
            continue  # a lock without a method is another file
        if reader.name == "lock" and way == ("images",):
            continue  # earlier locks did not have them
        if (way[0] == "chunks" and len(way) == 2) or (reader.name == "perturbed" and len(way) > 1):
            continue
        path.write_text(json.dumps(changed_at(content, way, lambda inside, key: inside.pop(key))))
        assert re.search("found no key|missing 1 required", refusal(reader, folder, path)), way


WRONG = {str: [3, None, [], {}, True], int: ["x", None, [], True, 1.5], float: ["x", [], True], type(None): [[], {}],
         list: ["x", 3, None, {}], dict: ["x", 3, None, []], bool: ["x", 3, None, []]}  # fmt: skip
ANY_VALUE = ("parameters",)
"""Keys whose values may be anything."""


@named(JSON_READERS)
def test_a_value_of_another_type(reader, folder):
    path = reader.write(folder)
    content = json.loads(path.read_text())
    for way in places(content):
        if way == ("override",) or any(key in ANY_VALUE for key in way[:-1]) or way == ("computed", "method"):
            continue  # values that the readers do not check
        value = content
        for key in way:
            value = value[key]
        for wrong in WRONG[type(value)]:
            may_be_null = (
                way[-1] in ("method", "mask", "mask_sha256", "seconds") or "images" in way or way[0] == "by_contrast"
            )
            if (wrong is None and may_be_null) or (not wrong and wrong == value):
                continue
            if way == ("pilot",) and not wrong:
                continue  # no pilot was drawn
            if value is None and "verdict" in content and isinstance(wrong, d.DECISION_KEYS[way[0]]):
                continue  # a key of a decision that may hold it
            path.write_text(json.dumps(changed_at(content, way, lambda i, k, w=wrong: i.__setitem__(k, w))))
            try:
                message = refusal(reader, folder, path)
            except pytest.fail.Exception:
                raise AssertionError(f"{way}: {wrong!r} in place of {value!r} was read") from None
            assert "found" in message


@named(JSON_READERS)
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_other_json_is_read_or_refused(reader, folder, data):
    path = reader.write(folder)
    content = json.loads(path.read_text())
    way = data.draw(st.sampled_from(list(places(content))))
    value = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
            max_leaves=4,
        )
    )
    path.write_text(json.dumps(changed_at(content, way, lambda inside, key: inside.__setitem__(key, value))))
    try:
        reader.read(folder, path)
    except InputError as error:
        refused = str(error)
    else:
        return
    assert str(path) in refused
    assert "\n" not in refused


@named(READERS)
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_changed_bytes_are_read_or_refused(reader, folder, data):
    path = reader.write(folder)
    raw = path.read_bytes()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 5)))
    path.write_bytes(raw[:start] + data.draw(st.binary(max_size=5)) + raw[end:])
    try:
        reader.read(folder, path)
    except InputError as error:
        refused = str(error)
    else:
        return
    assert str(path) in refused
    assert "\n" not in refused


@named([reader for reader in TABLE_READERS if "slices" in reader.name])
def test_every_cut_of_a_compressed_table(reader, folder):
    path = reader.write(folder)
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        refusal(reader, folder, path)
    path.write_bytes(raw[:-6] + b"\0\0" + raw[-4:])
    assert "not a whole table" in refusal(reader, folder, path)
    path.write_bytes(raw + b"more")
    assert "not a whole table" in refusal(reader, folder, path)


@named(TABLE_READERS)
def test_rows_with_too_few_or_too_many_cells_are_named_by_their_line(reader, folder):
    path = reader.write(folder)
    heading, first, *rest = read_text_table(path).splitlines(keepends=True)
    n = heading.count("\t") + 1
    cells = first.rstrip("\n").split("\t")
    for row, found in ((cells[:-1], n - 1), ([*cells, "more"], n + 1), (cells[:1], 1), ([*cells, ""], n + 1)):
        put_text(path, "".join([heading, first, *rest, "\t".join(row) + "\n"]))
        message = refusal(reader, folder, path)
        assert f"line {len(rest) + 3}: expected {n} cells, found {found}" in message
    put_text(path, "".join([heading, "\n", first, *rest]))
    assert "line 2: expected" in refusal(reader, folder, path)


@named(TABLE_READERS)
def test_a_missing_column(reader, folder):
    path = reader.write(folder)
    heading, rest = read_text_table(path).split("\n", 1)
    put_text(path, f"{heading.replace('image_id', 'image')}\n{rest}")
    assert "image_id" in (found := refusal(reader, folder, path)) or "not a whole table" in found


@named([reader for reader in TABLE_READERS if reader.numbers])
def test_text_where_a_number_belongs(reader, folder):
    path = reader.write(folder)
    heading, first, *rest = read_text_table(path).splitlines(keepends=True)
    for name in reader.numbers:
        for text in ("much", "1,5", "0.9.1", "TRUE" if name in ("included", "pilot") else "--", " "):
            cells = first.rstrip("\n").split("\t")
            cells[heading.rstrip("\n").split("\t").index(name)] = text
            put_text(path, "".join([heading, "\t".join(cells) + "\n", *rest]))
            message = refusal(reader, folder, path)
            assert reader.name == "slices" or "line 2" in message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff", b'{"GeneratedBy": []}', b'{"GeneratedBy": [{"Name": "dcm2niix"}]}',
     b'{"SliceUncertainty": ["x"]}', b"[" * 100_000],
)  # fmt: skip
def test_a_foreign_sidecar_counts_as_missing(folder, content):
    mask = folder.mask(study_image("1"), "a")
    assert sc.read_sidecar(mask) is None
    sidecar_path(mask).parent.mkdir(parents=True)
    sidecar_path(mask).write_bytes(content)
    assert sc.read_sidecar(mask) is None


def test_a_sidecar_with_values_of_other_types_counts_as_missing(folder):
    mask = folder.mask(study_image("1"), "a")
    own = sc.Sidecar("a", "t2", "ok", MADE_BY, slice_uncertainty=(None, 0.5), mask_sha256="0", seconds=1.0)
    path = sc.write_sidecar(mask, own)
    content = json.loads(path.read_text())
    assert sc.read_sidecar(mask) == own
    for key, wrong in (("SliceUncertainty", ["x"]), ("SliceUncertainty", [0.1, None, "x", 0.2]),
                       ("SliceUncertainty", "ab"), ("Status", 3), ("Notes", "ab"), ("Seconds", "x"),
                       ("MaskSHA256", 3), ("Sources", {}), ("Parameters", 3), ("GeneratedBy", [{}])):  # fmt: skip
        path.write_text(json.dumps(content | {key: wrong}))
        assert sc.read_sidecar(mask) is None, key


# round trips

WORDS = st.one_of(
    st.text(st.characters(categories=("L", "N", "P", "S")), max_size=12),
    st.sampled_from(
        ['a "quoted" name', "two  blanks", "O'Neill", "naïve 日本語 ±µ", '"', "#1", "1e5", "NA", "true", "é"]
    ),
).filter(lambda text: text != "n/a" and text.isprintable())
TEXT = st.lists(WORDS, max_size=3).map("  ".join).filter(lambda text: text == text.strip() and text != "n/a")
NUMBERS = st.floats(-1e6, 1e6).map(lambda value: float(f"{round(value, 9) + 0.0:.6g}"))
NAMES = st.text("abcXYZ019", min_size=1, max_size=6)
SETTINGS = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def identities():
    return st.builds(t.Identity, NAMES, *[TEXT] * 5)


@SETTINGS
@given(st.lists(st.builds(im.StudyImage, NAMES, *[TEXT] * 9, st.booleans(), TEXT, st.booleans(), TEXT), max_size=3))
def test_images_round_trip(folder, rows):
    im.write_images(folder.images, rows)
    raw = folder.images.read_bytes()
    assert im.read_images(folder.images) == rows
    im.write_images(folder.images, im.read_images(folder.images))
    assert folder.images.read_bytes() == raw


@SETTINGS
@given(st.lists(st.builds(d.KeptRow, NAMES, *[TEXT] * 9), max_size=3))
def test_kept_rows_round_trip(folder, rows):
    path = folder.kept(Stage.ALL)
    d.write_kept(path, rows)
    assert d.read_kept(path) == rows


@SETTINGS
@given(st.lists(st.builds(m.Timing, NAMES, TEXT, NUMBERS | st.none(), NUMBERS | st.none()), max_size=3))
def test_timings_round_trip(folder, rows):
    path = folder.timings(Stage.ALL)
    m.write_timings(path, rows)
    assert m.read_timings(path) == rows


@SETTINGS
@given(
    st.lists(st.builds(t.MetricsRow, identities(), NAMES, NAMES, st.dictionaries(st.sampled_from(METRICS), NUMBERS),
                       TEXT, TEXT, TEXT), max_size=3),
    st.lists(st.builds(t.AgreementRow, identities(), NAMES, NAMES,
                       st.dictionaries(st.sampled_from(AGREEMENT), NUMBERS)), max_size=3),
    st.lists(st.builds(t.SliceRow, NAMES, TEXT.filter(bool), st.integers(0, 900),
                       st.dictionaries(st.sampled_from(t.SLICES_COLUMNS[3:]), NUMBERS)), max_size=3),
)  # fmt: skip
def test_tables_of_measures_round_trip(folder, metrics, agreement, slices):
    written = t.ChunkTables(metrics, agreement, slices)
    paths = t.write_chunk_tables(folder, Stage.ALL, CHUNK, written)
    raw = [path.read_bytes() for path in paths]
    assert t.read_metrics(paths[0]) == metrics
    assert t.read_agreement(paths[1]) == agreement
    frame = t.read_slices(paths[2])
    again = [
        t.SliceRow(row["image_id"], row["method"], row["slice"],
                   {name: row[name] for name in t.SLICES_COLUMNS[3:] if not math.isnan(row[name])})
        for row in frame.to_dict("records")
    ]  # fmt: skip
    assert again == slices
    t.write_chunk_tables(folder, Stage.ALL, CHUNK, t.ChunkTables(t.read_metrics(paths[0]), agreement, again))
    assert [path.read_bytes() for path in paths] == raw


def test_unknown_values_may_be_missing_or_nan(folder):
    with_nan = replace(ROWS.metrics[0], values=dict(ROWS.metrics[0].values) | {"nsd": math.nan})
    first = [path.read_bytes() for path in write_tables(folder)]
    paths = t.write_chunk_tables(folder, Stage.ALL, CHUNK, replace(ROWS, metrics=[with_nan]))
    assert [path.read_bytes() for path in paths] == first


JSON_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=10)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
MADE = st.builds(
    sc.MadeBy,
    JSON_TEXT,
    JSON_TEXT,
    st.dictionaries(JSON_TEXT, st.none() | st.booleans() | st.integers() | FINITE | JSON_TEXT, max_size=3),
    st.dictionaries(JSON_TEXT, JSON_TEXT, max_size=2),
    st.dictionaries(JSON_TEXT, JSON_TEXT, max_size=2),
)  # fmt: skip
ENTRIES = st.one_of(
    st.builds(
        m.ManifestEntry, JSON_TEXT, st.sampled_from(["ok", "partial", "empty"]), JSON_TEXT, JSON_TEXT,
        NAMES, NAMES, JSON_TEXT, st.lists(JSON_TEXT, max_size=2).map(tuple), JSON_TEXT,
    ),
    st.builds(m.ManifestEntry, JSON_TEXT, st.just("failed"), JSON_TEXT, JSON_TEXT),
)  # fmt: skip


@SETTINGS
@given(st.builds(m.Manifest, JSON_TEXT, JSON_TEXT, JSON_TEXT, MADE, st.lists(ENTRIES, max_size=3).map(tuple)))
def test_manifests_round_trip(folder, manifest):
    path = folder.manifest("a", CHUNK)
    m.write_manifest(path, manifest)
    assert m.read_manifest(path) == manifest


@SETTINGS
@given(
    st.builds(lk.Lock, st.builds(lk.KeptMethods, st.just("a"), st.dictionaries(JSON_TEXT, st.none() | JSON_TEXT)),
              st.dictionaries(st.just("a"), MADE, min_size=1),
              st.lists(st.builds(lk.AcceptedChange, st.lists(JSON_TEXT, max_size=2).map(tuple), JSON_TEXT, JSON_TEXT),
                       max_size=2).map(tuple),
              st.dictionaries(JSON_TEXT, JSON_TEXT, max_size=2)),
    st.builds(d.Exceptions, JSON_TEXT, st.lists(ENTRIES, max_size=2).map(tuple)),
    st.builds(d.Membership, st.dictionaries(JSON_TEXT, st.sampled_from(["pilot-0001", "rest-0012"]))),
    st.builds(d.Perturbed, JSON_TEXT, JSON_TEXT, st.integers(1, 20),
              st.dictionaries(JSON_TEXT, st.dictionaries(NAMES, FINITE | st.none(), max_size=2), max_size=2)),
)  # fmt: skip
def test_locks_and_exceptions_round_trip(folder, lock, exceptions, membership, perturbed):
    lk.write_lock(folder, lock)
    d.write_exceptions(folder, exceptions)
    d.write_membership(folder, membership)
    path = folder.perturbed("a", CHUNK)
    d.write_perturbed(path, perturbed)
    assert lk.find_lock(folder) == lock
    assert d.read_exceptions(folder.exceptions) == exceptions
    assert d.read_membership(folder) == d.find_membership(folder) == membership
    assert d.read_perturbed(path) == perturbed


@SETTINGS
@given(
    st.builds(
        sc.Sidecar, JSON_TEXT, JSON_TEXT, JSON_TEXT, MADE, JSON_TEXT, st.lists(JSON_TEXT, max_size=2).map(tuple),
        st.lists(JSON_TEXT, max_size=2).map(tuple), JSON_TEXT, JSON_TEXT, FINITE | st.none(), FINITE | st.none(),
        st.none() | st.dictionaries(JSON_TEXT, FINITE, min_size=1, max_size=2), JSON_TEXT, st.integers(0, 64),
        st.none() | st.lists(FINITE | st.none(), min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["KeptFrom", "Decision"]), JSON_TEXT),
    )
)  # fmt: skip
def test_sidecars_round_trip(folder, sidecar):
    mask = folder.mask(study_image("1"), "a")
    sc.write_sidecar(mask, sidecar)
    assert sc.read_sidecar(mask) == sidecar


def test_text_that_is_not_printable_cannot_break_a_table(tmp_path):
    path = tmp_path / "x.tsv"
    rows = [{"a": "tab\tline\nreturn\r\x0b\x0c\x1c\x85\u2028end", "b": "\udcff", "c": 1.0}]
    write_table(path, ("a", "b", "c"), rows)
    heading, *lines = path.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].count("\t") == heading.count("\t") == 2


@pytest.mark.parametrize("mask", ["/etc/passwd", "../x.nii.gz", "a/../../x.nii.gz"])
def test_a_mask_outside_of_the_folder_is_refused(folder, mask):
    (reader,) = [reader for reader in JSON_READERS if reader.name == "manifest"]
    path = reader.write(folder)
    path.write_text(path.read_text().replace("sub-1/x.nii.gz", mask))
    assert "outside of the results folder" in refusal(reader, folder, path)


def test_compressed_bytes_do_not_depend_on_the_version_of_python(folder):
    header = compress(b"content")[:10]
    assert header == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"  # no flags, no time, level 6, Unix
    assert gzip.decompress(compress(b"content")) == b"content"
    path = write_tables(folder)[2]
    assert path.read_bytes()[:10] == header
    joined = t.join_chunk_tables(folder, Stage.ALL, "slices.tsv.gz", ["sub-1_T2w"], {"sub-1_T2w": CHUNK})
    assert joined.read_bytes()[3:8] == header[3:8]
    assert read_text_table(joined) == read_text_table(path)


def test_every_path_lies_in_the_folder_and_is_unique(folder):
    image = study_image("1")
    paths = [getattr(folder, name) for name, one in vars(StudyFolder).items() if isinstance(one, property)]
    paths = [path for path in paths if isinstance(path, Path)]
    for stage in Stage:
        paths += [folder.report(stage), folder.figures(stage), folder.qc(stage), folder.kept(stage)]
        paths += [folder.timings(stage), *(folder.table(stage, name) for name in TABLES)]
    paths += [folder.chunk_table(stage, CHUNK, name) for stage in (Stage.ALL, Stage.STUDY) for name in TABLES]
    paths += [folder.manifest("a", CHUNK), folder.chunk_timings("a", CHUNK), folder.perturbed("a", CHUNK)]
    paths += [folder.perturbed_image("a", "i"), folder.mask(image, "a"), folder.kept_mask(image)]
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(folder.root) for path in paths)
    assert folder.inside(folder.relative(paths[0])) == paths[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name in ("metrics.tsv", "agreement.tsv") for text in ("nan", "NaN", "inf", "-inf", "1e999")]
    + [("slices.tsv.gz", text) for text in ("inf", "-inf", "1e999")],  # pandas takes nan for n/a there
)
def test_a_number_that_is_not_finite_is_refused(tmp_path, name, text):
    """Unknown values are n/a; no page and no decision can use infinity."""
    reader = {"metrics.tsv": t.read_metrics, "agreement.tsv": t.read_agreement, "slices.tsv.gz": t.read_slices}[name]
    column = "csa_mm2" if name == "slices.tsv.gz" else "dice"
    columns = {
        "metrics.tsv": t.METRICS_COLUMNS,
        "agreement.tsv": t.AGREEMENT_COLUMNS,
        "slices.tsv.gz": t.SLICES_COLUMNS,
    }[name]
    cells = dict.fromkeys(columns, "n/a") | {"image_id": "sub-1_T2w", "subject": "1", "method": "m", "status": "ok"}
    cells |= {"method_a": "m", "method_b": "n", "slice": "3", column: text}
    write_text(tmp_path / name, "\n".join("\t".join(row) for row in (columns, [cells[c] for c in columns])) + "\n")
    with pytest.raises(InputError, match=f"column {column}: expected"):
        reader(tmp_path / name)
