"""Calls are published, confirmed and settled, or end on time."""

import asyncio
import os
from typing import Any

import msgspec
import pytest

from crew import errors
from crew.amqp import ConfirmStatus
from crew.amqp.outbox.policy import CALLS
from crew.client.calling.call import PendingCall
from crew.client.calling.calls import REPLY_MARGIN, Calls
from crew.protocol import failure, properties
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Outcome, Reply
from crew.protocol.properties import Properties
from tests.support.deliveries import RecordingChannel, a_delivery
from tests.support.links import FakeLink
from tests.support.pending_calls import a_call
from tests.support.waiting import until


class Caller:
    """A client's calls over fake links."""

    def __init__(self, *, max_unsent: int = 100, **policy: Any) -> None:
        self.publishing, self.consuming = FakeLink(), FakeLink()
        self.calls = Calls(
            100,
            publishing=self.publishing.as_link(),
            consuming=self.consuming.as_link(),
            policy=msgspec.structs.replace(CALLS, **policy),
            max_unsent=max_unsent,
        )
        self.channel = RecordingChannel()

    def receive_reply(self, reply: Reply) -> None:
        """Deliver a reply."""
        self.receive(properties.of_reply(reply), reply.body.data)

    def receive(self, given: Properties, body: bytes = b"") -> None:
        """Deliver a message from the reply queue."""
        self.calls.on_reply(a_delivery(self.channel, properties=given, body=body))


def returned(id: str, value: Any) -> Reply:
    """A reply with a value."""
    return Reply(id=id, outcome=Outcome.RETURNED, body=codec.encode(value), headers={"a": 1})


@pytest.mark.gen_test
async def test_a_call_is_published_to_the_queue_of_its_task() -> None:
    caller = Caller()
    caller.calls.send(a_call("17"), 60)
    (published,) = caller.publishing.published
    assert (published.exchange, published.key, published.mandatory) == ("", "crew.tasks.t", True)
    assert published.properties.correlation_id == "17"
    caller.calls.close()


LARGE = "a" * (codec.QUICK + 1)


def a_large_call(payload: Any = LARGE) -> PendingCall[Any]:
    """A call whose body is to be compressed."""
    call = a_call()
    call.message = msgspec.structs.replace(call.message, body=codec.encode_on_loop(payload))
    return call


@pytest.mark.gen_test
async def test_a_large_call_is_published_after_a_thread_has_compressed_it() -> None:
    caller = Caller()
    large = a_large_call()
    caller.calls.send(large, 60)
    assert caller.calls._pending.unconfirmed_bytes > codec.QUICK
    caller.calls.send(a_call("18"), 60)
    caller.calls.send_waiting()  # after a reconnect
    assert [one.properties.correlation_id for one in caller.publishing.published] == ["18"]
    await until(lambda: len(caller.publishing.published) == 2)
    published = caller.publishing.published[1]
    assert (published.properties.correlation_id, published.properties.content_encoding) == (large.id, "gzip")
    assert published.body == codec.encode(LARGE).data
    assert caller.calls._pending.unconfirmed_bytes == len(published.body) + len(b"null")
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_large_call_waits_for_the_broker_after_it_was_compressed() -> None:
    caller = Caller()
    caller.publishing.is_ready = False
    large = a_large_call()
    caller.calls.send(large, 60)
    await until(lambda: not large.message.body.to_compress)
    assert caller.publishing.published == []
    caller.publishing.is_ready = True
    caller.calls.send_waiting()
    assert len(caller.publishing.published) == 1
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_large_call_that_is_canceled_meanwhile_is_never_published() -> None:
    caller = Caller()
    large = a_large_call()
    caller.calls.send(large, 60)
    caller.calls.cancel(large)
    after = a_large_call()
    caller.calls.send(after, 60)
    await until(lambda: caller.publishing.published)
    assert [one.properties.correlation_id for one in caller.publishing.published] == [after.id]
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_large_call_that_exceeds_the_limit_of_a_message_fails() -> None:
    caller = Caller()
    caller.calls._max_message = 1000
    call = a_large_call(os.urandom(codec.QUICK + 1))
    caller.calls.send(call, 60)
    with pytest.raises(errors.TooLarge, match=r"more than the limit of a message \(1000\)"):
        await call
    assert caller.publishing.published == []
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_large_value_is_decoded_in_another_thread_and_acknowledged_at_once() -> None:
    caller = Caller()
    large, small = a_call("17"), a_call("18")
    caller.calls.send(large, 60)
    caller.calls.send(small, 60)
    value = [{"a": i} for i in range(60_000)]
    caller.receive_reply(returned("17", value))
    assert not large.done()
    assert len(caller.channel.acked_through) == 1
    caller.receive_reply(returned("18", "value"))
    assert await small == "value"
    assert not large.done()
    assert (await large, large.headers) == (value, {"a": 1})
    caller.calls.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("data", [b"[" * 100_000, b"[" * 30_000, b'{"a":' * 900, b'"' + b"\xff" * 50_000 + b'"'])
