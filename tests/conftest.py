"""What tests of several files share."""

import pytest


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A real browser without a window, on a profile of its own."""
    from test_qc_browser import Browser

    session = Browser(tmp_path_factory.mktemp("profile"))
    yield session
    session.close()
