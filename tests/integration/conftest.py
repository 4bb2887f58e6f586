"""Workers for the integration tests: real processes that serve `tasks.py`, under names that nobody else uses."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.proxy import Proxy, proxying

TASKS = TASK_FOLDER / "tasks.py"
HTTP = ("worker", "--http", "--allow-host=127.0.0.1", "--concurrency=500", "--max-requests-per-host=500")

StartWorker = Callable[..., Process]


@pytest.fixture(scope="module")
def shared_prefix() -> str:
    """Begins the names of the tasks that the shared worker of the module serves."""
    return _unique()


@pytest.fixture
def prefix(request: pytest.FixtureRequest, shared_prefix: str) -> str:
    """Begins the name of every task of the test: the shared worker's where it is used, else this test's alone."""
    return shared_prefix if "shared_worker" in request.fixturenames else _unique()


@pytest.fixture
def environment(broker_url: str, prefix: str) -> dict[str, str]:
    """What a worker process needs to know."""
    return _environment(broker_url, prefix)


@pytest.fixture
def processes(tmp_path: Path, environment: dict[str, str]) -> Iterator[Processes]:
    """Processes that end with the test."""
    with running(tmp_path, environment) as processes:
        yield processes


@pytest.fixture
def start_worker(processes: Processes) -> StartWorker:
    """Start a worker with these flags, of `tasks.py` or another script beside it, and wait until it serves."""

    def start(*flags: str, count: int = 1, script: str = TASKS.name) -> Process:
        return processes.python(TASKS.with_name(script), *flags).says("serving", times=count)

    return start


@pytest.fixture(scope="module")
def shared_worker(tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str) -> Iterator[Process]:
    """One worker process for all tests of the module that leave it alive."""
    with running(tmp_path_factory.mktemp("worker"), _environment(broker_url, shared_prefix)) as processes:
        yield processes.python(TASKS).says("serving")


@pytest.fixture
def proxied() -> Iterator[Callable[[str], Proxy]]:
    """Make a proxy before the broker at a URL; it ends with the test."""
    with proxying() as make:
        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database for a job store, with nothing in it: each test that asks for it is run on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


def _environment(broker_url: str, prefix: str) -> dict[str, str]:
    return {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": prefix}


def _unique() -> str:
    return f"t{uuid.uuid4().hex[:8]}."


@pytest.fixture(scope="module")
def http_url(vhost_url: Callable[[], str]) -> str:
    """A virtual host of the module: the task that performs URL jobs has the same name everywhere."""
    return vhost_url()


@pytest.fixture(scope="module")
def http_worker(tmp_path_factory: pytest.TempPathFactory, http_url: str) -> Iterator[Process]:
    """One worker process that performs URL jobs, for all tests that leave it alive."""
    with running(tmp_path_factory.mktemp("worker"), {"CREW_AMQP_URL": http_url}) as processes:
        yield processes.crew(*HTTP).says("serving 1 task: crew.http")