@pytest.mark.parametrize("outcome", [Outcome.RETURNED, Outcome.RAISED, Outcome.TIMED_OUT, Outcome.CANCELED])
async def test_a_reply_that_cannot_be_decoded_ends_its_call(data: bytes, outcome: Outcome) -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.receive_reply(Reply(id="17", outcome=outcome, body=Body(data, codec.JSON)))
    with pytest.raises(errors.CrewError):
        await call
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_that_keeps_its_body_gets_the_undecoded_reply() -> None:
    caller = Caller()
    call = a_call("17")
    call.keeps_body = True
    caller.calls.send(call, 60)
    reply = returned("17", ["x" * 100_000])
    caller.receive_reply(reply)
    assert await call == reply.body
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_that_reaches_its_deadline_while_its_value_is_decoded_ends_once() -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.receive_reply(returned("17", ["x" * 100_000]))
    caller.calls.settle_all(errors.ConnectionError("gone"))
    with pytest.raises(errors.ConnectionError):
        await call
    await asyncio.sleep(0.05)
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_reply_ends_its_call_and_is_acknowledged() -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.receive_reply(returned("17", "value"))
    assert (await call, call.headers) == ("value", {"a": 1})
    assert len(caller.channel.acked_through) == 1
    assert len(caller.calls) == 0
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_late_reply_is_acknowledged_and_discarded() -> None:
    caller = Caller()
    caller.receive_reply(returned("unknown", "value"))
    assert len(caller.channel.acked_through) == 1


@pytest.mark.gen_test
async def test_a_message_that_is_not_a_reply_is_discarded(caplog: pytest.LogCaptureFixture) -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.receive(Properties())
    caller.receive(Properties(correlation_id="17", headers={"crew-outcome": 7}))
    assert len(caller.channel.acked_through) == 2
    assert caplog.text.count("reply unreadable, discarding it") == 2
    assert not call.done()
    caller.receive_reply(returned("17", "value"))
    assert await call == "value"
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_of_a_task_without_a_queue_fails_at_once_as_unknown() -> None:
    caller = Caller()
    call = a_call()
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.RETURNED)
    with pytest.raises(errors.UnknownTask, match="'t'"):
        await call
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_to_a_full_queue_fails_at_once() -> None:
    caller = Caller()
    call = a_call()
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.REFUSED)
    with pytest.raises(errors.Overloaded, match="full"):
        await call
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_refused_by_a_queue_without_a_leader_is_retried_on_a_new_channel() -> None:
    caller = Caller()
    caller.publishing.is_replicated = True
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.REFUSED)
    await until(lambda: len(caller.publishing.published) == 2)
    assert caller.publishing.changes == 1
    caller.publishing.confirm_all()
    caller.receive_reply(returned("17", "value"))
    assert await call == "value"
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_queue_that_has_accepted_a_call_and_still_refuses_others_is_full() -> None:
    caller = Caller(refused_for_after_confirm=0.0)
    caller.publishing.is_replicated = True
    caller.calls.send(a_call("17"), 60)
    caller.publishing.confirm_all()
    call = a_call("18")
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.REFUSED)
    with pytest.raises(errors.Overloaded, match="full"):
        await call
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_that_ends_before_its_queue_has_a_leader_is_not_published_again() -> None:
    caller = Caller()
    caller.publishing.is_replicated = True
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.REFUSED)
    caller.calls.cancel(call)
    caller.calls.send(a_call("18"), 60)
    caller.publishing.confirm_all(ConfirmStatus.REFUSED)
    await until(lambda: len(caller.publishing.published) >= 4)
    calls = [one.properties.correlation_id for one in caller.publishing.published if one.exchange == ""]
    assert calls == ["17", "18", "18"]
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_to_a_blocked_broker_fails_at_once() -> None:
    caller = Caller()
    caller.publishing.is_blocked = True
    with pytest.raises(errors.Overloaded, match="memory or disk"):
        caller.calls.send(a_call(), 60)
    assert len(caller.calls) == 0


