"""What a process keeps of the memory that it frees."""

import ctypes

import pytest

from spineseg.memory_limit import KEPT_BYTES, LARGE_BYTES, keep_freed_memory


class Library:
    """A C library that notes what it is told."""

    def __init__(self):
        self.told = {}

    def mallopt(self, option, value):
        self.told[option] = value


def test_malloc_thresholds_are_set(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    keep_freed_memory()
    assert library.told == {-1: KEPT_BYTES, -3: LARGE_BYTES}


@pytest.mark.parametrize("library", [object(), None])
def test_other_c_libraries_are_left_alone(monkeypatch, library):
    def load(name):
        if library is None:
            raise OSError("no such library")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    keep_freed_memory()
