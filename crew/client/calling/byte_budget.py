"""Limits the bytes of calls that wait for the broker's confirm, so that an outage does not fill the memory."""

from typing import Any

from crew.client.calling.call import PendingCall
from crew.errors import Overloaded


class ByteBudget:
    """Counts the bytes of the bodies that the broker has not confirmed.

    The client keeps a body until the confirm, as it may have to be published again.

    Args:
        limit: the maximum sum of bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    def __repr__(self) -> str:
        return f"<ByteBudget: {self._taken} of at most {self._limit} bytes>"

    @property
    def taken(self) -> int:
        """Bytes that wait for a confirm."""
        return self._taken

    def take(self, call: PendingCall[Any]) -> None:
        """Count the body of `call`; raises Overloaded if it exceeds the limit."""
        size = len(call.message.body.data)
        if self._taken + size > self._limit:
            raise Overloaded(
                f"the broker has not confirmed {self._taken} bytes of calls, and {size} more would exceed the limit of "
                f"{self._limit}: the broker is unavailable or slow; call less, or raise max_pending_bytes",
                task=call.task,
                id=call.id,
            )
        self._taken += size
        call.held_bytes = size

    def give_back(self, call: PendingCall[Any]) -> None:
        """Stop counting the body of `call`; idempotent."""
        self._taken -= call.held_bytes
        call.held_bytes = 0