@pytest.mark.gen_test
async def test_a_persistent_call_without_a_confirm_is_published_again() -> None:
    caller = Caller()
    call = a_call("17", persistent=True)
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.LOST)
    caller.calls.send_waiting()
    assert [one.properties.correlation_id for one in caller.publishing.published] == ["17", "17"]
    caller.publishing.confirm_all()
    caller.receive_reply(returned("17", "value"))
    assert await call == "value"
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_queue_that_left_a_call_unconfirmed_is_not_full_if_it_refuses_the_retry() -> None:
    """A majority of its nodes is down: the call waits for them, until its deadline."""
    caller = Caller(refused_for=0.0)
    caller.publishing.is_replicated = True
    call = a_call("17", persistent=True)
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.LOST)  # while the link is ready
    caller.calls.send_waiting()
    for count in (2, 3):
        await until(lambda count=count: len(caller.publishing.published) == count)  # type: ignore[misc]
        caller.publishing.confirm_all(ConfirmStatus.REFUSED)
    await until(lambda: len(caller.publishing.published) == 4)
    caller.publishing.confirm_all()
    caller.receive_reply(returned("17", "value"))
    assert await call == "value"
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_that_is_not_persistent_is_never_sent_twice() -> None:
    caller = Caller()
    call = a_call(persistent=False)
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.LOST)
    caller.calls.send_waiting()
    assert len(caller.publishing.published) == 1
    with pytest.raises(errors.ConnectionError, match="may be lost: the broker did not confirm it"):
        await call
    caller.calls.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("link", ["publishing", "consuming"])
async def test_a_call_waits_for_the_broker_within_its_expiration(link: str) -> None:
    """Also if only the link for replies is not ready."""
    caller = Caller()
    getattr(caller, link).is_ready = False
    call = a_call()
    caller.calls.send(call, 60)
    assert caller.publishing.published == []
    getattr(caller, link).is_ready = True
    caller.calls.send_waiting()
    caller.calls.send_waiting()
    assert len(caller.publishing.published) == 1
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_made_while_the_connection_breaks_waits_for_the_next_connection() -> None:
    """A channel closes one iteration of the loop before its link is lost."""
    caller = Caller()
    caller.publishing.breaks = 1
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.calls.send_waiting()
    assert [one.properties.correlation_id for one in caller.publishing.published] == ["17"]
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_that_could_not_be_sent_is_removed() -> None:
    """After an exception of `client.call`, the id may be used again."""
    caller = Caller()
    caller.publishing.breaks = 1
    call = a_call("17")
    try:
        caller.calls.send(call, 60)
    except errors.ConnectionError:
        assert len(caller.calls) == 0
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_that_no_worker_has_started_expires_on_time() -> None:
    caller = Caller()
    call = a_call()
    begin = asyncio.get_running_loop().time()
    caller.calls.send(call, 0.05)
    caller.publishing.confirm_all()
    with pytest.raises(errors.ExpirationError, match="no worker took task 't' in time"):
        await call
    assert 0.05 <= asyncio.get_running_loop().time() - begin < 0.05 + 0.5


@pytest.mark.gen_test
async def test_a_call_that_a_worker_has_started_times_out_on_time() -> None:
    caller = Caller()
    call = a_call("17")
    begin = asyncio.get_running_loop().time()
    caller.calls.send(call, 0.05)
    caller.receive_reply(Reply(id="17", outcome=Outcome.STARTED, body=Body(b"", None)))
    assert not call.done()
    with pytest.raises(errors.TimeoutError, match="was started"):
        await call
    assert 0.05 <= asyncio.get_running_loop().time() - begin < 0.05 + 0.5


