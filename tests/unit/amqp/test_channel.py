"""Publishing, deliveries and declarations of one channel."""

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.exceptions import ChannelClosedByBroker

from crew.amqp import Confirm, ConfirmStatus, Delivery
from crew.amqp.channel import ACK_WITHIN, Channel
from crew.amqp.errors import LinkError
from crew.protocol.properties import Properties
from crew.protocol.topology import Binding, Exchange, Queue
from tests.support.pika_channel import PikaChannel, an_open_channel
from tests.support.waiting import until

PENDING, CONFIRMED, RETURNED, REFUSED, LOST = (
    None,
    ConfirmStatus.CONFIRMED,
    ConfirmStatus.RETURNED,
    ConfirmStatus.REFUSED,
    ConfirmStatus.LOST,
)


def published(channel: Channel, *ids: str | None) -> list[Confirm]:
    """Publish a message for each id; return their confirms."""
    return [channel.publish("", "q", Properties(correlation_id=id), b"", mandatory=True) for id in ids]


def statuses(confirms: list[Confirm]) -> list[ConfirmStatus | None]:
    """The status of each confirm; None if it is pending."""
    return [confirm.status for confirm in confirms]


# --- publishing -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_confirm_settles_its_own_message() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, "a", "b", "c")
    pika.confirm(2)
    assert statuses(confirms) == [PENDING, CONFIRMED, PENDING]


@pytest.mark.gen_test
async def test_a_multiple_confirm_settles_all_messages_before_it() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, "a", "b", "c", "d")
    pika.confirm(3, multiple=True)
    assert statuses(confirms) == [CONFIRMED, CONFIRMED, CONFIRMED, PENDING]
    pika.confirm(4, multiple=True)
    assert statuses(confirms)[3] is CONFIRMED


@pytest.mark.gen_test
async def test_a_returned_message_is_returned_even_though_the_broker_confirms_it() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, "a", "b", "c")
    pika.give_back("b")
    pika.confirm(3, multiple=True)
    assert statuses(confirms) == [CONFIRMED, RETURNED, CONFIRMED]


@pytest.mark.gen_test
async def test_a_return_counts_once() -> None:
    channel, pika, _ = await an_open_channel()
    first = published(channel, "a")
    pika.give_back("a")
    pika.confirm(1)
    second = published(channel, "a")
    pika.confirm(2)
    assert statuses(first + second) == [RETURNED, CONFIRMED]


@pytest.mark.parametrize("id", ["a", None])
@pytest.mark.parametrize("order", [(3,), (2, 3, 1), (1, 2, 3), (3, 1, 2)], ids=str)
@pytest.mark.gen_test
async def test_each_of_several_messages_with_one_id_is_returned(id: str | None, order: tuple[int, ...]) -> None:
    """RabbitMQ sends the returns in the order of the messages, and the confirms later, in one frame or in several."""
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, id, id, id)
    for _ in confirms:
        pika.give_back(id)
    for tag in order:
        pika.confirm(tag, multiple=len(order) == 1)
    assert statuses(confirms) == [RETURNED, RETURNED, RETURNED]


@pytest.mark.gen_test
async def test_a_return_settles_no_message_with_another_exchange_or_routing_key() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = [
        channel.publish(exchange, key, Properties(correlation_id="a"), b"", mandatory=True)
        for exchange, key in [("", "q"), ("", "other"), ("e", "q")]
    ]
    pika.give_back("a", routing_key="other")
    pika.confirm(3, multiple=True)
    assert statuses(confirms) == [CONFIRMED, RETURNED, CONFIRMED]


@pytest.mark.gen_test
async def test_the_next_message_with_the_id_of_a_returned_one_is_confirmed() -> None:
    """Also if there is always another unconfirmed message."""
    channel, pika, _ = await an_open_channel()
    oldest, first = published(channel, "oldest", "a")
    pika.give_back("a")
    pika.confirm(2)
    (second,) = published(channel, "a")
    pika.confirm(3)
    assert statuses([oldest, first, second]) == [PENDING, RETURNED, CONFIRMED]


@pytest.mark.gen_test
async def test_the_number_of_remembered_returns_is_bounded() -> None:
    channel, pika, _ = await an_open_channel()
    published(channel, "oldest")
    for number in range(3_000):
        (confirm,) = published(channel, f"{number}")
        pika.give_back(f"{number}")
        pika.confirm(number + 2)
        assert confirm.status is RETURNED
    assert len(channel._unconfirmed._returned) <= 1_001


