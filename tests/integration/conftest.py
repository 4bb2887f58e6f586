"""Workers for the integration tests: real processes that serve `tasks.py` under unique task names."""

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, may_fork, running
from tests.support.proxy import Proxy, proxying

TASKS = TASK_FOLDER / "tasks.py"
CALLED_BY_HELPERS = ("echo", "note", "sleep", "who")  # tasks that modules of tests/support call
HTTP = ("worker", "--http", "--allow-host=127.0.0.1", "--concurrency=500", "--max-requests-per-host=500")

StartWorker = Callable[..., Process]


@pytest.fixture(scope="module")
def shared_prefix() -> str:
    """The prefix of all task names of the module's shared worker."""
    return _unique()


@pytest.fixture
def prefix(request: pytest.FixtureRequest, shared_prefix: str) -> str:
    """The prefix of the test's task names: that of the shared worker if the test uses it, else a new one."""
    return shared_prefix if "shared_worker" in request.fixturenames else _unique()


@pytest.fixture
def environment(request: pytest.FixtureRequest, broker_url: str, prefix: str) -> dict[str, str]:
    """Environment variables of a worker process."""
    return _environment(broker_url, prefix, request.path)


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path, environment: dict[str, str]) -> Iterator[Processes]:
    """Starts processes, and stops them at the end of the test."""
    with running(tmp_path, environment, preloaded=may_fork(request)) as processes:
        yield processes


@pytest.fixture
def start_worker(processes: Processes) -> StartWorker:
    """Start a worker of `tasks.py`, or of another script beside it, and wait until it serves."""

    def start(*flags: str, count: int = 1, script: str = TASKS.name) -> Process:
        return processes.python(TASKS.with_name(script), *flags).says("serving", times=count)

    return start


@pytest.fixture(scope="module")
def shared_worker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str
) -> Iterator[Process]:
    """One worker process that the tests of the module share."""
    environment = _environment(broker_url, shared_prefix, request.path)
    with running(tmp_path_factory.mktemp("worker"), environment, preloaded=True) as processes:
        yield processes.python(TASKS).says("serving")


@pytest.fixture
def proxied() -> Iterator[Callable[[str], Proxy]]:
    """Start a proxy in front of the broker at a URL; it stops at the end of the test."""
    with proxying() as make:
        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty job store; each test that uses it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


def _environment(broker_url: str, prefix: str, module: Path) -> dict[str, str]:
    """Environment variables of a worker: its tasks are those whose names the module of tests quotes."""
    names = {*CALLED_BY_HELPERS, *re.findall(r'"(\w+)"', module.read_text())}
    return {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": prefix, "CREW_TEST_TASKS": " ".join(sorted(names))}


def _unique() -> str:
    return f"t{uuid.uuid4().hex[:8]}."


@pytest.fixture(scope="module")
def http_url(vhost_url: Callable[[], str]) -> str:
    """URL of a virtual host that only this module uses, because the task of URL jobs has a fixed name."""
    return vhost_url()


@pytest.fixture(scope="module")
def http_worker(tmp_path_factory: pytest.TempPathFactory, http_url: str) -> Iterator[Process]:
    """One worker process that performs URL jobs, shared by the tests of the module."""
    with running(tmp_path_factory.mktemp("worker"), {"CREW_AMQP_URL": http_url}, preloaded=True) as processes:
        yield processes.crew(*HTTP).says("serving 1 task: crew.http")