@pytest.mark.gen_test
async def test_the_reply_of_a_worker_may_arrive_shortly_after_the_deadline() -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 0.01)
    data = failure.encode(Failure(type_name="TimeoutError", message="interrupted after 0.010 s"))
    asyncio.get_running_loop().call_later(
        0.01 + REPLY_MARGIN / 2,
        caller.receive_reply,
        Reply(id="17", outcome=Outcome.TIMED_OUT, body=Body(data, codec.JSON)),
    )
    with pytest.raises(errors.TimeoutError, match=r"interrupted after 0\.010 s"):
        await call


@pytest.mark.gen_test
async def test_the_error_of_a_call_that_never_reached_the_broker_names_the_broker() -> None:
    caller = Caller()
    caller.publishing.is_ready = False
    call = a_call()
    caller.calls.send(call, 0.01)
    with pytest.raises(errors.ExpirationError, match="the broker could not be reached"):
        await call


@pytest.mark.gen_test
async def test_closing_the_client_ends_every_call() -> None:
    caller = Caller()
    calls = [a_call() for _ in range(3)]
    for call in calls:
        caller.calls.send(call, 60)
    caller.calls.close()
    for call in calls:
        with pytest.raises(errors.ConnectionError, match="closed"):
            await call
    assert len(caller.calls) == 0


@pytest.mark.gen_test
async def test_a_refusal_of_an_old_call_does_not_end_a_new_call_with_its_id() -> None:
    caller = Caller()
    first, second = a_call("same"), a_call("same")
    caller.calls.send(first, 60)
    caller.calls.cancel(first)
    caller.calls.send(second, 60)
    caller.publishing.published[0].confirm.settle(ConfirmStatus.RETURNED)
    assert not second.done()
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_reply_to_an_earlier_call_with_the_same_id_does_not_end_a_call() -> None:
    caller = Caller()
    before, call = a_call("nightly", message_id="1"), a_call("nightly", message_id="2")
    caller.calls.send(before, 60)
    caller.calls.cancel(before)
    caller.calls.send(call, 60)
    for late in (returned("nightly", "first"), Reply(id="nightly", outcome=Outcome.STARTED, body=Body(b"", None))):
        caller.receive_reply(msgspec.structs.replace(late, message_id="1"))
        assert not call.done()
        assert not call.has_started
    caller.receive_reply(msgspec.structs.replace(returned("nightly", "second"), message_id="2"))
    assert await call == "second"
    caller.calls.close()


@pytest.mark.gen_test
async def test_calls_that_end_together_have_separate_tracebacks() -> None:
    caller = Caller()
    ended = [a_call() for _ in range(3)]
    for call in ended:
        caller.calls.send(call, 60)
    caller.calls.close()
    lengths = set()
    for call in ended:
        with pytest.raises(errors.ConnectionError, match="closed") as raised:
            await call
        lengths.add(len(raised.traceback))
    assert len(lengths) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["cancel", "settle_all", "reply", "large reply"])
async def test_a_call_that_ends_while_it_waits_for_the_broker_frees_its_body(end: str) -> None:
    caller = Caller()
    call = a_call("17", persistent=True)
    caller.calls.send(call, 60)
    caller.publishing.is_ready = False
    caller.publishing.confirm_all(ConfirmStatus.LOST)
    assert len(caller.calls._outbox) == 1
    if end == "cancel":
        caller.calls.cancel(call)
    elif end == "settle_all":
        caller.calls.settle_all(errors.ConnectionError("gone"))
    else:
        caller.receive_reply(returned("17", "value" if end == "reply" else ["x" * 100_000]))
    assert (len(caller.calls._outbox), call.unsent) == (0, None)
    call.is_awaited = True
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_waits_until_its_reply_can_arrive() -> None:
    caller = Caller()
    caller.consuming.is_ready = False
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.calls.send_waiting()
    assert (caller.publishing.published, call.is_published) == ([], False)
    caller.consuming.is_ready = True
    caller.calls.send_waiting()
    assert (len(caller.publishing.published), call.is_published) == (1, True)
    caller.calls.close()