@pytest.mark.gen_test
async def test_a_message_rejected_by_a_full_queue_is_refused() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, "a", "b", "c")
    pika.refuse(2, multiple=True)
    pika.confirm(3)
    assert statuses(confirms) == [REFUSED, REFUSED, CONFIRMED]


@pytest.mark.gen_test
async def test_only_the_message_that_is_too_large_for_the_broker_is_too_large() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = [channel.publish("", "q", Properties(), b"x" * size, mandatory=True) for size in (0, 101, 100)]
    text = "PRECONDITION_FAILED - message size 101 is larger than configured max size 100"
    pika.break_off(ChannelClosedByBroker(406, text))
    assert statuses(confirms) == [LOST, ConfirmStatus.TOO_LARGE, LOST]


@pytest.mark.gen_test
async def test_unconfirmed_messages_are_lost_with_their_channel() -> None:
    channel, pika, ends = await an_open_channel()
    confirms = published(channel, "a", "b")
    pika.confirm(1)
    pika.break_off()
    assert statuses(confirms) == [CONFIRMED, LOST]
    assert [fault.code for fault in ends.faults] == [406]


@pytest.mark.gen_test
async def test_a_connection_that_times_out_fails_everything_that_waits_for_the_broker() -> None:
    channel, pika, _ = await an_open_channel()
    deliveries: list[Delivery] = []
    await channel.consume("q", deliveries.append, prefetch=1)
    pika.answers = False
    declaring = asyncio.ensure_future(channel.declare(Exchange("e", "topic")))
    confirms = published(channel, "a", "b")
    await asyncio.sleep(0)
    channel.lose(LinkError("heartbeat timeout: the broker sent nothing for 3 s"))
    assert statuses(confirms) == [LOST, LOST]
    with pytest.raises(LinkError, match="heartbeat timeout"):
        await declaring
    pika.deliver("consumer 1 of q", 1, Properties(), b"")
    assert not deliveries, "it could not be acknowledged"
    with pytest.raises(LinkError, match="closed"):
        published(channel, "c")


@pytest.mark.gen_test
async def test_the_link_gets_the_fault_before_the_publishers_do() -> None:
    """A publisher that publishes again at once must find a link that is no longer ready."""
    channel, pika, ends = await an_open_channel()
    faults: list[int] = []
    published(channel, "a")[0].then(lambda status: faults.append(len(ends.faults)))
    pika.break_off()
    assert faults == [1]


@pytest.mark.gen_test
async def test_a_confirm_can_be_awaited_before_and_after_it_is_settled() -> None:
    channel, pika, _ = await an_open_channel()
    (confirm,) = published(channel, "a")
    asyncio.get_running_loop().call_soon(pika.confirm, 1)
    assert await confirm is CONFIRMED
    assert await confirm is CONFIRMED


@pytest.mark.gen_test
async def test_canceling_a_wait_for_a_confirm_does_not_affect_the_confirm() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, "a", "b")

    async def wait() -> ConfirmStatus:
        return await confirms[0]

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    pika.confirm(2, multiple=True)
    assert statuses(confirms) == [CONFIRMED, CONFIRMED]


@pytest.mark.gen_test
async def test_a_callback_that_raises_does_not_affect_other_confirms(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, "a", "b")

    def callback(status: ConfirmStatus) -> None:
        raise ValueError("a bug")

    confirms[0].then(callback)
    pika.confirm(2, multiple=True)
    assert statuses(confirms) == [CONFIRMED, CONFIRMED]
    assert "a bug" in caplog.text


@pytest.mark.gen_test
async def test_a_confirm_of_an_unknown_message_is_ignored() -> None:
    channel, pika, _ = await an_open_channel()
    confirms = published(channel, "a")
    pika.confirm(7)
    pika.confirm(1)
    pika.confirm(1)
    assert statuses(confirms) == [CONFIRMED]


