"""Makes pending calls for tests."""

import itertools
from typing import Any

from crew.client.calling.call import OnResult, PendingCall
from crew.protocol.message import Body, Call

_numbers = itertools.count(1)


class CanceledCalls:
    """A callback that records the canceled calls."""

    def __init__(self) -> None:
        self.calls: list[PendingCall[Any]] = []

    def __call__(self, call: PendingCall[Any]) -> None:
        self.calls.append(call)


def a_call(
    id: str | None = None, *, callback: OnResult | None = None, on_canceled: CanceledCalls | None = None, **fields: Any
) -> PendingCall[Any]:
    """A call of the task t."""
    message = Call(id=id or f"call-{next(_numbers)}", task="t", body=Body(b"null", "application/json"), **fields)
    return PendingCall(message, callback=callback, on_canceled=on_canceled or CanceledCalls())
