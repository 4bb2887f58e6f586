"""A message that is too large fails with a clear error and affects no other message."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from crew.client import PendingCall
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Processes, running
from tests.support.starvation import timers
from tests.support.waiting import until

LARGE = TASK_FOLDER / "large.py"
LIMIT = 100_000  # bytes: CREW_MAX_MESSAGE
BROKER_LIMIT = 50_000  # bytes: max_message_size of the broker
TOO_LARGE = "larger than configured max size"


@pytest.mark.gen_test(timeout=30)
async def test_a_message_larger_than_the_setting_is_refused_by_its_sender(
    broker_url: str, prefix: str, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_MAX_MESSAGE", str(LIMIT))
    worker = processes.python(LARGE, environment={"CREW_MAX_MESSAGE": str(LIMIT)}).says("serving")
    async with Client(broker_url) as client:
        with pytest.raises(
            crew.TooLarge, match=rf"has {LIMIT + 1} bytes, more than the limit of a message \({LIMIT}\)"
        ):
            client.call(prefix + "size", os.urandom(LIMIT + 1))
        with pytest.raises(crew.TooLarge):
            await client.publish("large", os.urandom(LIMIT + 1))
        assert await client.call(prefix + "size", os.urandom(LIMIT)) == LIMIT
        assert len(await client.call(prefix + "make", LIMIT)) == LIMIT
        assert await client.call(prefix + "nested", LIMIT) == LIMIT
        for task, message in (
            ("make", r"the value of task '.*make' cannot be sent: the encoded payload has 100001 bytes"),
            ("nested", "the encoded payload has 100001 bytes"),
            ("publish", "the encoded payload has 100001 bytes"),
        ):
            with pytest.raises(crew.TaskFailed, match=f"TooLarge: {message}"):
                await client.call(prefix + task, LIMIT + 1)
    assert "closed it" not in worker.output


@pytest.mark.gen_test(timeout=30)
async def test_a_message_that_compression_makes_small_enough_is_compressed_with_every_setting(
    broker_url: str, prefix: str, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"CREW_MAX_MESSAGE": str(LIMIT), "CREW_COMPRESSION": "never"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    processes.python(LARGE, environment=variables).says("serving")
    text = "text " * LIMIT
    events: list[Any] = []
    async with Client(broker_url) as client:
        await client.subscribe(prefix + "relayed", lambda event: events.append(event.payload)).ready()
        assert await client.call(prefix + "echo", text) == text
        await client.call(prefix + "relay", text)
        await client.publish(prefix + "relayed", text)
        await until(lambda: events == [text, text])


@pytest.mark.alone
@pytest.mark.parametrize("compression", ["always", "never"])
@pytest.mark.gen_test(timeout=60)
async def test_the_event_loop_runs_while_a_large_payload_is_compressed(
    broker_url: str, prefix: str, processes: Processes, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    """Compressing this payload takes several tenths of a second."""
    monkeypatch.setenv("CREW_COMPRESSION", compression)
    processes.python(LARGE).says("serving")
    text = os.urandom(7_500_000).hex()
    events: list[Any] = []
    async with Client(broker_url) as client:
        await client.subscribe(prefix + "news", lambda event: events.append(event.payload)).ready()
        with timers() as late:
            event = client.publish(prefix + "news", text)
            small = client.publish(prefix + "news", "small")
            assert await client.call(prefix + "size", text) == len(text)
            await event
            await small
            await until(lambda: len(events) == 2)
        assert events == [text, "small"]
        assert max(late) <= 0.1


@pytest.mark.alone
@pytest.mark.parametrize("compression", ["always", "never"])
@pytest.mark.gen_test(timeout=60)
async def test_fifty_large_calls_delay_neither_timers_nor_heartbeats(
    broker_url: str, prefix: str, processes: Processes, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setenv("CREW_COMPRESSION", compression)
    monkeypatch.setenv("CREW_HEARTBEAT", "2")
    worker = processes.python(LARGE).says("serving")
    records = [{"id": number, "name": f"record {number}", "at": number * 1.5} for number in range(20_000)]
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", records) == records
        calls: list[PendingCall[Any]] = []
        with timers() as late:
            for _ in range(50):  # as requests arrive: the loop runs between two of them
                calls.append(client.call(prefix + "echo", records, expiration=50))
                await asyncio.sleep(0)
            replies = await asyncio.gather(*calls)
        assert max(late) <= 0.2
        assert all(reply == records for reply in replies)  # fifty comparisons would stop the loop for tenths
    assert "no connection to the broker" not in worker.output


@pytest.mark.gen_test(timeout=60)
async def test_a_client_makes_calls_while_it_decodes_large_events(
    broker_url: str,
    depths: Callable[[str], dict[str, int]],
    prefix: str,
    processes: Processes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Replies are acknowledged before the events that arrived earlier: each delivery is acknowledged once."""
    processes.python(LARGE).says("serving")
    payload = [{"a": number} for number in range(100_000)]
    events: list[Any] = []
    async with Client(broker_url) as client:
        await client.subscribe(prefix + "news", lambda event: events.append(event.payload)).ready()
        for count in range(1, 6):
            await client.publish(prefix + "news", payload)
            while len(events) < count:
                assert await client.call(prefix + "size", "text") == 4
        assert events == [payload] * 5
        empty = {f"crew.reply.{client.id}": 0, f"crew.subscribe.{client.id}": 0}
        await until(lambda: empty.items() <= depths(broker_url).items())
    assert "no connection to the broker" not in caplog.text


