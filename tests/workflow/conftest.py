"""Fixtures of the workflow's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_workflow import Study


@pytest.fixture
def make_study(tmp_path) -> Callable[..., Study]:
    """Make a study in a folder of its own."""
    return lambda **keys: Study(tmp_path / "work", **keys)


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """Two synthetic people, one of them hard for a method, with two contrasts and their references."""
    from spineseg.phantom.dataset import write_dataset

    root = tmp_path_factory.mktemp("people") / "bids"
    write_dataset(root, 2, 1, contrasts=("T2w", "T2star"))
    return root
