"""Bad input is answered with one clear sentence, and the worker serves the next call."""

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

CUT_OFF = gzip.compress(b"{}" * 99, mtime=0)[:-9]  # the same in each process that collects these tests


@pytest.fixture(autouse=True)
def serves_the_next_call(broker_url: str, prefix: str, shared_worker: Process) -> Iterator[None]:
    """Whatever a test did: the same worker serves the next call, and nothing is left in its queues."""
    yield
    answer = raw.ask(broker_url, f"crew.tasks.{prefix}echo", b'"next"', content_type="application/json")
    assert answer is not None, shared_worker.output
    assert answer[1] == b'"next"'
    assert raw.depth(broker_url, f"crew.tasks.{prefix}echo") == 0
    assert raw.depth(broker_url, f"crew.tasks.{prefix}bad") == 0
    assert shared_worker.is_running


@pytest.mark.gen_test
async def test_an_unknown_task_is_told_within_a_second(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.UnknownTask, match="nobody"):
            await client.call(prefix + "nobody")
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("properties", "body", "says"),
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
def test_a_body_that_cannot_be_decoded_is_answered_with_the_reason(
    broker_url: str, prefix: str, properties: dict[str, Any], body: bytes, says: str
) -> None:
    answer = raw.ask(broker_url, f"crew.tasks.{prefix}echo", body, correlation_id="1", **properties)
    assert answer is not None
    reply, failure = answer
    assert reply.headers["crew-outcome"] == "raised"
    assert says in json.loads(failure)["message"]


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    bomb = gzip.compress(b"0" * 300 * 1024 * 1024, compresslevel=9)
    answer = raw.ask(
        broker_url,
        f"crew.tasks.{prefix}echo",
        bomb,
        content_type="application/json",
        content_encoding="gzip",
        correlation_id="1",
    )
    assert answer is not None
    assert "decompresses to more than the 67108864 bytes" in json.loads(answer[1])["message"]


def test_a_message_without_reply_to_is_run_and_one_without_correlation_id_is_answered(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    name = f"nobody waits {uuid.uuid4().hex}"
    body = json.dumps({"name": name}).encode()
    raw.send(broker_url, f"crew.tasks.{prefix}note", body, content_type="application/json")
    eventually(lambda: f"STARTED {name}" in shared_worker.output)
    answer = raw.ask(broker_url, f"crew.tasks.{prefix}echo", b"7", content_type="application/json")
    assert answer is not None
    assert answer[1] == b"7"


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
def test_headers_of_wrong_types_are_answered_and_the_message_parked(
    broker_url: str, prefix: str, headers: dict[str, Any], shared_worker: Process
) -> None:
    raw.parked(broker_url)
    body = uuid.uuid4().hex.encode()
    answer = raw.ask(broker_url, f"crew.tasks.{prefix}echo", body, correlation_id="1", headers=headers)
    assert answer is not None
    assert next(iter(headers)) in json.loads(answer[1])["message"]
    ((kept, kept_body),) = raw.parked(broker_url)
    assert kept_body == body
    assert next(iter(headers)) in kept["crew-reason"]
    assert kept["crew-task"] == prefix + "echo"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("kind", "type_name", "says"),
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
async def test_whatever_a_task_raises_its_caller_is_told(
    broker_url: str, prefix: str, kind: str, type_name: str, says: str
) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TaskFailed) as failed:
            await client.call(prefix + "bad", kind)
    assert failed.value.type_name.removeprefix("__main__.") in (type_name, type_name.removeprefix("tasks."))
    assert says in failed.value.message
    assert failed.value.id
    if kind == "raise":
        assert "tasks.py" in failed.value.traceback
        assert "crew/worker" not in failed.value.traceback


@pytest.mark.gen_test
async def test_a_call_that_is_not_persistent_is_never_run_twice(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    deaths = shared_worker.output.count("it exited with 1 pid=")
    async with Client(broker_url) as client:
        with pytest.raises(crew.TaskError):
            await client.call(prefix + "bad", "os._exit", persistent=False, expiration=1.5)
        assert await client.call(prefix + "echo", "next") == "next"
    assert shared_worker.output.count("it exited with 1 pid=") == deaths + 1


@pytest.mark.gen_test
@pytest.mark.parametrize("payload", [{"raw": b"x"}, {1: 2}, float("nan"), {1, 2}, object(), "\ud800"])
async def test_what_the_serializer_cannot_carry_is_refused_at_the_caller(
    broker_url: str, prefix: str, payload: Any
) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.SerializationError, match="application/json cannot carry this payload"):
            client.call(prefix + "echo", payload)


@pytest.mark.gen_test
async def test_calls_events_and_jobs_say_where_in_their_payload_the_serializer_gave_up(
    broker_url: str, prefix: str, tmp_path: Path
) -> None:
    payload = {"items": [{}, {"when": object()}]}
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    async with Client(broker_url, store=store) as client:
        for refused in (client.call, client.publish, client.submit):
            with pytest.raises(crew.SerializationError, match=r"\$\.items\[1\]\.when: a object"):
                await refused(prefix + "echo", payload)
    await store.close()


@pytest.mark.gen_test
async def test_a_counter_comes_back_from_a_task_as_an_equal_dict(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        assert await client.call(prefix + "bad", "Counter") == {"a": 2, "b": 1}


@pytest.mark.gen_test
async def test_a_reply_that_is_none_is_dropped_and_the_client_goes_on(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        queue = f"crew.reply.{client.id}"
        raw.send(broker_url, queue, b"no correlation id")
        raw.send(broker_url, queue, b"nobody's", correlation_id="unknown")
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


def test_a_queue_with_other_arguments_is_one_sentence_and_is_served(
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
        answer = raw.ask(broker_url, name, b"1", content_type="application/json")
        assert answer is not None
    finally:
        with raw.channel(broker_url) as channel:
            channel.queue_delete(name)
        eventually(
            lambda: worker.output.count("serving") > 1, timeout=30
        )  # it notices, and declares the queue as it should be


@pytest.mark.gen_test
async def test_two_clients_of_one_name_do_not_take_each_others_replies(broker_url: str, prefix: str) -> None:
    async with Client(broker_url, name="master") as one, Client(broker_url, name="master") as two:
        calls = [(one if n % 2 else two).call(prefix + "echo", n) for n in range(40)]
        assert [await call for call in calls] == list(range(40))
