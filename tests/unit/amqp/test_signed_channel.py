"""A channel of a link with signing keys signs messages and accepts only signed deliveries."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final, cast

import pytest

from crew.amqp import Delivery
from crew.amqp.channel import Channel
from crew.amqp.confirms.confirm import Forwarded
from crew.amqp.connection.connection import BrokerConnection
from crew.amqp.signed_channel import LOG_EVERY, SignedChannel, Signer, refused
from crew.protocol.clock import ClockOffset
from crew.protocol.properties import Properties
from crew.protocol.signing import FRESH_FOR, SIGNED
from tests.support.pika_channel import Ends, OneChannelConnection, PikaChannel

KEY: Final = "k" * 32
NOW: Final = 1_800_000_000.0  # epoch seconds
QUEUE: Final = "crew.control.w1"
CONSUMER: Final = f"consumer 1 of {QUEUE}"


def a_signer(*keys: str, ahead: float = 0.0, monotonic: Callable[[], float] = time.monotonic) -> Signer:
    """A signer on a host that has measured its clock as `ahead` seconds ahead of the broker's."""
    signer = Signer(keys or (KEY,), wall=lambda: NOW + ahead, monotonic=monotonic)
    if ahead:
        signer._clock.offset = ClockOffset(-ahead, -ahead)
    return signer


async def a_signed_channel(signer: Signer) -> tuple[SignedChannel, PikaChannel]:
    connection, ends = OneChannelConnection(), Ends()
    channel = SignedChannel(
        cast(BrokerConnection, connection),
        on_closed=ends.faults.append,
        on_canceled=ends.canceled.append,
        confirm_timeout=60.0,
        signer=signer,
    )
    await channel.open()
    return channel, connection.opened


async def a_consumer(signer: Signer, **options: Any) -> tuple[PikaChannel, list[Delivery]]:
    """A channel that consumes, and the deliveries that its consumer gets."""
    channel, pika = await a_signed_channel(signer)
    taken: list[Delivery] = []
    await channel.consume(QUEUE, taken.append, prefetch=1, **options)
    return pika, taken


def by(signer: Signer) -> Properties:
    """The properties of a control message signed by `signer`."""
    properties = Properties(type="control", correlation_id="7", headers={"crew-reason": "canceled"})
    signer.sign("the.topic", properties, b"")
    return properties


@pytest.mark.gen_test
async def test_published_messages_are_signed() -> None:
    channel, pika = await a_signed_channel(a_signer())

    channel.publish("", "q", Properties(correlation_id="7"), b"1", mandatory=True)

    ((_, _, _, sent, _),) = pika.did("basic_publish")
    assert sent.app_id.startswith(SIGNED)


@pytest.mark.gen_test
async def test_forwarded_messages_keep_their_signature_or_have_none() -> None:
    channel, pika = await a_signed_channel(a_signer())

    channel.send(Forwarded("", "q", Properties(app_id="unchanged"), b"", mandatory=True))
    channel.send(Forwarded("", "q", Properties(), b"", mandatory=True))

    assert [sent.app_id for _, _, _, sent, _ in pika.did("basic_publish")] == ["unchanged", None]


@pytest.mark.gen_test
async def test_a_signed_delivery_reaches_the_consumer() -> None:
    pika, taken = await a_consumer(a_signer())

    pika.deliver(CONSUMER, 1, by(a_signer()), b"")

    assert [one.refusal for one in taken] == [None]
    assert pika.did("basic_ack") == []


@pytest.mark.gen_test
async def test_a_forged_delivery_is_acknowledged_counted_and_discarded(caplog: pytest.LogCaptureFixture) -> None:
    before = refused["control"]
    pika, taken = await a_consumer(a_signer())

    for tag in range(1, 101):
        pika.deliver(CONSUMER, tag, Properties(type="control", correlation_id="7\n\x1b[2J"), b"")

    assert taken == []
    assert pika.did("basic_ack") == [(tag, False) for tag in range(1, 101)]
    assert refused["control"] - before == 100
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith(f"control refused: it has no signature queue={QUEUE} id='7\\n\\x1b[2J' count=1;")
    assert "CREW_SIGNING_KEY" in line
    assert KEY not in caplog.text


@pytest.mark.gen_test
async def test_the_next_log_line_has_the_number_of_messages_refused_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1000.0
    pika, _ = await a_consumer(a_signer(monotonic=lambda: now))
    for tag in range(1, 6):
        pika.deliver(CONSUMER, tag, Properties(type="control"), b"")
    now += LOG_EVERY
    pika.deliver(CONSUMER, 6, Properties(type="control"), b"")

    assert [record.getMessage().split("count=")[1][0] for record in caplog.records] == ["1", "5"]


@pytest.mark.gen_test
async def test_a_consumer_may_settle_refused_deliveries_itself() -> None:
    refused_deliveries: list[Delivery] = []
    pika, taken = await a_consumer(a_signer(), on_refused=refused_deliveries.append)

    pika.deliver(CONSUMER, 1, Properties(type="control"), b"")

    assert (taken, [one.refusal for one in refused_deliveries]) == ([], ["it has no signature"])
    assert pika.did("basic_ack") == []


@pytest.mark.gen_test
async def test_the_age_of_a_message_is_measured_by_the_clock_of_the_broker() -> None:
    sent = by(a_signer(ahead=10_000.0))
    pika, taken = await a_consumer(a_signer(ahead=-10_000.0))

    pika.deliver(CONSUMER, 1, sent, b"")

    assert len(taken) == 1


@pytest.mark.gen_test
async def test_a_control_message_that_is_replayed_later_is_refused() -> None:
    pika, taken = await a_consumer(Signer((KEY,), wall=lambda: NOW + FRESH_FOR + 2))

    pika.deliver(CONSUMER, 1, by(a_signer()), b"")

    assert taken == []


def test_a_signer_needs_a_key_and_its_repr_hides_it() -> None:
    assert Signer.of(()) is None
    assert KEY not in repr(Signer.of((KEY,)))


def test_without_keys_no_code_for_signing_runs() -> None:
    assert "sign" not in Channel.publish.__code__.co_names
    assert "sign" not in Channel._on_message.__code__.co_names
