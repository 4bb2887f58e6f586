"""The broker connection of a command: opened for it, and closed at its end."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

from crew import settings
from crew.amqp.admin.session import Session, open_session
from crew.client.blocking import Client


class ConnectTimeout(float):
    """Seconds in which a command must reach the broker: it reports an unavailable broker instead of waiting for it.

    A program that runs a command in its own process can pass another one as click's context object (`obj=`).
    """


CONNECT_TIMEOUT: Final = ConnectTimeout(5.0)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def url_option(command: F) -> F:
    """Add --url."""
    return click.option("--url", metavar="URL", help="AMQP URL of the broker [CREW_AMQP_URL]")(command)


def connect_timeout() -> float:
    """Seconds in which the present command must reach the broker."""
    return click.get_current_context().find_object(ConnectTimeout) or CONNECT_TIMEOUT


@contextmanager
def connected(url: str | None) -> Iterator[Client]:
    """A connected client.

    Raises:
        ConnectionError: the client could not connect in time.
    """
    with Client(url) as client:
        with attempts_not_logged():
            client.connect(timeout=connect_timeout())
        try:
            yield client
        except KeyboardInterrupt:
            _silence_log()  # Ctrl-C ends the open calls on purpose: their warnings are not needed
            raise


def with_session(url: str | None, action: Callable[[Session], Awaitable[T]]) -> T:
    """Open a connection for `action`, and return its value.

    Raises:
        ConnectionError: the connection could not be opened, or was lost.
    """

    async def run() -> T:
        async with open_session(settings.load(url), name="crew", timeout=connect_timeout()) as session:
            return await action(session)

    with attempts_not_logged():
        return asyncio.run(run())


@contextmanager
def attempts_not_logged() -> Iterator[None]:
    """Do not log single connection attempts: the error at the end names the reason. After an error the log stays off.

    A command ends after an error; warnings that its cleanup would log add nothing to the error.
    """
    restore = _silence_log()
    yield
    restore()


def _silence_log() -> Callable[[], None]:
    """Log nothing until the command has ended, or until the returned function is called."""
    logger = logging.getLogger("crew")
    restore = functools.partial(logger.setLevel, logger.level)
    click.get_current_context().call_on_close(restore)
    logger.setLevel(logging.CRITICAL)
    return restore
