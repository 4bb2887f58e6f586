"""Real processes on a broker of their own: the examples' task names are the same in every test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Processes, running


@pytest.fixture
def broker_url(vhost_url: Callable[[], str]) -> str:
    """AMQP URL of a virtual host that no other test knows."""
    return vhost_url()


@pytest.fixture
def processes(tmp_path: Path, broker_url: str) -> Iterator[Processes]:
    """Processes that end with the test."""
    with running(tmp_path, {"CREW_AMQP_URL": broker_url}) as processes:
        yield processes
