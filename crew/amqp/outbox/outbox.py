"""Outbox: publishes messages until the broker has taken them, or their policy gives them up.

A message is in one of these places: it waits for the connection or for the next attempt (bounded, in order), it is
being prepared, it is published and not confirmed yet, or the broker has returned it and it waits for its queue.
"""

import asyncio
import copy
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import guarded
from crew.amqp.link import Link
from crew.amqp.outbox.outgoing import AwaitedMessage, Outgoing
from crew.amqp.outbox.policy import OutboxPolicy
from crew.amqp.outbox.refusing_queues import RefusingQueues
from crew.amqp.outbox.waiting import WaitingMessages
from crew.clock import monotonic_time
from crew.errors import ConnectionError

logger = logging.getLogger(__name__)

CallLater = Callable[..., asyncio.TimerHandle]


def _call_later(seconds: float, step: Callable[..., object], *given: Any) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, step, *given)


class Outbox:
    """The outgoing messages of one kind. All methods run on the event loop of `link`.

    Args:
        clock: seconds; for tests.
        call_later: starts a timer of the event loop; for tests.
    """

    def __init__(
        self,
        link: Link,
        policy: OutboxPolicy,
        *,
        clock: Callable[[], float] = monotonic_time,
        call_later: CallLater = _call_later,
    ) -> None:
        self._link = link
        self._policy = policy
        self._clock = clock
        self._call_later = call_later
        self._count = 0
        self._unconfirmed = 0
        self._waiting = WaitingMessages(policy)
        self._is_behind = False  # whether some messages wait for the connection, not only for the next attempt
        self._returned: dict[Outgoing, asyncio.TimerHandle] = {}
        self._preparing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None  # of the next attempt
        self._has_changed_channel = False  # since the timer was started
        self._resuming: asyncio.Task[None] | None = None
        per_queue = policy.refused_for_after_confirm
        self._queues = None if per_queue is None else RefusingQueues(policy.refused_for, per_queue, clock=clock)

    def __len__(self) -> int:
        """Number of messages that are not settled, without the returned ones: their receiver may be gone."""
        return len(self._waiting) + len(self._preparing) + self._unconfirmed

    def __repr__(self) -> str:
        return (
            f"<Outbox of kind {self._policy.name}: {len(self._waiting)} wait, {self._unconfirmed} not confirmed, "
            f"{self.returned} returned>"
        )

    @property
    def returned(self) -> int:
        """Number of messages that wait because their queue does not exist."""
        return len(self._returned)

    @property
    def tasks(self) -> set["asyncio.Task[None]"]:
        """The background tasks."""
        return self._preparing if self._resuming is None else {*self._preparing, self._resuming}

    def send(self, message: Outgoing) -> None:
        """Publish `message` now; if that is not possible, it waits."""
        self._count += 1
        message.number = self._count
        if self._is_behind and self._policy.resumes and self._link.is_ready:
            self._publish_waiting()  # they were sent before this one
        if message.prepare is None:
            self._publish(message)
        else:
            self._start_preparing(message)

    async def settled(self, message: AwaitedMessage) -> Confirm:
        """Wait until `message`, which was sent, is settled; return its Confirm. Forget the message on cancellation.

        Raises:
            ConnectionError: the link was closed or refused, or the message has waited too long for the connection.
            Exception: the error of its `prepare` or `publish`.
        """
        try:
            return await message.settled
        finally:
            self.discard(message)

    def discard(self, message: Outgoing) -> None:
        """Forget `message`, if it waits."""
        self._waiting.remove(message)
        if not self._waiting:
            self._stop_resuming()
        if (timer := self._returned.pop(message, None)) is not None:
            timer.cancel()

    def send_waiting(self) -> None:
        """Publish the messages that wait: the link is ready again, or has lost messages."""
        if self._queues is not None:
            self._queues.on_reconnect()
        self._publish_waiting()

    def close(self) -> None:
        """Forget all messages that are not published; idempotent."""
        for timer in (*self._returned.values(), *filter(None, (self._timer,))):
            timer.cancel()
        for task in self._preparing:
            task.cancel()
        self._returned.clear()
        self._timer = None
        self._stop_resuming()
        self._waiting = WaitingMessages(self._policy)

    # --- attempts ---------------------------------------------------------------------------------------------------

    def _publish(self, message: Outgoing) -> None:
        try:
            confirm = message.publish()
        except ConnectionError:
            self._keep(message)
        except Exception as error:
            message.on_failed(error)
        else:
            self._unconfirmed += 1
            confirm.then(functools.partial(self._on_confirm, message, confirm))

    def _publish_again(self, message: Outgoing) -> None:
        self._returned.pop(message, None)
        if not message.is_wanted():
            return
        if message.prepare is None:
            self._publish(message)
        else:
            self._start_preparing(message)

    def _publish_waiting(self) -> None:
        self._is_behind = False
        for message in self._waiting.take():
            guarded(self._publish_again)(message)

    def _start_preparing(self, message: Outgoing) -> None:
        task = asyncio.get_running_loop().create_task(self._prepare(message))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    async def _prepare(self, message: Outgoing) -> None:
        try:
            if message.prepare is not None:
                await message.prepare()
        except ConnectionError as error:
            self._on_not_prepared(message, error)
        except Exception as error:
            message.on_failed(error)
        else:
            if message.is_wanted():
                self._publish(message)

    def _on_not_prepared(self, message: Outgoing, error: ConnectionError) -> None:
        logger.info("%s not prepared: %s id=%s", self._policy.name, error, message.id)
        if not self._link.is_ready:
            self._keep(message)
            return
        message.failures += 1
        if message.failures < self._policy.max_attempts:
            self._publish_later(message)
        else:
            message.on_failed(error)

    # --- what follows an attempt ------------------------------------------------------------------------------------

    def _on_confirm(self, message: Outgoing, confirm: Confirm, status: ConfirmStatus) -> None:
        self._unconfirmed -= 1
        if status is ConfirmStatus.CONFIRMED:
            if self._queues is not None:
                self._queues.on_confirmed(confirm.routing_key)
            message.on_settled(confirm)
            return
        message.failures += 1
        if message.failures >= self._policy.max_attempts or not self._is_repeated(message, confirm, status):
            message.on_settled(confirm)
            return
        message.on_retry(status)
        match status:
            case ConfirmStatus.LOST:
                self._keep(message)
            case ConfirmStatus.RETURNED:
                self._publish_later(message)
            case _:
                self._waiting.add(message)
                self._publish_soon(other_channel=True)

    def _is_repeated(self, message: Outgoing, confirm: Confirm, status: ConfirmStatus) -> bool:
        """Whether `message` is published again after `status`."""
        policy = self._policy
        match status:
            case ConfirmStatus.LOST:
                is_repeated = policy.lost.includes(confirm)
                if is_repeated and self._queues is not None and self._link.is_ready:
                    self._queues.on_unconfirmed(confirm.routing_key)
                return is_repeated
            case ConfirmStatus.RETURNED:
                return bool(policy.returned_delays) and (
                    message.must_arrive() or message.returns < len(policy.returned_delays)
                )
            case ConfirmStatus.REFUSED:
                return policy.refused.includes(confirm) and self._may_be_taken_later(message, confirm.routing_key)
        return False

    def _may_be_taken_later(self, message: Outgoing, queue: str) -> bool:
        """Whether `queue`, which has refused `message`, may have no leader; else it is full."""
        if self._policy.refused_if_replicated and not self._link.is_replicated:
            return False
        if self._queues is not None:
            return self._queues.may_have_no_leader(queue)
        if message.must_arrive():
            return True
        now = self._clock()
        if message.refused_at is None:
            message.refused_at = now
        return now - message.refused_at < self._policy.refused_for

    def _keep(self, message: Outgoing) -> None:
        """Keep `message` until the link is ready again, or has lost messages."""
        self._is_behind = True
        self._waiting.add(message)
        if self._policy.kept_for < math.inf:
            self._call_later(self._policy.kept_for, self._give_up, message)
        if not self._policy.resumes:
            return
        if self._link.is_ready:  # it was not lost, or has not noticed that yet
            self._publish_soon(other_channel=False)
        elif self._resuming is None:
            self._resuming = asyncio.get_running_loop().create_task(self._resume())

    def _publish_soon(self, *, other_channel: bool) -> None:
        """Publish what waits after a moment: the broker is connected, so no reconnect will do it."""
        if self._timer is None:
            self._has_changed_channel = False
            self._timer = self._call_later(self._policy.again_after, self._on_timer)
        if other_channel and not self._has_changed_channel:
            self._has_changed_channel = True
            self._link.change_channel()

    def _on_timer(self) -> None:
        self._timer = None
        self._publish_waiting()

    def _publish_later(self, message: Outgoing) -> None:
        """Publish a returned message later: its queue does not exist, but may be declared again."""
        delays = self._policy.returned_delays
        wait = delays[min(message.returns, len(delays) - 1)]
        message.returns += 1
        if message.returns == 1 and message.prepare is not None:
            wait = 0.0
        self._returned[message] = self._call_later(wait, self._publish_again, message)

    # --- the connection ---------------------------------------------------------------------------------------------

    async def _resume(self) -> None:
        try:
            await self._link.ready()
        except ConnectionError as error:  # closed or refused: it does not come back
            self._resuming = None
            for message in self._waiting.take():
                if message.is_wanted():
                    message.on_failed(copy.copy(error))  # a shared error would keep the stacks of all who raise it
        else:
            self._resuming = None
            self._publish_waiting()

    def _stop_resuming(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None

    def _give_up(self, message: Outgoing) -> None:
        if self._waiting.remove(message):
            message.on_failed(ConnectionError("the broker is away"))
