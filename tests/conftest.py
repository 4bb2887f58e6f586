"""Shared by all tests: the plugins for broker and databases, the options of make targets, and a clean environment."""

import asyncio
import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tornado.ioloop import IOLoop

pytest_plugins = ["tests.support.broker", "tests.support.postgresql", "tests.support.pgbouncer"]

# Hypothesis fails an example that takes 0.2 s, as one may on a busy machine. Tests of a time measure it themselves.
settings.register_profile("crew", deadline=None)
settings.load_profile("crew")

SOAK_FACTOR = 10
ENDS_WITHIN = 5.0  # seconds for canceled asyncio tasks


def pytest_configure() -> None:
    """Restore SIGINT: a background job of a shell script ignores it, and processes of the tests would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--soak`, `--chaos` and `--fuzz`, which the targets of the Makefile use."""
    parser.addoption("--soak", action="store_true", help=f"multiply the repetitions in tests by {SOAK_FACTOR}")
    parser.addoption("--chaos", action="store_true", help="also run the tests marked `chaos`")
    parser.addoption("--fuzz", type=int, metavar="INPUTS", help="also run the tests marked `fuzz`, with INPUTS inputs")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect tests without garbage collections, and exclude what stays from later ones: both traverse all tests."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the slow tests of `make chaos` and `make fuzz`, unless their option is given."""
    options = {"chaos": config.getoption("--chaos"), "fuzz": config.getoption("--fuzz")}
    deselected = [item for item in items if any(item.get_closest_marker(name) for name in options if not options[name])]
    items[:] = [item for item in items if item not in deselected]
    config.hook.pytest_deselected(items=deselected)


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> int:
    """Factor for repetitions in tests: `2_000 * soak`."""
    return SOAK_FACTOR if request.config.getoption("--soak") else 1


@pytest.fixture(scope="session")
def fuzz_inputs(request: pytest.FixtureRequest) -> int:
    """Number of inputs that each test of `make fuzz` sends."""
    return int(request.config.getoption("--fuzz"))


@pytest.fixture(autouse=True, scope="session")
def _own_environment() -> Iterator[None]:
    """Remove the developer's settings of crew from the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("URL", "PASSWORD", "CA", "CERT", "KEY"):
            patch.delenv(f"CREW_AMQP_{name}", raising=False)
        patch.delenv("CREW_SIGNING_KEY", raising=False)
        yield


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """Replaces the fixture of pytest-tornado, which leaves a current event loop open.

    Tasks that still run at the end of the test are canceled, as `asyncio.run` does. Otherwise asyncio would log in a
    later test that a pending task was destroyed.
    """
    loop = IOLoop(make_current=False)
    asyncio.set_event_loop(loop.asyncio_loop)
    yield loop
    if pending := asyncio.all_tasks(loop.asyncio_loop):
        for task in pending:
            task.cancel()
        loop.asyncio_loop.run_until_complete(asyncio.wait(pending, timeout=ENDS_WITHIN))
    asyncio.set_event_loop(None)
    loop.close(all_fds=True)