@pytest.fixture(scope="module")
def small_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A broker with a smaller limit of messages than crew's setting."""
    node = Node(tmp_path_factory.mktemp("node"), conf=[f"max_message_size = {BROKER_LIMIT}"])
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.mark.chaos
@pytest.mark.gen_test(timeout=60)
async def test_a_message_that_the_broker_refuses_fails_alone_and_closes_one_connection(
    small_node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = small_node.url
    with running(tmp_path, {"CREW_AMQP_URL": url}) as processes:
        worker = processes.python(LARGE).says("serving")
        async with Client(url) as client:
            before = [client.call("size", os.urandom(100), expiration=20) for _ in range(50)]
            large = [
                client.call("size", os.urandom(BROKER_LIMIT + 1), persistent=persistent, expiration=20)
                for persistent in (True, False, True)
            ]
            after = [client.call("size", os.urandom(100), expiration=20) for _ in range(50)]
            for call in large:
                with pytest.raises(crew.TooLarge, match="50001 bytes, more than the max_message_size of the broker"):
                    await call
            with pytest.raises(crew.TooLarge):
                await client.publish("large", os.urandom(BROKER_LIMIT + 1), persistent=True)
            assert [await call for call in before + after] == [100] * 100
            assert await client.call("size", os.urandom(BROKER_LIMIT)) == BROKER_LIMIT

            values = [
                client.call("make", size, expiration=20) for size in (100, BROKER_LIMIT + 1, 100, BROKER_LIMIT + 1, 100)
            ]
            results = await asyncio.gather(*map(result_of, values))
            assert [len(results[n]) for n in (0, 2, 4)] == [100] * 3
            refused = f"TooLarge: task 'make': the broker does not accept its return value of {BROKER_LIMIT + 1} bytes"
            assert all(refused in str(results[n]) for n in (1, 3))
            with pytest.raises(crew.TaskFailed, match=r"TooLarge: call .* of task 'size' has 50001 bytes"):
                await client.call("nested", BROKER_LIMIT + 1, expiration=20)
            assert await client.call("nested", BROKER_LIMIT, expiration=20) == BROKER_LIMIT
        assert "Traceback" not in worker.own_output
        assert worker.output.count(TOO_LARGE) == 1
    assert caplog.text.count(TOO_LARGE) == 1


async def result_of(call: PendingCall[Any]) -> Any:
    """The value of the call, or its error as a value."""
    try:
        return await call
    except crew.CrewError as error:
        return error
