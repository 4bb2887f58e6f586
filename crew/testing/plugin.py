"""The pytest plugin of crew: fixtures for tests of tasks and their callers, with an in-memory broker.

pytest loads it with each run, so it imports the rest of crew only for a test that uses a fixture.
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from crew.client import Client, blocking
    from crew.jobs import JobStore
    from crew.testing.clock import Clock
    from crew.testing.direct import DirectContext
    from crew.testing.gateway import Response, Source, TestedGateway
    from crew.testing.kit import BrokerControl, Kit
    from crew.testing.worker import InProcessWorker

HANG_AFTER = 30.0  # real seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("crew", "tests of crew tasks")
    group.addoption(
        "--crew-broker", metavar="URL", help="run the tests with this RabbitMQ, in real time; default: in memory"
    )
    group.addoption(
        "--crew-time-scale",
        type=float,
        metavar="FACTOR",
        default=0.01,
        help="with --crew-broker: timeouts and retry delays of tasks, and time.sleep in them, are this much shorter",
    )
    group.addoption(
        "--crew-hang-after",
        type=float,
        metavar="SECONDS",
        default=HANG_AFTER,
        help="real seconds after which a test in memory fails that still waits; default 30",
    )


@pytest.fixture
def crew_kit(request: pytest.FixtureRequest) -> "Iterator[Kit]":
    """Clock, broker and all other parts of this test; the other fixtures are made of it."""
    from crew.testing.clock import RealClock, VirtualClock
    from crew.testing.kit import Kit

    option = request.config.getoption
    url = option("--crew-broker")
    clock: Clock = (
        VirtualClock(hang_after=option("--crew-hang-after"))
        if url is None
        else RealClock(scale=option("--crew-time-scale"))
    )
    with Kit(url, clock=clock) as kit:
        yield kit


@pytest.fixture
def crew_clock(crew_kit: "Kit") -> "Clock":
    """The clock of this test."""
    return crew_kit.clock


@pytest.fixture
def crew_context() -> "Iterator[DirectContext]":
    """What a task sees in `context` when the test calls it as a function; has what the task did with it."""
    from crew.testing.direct import DirectContext
    from crew.worker.context import context

    direct = DirectContext()
    context.bind_direct(direct)
    yield direct
    context.bind_direct(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Give the tasks that a test calls as functions a `context` of their own."""
    if "crew_context" in getattr(item, "fixturenames", ()) or "crew.worker.context" not in sys.modules:
        return (yield)
    from crew.testing.direct import DirectContext
    from crew.worker.context import context

    context.bind_direct(DirectContext())
    try:
        return (yield)
    finally:
        context.bind_direct(None)


@pytest.fixture
def crew_broker(crew_kit: "Kit") -> "BrokerControl":
    """The in-memory broker of this test: `cut_connections()`, `stop()`, `start()`, `block()`, `unblock()`."""
    if crew_kit.is_real:
        pytest.skip("crew_broker is the in-memory broker, but this run has --crew-broker")
    return crew_kit.broker


@pytest.fixture
def crew_store(crew_kit: "Kit") -> "JobStore":
    """A job store, in which `crew_client` submits jobs."""
    return crew_kit.store()


@pytest.fixture
def crew_client(request: pytest.FixtureRequest, crew_kit: "Kit") -> "Client | blocking.Client":
    """A client: `crew.Client` in an `async def` test, else `crew.client.blocking.Client`."""
    store = request.getfixturevalue("crew_store") if "crew_store" in request.fixturenames else None
    return crew_kit.client(store=store) if is_async(request) else crew_kit.blocking_client(store=store)


@pytest.fixture
def crew_worker(crew_kit: "Kit") -> "Callable[..., InProcessWorker]":
    """Serves tasks in this process: `crew_worker(resize)`, or `crew_worker(tasks)` for a module."""
    return crew_kit.worker


@pytest.fixture
def crew_gateway(request: pytest.FixtureRequest, crew_kit: "Kit") -> "Callable[..., Gateway]":
    """Serves a Tornado application: `crew_gateway(application)`, or `crew_gateway()` for the HTTP API of crew."""
    runs_async = is_async(request)

    has_store = True if "crew_store" in request.fixturenames else None

    def serve(source: "Source" = None) -> Gateway:
        return Gateway(crew_kit, crew_kit.gateway(source, store=has_store), is_async=runs_async)

    return serve


class Gateway:
    """A served application.

    Attributes:
        url: for other HTTP clients.
        client: the application's client.
    """

    def __init__(self, kit: "Kit", served: "TestedGateway", *, is_async: bool) -> None:
        self._kit = kit
        self._served = served
        self._is_async = is_async
        self.url = served.url
        self.client = served.client

    def fetch(self, path: str, **options: Any) -> "Response | Awaitable[Response]":
        """Make a request, see `TestedGateway.fetch`; await it in an `async def` test."""
        step = self._served.fetch(path, **options)
        return self._kit.run_here(step) if self._is_async else self._kit.run(step)


def is_async(request: pytest.FixtureRequest) -> bool:
    """Whether the test is a coroutine, for whichever plugin that runs it."""
    function = getattr(request.function, "hypothesis", None)
    tested = getattr(function, "inner_test", request.function)
    return inspect.iscoroutinefunction(tested) or request.node.get_closest_marker("gen_test") is not None


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test that uses a fixture of crew, where no other plugin does."""
    if "crew_kit" not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    kit: Kit = pyfuncitem._request.getfixturevalue("crew_kit")

    async def run() -> None:
        kit.clock.adopt(asyncio.get_running_loop())
        try:
            await pyfuncitem.obj(**arguments)
        finally:
            await kit.close_clients()

    asyncio.run(run())
    return True
