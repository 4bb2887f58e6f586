"""The reply publisher."""

import functools
import logging
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pika import spec

from crew.amqp import ConfirmStatus
from crew.amqp.outbox.policy import REPLIES
from crew.protocol import failure, properties
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Headers, Outcome, Reply, Run
from crew.protocol.properties import Properties
from crew.protocol.topology import Queue
from crew.worker.execution.result import Result, failed_with
from crew.worker.replies.reply_publisher import ReplyPublisher
from tests.support.deliveries import a_delivery
from tests.support.links import FakeLink, never
from tests.support.waiting import until

VALUE = Result(Outcome.RETURNED, codec.encode({"width": 320}), {"took": 3})


class Sent:
    """Counts how often `on_sent` was called."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def a_call(**fields: Any) -> Call:
    """Make a call that wants a reply."""
    return Call(**{"id": "17", "task": "t", "body": Body(b"", None), "reply_to": "crew.reply.me", **fields})


def _has_published(link: FakeLink, count: int) -> bool:
    return len(link.published) == count


@pytest.fixture
def link() -> FakeLink:
    """The publishing link."""
    return FakeLink()


def impatient(
    link: FakeLink, *, knows_store: Callable[[str], bool] = lambda queue: False, **changes: Any
) -> ReplyPublisher:
    """The reply publisher of the worker `w`, with short delays and with `changes` to its policy."""
    policy = msgspec.structs.replace(REPLIES, returned_delays=(0.001, 0.001), again_after=0.001, **changes)
    return ReplyPublisher(link.as_link(), "w", knows_store=knows_store, policy=policy)


@pytest.fixture
def replies(link: FakeLink) -> ReplyPublisher:
    """The reply publisher of the worker `w`."""
    return ReplyPublisher(link.as_link(), "w")


def test_a_reply_goes_to_the_reply_queue_of_its_caller(replies: ReplyPublisher, link: FakeLink) -> None:
    replies.reply(a_call(), VALUE, never)
    (published,) = link.published
    assert (published.exchange, published.key, published.mandatory) == ("", "crew.reply.me", True)
    reply = properties.to_reply(published.properties, published.body)
    assert isinstance(reply, Reply)
    assert (reply.id, reply.outcome, reply.headers, codec.decode(reply.body)) == (
        "17",
        Outcome.RETURNED,
        {"took": 3},
        {"width": 320},
    )


def test_a_delivery_is_settled_only_when_the_broker_has_confirmed_the_reply(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    assert (sent.times, len(replies)) == (0, 1)
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
async def test_a_returned_reply_settles_its_delivery_and_is_retried_a_few_times(link: FakeLink) -> None:
    replies, sent = impatient(link), Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.RETURNED)
    assert (sent.times, len(replies)) == (1, 0), "a drain does not wait for a client that is gone"
    await until(lambda: len(link.published) == 2)
    link.confirm_all(ConfirmStatus.RETURNED)
    await until(lambda: len(link.published) == 3)
    link.confirm_all(ConfirmStatus.RETURNED)
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
async def test_a_message_is_parked_even_if_the_parked_queue_was_deleted(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.park(a_delivery(), "it is broken", sent, never)
    link.confirm_all(ConfirmStatus.RETURNED)
    await until(lambda: len(link.published) == 2)
    assert [item.name for item in link.declared_once if isinstance(item, Queue)] == ["crew.parked"]
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [ConfirmStatus.RETURNED, ConfirmStatus.REFUSED])
async def test_parking_is_retried_without_a_limit(link: FakeLink, status: ConfirmStatus) -> None:
    """The node that holds crew.parked may be down for longer than a reply is retried."""
    replies, sent = impatient(link, refused_for=0.0), Sent()
    replies.park(a_delivery(), "it is broken", sent, never)
    for count in range(1, 6):
        await until(functools.partial(_has_published, link, count))
        link.confirm_all(status)
        assert not sent.times, "its delivery is not acknowledged"
    await until(functools.partial(_has_published, link, 6))
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def test_a_discarded_message_returns_its_delivery_to_the_queue(link: FakeLink) -> None:
    """Otherwise the delivery would stay unacknowledged for ever, and block its queue."""
    replies, dropped = impatient(link, max_messages=1), Sent()
    link.is_ready = False
    replies.park(a_delivery(), "it is broken", never, dropped)
    replies.reply(a_call(), VALUE, never)
    assert dropped.times == 1


@pytest.mark.gen_test
async def test_a_refused_reply_is_retried_over_another_channel(link: FakeLink) -> None:
    replies, sent = impatient(link), Sent()
    replies.reply(a_call(), VALUE, sent)
    for count in range(1, 4):
        link.confirm_all(ConfirmStatus.REFUSED)
        assert (sent.times, len(replies), link.changes) == (0, 1, count)
        await until(functools.partial(_has_published, link, count + 1))
    link.confirm_all(ConfirmStatus.CONFIRMED)
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
async def test_a_reply_that_is_refused_again_and_again_is_discarded(link: FakeLink) -> None:
    replies, sent = impatient(link, refused_for=0.02), Sent()
    replies.reply(a_call(), VALUE, sent)

    def refused_until_sent() -> int:
        link.confirm_all(ConfirmStatus.REFUSED)
        return sent.times

    await until(refused_until_sent)
    assert (sent.times, len(replies)) == (1, 0)


def test_a_call_without_reply_to_gets_no_reply(replies: ReplyPublisher, link: FakeLink) -> None:
    sent = Sent()
    replies.reply(a_call(reply_to=None), VALUE, sent)
    assert (sent.times, link.published) == (1, [])


@pytest.mark.parametrize("away", ["is_ready", "breaks"])
def test_a_reply_waits_while_the_broker_is_away(replies: ReplyPublisher, link: FakeLink, away: str) -> None:
    sent = Sent()
    link.is_ready = away != "is_ready"
    link.breaks = int(away == "breaks")
    replies.reply(a_call(), VALUE, sent)
    assert (sent.times, len(replies), link.published) == (0, 1, [])
    link.is_ready = True
    replies.send_waiting()
    link.confirm_all()
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 1)


def test_a_reply_whose_confirm_was_lost_is_sent_again(replies: ReplyPublisher, link: FakeLink) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.LOST)
    assert (sent.times, len(replies)) == (0, 1)
    replies.send_waiting()
    link.confirm_all()
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 2)


def test_waiting_replies_are_sent_in_their_order(replies: ReplyPublisher, link: FakeLink) -> None:
    link.is_ready = False
    for id in ("a", "b", "c"):
        replies.reply(a_call(id=id), VALUE, Sent())
    link.is_ready = True
    replies.send_waiting()
    assert [one.properties.correlation_id for one in link.published] == ["a", "b", "c"]


def test_a_reply_is_as_persistent_as_its_call(replies: ReplyPublisher, link: FakeLink) -> None:
    for persistent in (True, False):
        replies.reply(a_call(persistent=persistent), VALUE, never)
    assert [one.properties.delivery_mode for one in link.published] == [2, 1]


def test_the_reply_of_a_failure_names_its_worker(replies: ReplyPublisher, link: FakeLink) -> None:
    replies.reply(a_call(), failed_with(Outcome.TIMED_OUT, Failure(type_name="TimeoutError")), never)
    (published,) = link.published
    reply = properties.to_reply(published.properties, published.body)
    assert isinstance(reply, Reply)
    assert (reply.outcome, reply.worker) == (Outcome.TIMED_OUT, "w")


def test_a_start_is_announced_to_the_caller(replies: ReplyPublisher, link: FakeLink) -> None:
    assert replies.announce(a_call())
    assert replies.announce(a_call(reply_to=None)), "it wants no reply"
    (published,) = link.published
    reply = properties.to_reply(published.properties, published.body)
    assert isinstance(reply, Reply)
    assert reply.outcome is Outcome.STARTED
    assert published.properties.delivery_mode == 1


@pytest.mark.parametrize("away", ["is_ready", "breaks"])
def test_an_announcement_does_not_wait_while_the_broker_is_away(
    replies: ReplyPublisher, link: FakeLink, away: str
) -> None:
    link.is_ready = away != "is_ready"
    link.breaks = int(away == "breaks")
    assert not replies.announce(a_call())
    assert (link.published, len(replies)) == ([], 0)


def test_a_parked_message_carries_the_reason(
    replies: ReplyPublisher, link: FakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    given = Properties(
        correlation_id="17",
        headers={"tenant": "a", "crew-deadline": 1, "x-death": []},
        expiration="1000",
        delivery_mode=1,
    )
    sent = Sent()
    with caplog.at_level(logging.ERROR):
        replies.park(a_delivery(task="resize", properties=given, body=b"body"), "it cannot be read", sent, never)
    (published,) = link.published
    assert (published.key, published.body) == ("crew.parked", b"body")
    assert published.properties.headers == {
        "tenant": "a",
        "crew-deadline": 1,
        "crew-reason": "it cannot be read",
        "crew-host": socket.gethostname(),
        "crew-task": "resize",
    }
    assert (published.properties.expiration, published.properties.delivery_mode) == (None, 2)
    assert "it cannot be read" in caplog.text
    link.confirm_all()
    assert sent.times == 1


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "header crew-deadline must be of type int, not " + "\\xff" * 60_000),
        ({"a": "x" * 130_000}, "it cannot be read"),
        ({"a": [1] * 40_000}, "it cannot be read"),
    ],
    ids=["a long reason", "headers of a whole frame", "numbers that pika writes in more bytes"],
)
def test_parking_a_message_with_large_headers_does_not_break_the_connection(
    replies: ReplyPublisher, link: FakeLink, headers: Headers, reason: str
) -> None:
    """Properties larger than a frame close the connection, and parking would be repeated on the next one, for ever."""
    replies.park(a_delivery(properties=Properties(correlation_id="17", headers=headers)), reason, never, never)
    (published,) = link.published
    assert (published.properties.headers or {})["crew-reason"]
    encoded = spec.BasicProperties(headers=published.properties.headers).encode()
    assert sum(map(len, encoded)) < 128 * 1024 - 1024


def test_the_caller_gets_an_error_if_its_value_is_too_large_for_the_broker(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    assert sent.times == 0
    reply = properties.to_reply(link.published[-1].properties, link.published[-1].body)
    assert isinstance(reply, Reply)
    assert reply.outcome is Outcome.RAISED
    reported = failure.decode(reply.body.data)
    assert reported.type_name == "crew.errors.TooLarge"
    assert "task 't': the broker does not accept its return value of 13 bytes" in reported.message
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def test_a_failure_that_is_too_large_for_the_broker_settles_its_delivery(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 2)


def test_a_message_that_is_too_large_for_the_broker_is_parked_without_its_body(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.park(a_delivery(task="t", body=b"large"), "why", sent, never)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    assert [one.body for one in link.published] == [b"large", b""]
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def refuse(link: FakeLink, reason: str) -> None:
    """Refuse the last message."""
    link.published[-1].confirm.refuse(reason)


def test_the_caller_gets_the_reason_why_the_broker_does_not_accept_a_reply(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    refuse(link, "invalid message (406)")
    assert sent.times == 0
    reply = properties.to_reply(link.published[-1].properties, link.published[-1].body)
    assert isinstance(reply, Reply)
    assert (reply.outcome, reply.headers) == (Outcome.RAISED, {})
    reported = failure.decode(reply.body.data)
    assert reported.type_name == "crew.errors.MessageRefused"
    assert reported.message == "task 't': the broker does not accept its reply: invalid message (406)"
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def test_a_failure_that_the_broker_does_not_accept_settles_its_delivery(
    replies: ReplyPublisher, link: FakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    refuse(link, "why")
    refuse(link, "why")
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 2)
    assert "message discarded: the broker does not accept it queue='crew.reply.me' id='17'" in caplog.text


def test_a_message_that_the_broker_does_not_accept_is_parked_with_fewer_parts(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    given = Properties(correlation_id="17", type="call", headers={"mine": "x"})
    replies.park(a_delivery(task="t", body=b"body", properties=given), "why", sent, never)
    for _ in range(3):
        refuse(link, "not this")
    assert [one.body for one in link.published] == [b"body", b"body", b""]
    headers = [set(one.properties.headers or {}) for one in link.published]
    assert (
        headers == [{"mine", "crew-task", "crew-reason", "crew-host"}] + [{"crew-task", "crew-reason", "crew-host"}] * 2
    )
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
async def test_no_queue_is_declared_because_a_message_names_it(link: FakeLink) -> None:
    """The gateways of a job store declare its queue."""
    replies, sent = impatient(link), Sent()
    for number in range(50):
        replies.reply(a_call(reply_to=f"crew.jobs.forged{number}", is_job=True), VALUE, sent, run=Run(host="host:7"))
    for count in (50, 100, 150):
        await until(functools.partial(_has_published, link, count))
        link.confirm_all(ConfirmStatus.RETURNED)
    await until(lambda: not replies._outbox.returned)
    assert (sent.times, len(replies)) == (50, 0), "every delivery is acknowledged and nothing is retried"
    assert link.declared_once == link.topology == []


@pytest.mark.gen_test
@pytest.mark.parametrize("by", ["its answer to a briefing", "the end of an earlier job"])
async def test_a_reply_to_a_known_job_store_is_retried_while_its_queue_is_missing(link: FakeLink, by: str) -> None:
    known = {"crew.jobs.a"} if "briefing" in by else set()
    replies = impatient(link, knows_store=known.__contains__)
    run = Run(host="host:7")
    if not known:
        replies.reply(a_call(reply_to="crew.jobs.a", is_job=True), VALUE, lambda: None, run=run)
        link.confirm_all()
        link.published.clear()
    sent = Sent()
    replies.reply(a_call(reply_to="crew.jobs.a", is_job=True), VALUE, sent, run=run)
    for count in range(1, 6):
        await until(functools.partial(_has_published, link, count))
        link.confirm_all(ConfirmStatus.RETURNED)
        assert not sent.times, "its delivery is not acknowledged: another worker may run the job"
    await until(functools.partial(_has_published, link, 6))
    link.confirm_all()
    assert sent.times == 1
    assert link.declared_once == []
