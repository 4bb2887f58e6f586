"""Decides whether a queue that refuses a message may have no leader, or is full.

After a channel has delivered a message to the queue, a refusal for want of a leader is rare: see policy.py. So the
queue counts as full sooner then.
"""

from collections.abc import Callable


class RefusingQueues:
    """Tracks the queues of one connection that refuse messages.

    Args:
        refused_for: seconds in which a refusing queue may have no leader.
        refused_for_after_confirm: the same for a queue that has taken a message over this connection.
        clock: seconds.
    """

    def __init__(self, refused_for: float, refused_for_after_confirm: float, *, clock: Callable[[], float]) -> None:
        self._refused_for = refused_for
        self._refused_for_after_confirm = refused_for_after_confirm
        self._clock = clock
        self._confirmed: set[str] = set()
        self._refused_since: dict[str, float] = {}
        self._unconfirmed: set[str] = set()

    def __repr__(self) -> str:
        return f"<RefusingQueues: {len(self._confirmed)} queues have confirmed, {len(self._refused_since)} refuse>"

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

    def may_have_no_leader(self, queue: str) -> bool:
        """Whether `queue`, which has just refused a message, may have no leader."""
        if queue in self._unconfirmed:
            return True
        now = self._clock()
        refused_for = self._refused_for_after_confirm if queue in self._confirmed else self._refused_for
        return now - self._refused_since.setdefault(queue, now) < refused_for
