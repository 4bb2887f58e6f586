"""Old names of the public API: they still work, with one warning that names the new one."""

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import msgpack

import crew
from crew import Client, errors
from crew.client.blocking import Client as BlockingClient
from crew.jobs import JobHandle, JobStore
from crew.protocol.arguments import with_new_names
from crew.worker import HandlerClass, context
from crew.worker.context import ContextPubSub
from tests.support.a_job import url_of
from tests.support.broker import unreachable_url


@pytest.mark.gen_test
async def test_data_is_the_old_name_of_payload_in_call_and_publish() -> None:
    with unreachable_url() as url:
        client = Client(url)
        with deprecated("call(): the argument 'data' is now named 'payload'"):
            call = client.call("t", data={"n": 1}, serializer="msgpack")
        assert msgpack.decode(call.message.body.data) == {"n": 1}
        with deprecated("call(): the argument 'data' is now named 'payload'"), client.parallel() as calls:
            calls.call("t", data=2)  # type: ignore[call-arg]
        with deprecated("publish(): the argument 'data' is now named 'payload'"):
            client.publish("news", data=1)
        call.cancel()
        calls.cancel()
        await client.close()


def test_a_blocking_client_takes_the_old_names_too(tmp_path: Path) -> None:
    with unreachable_url() as url, BlockingClient(url, store=JobStore(url_of(tmp_path))) as client:
        with deprecated("call(): the argument 'data' is now named 'payload'"):
            client.call("t", data=1).cancel()  # type: ignore[call-arg]
        with deprecated("submit(): the argument 'key' is now named 'unique_key'"):
            job = client.submit("t", 1, unique="skip", key="k")  # type: ignore[call-arg]
        assert job.job().unique_key == "k"


@pytest.mark.gen_test
async def test_submit_takes_data_and_key(tmp_path: Path) -> None:
    with unreachable_url() as url:
        client = Client(url, store=JobStore(url_of(tmp_path)))
        with deprecated("submit(): the argument 'data' is now named 'payload'"):
            job = await client.submit("t", data=5, unique="skip")  # type: ignore[call-arg]
        with deprecated("submit(): the argument 'key' is now named 'unique_key'"):
            other = await client.submit("t", 5, unique="skip", key="k")  # type: ignore[call-arg]
        record = await job.job()
        assert record.body is not None
        assert record.body.data == b"5"
        assert (await other.job()).unique_key == "k"
        await client.close()


@pytest.mark.gen_test
async def test_wait_is_the_old_name_of_the_timeout_of_a_result() -> None:
    class Jobs:
        async def result(self, id: str, timeout: object = None) -> object:
            return id, timeout

    handle = JobHandle(Jobs(), "7")  # type: ignore[arg-type]
    assert await handle.result(3) == ("7", 3)
    assert await handle.result(timeout="3s") == ("7", "3s")
    with deprecated("JobHandle.result(): the argument 'wait' is now named 'timeout'"):
        assert await handle.result(wait=3) == ("7", 3)


def test_a_task_may_use_the_old_names_of_its_payload_and_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    class Resize(HandlerClass):
        def process(self) -> Any:
            return self.data

    with deprecated("HandlerClass.data is now named HandlerClass.payload"):
        assert Resize({"n": 1}).process() == {"n": 1}

    class Prepared(HandlerClass):
        def __init__(self, data: Any) -> None:
            self.data = data["n"]

    assert Prepared({"n": 1}).payload == 1
    published: list[object] = []
    pubsub = ContextPubSub()
    pubsub.bind(lambda topic, payload, **_: published.append((topic, payload)))
    with deprecated("context.pubsub.publish(): the argument 'message' is now named 'payload'"):
        pubsub.publish("news", message=1)
    assert published == [("news", 1)]
    monkeypatch.setattr(type(context), "canceled", "the token")
    with deprecated("context.cancelled is now named context.canceled"):
        assert context.cancelled == "the token"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("module", [crew, errors], ids=["crew", "crew.errors"])
def test_duplicate_task_id_is_the_old_name_of_duplicate_call_id(module: Any) -> None:
    with deprecated("DuplicateTaskId is now named"):
        assert module.DuplicateTaskId is errors.DuplicateCallId
    with pytest.raises(AttributeError, match="DuplicateJobId"):
        _ = module.DuplicateJobId


def test_new_names_are_not_warned_about() -> None:
    assert importlib.import_module("crew").DuplicateCallId is errors.DuplicateCallId
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_new_names("f", {"payload": 1}, {"data": "payload"}) == {"payload": 1}


@contextlib.contextmanager
def deprecated(text: str) -> Iterator[None]:
    """Assert that the block causes one DeprecationWarning with this text, which names this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [one.filename for one in caught if text in str(one.message)] == [__file__], [str(one) for one in caught]
