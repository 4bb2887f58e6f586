"""A message that is too large fails alone, with a clear word, and nobody else notices."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from crew.client import PendingCall
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Processes, running

LARGE = TASK_FOLDER / "large.py"
OURS = 100_000  # bytes: CREW_MAX_MESSAGE
THEIRS = 50_000  # bytes: max_message_size of the broker
TOO_LARGE = "larger than configured max size"


@pytest.mark.gen_test(timeout=30)
async def test_what_is_larger_than_the_setting_is_refused_where_it_is_sent(
    broker_url: str, prefix: str, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_MAX_MESSAGE", str(OURS))
    worker = processes.python(LARGE, environment={"CREW_MAX_MESSAGE": str(OURS)}).says("serving")
    async with Client(broker_url) as client:
        with pytest.raises(crew.TooLarge, match=rf"has {OURS + 1} bytes, more than the limit of a message \({OURS}\)"):
            client.call(prefix + "size", os.urandom(OURS + 1))
        with pytest.raises(crew.TooLarge):
            await client.publish("large", os.urandom(OURS + 1))
        assert await client.call(prefix + "size", os.urandom(OURS)) == OURS
        assert len(await client.call(prefix + "make", OURS)) == OURS
        assert await client.call(prefix + "nested", OURS) == OURS
        for task, told in (
            ("make", r"the value of task '.*make' cannot be sent: the encoded payload has 100001 bytes"),
            ("nested", "the encoded payload has 100001 bytes"),
            ("publish", "the encoded payload has 100001 bytes"),
        ):
            with pytest.raises(crew.TaskFailed, match=f"TooLarge: {told}"):
                await client.call(prefix + task, OURS + 1)
    assert "closed it" not in worker.output


@pytest.fixture(scope="module")
def small_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A broker that takes smaller messages than crew believes."""
    node = Node(tmp_path_factory.mktemp("node"), conf=[f"max_message_size = {THEIRS}"])
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.mark.chaos
@pytest.mark.gen_test(timeout=60)
async def test_what_the_broker_does_not_take_fails_alone_and_costs_one_connection(
    small_node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = small_node.url
    with running(tmp_path, {"CREW_AMQP_URL": url}) as processes:
        worker = processes.python(LARGE).says("serving")
        async with Client(url) as client:
            before = [client.call("size", os.urandom(100), expiration=20) for _ in range(50)]
            large = [
                client.call("size", os.urandom(THEIRS + 1), persistent=persistent, expiration=20)
                for persistent in (True, False, True)
            ]
            after = [client.call("size", os.urandom(100), expiration=20) for _ in range(50)]
            for call in large:
                with pytest.raises(crew.TooLarge, match="50001 bytes, more than the max_message_size of the broker"):
                    await call
            with pytest.raises(crew.TooLarge):
                await client.publish("large", os.urandom(THEIRS + 1), persistent=True)
            assert [await call for call in before + after] == [100] * 100
            assert await client.call("size", os.urandom(THEIRS)) == THEIRS

            values = [client.call("make", size, expiration=20) for size in (100, THEIRS + 1, 100, THEIRS + 1, 100)]
            answers = await asyncio.gather(*map(answer_to, values))
            assert [len(answers[n]) for n in (0, 2, 4)] == [100] * 3
            refused = f"TooLarge: task 'make': the broker does not accept its return value of {THEIRS + 1} bytes"
            assert all(refused in str(answers[n]) for n in (1, 3))
            with pytest.raises(crew.TaskFailed, match=r"TooLarge: call .* of task 'size' has 50001 bytes"):
                await client.call("nested", THEIRS + 1, expiration=20)
            assert await client.call("nested", THEIRS, expiration=20) == THEIRS
        assert "Traceback" not in worker.own_output
        assert worker.output.count(TOO_LARGE) == 1
    assert caplog.text.count(TOO_LARGE) == 1


async def answer_to(call: PendingCall[Any]) -> Any:
    """Its value, or the error as a value."""
    try:
        return await call
    except crew.CrewError as error:
        return error
