"""Replies on their way out."""

import functools
import logging
import socket
from typing import Any

import pytest
from pika import spec

from crew.amqp import ConfirmStatus
from crew.protocol import failure, properties
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Headers, Outcome, Reply, Run
from crew.protocol.properties import Properties
from crew.protocol.topology import Queue
from crew.worker.execution.result import Result, failed_with
from crew.worker.replies import reply_publisher as replies_module
from crew.worker.replies.backlog import Backlog
from crew.worker.replies.reply_publisher import ReplyPublisher
from tests.support.deliveries import a_delivery
from tests.support.links import FakeLink, never
from tests.support.waiting import until

VALUE = Result(Outcome.RETURNED, codec.encode({"width": 320}), {"took": 3})


class Sent:
    """Counts how often a reply was said to be sent."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def a_call(**fields: Any) -> Call:
    """A call of somebody who waits."""
    return Call(**{"id": "17", "task": "t", "body": Body(b"", None), "reply_to": "crew.reply.me", **fields})


def _has_published(link: FakeLink, count: int) -> bool:
    return len(link.published) == count


@pytest.fixture
def link() -> FakeLink:
    """The link to publish on."""
    return FakeLink()


@pytest.fixture
def replies(link: FakeLink) -> ReplyPublisher:
    """Replies of the worker `w`."""
    return ReplyPublisher(link.as_link(), "w")


def test_a_reply_goes_to_who_waits_for_it(replies: ReplyPublisher, link: FakeLink) -> None:
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


def test_a_delivery_is_done_when_the_broker_has_the_reply_and_not_before(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    assert (sent.times, len(replies)) == (0, 1)
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
async def test_a_reply_that_nobody_takes_ends_its_delivery_and_is_sent_again_some_times(
    replies: ReplyPublisher, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies_module, "RETURNED_RETRY_DELAYS", (0.01, 0.01))
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.RETURNED)
    assert (sent.times, len(replies)) == (1, 0), "who drains does not wait for a client that has gone"
    await until(lambda: len(link.published) == 2)
    link.confirm_all(ConfirmStatus.RETURNED)
    await until(lambda: len(link.published) == 3)
    link.confirm_all(ConfirmStatus.RETURNED)
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
async def test_a_parked_message_whose_queue_was_deleted_is_parked_all_the_same(
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
async def test_a_message_that_is_given_up_is_not_lost_while_nothing_can_be_parked(
    replies: ReplyPublisher, link: FakeLink, monkeypatch: pytest.MonkeyPatch, status: ConfirmStatus
) -> None:
    """The node that has crew.parked may be down for longer than a reply is worth."""
    monkeypatch.setattr(replies_module, "RETURNED_RETRY_DELAYS", (0.001, 0.001))
    monkeypatch.setattr(replies_module, "REFUSED_RETRY_DELAY", 0.001)
    monkeypatch.setattr(replies_module, "REFUSED_TIMEOUT", 0.0)
    sent = Sent()
    replies.park(a_delivery(), "it is broken", sent, never)
    for count in range(1, 6):
        await until(functools.partial(_has_published, link, count))
        link.confirm_all(status)
        assert not sent.times, "its delivery is not done"
    await until(functools.partial(_has_published, link, 6))
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def test_what_cannot_be_kept_for_the_broker_goes_back_where_it_came_from(link: FakeLink) -> None:
    """Else a message would be held for ever, and nothing more taken from its queue."""
    replies, dropped = ReplyPublisher(link.as_link(), "w", Backlog(max_replies=1)), Sent()
    link.is_ready = False
    replies.park(a_delivery(), "it is broken", never, dropped)
    replies.reply(a_call(), VALUE, never)
    assert dropped.times == 1


@pytest.mark.gen_test
async def test_a_reply_that_a_queue_without_a_leader_refuses_is_sent_again_over_another_channel(
    replies: ReplyPublisher, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies_module, "REFUSED_RETRY_DELAY", 0.001)
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    for count in range(1, 4):
        link.confirm_all(ConfirmStatus.REFUSED)
        assert (sent.times, len(replies), link.changes) == (0, 1, count)
        await until(functools.partial(_has_published, link, count + 1))
    link.confirm_all(ConfirmStatus.CONFIRMED)
    assert (sent.times, len(replies)) == (1, 0)


@pytest.mark.gen_test
async def test_a_reply_that_is_refused_for_ever_is_given_up(
    replies: ReplyPublisher, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies_module, "REFUSED_RETRY_DELAY", 0.001)
    monkeypatch.setattr(replies_module, "REFUSED_TIMEOUT", 0.02)
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)

    def refused_until_sent() -> int:
        link.confirm_all(ConfirmStatus.REFUSED)
        return sent.times

    await until(refused_until_sent)
    assert (sent.times, len(replies)) == (1, 0)


def test_who_waits_for_nothing_gets_nothing(replies: ReplyPublisher, link: FakeLink) -> None:
    sent = Sent()
    replies.reply(a_call(reply_to=None), VALUE, sent)
    assert (sent.times, link.published) == (1, [])


@pytest.mark.parametrize("away", ["is_ready", "breaks"])
def test_a_reply_waits_for_the_broker(replies: ReplyPublisher, link: FakeLink, away: str) -> None:
    sent = Sent()
    link.is_ready = away != "is_ready"
    link.breaks = int(away == "breaks")
    replies.reply(a_call(), VALUE, sent)
    assert (sent.times, len(replies), link.published) == (0, 1, [])
    link.is_ready = True
    replies.send_waiting()
    link.confirm_all()
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 1)


def test_a_reply_that_was_lost_on_its_way_is_sent_again(replies: ReplyPublisher, link: FakeLink) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.LOST)
    assert (sent.times, len(replies)) == (0, 1)
    replies.send_waiting()
    link.confirm_all()
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 2)


def test_replies_that_waited_leave_in_their_order(replies: ReplyPublisher, link: FakeLink) -> None:
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


def test_a_failure_names_its_worker(replies: ReplyPublisher, link: FakeLink) -> None:
    replies.reply(a_call(), failed_with(Outcome.TIMED_OUT, Failure(type_name="TimeoutError")), never)
    (published,) = link.published
    reply = properties.to_reply(published.properties, published.body)
    assert isinstance(reply, Reply)
    assert (reply.outcome, reply.worker) == (Outcome.TIMED_OUT, "w")


def test_a_start_is_announced_to_who_waits(replies: ReplyPublisher, link: FakeLink) -> None:
    assert replies.announce(a_call())
    assert replies.announce(a_call(reply_to=None)), "nobody is to be told"
    (published,) = link.published
    reply = properties.to_reply(published.properties, published.body)
    assert isinstance(reply, Reply)
    assert reply.outcome is Outcome.STARTED
    assert published.properties.delivery_mode == 1


@pytest.mark.parametrize("away", ["is_ready", "breaks"])
def test_an_announcement_is_not_kept_for_the_broker_but_tried_again_by_who_knows_whether_it_is_news(
    replies: ReplyPublisher, link: FakeLink, away: str
) -> None:
    link.is_ready = away != "is_ready"
    link.breaks = int(away == "breaks")
    assert not replies.announce(a_call())
    assert (link.published, len(replies)) == ([], 0)


def test_a_message_that_is_given_up_is_kept_with_the_reason(
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
    ids=["a reason that quotes it all", "headers of a whole frame", "numbers that pika writes in more bytes"],
)
def test_a_message_that_is_given_up_does_not_break_the_connection_that_parks_it(
    replies: ReplyPublisher, link: FakeLink, headers: Headers, reason: str
) -> None:
    """Properties larger than a frame close it, and the message would be parked again on the next, for ever."""
    replies.park(a_delivery(properties=Properties(correlation_id="17", headers=headers)), reason, never, never)
    (published,) = link.published
    assert (published.properties.headers or {})["crew-reason"]
    encoded = spec.BasicProperties(headers=published.properties.headers).encode()
    assert sum(map(len, encoded)) < 128 * 1024 - 1024


def test_who_called_is_told_of_a_value_that_the_broker_does_not_take(replies: ReplyPublisher, link: FakeLink) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    assert sent.times == 0
    reply = properties.to_reply(link.published[-1].properties, link.published[-1].body)
    assert isinstance(reply, Reply)
    assert reply.outcome is Outcome.RAISED
    told = failure.decode(reply.body.data)
    assert told.type_name == "crew.errors.TooLarge"
    assert "task 't': the broker does not accept its return value of 13 bytes" in told.message
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def test_a_failure_that_the_broker_does_not_take_ends_its_delivery(replies: ReplyPublisher, link: FakeLink) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 2)


def test_a_message_that_the_broker_takes_no_longer_is_parked_without_its_body(
    replies: ReplyPublisher, link: FakeLink
) -> None:
    sent = Sent()
    replies.park(a_delivery(task="t", body=b"large"), "why", sent, never)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    assert [one.body for one in link.published] == [b"large", b""]
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def refuse(link: FakeLink, reason: str) -> None:
    """The broker does not accept the last message."""
    link.published[-1].confirm.refuse(reason)


def test_who_called_is_told_why_the_broker_does_not_accept_a_reply(replies: ReplyPublisher, link: FakeLink) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    refuse(link, "invalid message (406)")
    assert sent.times == 0
    reply = properties.to_reply(link.published[-1].properties, link.published[-1].body)
    assert isinstance(reply, Reply)
    assert (reply.outcome, reply.headers) == (Outcome.RAISED, {})
    told = failure.decode(reply.body.data)
    assert told.type_name == "crew.errors.MessageRefused"
    assert told.message == "task 't': the broker does not accept its reply: invalid message (406)"
    link.confirm_all()
    assert (sent.times, len(replies)) == (1, 0)


def test_a_failure_that_the_broker_does_not_accept_ends_its_delivery(
    replies: ReplyPublisher, link: FakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    sent = Sent()
    replies.reply(a_call(), VALUE, sent)
    refuse(link, "why")
    refuse(link, "why")
    assert (sent.times, len(replies), len(link.published)) == (1, 0, 2)
    assert "message discarded: the broker does not accept it queue='crew.reply.me' id='17'" in caplog.text


def test_a_message_that_the_broker_accepts_no_longer_is_parked_with_less_and_at_last_not_at_all(
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
async def test_no_queue_is_declared_because_a_message_names_it(
    replies: ReplyPublisher, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job store has its own gateways, which declare its queue."""
    monkeypatch.setattr(replies_module, "RETURNED_RETRY_DELAYS", (0.001, 0.001))
    sent = Sent()
    for number in range(50):
        replies.reply(a_call(reply_to=f"crew.jobs.forged{number}", is_job=True), VALUE, sent, run=Run(host="host:7"))
    for count in (50, 100, 150):
        await until(functools.partial(_has_published, link, count))
        link.confirm_all(ConfirmStatus.RETURNED)
    await until(lambda: not replies._returned)
    assert (sent.times, len(replies)) == (50, 0), "every delivery is acknowledged and nothing is retried"
    assert link.declared_once == link.topology == []


@pytest.mark.gen_test
@pytest.mark.parametrize("by", ["its answer to a briefing", "the end of an earlier job"])
async def test_a_reply_to_a_job_store_that_is_known_is_not_given_up_while_its_queue_is_away(
    link: FakeLink, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(replies_module, "RETURNED_RETRY_DELAYS", (0.001, 0.001))
    known = {"crew.jobs.a"} if "briefing" in by else set()
    replies = ReplyPublisher(link.as_link(), "w", knows_store=known.__contains__)
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
        assert not sent.times, "its delivery is not done: another worker may run the job"
    await until(functools.partial(_has_published, link, 6))
    link.confirm_all()
    assert sent.times == 1
    assert link.declared_once == []
