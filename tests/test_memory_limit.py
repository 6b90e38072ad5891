"""How much freed memory a process keeps."""

import ctypes

import pytest

from spineseg.memory_limit import KEPT_BYTES, LARGE_BYTES, keep_freed_memory


class Library:
    """A C library that records its settings."""

    def __init__(self):
        self.settings = {}

    def mallopt(self, option, value):
        self.settings[option] = value


def test_malloc_thresholds_are_set(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    keep_freed_memory()
    assert library.settings == {-1: KEPT_BYTES, -3: LARGE_BYTES}


@pytest.mark.parametrize("library", [object(), None])
def test_other_c_libraries_are_left_alone(monkeypatch, library):
    def load(name):
        if library is None:
            raise OSError("no such library")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    keep_freed_memory()
