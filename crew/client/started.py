"""Operations that are already running when they are returned; awaiting them is optional."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from crew.errors import ConnectionError

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Started(Coroutine[Any, Any, T]):
    """A running operation; `await` (or `yield`) it to wait for its end.

    It can be passed to functions that take a coroutine, like `asyncio.create_task`. Unlike a coroutine it runs whether
    or not it is awaited.
    """

    _steps: Generator[Any, None, T] | None = None

    @abstractmethod
    def __await__(self) -> Generator[Any, None, T]:
        raise NotImplementedError

    def send(self, value: Any) -> Any:
        """As of a coroutine."""
        return self._generator().send(value)

    def throw(self, *error: Any) -> Any:
        """As of a coroutine."""
        return self._generator().throw(*error)

    def close(self) -> None:
        """As of a coroutine: stop waiting. The operation continues."""
        if self._steps is not None:
            self._steps.close()

    def _generator(self) -> Generator[Any, None, T]:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps


class Connecting(Started[None]):
    """The result of `Client.connect`: a client that connects.

    Args:
        wait: waits until the broker is reached.
    """

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()


class PendingEvent(Started[None]):
    """The result of `Client.publish`: an event that is being published.

    A failure that is not awaited is logged once.

    Args:
        topic: of the event, for the log.
        publishing: ends when the broker has confirmed the event.
    """

    def __init__(self, topic: str, publishing: asyncio.Task[None]) -> None:
        self._topic = topic
        self._publishing = publishing
        self._is_awaited = False
        self._error: BaseException | None = None
        publishing.add_done_callback(self._on_done)

    def __repr__(self) -> str:
        state = "pending" if not self.done() else "published" if self._error is None else f"failed: {self._error}"
        return f"<PendingEvent on {self._topic}: {state}>"

    def __await__(self) -> Generator[Any, None, None]:
        self._is_awaited = True
        return (yield from self._publishing.__await__())

    def __del__(self) -> None:
        if self._error is not None and not self._is_awaited:
            logger.error("publish failed, and nothing awaited it: topic=%s: %s", self._topic, self._error)

    def done(self) -> bool:
        """Whether the operation has ended."""
        return self._publishing.done()

    def _on_done(self, publishing: asyncio.Task[None]) -> None:
        if publishing.cancelled():
            self._error = ConnectionError("the event loop was closed before the end")
        else:
            self._error = publishing.exception()
