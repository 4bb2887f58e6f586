"""Calls in flight are bounded, settled once and ended on time."""

import asyncio
import random
import re
from typing import Any

import pytest

from crew.client.calling.call import PendingCall
from crew.client.calling.pending import SWEEP_ABOVE, PendingCalls, check_limit
from crew.errors import DuplicateCallId, ExpirationError, Overloaded
from crew.protocol.message import Body
from tests.support.links import ignored, never
from tests.support.pending_calls import a_call
from tests.support.waiting import until

ON_TIME = 0.5  # seconds after the deadline at which a call must have ended


class Due:
    """Settles each due call, and records when."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.pending: PendingCalls

    def __call__(self, call: PendingCall[Any]) -> None:
        self.at[call.id] = asyncio.get_running_loop().time()
        self.pending.settle(call.id, ExpirationError())


def pending_calls(limit: int = 10_000) -> tuple[PendingCalls, Due]:
    """The pending calls of a client, and the record of due calls."""
    due = Due()
    due.pending = PendingCalls(limit, due)
    return due.pending, due


@pytest.mark.gen_test
async def test_a_call_gets_its_own_reply() -> None:
    pending = PendingCalls(10, never)
    first, second = a_call("1"), a_call("2")
    pending.add(first, 60)
    pending.add(second, 60)
    assert pending.settle("2", "two", {"a": 1}) is True
    assert not first.done()
    assert (await second, second.headers) == ("two", {"a": 1})
    assert len(pending) == 1
    pending.close()


@pytest.mark.gen_test
async def test_a_second_reply_is_discarded() -> None:
    pending = PendingCalls(10, never)
    call = a_call("1")
    pending.add(call, 60)
    assert [pending.settle("1", "first"), pending.settle("1", "second")] == [True, False]
    assert await call == "first"
    pending.close()


def test_a_reply_without_a_call_is_discarded() -> None:
    assert PendingCalls(10, never).settle("unknown", "value") is False


@pytest.mark.gen_test
async def test_two_calls_in_flight_cannot_share_an_id() -> None:
    pending = PendingCalls(10, never)
    first, second = a_call("same"), a_call("same")
    pending.add(first, 60)
    with pytest.raises(DuplicateCallId, match="same") as raised:
        pending.add(second, 60)
    assert (raised.value.id, raised.value.task) == ("same", "t")
    assert pending.get("same") is first
    pending.close()


@pytest.mark.gen_test
async def test_an_id_may_be_used_again_after_its_call_has_ended() -> None:
    pending = PendingCalls(10, never)
    first, second = a_call("same"), a_call("same")
    pending.add(first, 60)
    pending.settle("same", 1)
    pending.add(second, 60)
    pending.settle("same", 2)
    assert [await first, await second] == [1, 2]
    pending.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("ends", ["settled", "forgotten"])
async def test_a_call_that_reuses_an_id_has_its_whole_expiration(ends: str) -> None:
    pending, _ = pending_calls()
    first, second, clock = a_call("same"), a_call("same"), a_call("clock")
    pending.add(first, 0.02)
    if ends == "settled":
        pending.settle("same", "done")
    else:
        pending.forget(first)
    pending.add(second, 60)
    pending.add(clock, 0.05)
    await until(clock.done)
    assert not second.done()
    pending.close()


@pytest.mark.gen_test
async def test_a_call_over_the_limit_is_refused_at_once() -> None:
    pending = PendingCalls(2, never)
    pending.add(a_call("1"), 60)
    pending.add(a_call("2"), 60)
    with pytest.raises(Overloaded, match="2 calls are pending, the maximum of this client"):
        pending.add(a_call("3"), 60)
    assert len(pending) == 2
    pending.settle("1", None)
    pending.add(a_call("3"), 60)
    pending.close()


@pytest.mark.alone
@pytest.mark.gen_test
async def test_every_call_ends_on_time_whatever_the_order() -> None:
    pending, due = pending_calls()
    loop, draw = asyncio.get_running_loop(), random.Random(7)
    deadlines: dict[str, tuple[float, float]] = {}  # the earliest and the latest that it can be
    for id in map(str, range(2_000)):
        budget, call = draw.uniform(0.0, 0.3), a_call(id, callback=ignored)
        began = loop.time()
        pending.add(call, budget)
        deadlines[id] = began + budget, loop.time() + budget
    added = loop.time()  # no timer could run before
    await until(lambda: len(pending) == 0)
    previous = 0.0
    for id in sorted(deadlines, key=lambda id: due.at[id]):
        earliest, latest = deadlines[id]
        assert earliest - 0.002 <= due.at[id] <= max(latest, added) + ON_TIME
        assert latest >= previous, "a call with a later deadline came first"
        previous = max(previous, earliest)
    pending.close()


@pytest.mark.gen_test
async def test_a_shorter_call_does_not_wait_for_a_longer_one_that_came_first() -> None:
    pending, due = pending_calls()
    pending.add(a_call("long"), 60)
    pending.add(a_call("short"), 0.01)
    await until(lambda: "short" in due.at)
    assert len(pending) == 1
    pending.close()


@pytest.mark.gen_test
async def test_the_timer_continues_after_calls_that_ended_early() -> None:
    pending, due = pending_calls()
    pending.add(a_call("replied"), 0.01)
    pending.add(a_call("late"), 0.03)
    pending.settle("replied", None)
    await until(lambda: "late" in due.at)
    assert list(due.at) == ["late"]
    pending.add(a_call("next"), 0.01)
    await until(lambda: "next" in due.at)


@pytest.mark.gen_test
async def test_a_forgotten_call_is_neither_ended_nor_counted() -> None:
    pending, due = pending_calls()
    call = a_call("1")
    pending.add(call, 0.01)
    pending.add(a_call("2"), 0.03)
    pending.forget(call)
    pending.forget(call)
    assert len(pending) == 1
    await until(lambda: "2" in due.at)
    assert not call.done()


@pytest.mark.gen_test
async def test_forgetting_a_call_keeps_a_newer_call_with_the_same_id() -> None:
    pending = PendingCalls(10, never)
    first, second = a_call("same"), a_call("same")
    pending.add(first, 60)
    pending.settle("same", None)
    pending.add(second, 60)
    pending.forget(first)
    assert pending.get("same") is second
    pending.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("ends", ["settled", "forgotten"])
async def test_ended_calls_are_not_kept_until_their_deadline(ends: str) -> None:
    pending = PendingCalls(10, never)
    for number in range(5 * SWEEP_ABOVE):
        call = a_call(f"{number}")
        pending.add(call, 3600)
        if ends == "settled":
            pending.settle(call.id, None)
        else:
            pending.forget(call)
    assert len(pending._due) <= 2 * SWEEP_ABOVE
    pending.close()


@pytest.mark.gen_test
async def test_a_sweep_loses_no_call_that_is_waiting() -> None:
    pending, due = pending_calls()
    pending.add(a_call("waits"), 0.05)
    for number in range(3 * SWEEP_ABOVE):
        pending.add(a_call(f"{number}"), 3600)
        pending.settle(f"{number}", None)
    await until(lambda: "waits" in due.at)
    pending.close()


@pytest.mark.gen_test
async def test_calls_may_end_and_start_during_an_iteration() -> None:
    pending = PendingCalls(10, never)
    results: list[Any] = []
    for number in range(3):
        pending.add(a_call(f"{number}"), 60)
    for call in pending:
        results.append(pending.settle(call.id, None))
        pending.add(a_call(f"again {call.id}"), 60)
    assert results == [True] * 3
    assert repr(pending) == "<PendingCalls: 3 of at most 10>"
    pending.close()


@pytest.mark.gen_test
async def test_refused_calls_are_named_with_the_reason() -> None:
    pending = PendingCalls(1, never)
    pending.add(a_call("1"), 60)
    with pytest.raises(DuplicateCallId, match=r"^another call with the id '1' is pending: choose another id$"):
        pending.add(a_call("1"), 60)
    with pytest.raises(Overloaded, match=r"^1 calls are pending, .*: wait, or raise max_pending$") as raised:
        pending.add(a_call("2"), 60)
    assert (raised.value.id, raised.value.task) == ("2", "t")
    pending.close()


@pytest.mark.gen_test
async def test_the_bytes_of_a_call_count_until_it_is_confirmed_settled_or_forgotten() -> None:
    pending = PendingCalls(10, never, max_bytes=8)
    confirmed, settled, smaller = a_call("1"), a_call("2"), a_call("3")  # of 4 bytes each
    pending.add(confirmed, 60)
    pending.add(settled, 60)
    with pytest.raises(Overloaded, match="8 bytes of calls"):
        pending.add(smaller, 60)
    assert pending.unconfirmed_bytes == 8
    assert pending.get("3") is None
    pending.confirm(confirmed)
    assert (pending.unconfirmed_bytes, confirmed.message.body.data) == (4, b"")
    pending.settle("2", None)
    assert pending.unconfirmed_bytes == 0
    pending.add(smaller, 60)
    pending.set_body(smaller, Body(b"x", "application/json"))
    assert (pending.unconfirmed_bytes, smaller.message.body.data) == (1, b"x")
    pending.forget(smaller)
    assert pending.unconfirmed_bytes == 0
    pending.close()


@pytest.mark.gen_test
async def test_an_earlier_deadline_moves_the_timer_and_a_later_one_does_not() -> None:
    pending = PendingCalls(10, never)
    timers = []
    for id, due_in in (("1", 60), ("2", 90), ("3", 30)):
        pending.add(a_call(id), due_in)
        timers.append(pending._timer)
    first, second, third = timers
    assert first is not None
    assert third is not None
    assert first is second
    assert first.cancelled()
    assert first.when() - third.when() == pytest.approx(30, abs=1)
    pending.close()
    pending.close()
    assert third.cancelled()
    assert pending._timer is None


@pytest.mark.gen_test
async def test_a_call_does_not_end_before_its_deadline() -> None:
    pending, due = pending_calls()
    pending.add(a_call("first"), 0.01)
    pending.add(a_call("second"), 0.5)
    await until(lambda: "first" in due.at)
    assert "second" not in due.at
    assert len(pending) == 1
    pending.close()


@pytest.mark.gen_test
async def test_the_entries_of_settled_calls_are_removed_when_they_are_the_larger_part() -> None:
    pending = PendingCalls(10 * SWEEP_ABOVE, never)
    for number in range(SWEEP_ABOVE + 1):
        pending.add(a_call(f"{number}"), 3600 - number)
    pending.add(a_call("stays"), 60)
    for number in range(SWEEP_ABOVE // 2 + 1):
        pending.settle(f"{number}", None)
    assert len(pending._due) == SWEEP_ABOVE + 2, "the other half of the calls is pending"
    for number in range(SWEEP_ABOVE // 2 + 1, SWEEP_ABOVE):
        pending.settle(f"{number}", None)
    assert len(pending._due) == SWEEP_ABOVE + 2
    pending.settle(f"{SWEEP_ABOVE}", None)
    assert len(pending._due) == SWEEP_ABOVE + 2, "as many as one call that is pending allows"
    pending.add(a_call("one more"), 30)
    pending.settle("one more", None)
    assert [id for _, _, id in pending._due] == ["stays"]
    pending.close()


@pytest.mark.parametrize("value", [1, 10_000])
def test_a_limit_of_one_or_more_is_accepted(value: int) -> None:
    assert check_limit("max_pending", value) == value


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "5", None])
def test_any_other_limit_is_a_value_error_that_names_the_argument(value: object) -> None:
    sentence = f"max_pending must be an int of at least 1, not {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        check_limit("max_pending", value)
