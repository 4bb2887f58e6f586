"""Outgoing messages of the reply publisher: replies, progress reports and parked messages."""

import logging
from collections.abc import Callable

from crew.amqp import Confirm, ConfirmStatus, Link
from crew.amqp.outbox.outgoing import Outgoing
from crew.protocol import topology
from crew.protocol.properties import Properties
from crew.worker.replies.known_stores import KnownStores

logger = logging.getLogger(__name__)


def nothing() -> None:
    """Do nothing: a callback where nothing waits."""


class OutgoingReply(Outgoing, kw_only=True):
    """A message of the reply publisher.

    Attributes:
        queue: its receiver.
        stores: a reply to one of them must arrive.
        on_sent: called when the broker has confirmed it, or its receiver is gone.
        instead: called with its Confirm if the broker does not accept it, because it is too large or invalid.
        on_discarded: called when it is discarded, as too many messages wait for the broker.
        is_report: whether it reports the end of a job to its store.
    """

    link: Link
    queue: str
    properties: Properties
    body: bytes
    stores: KnownStores
    on_sent: Callable[[], object] = nothing
    instead: Callable[[Confirm], None] | None = None
    on_discarded: Callable[[], object] = nothing
    is_report: bool = False

    def publish(self) -> Confirm:
        """Publish it once; raise ConnectionError."""
        return self.link.publish(topology.DEFAULT_EXCHANGE, self.queue, self.properties, self.body, mandatory=True)

    def must_arrive(self) -> bool:
        """Whether its queue has to come back; that of a client may be gone."""
        return self.queue == topology.PARKED or self.queue in self.stores

    def on_settled(self, confirm: Confirm) -> None:
        """Settle its delivery, or send something else instead of it."""
        match confirm.status:
            case ConfirmStatus.CONFIRMED:
                if self.is_report:
                    self.stores.add(self.queue)
            case ConfirmStatus.TOO_LARGE | ConfirmStatus.INVALID if self.instead is not None:
                self.instead(confirm)
                return
            case ConfirmStatus.TOO_LARGE | ConfirmStatus.INVALID as status:
                text = "message discarded: the broker does not accept it queue=%r id=%r bytes=%d: %s"
                logger.error(text, self.queue, self.id, len(self.body), confirm.reason or status.value)
            case status:
                text = "reply discarded: its client is gone status=%s queue=%s call_id=%s"
                logger.info(text, status and status.value, self.queue, self.id)
        self.on_sent()

    def on_retry(self, status: ConfirmStatus) -> None:
        """If its queue does not exist, settle its delivery at once, unless it must arrive.

        Replies to a gateway that died must not hold up the replies to others.
        """
        if status is not ConfirmStatus.RETURNED:
            return
        if self.queue == topology.PARKED:  # never declare a queue because a message names it
            self.prepare = self._declare_parked
        if not self.must_arrive():
            self.on_sent()
            self.on_sent = self.on_discarded = nothing

    def on_failed(self, error: Exception) -> None:
        """It cannot be published: return its delivery to the queue."""
        logger.error("reply not sent: %s queue=%s call_id=%s", error, self.queue, self.id)
        self.on_discarded()

    def on_dropped(self) -> None:
        """Return its delivery to the queue."""
        self.on_discarded()

    async def _declare_parked(self) -> None:
        await self.link.declare_once(topology.parked_queue())
        self.prepare = None
