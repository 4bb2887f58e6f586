"""Channel that signs published messages, and passes on only deliveries with a valid signature.

Every message of crew passes through a channel. So this is the only place where calls, replies, reports, control
messages, revocation requests and events are signed and checked. Without `CREW_SIGNING_KEY` links open plain channels,
and this module is not used. See `crew.protocol.signing` for what a signature covers.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from crew.amqp.broker_clock import BrokerClock
from crew.amqp.channel import Channel
from crew.amqp.confirms.confirm import Confirm, Forwarded
from crew.amqp.delivery import Delivery, OnDelivery, discard
from crew.clock import monotonic_time, wall_time
from crew.log import LineLimit
from crew.protocol import topology
from crew.protocol.clock import IN_STEP
from crew.protocol.encoding import foreign
from crew.protocol.signing import Signing

logger = logging.getLogger(__name__)

LOG_EVERY: Final = 10.0  # seconds between two log lines about messages that were refused for the same reason
_KINDS: Final = {
    topology.TASK_PREFIX: "call",
    topology.AGAIN_PREFIX: "call",
    topology.REPLY_PREFIX: "reply",
    topology.JOBS_PREFIX: "report",
    topology.CONTROL_PREFIX: "control",
    topology.SUBSCRIPTION_PREFIX: "event",
}

# Number of refused messages in this process, by kind.
refused: Final[Counter[str]] = Counter(dict.fromkeys(_KINDS.values(), 0))


class Signer:
    """Signs and checks the messages of the links of one process.

    Args:
        keys: see Settings.signing_keys.
        clock: compares this host's clock with the broker's. Default: the clocks count as equal.
        wall: epoch seconds. Default: time.time.
        monotonic: seconds, for the intervals between log lines. Default: time.monotonic.
    """

    def __init__(
        self,
        keys: Sequence[str],
        clock: BrokerClock | None = None,
        *,
        wall: Callable[[], float] = wall_time,
        monotonic: Callable[[], float] = monotonic_time,
    ) -> None:
        self._clock = BrokerClock() if clock is None else clock
        self._wall = wall
        self._signing = Signing(keys, self._now)
        self.sign = self._signing.sign  # adds the signature to the headers of a message
        self._limit = LineLimit(1, LOG_EVERY, monotonic)

    def __repr__(self) -> str:
        return f"<Signer: {self._signing!r}>"

    @classmethod
    def of(cls, keys: Sequence[str], clock: BrokerClock | None = None) -> "Signer | None":
        """Return a signer, or None where there is no key."""
        return cls(keys, clock) if keys else None

    def checked(self, queue: str, on_delivery: OnDelivery, on_refused: OnDelivery) -> OnDelivery:
        """Return a callback for the deliveries of `queue`, which calls `on_delivery` for those with a valid signature.

        Args:
            on_refused: called with all other deliveries; their attribute `refusal` has the reason.
        """
        refusal_of = self._signing.check(queue)

        def take(delivery: Delivery) -> None:
            why = refusal_of(delivery.topic, delivery.properties, delivery.body)
            if why is None:
                on_delivery(delivery)
                return
            suspect = msgspec.structs.replace(delivery, refusal=why)
            if on_refused != on_delivery:  # else the caller wants all messages, and this is not an incident
                self._count(suspect)
            on_refused(suspect)

        return take

    def _count(self, delivery: Delivery) -> None:
        """Count a refused message, and log the number at most once in `LOG_EVERY`."""
        kind = next((kind for prefix, kind in _KINDS.items() if delivery.queue.startswith(prefix)), "other")
        refused[kind] += 1
        reason = (delivery.refusal or "")[:16]  # without the part that differs for each message
        held_back = self._limit.held_back(f"{kind} {reason}")
        if held_back is None:
            return
        logger.warning(
            "%s refused: %s queue=%s id=%s count=%d; set the same CREW_SIGNING_KEY for all clients, workers "
            "and gateways; if it is the same, another program publishes to the broker",
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
    """A Channel that signs and checks messages.

    Args:
        signer: the signer of its link.
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
        waits: bool = True,
    ) -> None:
        """As Channel.consume, but call `on_refused` for deliveries without a valid signature."""
        take = self._signer.checked(queue, on_delivery, on_refused)
        await super().consume(queue, take, prefetch=prefetch, priority=priority, waits=waits)

    def send(self, message: Confirm) -> None:
        """As Channel.send, but sign the message first, unless it is Forwarded."""
        if not isinstance(message, Forwarded):
            self._signer.sign(message.routing_key, message.properties, message.body)
        Channel.send(self, message)  # super() takes a tenth of the time of a signature
