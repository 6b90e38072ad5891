"""Fixtures and settings of several test files."""

import pytest
from hypothesis import HealthCheck, settings

# on a busy machine drawing examples takes long, which says nothing about the code
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser with an empty profile."""
    from browser import Browser

    session = Browser(tmp_path_factory.mktemp("profile"))
    yield session
    session.close()
