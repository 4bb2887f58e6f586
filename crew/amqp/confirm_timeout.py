"""Finds the messages of a channel that the broker will never confirm, though the channel is open.

RabbitMQ confirms or refuses every message. But between a channel and a quorum queue a message can be lost when the
leader of the queue changes: the channel waits for ever for a leader that has never heard of it, and what follows over
the same channel to the same queue waits behind it. RabbitMQ has mended cases of it in 4.0.6 and 4.1
(https://github.com/rabbitmq/rabbitmq-server/pull/13095) and in 4.1.5 and 4.2 (commit b66dc4017e).

So the channel is asked a question where a message is still unconfirmed after `seconds`. The channel of the broker
answers in its turn: when it has handed all earlier messages to their queues. What is not confirmed `seconds` after the
answer has timed out. All of that is one timer for each channel, and costs a publisher nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from crew.amqp.errors import LinkError
from crew.amqp.unconfirmed import Unconfirmed

# Seconds, twice: a quorum queue elects its leader within one, on a busy machine within three, and confirms what waits.
REPLICATED: Final = 5.0
# Seconds, twice. A classic queue confirms when the message is on disk; one that dies is noticed, and its messages are
# refused. So this is for what nobody has thought of, and longer than a slow disk takes.
ALONE: Final = 60.0


class ConfirmTimeout:
    """Watches one channel for messages that are not confirmed.

    Args:
        seconds: see above.
        is_stalled: whether the broker has blocked publishing, or messages are still to be written to the socket: then
            no confirm is to be expected, and the time begins anew.
        ask: asks the broker's channel a question and waits for the answer; may raise LinkError.
        on_timeout: called with the number of the last message that has timed out; those before it that are still
            unconfirmed have, too. It gives them up.
    """

    def __init__(
        self,
        unconfirmed: Unconfirmed,
        *,
        seconds: float,
        is_stalled: Callable[[], bool],
        ask: Callable[[], Awaitable[object]],
        on_timeout: Callable[[int], Awaitable[None]],
    ) -> None:
        self._unconfirmed = unconfirmed
        self._seconds = seconds
        self._is_stalled = is_stalled
        self._ask = ask
        self._on_timeout = on_timeout
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ConfirmTimeout of {self._seconds:g} s, {self._unconfirmed!r}>"

    def start(self) -> None:
        """Watch from now on."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="confirm timeout")

    def stop(self) -> None:
        """Watch no longer; idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        while True:
            last = self._unconfirmed.published
            await asyncio.sleep(self._seconds)
            if self._is_stalled() or not self._unconfirmed.has_up_to(last):
                continue
            try:
                await self._ask()
            except LinkError:
                return  # the channel ends, and with it what is unconfirmed
            await asyncio.sleep(self._seconds)
            if not self._is_stalled() and self._unconfirmed.has_up_to(last):
                await self._on_timeout(last)
