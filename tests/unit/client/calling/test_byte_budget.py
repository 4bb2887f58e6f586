"""The limit for the bytes of calls that wait for a confirm."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from crew.amqp import ConfirmStatus
from crew.client.calling.call import PendingCall
from crew.client.calling.calls import Calls
from crew.errors import ConnectionError, Overloaded
from crew.protocol.message import Body, Call
from tests.support.links import FakeLink

T = TypeVar("T")

LIMIT = 100  # bytes


class Caller:
    """A client's calls with a byte budget, over a fake link."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.calls = Calls(20, publishing=self.link.as_link(), consuming=FakeLink().as_link(), max_bytes=LIMIT)

    @property
    def counted(self) -> int:
        """The number of counted bytes."""
        return self.calls._pending.unconfirmed_bytes

    def call(self, id: str, size: int, *, persistent: bool = True) -> PendingCall[Any]:
        """Make a call with a body of `size` bytes."""
        body = Body(b"x" * size, "application/octet-stream")
        message = Call(id=id, task="t", body=body, persistent=persistent)
        call: PendingCall[Any] = PendingCall(message, callback=lambda *_: None, on_canceled=self.calls.cancel)
        self.calls.send(call, 60)
        return call


@pytest.mark.gen_test
async def test_a_call_over_the_byte_budget_is_refused_and_not_counted() -> None:
    caller = Caller()
    caller.call("first", 60)
    with pytest.raises(Overloaded, match="60 bytes of calls, and 41 more would exceed the limit of 100"):
        caller.call("second", 41)
    assert (len(caller.calls), caller.counted) == (1, 60)
    caller.call("third", 40)
    assert caller.counted == LIMIT
    caller.calls.close()


@pytest.mark.gen_test
async def test_the_body_of_a_call_is_in_memory_until_the_confirm() -> None:
    caller = Caller()
    call = caller.call("17", 60)
    caller.link.confirm_all(ConfirmStatus.LOST)
    assert (caller.counted, len(call.message.body.data)) == (60, 60)
    caller.calls.send_waiting()
    assert len(caller.link.published[-1].body) == 60
    caller.link.confirm_all()
    assert (caller.counted, call.message.body.data) == (0, b"")
    assert not call.done()
    caller.calls.close()


class Accounting(RuleBasedStateMachine):
    """The budget always counts the bodies of the calls in flight that the broker has not confirmed."""

    sent = Bundle("sent")

    @initialize()
    def begin(self) -> None:
        """Create the calls on a new event loop."""
        self.loop = asyncio.new_event_loop()
        self.caller = self.run(Caller)
        self.unconfirmed: dict[str, int] = {}  # the model: id -> bytes
        self.in_flight: set[str] = set()
        self.number = 0

    def run(self, step: Callable[[], T]) -> T:
        """Run `step` on the loop."""

        async def do() -> T:
            return step()

        return self.loop.run_until_complete(do())

    @rule(target=sent, size=st.integers(0, 60), persistent=st.booleans())
    def call(self, size: int, persistent: bool) -> PendingCall[Any] | None:
        """Make a call."""
        self.number += 1
        id = str(self.number)
        fits = sum(self.unconfirmed.values()) + size <= LIMIT and len(self.in_flight) < 20
        try:
            call: PendingCall[Any] = self.run(lambda: self.caller.call(id, size, persistent=persistent))
        except Overloaded:
            assert not fits
            return None
        assert fits
        self.unconfirmed[id] = size
        self.in_flight.add(id)
        return call

    @rule(call=sent, status=st.sampled_from(ConfirmStatus))
    def confirm(self, call: PendingCall[Any] | None, status: ConfirmStatus) -> None:
        """The broker settles a message; its call may have ended."""
        if call is None:
            return
        waiting = [one for one in self.caller.link.published if one.properties.correlation_id == call.id]
        if not waiting or waiting[-1].confirm.status is not None:
            return
        self.run(lambda: waiting[-1].confirm.settle(status))
        if status is not ConfirmStatus.LOST or not call.message.persistent:
            self.unconfirmed.pop(call.id, None)
        if call.done():
            self.ended(call)

    @rule(call=consumes(sent))
    def cancel(self, call: PendingCall[Any] | None) -> None:
        """Cancel a call."""
        if call is not None:
            self.run(call.cancel)
            self.ended(call)

    @rule(call=consumes(sent))
    def reply(self, call: PendingCall[Any] | None) -> None:
        """A worker replies, before or after the confirm."""
        if call is not None:
            self.run(lambda: self.caller.calls._pending.settle(call.id, "value"))
            self.ended(call)

    @rule()
    def reconnect(self) -> None:
        """The link is ready again."""
        self.run(self.caller.calls.send_waiting)

    @rule()
    def fail_all(self) -> None:
        """The broker refuses the connection."""
        self.run(lambda: self.caller.calls.settle_all(ConnectionError()))
        self.unconfirmed.clear()
        self.in_flight.clear()

    def ended(self, call: PendingCall[Any]) -> None:
        """Remove an ended call from the model."""
        self.unconfirmed.pop(call.id, None)
        self.in_flight.discard(call.id)

    @invariant()
    def counts_exactly(self) -> None:
        """The budget counts exactly the bytes in the model."""
        if hasattr(self, "caller"):
            assert self.caller.counted == sum(self.unconfirmed.values())
            assert len(self.caller.calls) == len(self.in_flight)

    def teardown(self) -> None:
        """Close the loop."""
        if hasattr(self, "caller"):
            self.run(self.caller.calls.close)
            assert self.caller.counted == 0
            self.loop.close()


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
