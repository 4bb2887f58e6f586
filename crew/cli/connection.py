"""The connection of a command: opened for it, and closed when it ends."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

from crew import settings
from crew.amqp.admin.session import Visit, visiting
from crew.client.blocking import Client

CONNECT_TIMEOUT: Final = 5.0  # seconds; a command should say that the broker is away rather than wait for it

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def url_option(command: F) -> F:
    """Add --url."""
    return click.option("--url", metavar="URL", help="AMQP URL of the broker [CREW_AMQP_URL]")(command)


@contextmanager
def connected(url: str | None) -> Iterator[Client]:
    """A client that has reached the broker.

    Raises:
        ConnectionError: it has not, within 5 seconds.
    """
    with Client(url) as client:
        with one_sentence():
            client.connect(timeout=CONNECT_TIMEOUT)
        try:
            yield client
        except KeyboardInterrupt:
            _log_nothing_more()  # about calls that end with the command: Ctrl-C is meant to end them
            raise


def visited(url: str | None, errand: Callable[[Visit], Awaitable[T]]) -> T:
    """What comes of `errand` on a connection of its own; raises ConnectionError where there is none, or it breaks."""

    async def run() -> T:
        async with visiting(settings.load(url), name="crew") as visit:
            return await errand(visit)

    with one_sentence():
        return asyncio.run(run())


@contextmanager
def one_sentence() -> Iterator[None]:
    """Log no single attempt: the error at the end says it all, whatever else is refused until the command has ended."""
    restore = _log_nothing_more()
    yield
    restore()


def _log_nothing_more() -> Callable[[], None]:
    """Log nothing until the command has ended, or the function that is returned is called."""
    logger = logging.getLogger("crew")
    restore = functools.partial(logger.setLevel, logger.level)
    click.get_current_context().call_on_close(restore)
    logger.setLevel(logging.CRITICAL)
    return restore
