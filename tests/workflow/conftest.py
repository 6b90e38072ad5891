"""Fixtures of the workflow tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_workflow import Study


@pytest.fixture
def make_study(tmp_path) -> Callable[..., Study]:
    """Return a function that makes a study in a new folder."""
    return lambda **keys: Study(tmp_path / "work", **keys)


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """Two synthetic people, one of them difficult, with two contrasts and references."""
    from spineseg.phantom.dataset import write_dataset

    root = tmp_path_factory.mktemp("people") / "bids"
    write_dataset(root, 2, 1, contrasts=("T2w", "T2star"))
    return root