@pytest.mark.gen_test
async def test_nothing_is_published_on_a_closed_channel() -> None:
    channel, pika, _ = await an_open_channel()
    pika.break_off()
    with pytest.raises(LinkError, match="closed"):
        published(channel, "a")
    assert pika.did("basic_publish") == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["publish", "ack", "nack", "return"]), st.integers(0, 3), st.booleans()), max_size=40
    ),
    st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_every_message_is_settled_exactly_once(steps: list[tuple[str, int, bool]], breaks: bool) -> None:
    async def run_steps() -> None:
        channel, pika, _ = await an_open_channel()
        expected: dict[int, ConfirmStatus] = {}
        settled_with: dict[int, list[ConfirmStatus]] = {}
        open_tags: list[int] = []
        returned: set[int] = set()
        for what, which, multiple in steps:
            if what == "publish":
                tag = len(settled_with) + 1
                open_tags.append(tag)
                settled_with[tag] = []
                published(channel, str(tag))[0].then(settled_with[tag].append)
            elif open_tags and what == "return":
                returned.add(open_tags[which % len(open_tags)])
                pika.give_back(str(open_tags[which % len(open_tags)]))
            elif open_tags:
                tag = open_tags[which % len(open_tags)]
                settled = [one for one in open_tags if one == tag or (multiple and one < tag)]
                status = CONFIRMED if what == "ack" else REFUSED
                expected |= {one: RETURNED if one in returned else status for one in settled}
                open_tags = [one for one in open_tags if one not in settled]
                pika.confirm(tag, multiple=multiple) if what == "ack" else pika.refuse(tag, multiple=multiple)
        if breaks:
            pika.break_off()
            expected |= dict.fromkeys(open_tags, LOST)
        assert settled_with == {tag: [expected[tag]] if tag in expected else [] for tag in settled_with}

    asyncio.run(run_steps())


# --- deliveries -----------------------------------------------------------------------------------------------------


async def a_consumed_delivery(properties: Properties | None = None) -> tuple[Delivery, Channel, PikaChannel]:
    """A delivery from the queue q."""
    channel, pika, _ = await an_open_channel()
    arrived: list[Delivery] = []
    await channel.consume("q", arrived.append, prefetch=1)
    pika.deliver("consumer 1 of q", 7, properties or Properties(), b"body")
    return arrived[0], channel, pika


@pytest.mark.gen_test
async def test_a_delivery_has_its_queue_topic_tag_properties_and_body() -> None:
    delivery, _, _ = await a_consumed_delivery(Properties(correlation_id="17", priority=3, headers={"a": 1}))
    assert (delivery.queue, delivery.topic, delivery.tag, delivery.body) == ("q", "the.topic", 7, b"body")
    assert delivery.properties == Properties(correlation_id="17", priority=3, headers={"a": 1})


@pytest.mark.gen_test
async def test_an_ack_acknowledges_one_delivery() -> None:
    delivery, _, pika = await a_consumed_delivery()
    assert delivery.ack() is True
    assert pika.did("basic_ack") == [(7, False)]


@pytest.mark.gen_test
async def test_a_delivery_can_be_requeued() -> None:
    delivery, _, pika = await a_consumed_delivery()
    assert delivery.requeue() is True
    assert pika.did("basic_nack") == [(7, True)]


@pytest.mark.gen_test
async def test_a_delivery_of_a_closed_channel_is_never_acknowledged_on_another() -> None:
    delivery, _, pika = await a_consumed_delivery()
    pika.break_off()
    assert delivery.ack() is False
    assert delivery.requeue() is False
    delivery.ack_through()
    await asyncio.sleep(0)
    assert pika.did("basic_ack") == pika.did("basic_nack") == []


@pytest.mark.gen_test
async def test_deliveries_that_end_at_the_same_time_are_acknowledged_in_one_frame() -> None:
    channel, pika, _ = await an_open_channel()
    for tag in range(1, 101):
        channel.ack_through(tag)
    assert pika.did("basic_ack") == []
    await until(lambda: pika.did("basic_ack") == [(100, True)])
    channel.ack_through(101)
    await until(lambda: pika.did("basic_ack") == [(100, True), (101, True)])


@pytest.mark.gen_test
async def test_a_delivery_that_is_held_is_acknowledged_by_itself_and_once() -> None:
    """Later deliveries are done before it: an acknowledgement of all up to them would include it."""
    channel, pika, _ = await an_open_channel()
    channel.ack_through(1)
    channel.hold(2)
    channel.ack_through(3)
    channel.ack_through(4)
    await until(lambda: pika.did("basic_ack") == [(3, False), (4, False), (1, True)])
    channel.ack(2)
    channel.ack_through(5)
    await until(lambda: pika.did("basic_ack")[3:] == [(2, False), (5, True)])


@pytest.mark.gen_test
async def test_nothing_is_acknowledged_on_a_channel_that_closed_meanwhile() -> None:
    channel, pika, _ = await an_open_channel()
    channel.ack_through(3)
    pika.break_off()
    await asyncio.sleep(2 * ACK_WITHIN)  # past the time of the ack
    assert pika.did("basic_ack") == []


