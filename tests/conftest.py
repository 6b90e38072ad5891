"""Fixtures of several test files."""

import pytest


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser with an empty profile."""
    from browser import Browser

    session = Browser(tmp_path_factory.mktemp("profile"))
    yield session
    session.close()
