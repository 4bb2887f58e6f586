"""Channel that signs what it publishes, and hands on only deliveries whose signature is right.

Every message of crew passes through a channel, so that calls, replies, reports, control messages, briefings and events
are signed and checked here and nowhere else. Without `CREW_SIGNING_KEY` links open plain channels, and nothing of this
runs. What is signed, `crew.protocol.signing` says.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from crew.amqp.broker_clock import BrokerClock
from crew.amqp.channel import Channel
from crew.amqp.confirm import Confirm, Forwarded
from crew.amqp.delivery import Delivery, OnDelivery, discard
from crew.log import LineLimit
from crew.protocol import topology
from crew.protocol.clock import IN_STEP
from crew.protocol.encoding import foreign
from crew.protocol.signing import Signing

logger = logging.getLogger(__name__)

LOG_EVERY: Final = 10.0  # seconds between two lines about messages that were refused for the same reason
_KINDS: Final = {
    topology.TASK_PREFIX: "call",
    topology.AGAIN_PREFIX: "call",
    topology.REPLY_PREFIX: "reply",
    topology.JOBS_PREFIX: "report",
    topology.CONTROL_PREFIX: "control",
    topology.SUBSCRIPTION_PREFIX: "event",
}

refused: Final[Counter[str]] = Counter(dict.fromkeys(_KINDS.values(), 0))  # messages, by kind, in this process


class Signer:
    """Signs and checks the messages of the links of one process.

    Args:
        keys: as Settings has them.
        clock: how far the broker's clock is from this host's. Default: in step.
    """

    def __init__(
        self, keys: Sequence[str], clock: BrokerClock | None = None, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = BrokerClock() if clock is None else clock
        self._wall = wall
        self._signing = Signing(keys, self._now)
        self.sign = self._signing.sign  # adds the signature to the headers of a message
        self._limit = LineLimit(1, LOG_EVERY)

    def __repr__(self) -> str:
        return f"<Signer: {self._signing!r}>"

    @classmethod
    def of(cls, keys: Sequence[str], clock: BrokerClock | None = None) -> "Signer | None":
        """A signer, or None where there is no key."""
        return cls(keys, clock) if keys else None

    def checked(self, queue: str, on_delivery: OnDelivery, on_refused: OnDelivery) -> OnDelivery:
        """What takes the deliveries of `queue`: calls `on_delivery` with those that are signed.

        Args:
            on_refused: called with all others; their attribute `refusal` says why.
        """
        refusal_of = self._signing.check(queue)

        def take(delivery: Delivery) -> None:
            why = refusal_of(delivery.topic, delivery.properties, delivery.body)
            if why is None:
                on_delivery(delivery)
                return
            suspect = msgspec.structs.replace(delivery, refusal=why)
            if on_refused != on_delivery:  # else it looks at all there is
                self._count(suspect)
            on_refused(suspect)

        return take

    def _count(self, delivery: Delivery) -> None:
        """Count a message that was refused; now and then a line of the log says how many."""
        kind = next((kind for prefix, kind in _KINDS.items() if delivery.queue.startswith(prefix)), "other")
        refused[kind] += 1
        held_back = self._limit.held_back(f"{kind} {(delivery.refusal or '')[:16]}")  # without what differs each time
        if held_back is None:
            return
        logger.warning(
            "%s refused: %s queue=%s id=%s count=%d; give each client, worker and gateway the same CREW_SIGNING_KEY; "
            "where all have it, another program writes to the broker",
            kind,
            delivery.refusal,
            delivery.queue,
            foreign.brief(delivery.properties.correlation_id),
            held_back + 1,
        )

    def _now(self) -> float:
        offset = self._clock.offset
        return self._wall() if offset is IN_STEP else self._wall() + offset.middle


class SignedChannel(Channel):
    """As Channel, where messages are signed.

    Args:
        signer: of its link.
    """

    def __init__(self, *arguments: Any, signer: Signer, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._signer = signer

    async def consume(
        self,
        queue: str,
        on_delivery: OnDelivery,
        *,
        prefetch: int,
        priority: int = 0,
        on_refused: OnDelivery = discard,
    ) -> None:
        """As Channel.consume; `on_refused` gets the deliveries that are not signed, with `refusal`."""
        take = self._signer.checked(queue, on_delivery, on_refused)
        await super().consume(queue, take, prefetch=prefetch, priority=priority)

    def send(self, message: Confirm) -> None:
        """As Channel.send; a message that is not Forwarded is signed."""
        if not isinstance(message, Forwarded):
            self._signer.sign(message.routing_key, message.properties, message.body)
        Channel.send(self, message)  # super() takes a tenth of the time of a signature
