"""How many bytes of calls may wait for the broker's word: a broker that is away must not fill this process."""

from typing import Any

from crew.client.calling.call import PendingCall
from crew.errors import Overloaded


class ByteBudget:
    """Counts the bodies of the calls that the broker has not taken yet.

    A body is kept until then, as it may have to be published again; from then on the broker keeps it.

    Args:
        limit: bytes of all of them together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    def __repr__(self) -> str:
        return f"<ByteBudget: {self._taken} of at most {self._limit} bytes>"

    @property
    def taken(self) -> int:
        """Bytes that wait for the broker."""
        return self._taken

    def take(self, call: PendingCall[Any]) -> None:
        """Count the body of `call`; raises Overloaded where it does not fit."""
        size = len(call.message.body.data)
        if self._taken + size > self._limit:
            raise Overloaded(
                f"calls of {self._taken} bytes wait for the broker already, and {size} more would be above the "
                f"{self._limit} that may: it is away, or slower than its callers",
                task=call.task,
                id=call.id,
            )
        self._taken += size
        call.held_bytes = size

    def give_back(self, call: PendingCall[Any]) -> None:
        """Count it no longer; idempotent."""
        self._taken -= call.held_bytes
        call.held_bytes = 0
