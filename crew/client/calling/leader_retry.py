"""Decides whether a refused call is retried: its quorum queue may be electing a leader.

RabbitMQ refuses a message in the same way for two reasons: the queue is full, or it is a quorum queue without a leader,
as for a moment after a node has died. After a channel has delivered a message to the queue, the second reason is rare:
the broker keeps most later messages until there is a leader. So the retries end sooner then. A retry uses another
channel: see `Link.change_channel`.
"""

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 5.0  # seconds; an election takes up to one second, on a busy machine up to three
PATIENCE_AFTER_CONFIRM: Final = 2.0  # seconds, if the queue has taken a message over this connection
RETRY_INTERVAL: Final = 0.1  # seconds: an election takes about 0.2


class LeaderRetry:
    """Tracks which queues may have no leader.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._confirmed: set[str] = set()
        self._refused_since: dict[str, float] = {}
        self._unconfirmed: set[str] = set()

    def __repr__(self) -> str:
        return f"<LeaderRetry: {len(self._confirmed)} queues have confirmed, {len(self._refused_since)} refuse>"

    def on_confirmed(self, queue: str) -> None:
        """Note that the queue has taken a message over this connection."""
        self._confirmed.add(queue)
        self._refused_since.pop(queue, None)
        self._unconfirmed.discard(queue)

    def on_unconfirmed(self, queue: str) -> None:
        """Note that the queue did not answer a message. A full queue answers, so this one has no leader for now."""
        self._unconfirmed.add(queue)

    def on_reconnect(self) -> None:
        """Forget the state of the old connection."""
        self._confirmed.clear()
        self._refused_since.clear()

    def should_retry(self, queue: str) -> bool:
        """Whether a refusal by `queue` may mean a missing leader: then retry after `RETRY_INTERVAL` seconds."""
        if queue in self._unconfirmed:
            return True
        now = self._clock()
        patience = PATIENCE_AFTER_CONFIRM if queue in self._confirmed else PATIENCE
        return now - self._refused_since.setdefault(queue, now) < patience
