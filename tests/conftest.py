"""What all tests share: the broker, the size of a soak, and the environment that a test does not inherit."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop

pytest_plugins = ["tests.support.broker", "tests.support.postgresql", "tests.support.pgbouncer"]

SOAK_FACTOR = 10
ENDS_WITHIN = 5.0  # seconds, for what is cancelled


def pytest_configure() -> None:
    """A job in the background of a script ignores Ctrl-C, and so would every process that the tests start from it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--soak`, `--chaos` and `--fuzz`, as the targets of the Makefile have them."""
    parser.addoption("--soak", action="store_true", help=f"repeat {SOAK_FACTOR} times as often what tests repeat")
    parser.addoption("--chaos", action="store_true", help="run what is marked `chaos`, too")
    parser.addoption("--fuzz", type=int, metavar="INPUTS", help="run what is marked `fuzz`, with so many inputs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take their time are left to `make chaos` and `make fuzz`."""
    asked_for = {"chaos": config.getoption("--chaos"), "fuzz": config.getoption("--fuzz")}
    left_out = [
        item for item in items if any(item.get_closest_marker(name) for name in asked_for if not asked_for[name])
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> int:
    """How many times as often as in the suite something is to be repeated: 2,000 * soak."""
    return SOAK_FACTOR if request.config.getoption("--soak") else 1


@pytest.fixture(scope="session")
def fuzz_inputs(request: pytest.FixtureRequest) -> int:
    """How many inputs each test of `make fuzz` sends."""
    return int(request.config.getoption("--fuzz"))


@pytest.fixture(autouse=True, scope="session")
def _own_environment() -> Iterator[None]:
    """A broker that the developer has chosen for himself is none of the tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("URL", "PASSWORD", "CA", "CERT", "KEY"):
            patch.delenv(f"CREW_AMQP_{name}", raising=False)
        patch.delenv("CREW_SIGNING_KEY", raising=False)
        yield


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """As pytest-tornado's, which takes the place of a current loop that nobody closes.

    What still runs at the end of the test is cancelled, as `asyncio.run` does: else asyncio says in the log of another
    test that it was destroyed, at some later time.
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
