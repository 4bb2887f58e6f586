"""Messages that are prepared or awaited, and an outbox that waits for the connection by itself."""

import asyncio

import pytest

from crew.amqp import Confirm, ConfirmStatus
from crew.amqp.outbox.outbox import Outbox
from crew.amqp.outbox.outgoing import AwaitedMessage
from crew.amqp.outbox.policy import EVENTS
from crew.errors import ConnectionError
from crew.protocol.properties import Properties
from tests.support.links import FakeLink
from tests.support.outboxes import Message, Sender
from tests.support.waiting import until

CONFIRMED, RETURNED, REFUSED = ConfirmStatus.CONFIRMED, ConfirmStatus.RETURNED, ConfirmStatus.REFUSED
TOO_LARGE, INVALID, LOST = ConfirmStatus.TOO_LARGE, ConfirmStatus.INVALID, ConfirmStatus.LOST


# --- preparing --------------------------------------------------------------------------------------------------------


def prepared(sender: Sender, *steps: Exception | None) -> Message:
    """Make a message with one step for each preparation: None, or the error that it raises."""
    message, left = Message(link=sender.link, id="1"), iter(steps)

    async def prepare() -> None:
        await asyncio.sleep(0)
        if (error := next(left)) is not None:
            raise error

    message.prepare = prepare
    return message


@pytest.mark.gen_test
async def test_a_message_is_prepared_before_each_attempt_and_at_once_after_its_first_return() -> None:
    sender = Sender(returned_delays=(0.3, 0.7))
    message = prepared(sender, None, None, None)
    sender.outbox.send(message)
    assert (sender.published, len(sender.outbox)) == ([], 1)
    for count, delay in ((1, 0.0), (2, 0.7)):
        await until(lambda count=count: len(sender.published) == count)  # type: ignore[misc]
        sender.link.confirm_all(RETURNED)
        assert sender.timers.waits == [delay]
        sender.timers.advance(delay)
    await until(lambda: len(sender.published) == 3)


@pytest.mark.gen_test
async def test_a_message_that_cannot_be_prepared_is_prepared_again() -> None:
    sender = Sender(returned_delays=(0.3,), max_attempts=3)
    error = ConnectionError("the queue cannot be declared")
    message = prepared(sender, error, error, error)
    sender.outbox.send(message)
    for _ in range(2):
        await until(lambda: sender.outbox.returned)
        assert not message.ends
        sender.timers.advance(0.3)
    await until(lambda: message.ends and not sender.outbox.tasks)
    assert (message.ends, sender.published, len(sender.outbox)) == ([error], [], 0)


@pytest.mark.gen_test
async def test_a_message_that_cannot_be_prepared_while_the_broker_is_away_waits_for_it() -> None:
    sender = Sender(max_attempts=1)
    message = prepared(sender, ConnectionError("the link is lost"), None)
    sender.link.is_ready = False
    sender.outbox.send(message)
    await until(lambda: not sender.outbox.tasks)
    assert (message.ends, len(sender.outbox)) == ([], 1)
    sender.reconnect()
    await until(lambda: sender.published == ["1"])


@pytest.mark.gen_test
async def test_another_error_while_it_is_prepared_ends_a_message() -> None:
    sender = Sender()
    message = prepared(sender, error := ValueError("too large"))
    sender.outbox.send(message)
    await until(lambda: not sender.outbox.tasks)
    assert (message.ends, sender.published, len(sender.outbox)) == ([error], [], 0)


@pytest.mark.gen_test
async def test_a_message_that_is_not_wanted_when_it_is_prepared_is_forgotten() -> None:
    sender = Sender()
    message = prepared(sender, None)
    sender.outbox.send(message)
    message.wanted = False
    await until(lambda: not sender.outbox.tasks)
    assert (message.ends, sender.published, len(sender.outbox)) == ([], [], 0)


# --- resuming by itself -----------------------------------------------------------------------------------------------


class Awaited(AwaitedMessage, kw_only=True):
    """A message whose sender waits for its Confirm."""

    link: FakeLink

    def publish(self) -> Confirm:
        """Publish it."""
        given = Properties(correlation_id=self.id, delivery_mode=2)
        return self.link.publish("", "q", given, b"", mandatory=True)


class Closed(FakeLink):
    """A link that was closed while messages waited."""

    def __init__(self) -> None:
        super().__init__()
        self.is_ready = False

    async def ready(self) -> None:
        """Raise an error."""
        await asyncio.sleep(0)
        raise ConnectionError("the connection is closed")


@pytest.mark.gen_test
async def test_an_outbox_that_resumes_waits_for_the_connection_by_itself() -> None:
    sender = Sender(resumes=True)
    sender.link.is_ready = False
    for id in "12":
        sender.send(id)
    assert len(sender.outbox.tasks) == 1
    sender.link.is_ready = True
    await until(lambda: sender.published == ["1", "2"])
    assert not sender.outbox.tasks


def test_an_outbox_that_does_not_resume_waits_for_its_owner() -> None:
    sender = Sender(resumes=False)
    sender.link.is_ready = False
    sender.send()
    assert not sender.outbox.tasks
    sender.link.breaks = 1
    sender.link.is_ready = True
    sender.send()
    assert not sender.timers.waits


