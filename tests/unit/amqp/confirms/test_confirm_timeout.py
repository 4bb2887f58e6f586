"""A message that the broker does not confirm in time is published again."""

import asyncio
import logging

import pytest

from crew.amqp import ConfirmStatus
from crew.amqp.channel import Channel
from crew.amqp.errors import LinkError
from crew.protocol.properties import Properties
from tests.support.pika_channel import Ends, OneChannelConnection, a_channel
from tests.support.waiting import until

TIMEOUT = 0.02  # seconds


async def an_open_channel(connection: OneChannelConnection, left: list[Channel]) -> Channel:
    """An open channel with a short timeout; it is appended to `left` when messages time out."""

    async def on_timeout(channel: Channel, last: int) -> None:
        left.append(channel)
        await channel.lose_up_to(last)

    channel = a_channel(connection, Ends(), on_timeout=on_timeout, confirm_timeout=TIMEOUT)
    await channel.open()
    return channel


def statuses_of(channel: Channel, *ids: str) -> list[ConfirmStatus]:
    """Publish messages; return a list that gets their statuses in the order of settling."""
    settled: list[ConfirmStatus] = []
    for id in ids:
        channel.publish("", "q", Properties(correlation_id=id), b"", mandatory=True).then(settled.append)
    return settled


@pytest.mark.gen_test
async def test_messages_that_the_broker_does_not_confirm_time_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection, left = OneChannelConnection(), []  # type: ignore[var-annotated]
    channel = await an_open_channel(connection, left)
    settled = statuses_of(channel, "a", "b", "c")
    connection.opened.confirm(2)
    await until(lambda: len(settled) == 3)
    assert settled == [ConfirmStatus.CONFIRMED, ConfirmStatus.LOST, ConfirmStatus.LOST]
    assert left == [channel], "messages are published again over another channel"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("confirm timeout: the broker did not confirm messages")
    assert "count=2" in warning


@pytest.mark.gen_test
async def test_a_retired_channel_is_closed_when_its_last_message_times_out() -> None:
    connection, left = OneChannelConnection(), []  # type: ignore[var-annotated]
    channel = await an_open_channel(connection, left)
    settled = statuses_of(channel, "a")
    assert not await channel.retire()
    await until(lambda: not channel.is_open)
    assert settled == [ConfirmStatus.LOST]


@pytest.mark.gen_test
async def test_no_message_times_out_before_the_broker_responds_on_its_channel() -> None:
    """The broker responds only when it has read all earlier messages; until then a message may be on its way."""
    connection, left = OneChannelConnection(), []  # type: ignore[var-annotated]
    channel = await an_open_channel(connection, left)
    connection.opened.answers = False
    settled = statuses_of(channel, "a")
    await until(lambda: connection.opened.did("flow"))
    await asyncio.sleep(5 * TIMEOUT)
    assert settled == []
    connection.opened.waiting.pop()(None)
    await until(lambda: settled == [ConfirmStatus.LOST])


@pytest.mark.gen_test
async def test_no_message_times_out_while_the_broker_blocks_publishing() -> None:
    connection, left = OneChannelConnection(), []  # type: ignore[var-annotated]
    channel = await an_open_channel(connection, left)
    connection.is_stalled = True
    settled = statuses_of(channel, "a")
    await asyncio.sleep(10 * TIMEOUT)
    assert settled == []
    connection.is_stalled = False
    await until(lambda: settled == [ConfirmStatus.LOST])


@pytest.mark.gen_test
async def test_no_request_is_sent_while_all_messages_are_confirmed() -> None:
    connection, left = OneChannelConnection(), []  # type: ignore[var-annotated]
    channel = await an_open_channel(connection, left)
    statuses_of(channel, "a", "b")
    connection.opened.confirm(2, multiple=True)
    await asyncio.sleep(5 * TIMEOUT)
    assert connection.opened.did("flow") == []
    assert left == []


@pytest.mark.gen_test
async def test_unconfirmed_messages_are_lost_once_if_the_channel_closes_meanwhile() -> None:
    connection, left = OneChannelConnection(), []  # type: ignore[var-annotated]
    channel = await an_open_channel(connection, left)
    connection.opened.answers = False
    settled = statuses_of(channel, "a")
    await until(lambda: connection.opened.did("flow"))
    channel.lose(LinkError("the connection broke"))
    assert settled == [ConfirmStatus.LOST]
    await asyncio.sleep(5 * TIMEOUT)
    assert settled == [ConfirmStatus.LOST]
    assert left == []
