"""Fixtures of the acceptance tests: real processes on their own virtual host.

The examples use the same task names in every test, so the tests must not share a virtual host.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.processes import Processes, may_fork, running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def broker_url(vhost_url: Callable[[], str]) -> str:
    """AMQP URL of a virtual host that no other test uses."""
    return vhost_url()


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path, broker_url: str) -> Iterator[Processes]:
    """Starts processes, and ends them after the test."""
    with running(tmp_path, {"CREW_AMQP_URL": broker_url}, preloaded=may_fork(request)) as processes:
        yield processes


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in Debian's Chromium."""
    if CHROMIUM is None:
        assert "CI" not in os.environ, "CI must have a browser: apt-get install chromium"
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *QUIET])
        try:
            yield browser.new_page()
        finally:
            browser.close()