def test_a_message_that_finds_a_broken_channel_is_published_again_soon_over_the_same_link() -> None:
    sender = Sender(resumes=True, again_after=0.1)
    sender.link.breaks = 2
    sender.send()
    for _ in range(2):
        assert (sender.published, sender.timers.waits, sender.link.changes) == ([], [0.1], 0)
        sender.timers.advance(0.1)
    assert sender.published == ["1"]


def test_messages_that_wait_for_the_connection_are_published_before_a_new_one() -> None:
    sender = Sender(resumes=True)
    sender.link.breaks = 1
    sender.send("1")
    sender.send("2")
    assert sender.published == ["1", "2"]


def test_a_refusal_changes_the_channel_also_while_a_lost_message_waits() -> None:
    sender = Sender(resumes=True)
    sender.send("1")
    sender.link.confirm_all(LOST)
    assert sender.link.changes == 0
    sender.send("2")
    sender.link.confirm_all(REFUSED)
    assert (sender.link.changes, len(sender.timers.waits)) == (1, 1)


def test_a_message_is_given_up_when_it_has_waited_too_long_for_the_connection() -> None:
    sender = Sender(kept_for=2.0)
    sender.link.is_ready = False
    one = sender.send("1")
    sender.timers.advance(1.0)
    other = sender.send("2")
    sender.timers.advance(1.0)
    assert isinstance(one.ends[0], ConnectionError)
    assert other.ends == []
    sender.reconnect()
    sender.timers.advance(2.0)
    assert (sender.published, other.ends, len(one.ends)) == (["2"], [], 1)


@pytest.mark.gen_test
async def test_waiting_messages_fail_when_the_link_is_closed() -> None:
    outbox = Outbox((link := Closed()).as_link(), EVENTS)
    messages = [Awaited(id=id, link=link) for id in "12"]
    for message in messages:
        outbox.send(message)
    errors = await asyncio.gather(*map(outbox.settled, messages), return_exceptions=True)
    assert [str(error) for error in errors] == ["the connection is closed"] * 2
    assert errors[0] is not errors[1], "a shared error would keep the stacks of all who raise it"
    assert (len(outbox), outbox.tasks) == (0, set())


@pytest.mark.gen_test
async def test_the_sender_of_an_awaited_message_gets_its_confirm() -> None:
    sender = Sender(EVENTS)
    sender.outbox.send(message := Awaited(id="1", link=sender.link))
    settled = asyncio.ensure_future(sender.outbox.settled(message))
    await asyncio.sleep(0)
    sender.answer(REFUSED)
    assert not settled.done()
    sender.answer(INVALID)
    assert (await settled).status is INVALID


@pytest.mark.gen_test
async def test_an_awaited_message_is_forgotten_when_its_sender_is_canceled() -> None:
    sender = Sender(EVENTS)
    sender.link.is_ready = False
    messages = [Awaited(id=id, link=sender.link) for id in "12"]
    for message in messages:
        sender.outbox.send(message)
    for message in messages:
        assert len(sender.outbox.tasks) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await sender.outbox.settled(message)
    assert (len(sender.outbox), sender.outbox.tasks) == (0, set())


@pytest.mark.gen_test
async def test_an_awaited_message_is_not_published_again_after_its_sender_was_canceled() -> None:
    sender = Sender(EVENTS)
    sender.outbox.send(message := Awaited(id="1", link=sender.link))
    message.settled.cancel()
    sender.answer(LOST)
    assert sender.published == ["1"]


@pytest.mark.gen_test
async def test_the_confirm_of_an_awaited_message_may_come_after_its_sender_was_canceled() -> None:
    sender = Sender(EVENTS)
    for status in (CONFIRMED, INVALID):
        sender.outbox.send(message := Awaited(id="1", link=sender.link))
        message.settled.cancel()
        sender.link.confirm_all(status)
    message.on_failed(ConnectionError("closed"))
    assert len(sender.outbox) == 0


@pytest.mark.gen_test
async def test_an_awaited_message_that_is_dropped_fails() -> None:
    sender = Sender(EVENTS, max_messages=0)
    sender.link.is_ready = False
    sender.outbox.send(message := Awaited(id="1", link=sender.link))
    with pytest.raises(ConnectionError, match="too many messages"):
        await sender.outbox.settled(message)


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_closed_outbox_publishes_nothing_more() -> None:
    sender = Sender(EVENTS, returned_delays=(0.3,))
    ready, returned, refused = (sender.send(id) for id in "123")
    sender.link.published[0].confirm.settle(LOST)
    sender.link.published[1].confirm.settle(RETURNED)
    sender.link.published[2].confirm.settle(REFUSED)
    being_prepared = prepared(sender, None)
    sender.outbox.send(being_prepared)
    sender.link.is_ready = False
    sender.send("5")
    count = len(sender.published)
    sender.outbox.close()
    sender.outbox.close()
    sender.link.is_ready = True
    sender.timers.advance(60.0)
    await asyncio.sleep(0.01)
    assert (len(sender.published), sender.outbox.returned, sender.outbox.tasks) == (count, 0, set())
    assert [message.ends for message in (ready, returned, refused, being_prepared)] == [[]] * 4


def test_its_state_is_shown() -> None:
    sender = Sender(returned_delays=(1.0,))
    for id in "123":
        sender.send(id)
    sender.link.published[0].confirm.settle(RETURNED)
    sender.link.published[1].confirm.settle(REFUSED)
    assert repr(sender.outbox) == "<Outbox of kind test: 1 wait, 1 not confirmed, 1 returned>"