@pytest.mark.gen_test
async def test_an_exception_in_a_consumer_is_logged_and_the_channel_stays_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel, pika, ends = await an_open_channel()

    def on_delivery(delivery: Delivery) -> None:
        raise ValueError("a bug")

    await channel.consume("q", on_delivery, prefetch=1)
    pika.deliver("consumer 1 of q", 1, Properties(), b"")
    assert "a bug" in caplog.text
    assert channel.is_open
    assert ends.faults == []


# --- consuming ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_each_consumer_has_its_own_prefetch() -> None:
    channel, pika, _ = await an_open_channel()
    await asyncio.gather(
        channel.consume("a", lambda delivery: None, prefetch=1), channel.consume("b", lambda delivery: None, prefetch=5)
    )
    requests = [one for one in pika.requests if one[0] in ("basic_qos", "basic_consume")]
    assert requests == [
        ("basic_qos", {"prefetch_count": 1}),
        ("basic_consume", "a"),
        ("basic_qos", {"prefetch_count": 5}),
        ("basic_consume", "b"),
    ]


@pytest.mark.gen_test
async def test_a_second_consumer_of_a_queue_replaces_the_first() -> None:
    channel, pika, _ = await an_open_channel()
    await channel.consume("q", lambda delivery: None, prefetch=1)
    await channel.consume("q", lambda delivery: None, prefetch=4)
    assert pika.did("basic_cancel") == [("consumer 1 of q",)]
    await channel.cancel("q")
    assert pika.did("basic_cancel")[-1] == ("consumer 2 of q",)


@pytest.mark.gen_test
async def test_the_link_is_informed_when_a_consumed_queue_is_deleted() -> None:
    channel, pika, ends = await an_open_channel()
    await channel.consume("a", lambda delivery: None, prefetch=1)
    await channel.consume("b", lambda delivery: None, prefetch=1)
    pika.cancel_consumer("consumer 2 of b")
    assert ends.canceled == ["b"]
    await channel.cancel("b")
    assert pika.did("basic_cancel") == []


# --- declaring ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_exchanges_and_queues_are_durable() -> None:
    channel, pika, _ = await an_open_channel()
    await channel.declare(Exchange("x", "topic"))
    await channel.declare(Queue("q", {"x-expires": 1}))
    await channel.declare(Binding("q", "x", "a.*"))
    ((exchange,),) = pika.did("exchange_declare")
    ((queue,),) = pika.did("queue_declare")
    ((binding,),) = pika.did("queue_bind")
    assert (exchange["durable"], queue["durable"]) == (True, True)
    assert queue["arguments"] == {"x-expires": 1}
    assert (binding["queue"], binding["exchange"], binding["routing_key"]) == ("q", "x", "a.*")


@pytest.mark.gen_test
async def test_requests_that_wait_for_the_broker_fail_when_the_channel_closes() -> None:
    channel, pika, _ = await an_open_channel()
    pika.answers = False
    declaring = asyncio.ensure_future(channel.declare(Queue("q")))
    consuming = asyncio.ensure_future(channel.consume("q", lambda delivery: None, prefetch=1))
    await asyncio.sleep(0)
    pika.break_off()
    for waiting in (declaring, consuming):
        with pytest.raises(LinkError, match="406"):
            await waiting


@pytest.mark.gen_test
async def test_a_declaration_on_a_closed_channel_fails_at_once() -> None:
    channel, pika, _ = await an_open_channel()
    pika.break_off()
    with pytest.raises(LinkError, match="closed"):
        await channel.declare(Queue("q"))
    await channel.cancel("q")
    await channel.close()


@pytest.mark.gen_test
async def test_the_repr_of_a_channel_shows_its_state() -> None:
    channel, pika, _ = await an_open_channel()
    published(channel, "a")
    await channel.consume("q", lambda delivery: None, prefetch=1)
    assert repr(channel) == "<Channel open, 1 unconfirmed, 1 consumers>"
    pika.break_off()
    assert repr(channel) == "<Channel closed, 0 unconfirmed, 0 consumers>"


@pytest.mark.gen_test
async def test_the_repr_of_a_confirm_shows_its_state(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    channel, pika, _ = await an_open_channel()
    (confirm,) = published(channel, "17")
    assert repr(confirm) == "<Confirm of 17: pending>"
    pika.confirm(1)
    assert repr(confirm) == "<Confirm of 17: confirmed>"
