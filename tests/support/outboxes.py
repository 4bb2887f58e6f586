"""An outbox on a link and a clock that the test plays."""

from typing import Any

import msgspec

from crew.amqp import Confirm, ConfirmStatus
from crew.amqp.outbox.outbox import Outbox
from crew.amqp.outbox.outgoing import Outgoing
from crew.amqp.outbox.policy import OutboxPolicy
from crew.protocol.properties import Properties
from tests.support.links import FakeLink
from tests.support.timers import FakeTimers

KEPT = OutboxPolicy(name="test")


class Message(Outgoing, kw_only=True):
    """A message that records what becomes of it.

    Attributes:
        ends: a status, an error, or "dropped", for each end; there is at most one.
        retries: the statuses after which it is published again.
        is_needed: whether it must arrive.
        failure: raised by `publish`.
    """

    link: FakeLink
    persistent: bool = True
    queue: str = "q"
    wanted: bool = True
    is_needed: bool = False
    ends: list[object] = msgspec.field(default_factory=list)
    retries: list[ConfirmStatus] = msgspec.field(default_factory=list)
    failure: Exception | None = None

    def publish(self) -> Confirm:
        """Publish it, or fail."""
        if self.failure is not None:
            raise self.failure
        given = Properties(correlation_id=self.id, delivery_mode=2 if self.persistent else 1)
        return self.link.publish("", self.queue, given, b"x", mandatory=True)

    def is_wanted(self) -> bool:
        """As the test says."""
        return self.wanted

    def must_arrive(self) -> bool:
        """As the test says."""
        return self.is_needed

    def on_settled(self, confirm: Confirm) -> None:
        """Record the status."""
        self.ends.append(confirm.status)

    def on_retry(self, status: ConfirmStatus) -> None:
        """Record the status."""
        self.retries.append(status)

    def on_failed(self, error: Exception) -> None:
        """Record the error."""
        self.ends.append(error)

    def on_dropped(self) -> None:
        """Record it."""
        self.ends.append("dropped")


class Sender:
    """An outbox with its link and its clock."""

    def __init__(self, policy: OutboxPolicy = KEPT, **changes: Any) -> None:
        policy = msgspec.structs.replace(policy, **changes)
        self.link = FakeLink()
        self.timers = FakeTimers()
        self.outbox = Outbox(self.link.as_link(), policy, clock=self.timers.clock, call_later=self.timers.call_later)

    def send(self, id: str = "1", **options: Any) -> Message:
        """Send a message."""
        message = Message(link=self.link, id=id, size=1, **options)
        self.outbox.send(message)
        return message

    def answer(self, *statuses: ConfirmStatus) -> None:
        """Settle the one open confirm with each status, and let the outbox publish again in between."""
        for status in statuses:
            self.link.confirm_all(status)
            self.timers.advance(10.0)

    def lose_connection(self) -> None:
        """The connection is lost with all that is unconfirmed."""
        self.link.is_ready = False
        self.link.confirm_all(ConfirmStatus.LOST)

    def reconnect(self) -> None:
        """The link is ready again, and its owner says so."""
        self.link.is_ready = True
        self.outbox.send_waiting()

    def time_out(self) -> None:
        """The broker did not confirm in time, and the link stays ready."""
        self.link.confirm_all(ConfirmStatus.LOST)
        self.outbox.send_waiting()

    @property
    def published(self) -> list[str | None]:
        """The ids of all published messages."""
        return [one.properties.correlation_id for one in self.link.published]
