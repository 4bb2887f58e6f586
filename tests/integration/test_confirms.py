"""Publisher confirms of a real broker: messages that are confirmed, returned, or never confirmed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from crew import Client
from crew.amqp import Confirm, ConfirmStatus, Consumer, Link
from crew.amqp.connection.channel_codec import CodecChannel
from crew.protocol.properties import Properties
from crew.protocol.topology import Queue
from crew.settings import Tuning, load
from tests.integration.conftest import StartWorker
from tests.support.proxy import proxying
from tests.support.waiting import until

TIMEOUT = 0.3  # seconds, twice


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    """Yields a link that is ready, and closes it at the end of the block."""
    link = Link(load(url), name="test")
    link.open()
    try:
        await link.ready()
        yield link
    finally:
        await link.close()


@pytest.mark.gen_test
async def test_every_message_that_reaches_no_queue_is_returned_whatever_its_id(broker_url: str, unique: str) -> None:
    queue = Queue(f"{unique}queue", {"x-expires": 60_000})
    sent: list[tuple[Confirm, ConfirmStatus]] = []
    async with linked(broker_url) as link:
        await link.declare(queue)
        for number in range(500):
            properties = Properties(correlation_id=("one", None, str(number))[number % 3], delivery_mode=2)
            exists = number % 7 < 2
            key = queue.name if exists else f"{unique}missing"
            confirm = link.publish("", key, properties, b"", mandatory=True)
            sent.append((confirm, ConfirmStatus.CONFIRMED if exists else ConfirmStatus.RETURNED))
        for confirm, expected in sent:
            assert await confirm is expected


@pytest.mark.parametrize("quorum", [False, True], ids=["classic", "quorum"])
@pytest.mark.gen_test
async def test_a_call_that_is_never_confirmed_over_an_open_channel_is_published_again(
    broker_url: str,
    prefix: str,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quorum: bool,
) -> None:
    """RabbitMQ 3.10 can lose a message while the leader of a quorum queue changes."""
    monkeypatch.setenv("CREW_QUEUE_TYPE", "quorum" if quorum else "classic")
    start_worker()
    tuning = Tuning(confirm_timeout=TIMEOUT, quorum_confirm_timeout=TIMEOUT)
    async with Client(broker_url, tuning=tuning) as client:
        assert await client.call(f"{prefix}echo", "before") == "before"
        publish = CodecChannel.basic_publish
        lost: list[Any] = []

        def lose_one(channel: Any, *arguments: Any) -> None:
            if b"lose me" in arguments[2] and not lost:
                lost.append(arguments)
            else:
                publish(channel, *arguments)

        monkeypatch.setattr(CodecChannel, "basic_publish", lose_one)
        assert await client.call(f"{prefix}echo", "lose me") == "lose me"
        assert len(lost) == 1
        assert await client.call(f"{prefix}echo", "after") == "after"
    assert "confirm timeout" in caplog.text


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (lambda frame: frame[:-1] + b"\x00", "ends with 0x00 instead of 0xce"),
        (lambda frame: frame[:2] + bytes([frame[2] ^ 1]) + frame[3:], "channel"),
    ],
    ids=["the end of a frame", "the channel of a frame"],
)
@pytest.mark.gen_test
async def test_a_link_reconnects_after_a_corrupted_frame_and_logs_the_reason(
    broker_url: str,
    unique: str,
    caplog: pytest.LogCaptureFixture,
    alter: Callable[[bytes], bytes],
    reason: str,
) -> None:
    """The altered frame is the body of a delivery, the last bytes that the broker sends."""
    body = b"this one is altered"
    altered: list[bytes] = []

    def alter_body(data: bytes) -> bytes:
        if data.endswith(body + b"\xce") and not altered:
            altered.append(data)
            start = len(data) - len(body) - 8
            return data[:start] + alter(data[start:])
        return data

    bodies: list[bytes] = []
    queue = Queue(f"{unique}queue", {"x-expires": 60_000})
    with proxying() as make:
        proxy = make(broker_url)
        proxy.alter = alter_body
        async with linked(broker_url) as other, linked(proxy.url) as link:
            await link.declare(queue)
            await link.consume(Consumer(queue.name, lambda delivery: bodies.append(delivery.body), 10))
            confirm = other.publish("", queue.name, Properties(), body, mandatory=True)
            assert await confirm is ConfirmStatus.CONFIRMED
            await until(lambda: bodies == [body])
    assert len(altered) == 1
    assert any("protocol error" in one.getMessage() and reason in one.getMessage() for one in caplog.records)
    assert not any(one.exc_info for one in caplog.records), "the reason is logged without a traceback"
