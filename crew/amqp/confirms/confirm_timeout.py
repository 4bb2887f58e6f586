"""Confirm timeout: finds messages that the broker will never confirm, though their channel is open.

RabbitMQ confirms or refuses every message. But a message can be lost between a channel and a quorum queue when the
leader of the queue changes. Then the channel waits for ever for a leader that does not know the message. Later messages
on this channel to the same queue wait behind it. RabbitMQ has fixed such cases in 4.0.6 and 4.1
(https://github.com/rabbitmq/rabbitmq-server/pull/13095) and in 4.1.5 and 4.2 (commit b66dc4017e).

So where a message is still unconfirmed after `seconds`, a request is sent on the channel. The broker answers it in
order: after it has passed all earlier messages to their queues. A message that is not confirmed `seconds` after the
answer has timed out. This needs one timer for each channel, and no work for each message.
"""

import asyncio
from collections.abc import Awaitable, Callable

from crew.amqp.confirms.unconfirmed import Unconfirmed
from crew.amqp.errors import LinkError


class ConfirmTimeout:
    """Watches one channel for messages that are not confirmed in time.

    Args:
        seconds: half of the timeout, see above; `crew.settings.Tuning` has the values.
        is_stalled: whether the broker has blocked publishing, or messages still wait for the socket. Then no confirm
            can be expected, and the time starts again.
        ask: sends a request on the channel and waits for the answer; may raise LinkError.
        on_timeout: called with the number of the last message that has timed out. All unconfirmed messages before it
            have timed out, too. It settles them as LOST.
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
        """Start to watch the channel."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="confirm timeout")

    def stop(self) -> None:
        """Stop to watch the channel; idempotent."""
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
                return  # the channel has closed, which settles its unconfirmed messages
            await asyncio.sleep(self._seconds)
            if not self._is_stalled() and self._unconfirmed.has_up_to(last):
                await self._on_timeout(last)
