"""Outgoing messages: what an outbox publishes. Each user of an outbox has a class of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.errors import ConnectionError


class Outgoing(msgspec.Struct, eq=False, kw_only=True):
    """A message to be published until the broker has taken it. The outbox calls its methods on the event loop.

    Attributes:
        id: id of the message, for the log.
        size: bytes of its body; needed where the policy limits the bytes that wait.
        prepare: awaited before each attempt, for example to declare its queue; None if nothing is to be prepared. If it
            raises ConnectionError, the attempt has failed; another error ends the message.
        number: its place in the order in which the messages of an outbox were first sent.
        failures: number of failed attempts.
        returns: how often the broker has returned it, because its queue does not exist.
        refused_at: time of the clock at which its queue has refused it for the first time.
    """

    id: str | None = None
    size: int = 0
    prepare: Callable[[], Coroutine[Any, Any, None]] | None = None
    number: int = 0
    failures: int = 0
    returns: int = 0
    refused_at: float | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} number {self.number}>"

    def publish(self) -> Confirm:
        """Publish it once.

        Raises:
            ConnectionError: the broker is away: the message waits.
            Exception: the message cannot be sent any more: see `on_failed`.
        """
        raise NotImplementedError

    def is_wanted(self) -> bool:
        """Whether it still has to be published; else it is forgotten, instead of being published again."""
        return True

    def must_arrive(self) -> bool:
        """Whether its queue may refuse or return it any number of times."""
        return False

    def on_settled(self, confirm: Confirm) -> None:
        """The broker has taken it, or it is not published again because of the status of `confirm`."""
        raise NotImplementedError

    def on_retry(self, status: ConfirmStatus) -> None:
        """The broker has not taken it, and it will be published again."""

    def on_failed(self, error: Exception) -> None:
        """It was not taken, and is not published again, because of `error`."""
        raise NotImplementedError

    def on_dropped(self) -> None:
        """It was dropped, because too many messages wait for the broker."""
        self.on_failed(ConnectionError("too many messages wait for the broker"))


def _future() -> "asyncio.Future[Confirm]":
    return asyncio.get_running_loop().create_future()


class AwaitedMessage(Outgoing, kw_only=True):
    """A message whose sender awaits its Confirm: see `Outbox.settled`. It is wanted until then.

    Attributes:
        settled: the Confirm, or the error.
    """

    settled: asyncio.Future[Confirm] = msgspec.field(default_factory=_future)

    def is_wanted(self) -> bool:
        """Whether it is not settled, and its sender still waits."""
        return not self.settled.done()

    def on_settled(self, confirm: Confirm) -> None:
        """Wake the sender."""
        if not self.settled.done():
            self.settled.set_result(confirm)

    def on_failed(self, error: Exception) -> None:
        """Wake the sender with `error`."""
        if not self.settled.done():
            self.settled.set_exception(error)
