"""Whether a call that the broker refuses is worth another try.

RabbitMQ refuses a message in one way for two reasons: its queue is full, or it is a quorum queue without a leader, as
for a moment after a node has died. Over a channel on which the queue has taken a message that is rare, as the broker
keeps most of what follows until there is a leader again: such a refusal is doubted for a shorter time. The other try
goes over another channel: see `Link.change_channel`.
"""

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 5.0  # seconds; a leader is elected within one, on a busy machine within three
PATIENCE_ONCE_TAKEN: Final = 2.0  # seconds, where the queue has taken a message over this connection
AGAIN_AFTER: Final = 0.1  # seconds: an election takes about 0.2


class Elections:
    """What refusals may tell of the leaders of queues.

    Args:
        clock: seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: set[str] = set()
        self._refused_since: dict[str, float] = {}
        self._timed_out: set[str] = set()

    def __repr__(self) -> str:
        return f"<Elections: {len(self._taken)} queues known to have had a leader, {len(self._refused_since)} refuse>"

    def on_taken(self, queue: str) -> None:
        """The queue has taken a message over this connection."""
        self._taken.add(queue)
        self._refused_since.pop(queue, None)
        self._timed_out.discard(queue)

    def on_timed_out(self, queue: str) -> None:
        """The queue has left a message unconfirmed, which a full one does not: it has no leader until it takes one."""
        self._timed_out.add(queue)

    def on_reconnect(self) -> None:
        """The next messages go over another connection."""
        self._taken.clear()
        self._refused_since.clear()

    def may_explain(self, queue: str) -> bool:
        """Whether a refusal by `queue` may be for want of a leader: worth another try in `AGAIN_AFTER` seconds."""
        if queue in self._timed_out:
            return True
        now = self._clock()
        patience = PATIENCE_ONCE_TAKEN if queue in self._taken else PATIENCE
        return now - self._refused_since.setdefault(queue, now) < patience
