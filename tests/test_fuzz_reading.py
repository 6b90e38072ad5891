"""Damaged headers and files: read or refused in one line, quickly and in little memory."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from fuzz_reading import MAX_BYTES, MAX_SECONDS, damage_header, damage_stream, gunzip_or_none, make_files, use_file

FILES = make_files()


def use_within_limits(path: Path) -> str:
    tracemalloc.start()
    start = perf_counter()
    try:
        outcome = use_file(path)
    finally:
        seconds, peak = perf_counter() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seconds < MAX_SECONDS
    assert peak < MAX_BYTES
    return outcome


@pytest.mark.parametrize("kind", FILES)
def test_valid_files_are_read(tmp_path, kind):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(FILES[kind]))
    assert use_within_limits(tmp_path / "a.nii.gz") == "read"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(FILES)),
    packed=st.booleans(),
    start=st.integers(0, 347),
    new=st.binary(min_size=1, max_size=8),
)
# row: damaged headers and streams | read or refused within 2 s and 500 MB
def test_headers_with_other_bytes(tmp_path, kind, packed, start, new):
    raw = FILES[kind][:start] + new + FILES[kind][start + len(new) :]
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    use_within_limits(path)


@pytest.mark.parametrize("kind", FILES)
# row: with `test_headers_with_other_bytes`
def test_headers_with_odd_values(tmp_path, kind, capfd):
    rng = np.random.default_rng(5)
    outcomes = set()
    for _ in range(40):
        (tmp_path / "a.nii").write_bytes(damage_header(FILES[kind], rng))
        outcomes.add(use_within_limits(tmp_path / "a.nii"))
    assert outcomes == {"read", "refused"}
    assert capfd.readouterr() == ("", "")


# row: with `test_headers_with_other_bytes`
def test_damaged_streams_are_not_read(tmp_path):
    rng, path = np.random.default_rng(6), tmp_path / "a.nii.gz"
    for number in range(120):
        raw = FILES[sorted(FILES)[number % len(FILES)]]
        content = damage_stream(gzip.compress(raw, mtime=0), rng)
        path.write_bytes(content)
        if use_within_limits(path) == "read":
            assert gunzip_or_none(content) == raw
