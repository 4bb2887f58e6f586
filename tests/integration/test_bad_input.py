"""Bad input gets a reply with the reason, and the worker serves the next call."""

import gzip
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import crew
from crew import Client
from crew.jobs import JobStore
from tests.integration.conftest import StartWorker
from tests.support import raw
from tests.support.processes import Process
from tests.support.waiting import eventually

CUT_OFF = gzip.compress(b"{}" * 99, mtime=0)[:-9]  # reproducible, so that each pytest process collects the same tests


@pytest.fixture(autouse=True)
def worker_serves_the_next_call(broker_url: str, prefix: str, shared_worker: Process) -> Iterator[None]:
    """After each test, the same worker serves another call, and its queues are empty."""
    yield
    reply = raw.ask(broker_url, f"crew.tasks.{prefix}echo", b'"next"', content_type="application/json")
    assert reply is not None, shared_worker.output
    assert reply[1] == b'"next"'
    assert raw.depth(broker_url, f"crew.tasks.{prefix}echo") == 0
    assert raw.depth(broker_url, f"crew.tasks.{prefix}bad") == 0
    assert shared_worker.is_running


@pytest.mark.gen_test
async def test_a_call_of_an_unknown_task_fails_within_a_second(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.UnknownTask, match="missing"):
            await client.call(prefix + "missing")
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("properties", "body", "reason"),
    [
        ({"content_type": "application/json"}, b"{not json", "not valid application/json"),
        ({"content_type": "application/json"}, b"", "not valid application/json"),
        ({"content_type": "application/json"}, b"\xff\xfe", "not valid application/json"),
        ({"content_type": "application/msgpack"}, b"\xc1", "not valid application/msgpack"),
        ({"content_type": "text/plain"}, b"\xff", "not valid text/plain"),
        ({"content_type": "application/x-pickle"}, b"cos\nsystem\n(S'id'\ntR.", "not accepted"),
        ({"content_type": "application/json", "content_encoding": "br"}, b"{}", "'br' is not accepted"),
        ({"content_type": "application/json", "content_encoding": "gzip"}, b"{}", "not valid gzip"),
        ({"content_type": "application/json", "content_encoding": "gzip"}, CUT_OFF, "too early"),
        ({"content_type": "application/json"}, b"[" * 100_000, "not valid application/json"),
    ],
)
def test_a_body_that_cannot_be_decoded_gets_the_reason_as_its_reply(
    broker_url: str, prefix: str, properties: dict[str, Any], body: bytes, reason: str
) -> None:
    reply = raw.ask(broker_url, f"crew.tasks.{prefix}echo", body, correlation_id="1", **properties)
    assert reply is not None
    received, failure = reply
    assert received.headers["crew-outcome"] == "raised"
    assert reason in json.loads(failure)["message"]


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    bomb = gzip.compress(b"0" * 300 * 1024 * 1024, compresslevel=9)
    reply = raw.ask(
        broker_url,
        f"crew.tasks.{prefix}echo",
        bomb,
        content_type="application/json",
        content_encoding="gzip",
        correlation_id="1",
    )
    assert reply is not None
    assert "decompresses to more than the 67108864 bytes" in json.loads(reply[1])["message"]


def test_a_message_without_reply_to_runs_and_one_without_correlation_id_gets_a_reply(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    name = f"no reply {uuid.uuid4().hex}"
    body = json.dumps({"name": name}).encode()
    raw.send(broker_url, f"crew.tasks.{prefix}note", body, content_type="application/json")
    eventually(lambda: f"STARTED {name}" in shared_worker.output)
    reply = raw.ask(broker_url, f"crew.tasks.{prefix}echo", b"7", content_type="application/json")
    assert reply is not None
    assert reply[1] == b"7"


@pytest.mark.parametrize(
    "headers",
    [
        {"crew-deadline": "soon"},
        {"crew-deadline": True},
        {"crew-timeout": [1, 2]},
        {"crew-client": 5},
        {"crew-deadline": {"nested": "table"}},
    ],
)
def test_a_message_with_headers_of_wrong_types_gets_a_reply_and_is_parked(
    broker_url: str, prefix: str, headers: dict[str, Any], shared_worker: Process
) -> None:
    raw.parked(broker_url)
    body = uuid.uuid4().hex.encode()
    reply = raw.ask(broker_url, f"crew.tasks.{prefix}echo", body, correlation_id="1", headers=headers)
    assert reply is not None
    assert next(iter(headers)) in json.loads(reply[1])["message"]
    ((parked_headers, parked_body),) = raw.parked(broker_url)
    assert parked_body == body
    assert next(iter(headers)) in parked_headers["crew-reason"]
    assert parked_headers["crew-task"] == prefix + "echo"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("kind", "type_name", "message"),
    [
        ("raise", "KeyError", "missing"),
        ("unprintable", "tasks.Unprintable", "RuntimeError"),
        ("set", "crew.errors.SerializationError", "set"),
        ("object", "crew.errors.SerializationError", "object"),
        ("object inside", "crew.errors.SerializationError", "$.items[1].when: a object"),
        ("sys.exit", "SystemExit", "enough"),
        ("generator exit", "GeneratorExit", ""),
        ("keyboard interrupt", "KeyboardInterrupt", ""),
        ("recursion", "RecursionError", "recursion"),
        ("bad headers", "ValueError", "crew-outcome"),
        ("huge", "crew.errors.TooLarge", "16777216"),
        ("import error", "ModuleNotFoundError", "no_such_module"),
    ],
)
async def test_every_failure_of_a_task_reaches_its_caller(
    broker_url: str, prefix: str, kind: str, type_name: str, message: str
) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TaskFailed) as failed:
            await client.call(prefix + "bad", kind)
    assert failed.value.type_name.removeprefix("__main__.") in (type_name, type_name.removeprefix("tasks."))
    assert message in failed.value.message
    assert failed.value.id
    if kind == "raise":
        assert "tasks.py" in failed.value.traceback
        assert "crew/worker" not in failed.value.traceback


