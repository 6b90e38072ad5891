"""Workflow tests run first, and examples in docstrings that name files run in a folder with a synthetic person."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SHOWING_FILES = {"spineseg", "spineseg.api"}
"""Modules whose examples use files of a synthetic person."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run whole workflows first: a long file that starts last would leave one of two processors idle."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(scope="session")
def example_person(tmp_path_factory) -> Path:
    """A folder with ``sub-01_T2star.nii.gz`` and its exact mask."""
    from spineseg.phantom.dataset import write_dataset

    root = tmp_path_factory.mktemp("example")
    write_dataset(root / "bids", 1, 1, contrasts=("T2star",), hard="none")
    for path in (root / "bids").rglob("sub-01_T2star*.nii.gz"):
        shutil.copy(path, root)
    return root


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_example(request, monkeypatch) -> None:
    if isinstance(request.node, pytest.DoctestItem) and request.node.dtest.globs["__name__"] in SHOWING_FILES:
        monkeypatch.chdir(request.getfixturevalue("example_person"))