@pytest.mark.gen_test
async def test_a_call_that_is_not_persistent_never_runs_twice(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    exits = shared_worker.output.count("it exited with 1 pid=")
    async with Client(broker_url) as client:
        with pytest.raises(crew.TaskError):
            await client.call(prefix + "bad", "os._exit", persistent=False, expiration=1.5)
        assert await client.call(prefix + "echo", "next") == "next"
    assert shared_worker.output.count("it exited with 1 pid=") == exits + 1


@pytest.mark.gen_test
@pytest.mark.parametrize("payload", [{"raw": b"x"}, {1: 2}, float("nan"), {1, 2}, object(), "\ud800"])
async def test_a_call_whose_payload_cannot_be_encoded_raises_at_once(
    broker_url: str, prefix: str, payload: Any
) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.SerializationError, match="application/json cannot carry this payload"):
            client.call(prefix + "echo", payload)


@pytest.mark.gen_test
async def test_encoding_errors_of_calls_events_and_jobs_name_the_place_in_the_payload(
    broker_url: str, prefix: str, tmp_path: Path
) -> None:
    payload = {"items": [{}, {"when": object()}]}
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    async with Client(broker_url, store=store) as client:
        for send in (client.call, client.publish, client.submit):
            with pytest.raises(crew.SerializationError, match=r"\$\.items\[1\]\.when: a object"):
                await send(prefix + "echo", payload)
    await store.close()


@pytest.mark.gen_test
async def test_a_counter_that_a_task_returns_arrives_as_an_equal_dict(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        assert await client.call(prefix + "bad", "Counter") == {"a": 2, "b": 1}


@pytest.mark.gen_test
async def test_an_invalid_reply_is_discarded_or_fails_its_own_call_alone(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        queue = f"crew.reply.{client.id}"
        raw.send(broker_url, queue, b"no correlation id")
        raw.send(broker_url, queue, b"unknown call", correlation_id="unknown")
        call = client.call(prefix + "sleep", 0.3)
        raw.send(broker_url, queue, b"", correlation_id=call.id, headers={"crew-outcome": "nonsense"})
        raw.send(broker_url, queue, b"", correlation_id=call.id, headers={"crew-outcome": 7})
        assert await call == 0.3
        broken = client.call(prefix + "sleep", 0.3)
        raw.send(broker_url, queue, b"{broken", correlation_id=broken.id, content_type="application/json")
        with pytest.raises(crew.SerializationError, match=broken.id):
            await broken
        failed = client.call(prefix + "sleep", 0.3)
        raw.send(broker_url, queue, b"no failure", correlation_id=failed.id, headers={"crew-outcome": "raised"})
        with pytest.raises(crew.TaskFailed, match="cannot be decoded"):
            await failed
        assert await client.call(prefix + "echo", "alive") == "alive"


def test_a_queue_with_other_arguments_is_served_and_logged_in_one_line(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    name = f"crew.tasks.{prefix}echo"
    with raw.channel(broker_url) as channel:
        channel.queue_delete(name)
        channel.queue_declare(name, durable=True, arguments={"x-max-priority": 5})
    try:
        worker = start_worker()
        lines = [line for line in worker.output.splitlines() if name in line and "other arguments" in line]
        assert len(lines) == 1
        assert f"`crew queues migrate {prefix}echo`" in lines[0]
        assert "Traceback" not in worker.output
        reply = raw.ask(broker_url, name, b"1", content_type="application/json")
        assert reply is not None
    finally:
        with raw.channel(broker_url) as channel:
            channel.queue_delete(name)
        # The worker detects the deletion, and declares the queue with its own arguments.
        eventually(lambda: worker.output.count("serving") > 1, timeout=30)


@pytest.mark.gen_test
async def test_clients_with_the_same_name_get_only_their_own_replies(broker_url: str, prefix: str) -> None:
    async with Client(broker_url, name="master") as one, Client(broker_url, name="master") as two:
        calls = [(one if n % 2 else two).call(prefix + "echo", n) for n in range(40)]
        assert [await call for call in calls] == list(range(40))
