"""Calls with arguments, from each kind of caller, with a real broker and a real worker."""

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crew import Client, InvalidArguments, SerializationError, TaskFailed
from crew.client import blocking
from crew.jobs import JobStore
from crew.protocol.encoding.call_arguments import Arguments
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, running
from tests.tasks import typed
from tests.tasks.typed import Format, Image, Order, User

SOON = 10.0  # seconds
NOON = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
IMAGE = Image("cat", NOON, {Format.PNG, Format.JPEG})


@pytest.fixture(scope="module")
def url(vhost_url: Callable[[], str]) -> str:
    """A virtual host of this module, as callers and worker share the names in a module."""
    return vhost_url()


@pytest.fixture(scope="module", autouse=True)
def worker(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[Process]:
    """One worker for the whole module; two processes, as tasks call other tasks."""
    with running(tmp_path_factory.mktemp("worker"), {"CREW_AMQP_URL": url}, preloaded=True) as processes:
        yield processes.python(TASK_FOLDER / "typed.py", "--processes", "2").says("serving", times=2)


@pytest.mark.gen_test(timeout=30)
async def test_arguments_and_values_arrive_as_they_were(url: str) -> None:
    order = Order(uuid.uuid4(), decimal.Decimal("1.10"), b"\x00\xff")
    async with Client(url) as client:
        assert await client.task(typed.resize)(IMAGE, width=3) == Image("cat-3.png", NOON, IMAGE.formats)
        assert await client.task(typed.add)(1, b=2) == 3
        assert await client.task(typed.pay)(order) == Order(order.id, decimal.Decimal("2.20"), order.proof)
        born = datetime.date(2000, 1, 2)
        greeted = await client.task(typed.greet, priority=3)(User(name="a", born=born), b=born)
        assert greeted == {"a": born, "b": born}
        assert await client.task("typed.add", serializer="msgpack")(1, 2) == 3
        assert await client.task("typed.stat")("a", depth=2) == ["a", 2, None]
        assert await client.task("typed.plain")({"a": [1]}) == {"a": [1]}
        assert await client.task("typed.plain")(payload=7) == 7
        large = Image("c" * 300_000, NOON)
        assert await client.task(typed.resize)(large, suffix="") == Image(f"{large.path}-640", NOON)


@pytest.mark.gen_test(timeout=30)
async def test_a_caller_that_has_only_the_name_gets_the_value_as_json_has_it(url: str) -> None:
    async with Client(url) as client:
        value = await client.call("typed.resize", {"image": {"path": "cat", "taken": "2026-11-30T12:00:00Z"}})
        assert value == {"path": "cat-640.png", "taken": "2026-11-30T12:00:00Z", "formats": []}
        assert await client.call("typed.add", {"b": 1, "a": 2}) == 3
        assert await client.call("typed.sum", [1, 2, 3]) == 6
        assert await client.call("typed.stat", {"path": "a"}) == ["a", 1, None]


@pytest.mark.gen_test(timeout=30)
async def test_arguments_that_do_not_fit_are_refused_by_worker_and_client(url: str, worker: Process) -> None:
    text = "task 'typed.add': argument `b`: expected `int`, got `str`"
    async with Client(url) as client:
        for call in (client.call("typed.add", {"a": 1, "b": "x"}), client.task("typed.add")(1, "x")):
            with pytest.raises(InvalidArguments) as raised:
                await call
            assert (str(raised.value), raised.value.path, raised.value.id) == (text, "b", call.id)
        with pytest.raises(InvalidArguments) as raised:
            client.task(typed.add)(1, "x")  # type: ignore[arg-type]
        assert (str(raised.value), raised.value.id) == (text, None)
        with pytest.raises(InvalidArguments, match="argument `error`: it is missing"):  # despite its retries
            await client.call("typed.count", {"until": 2})


@pytest.mark.gen_test(timeout=30)
async def test_invalid_arguments_of_a_nested_call_are_a_failure_of_the_task(url: str) -> None:
    async with Client(url) as client:
        with pytest.raises(TaskFailed, match=r"'typed\.add': argument `a`: expected `int`, got `str`") as raised:
            await client.task(typed.misuse)()
        assert raised.value.type_name == "crew.errors.InvalidArguments"


@pytest.mark.gen_test(timeout=30)
async def test_a_task_calls_others_with_arguments_and_is_retried_with_its_own(url: str) -> None:
    async with Client(url) as client:
        assert await client.task(typed.sum_of)([1, 2, 3]) == 6
        assert await client.task(typed.sum_later)([1, 2, 3]) == 6
        assert await client.task(typed.count)(3, error="not yet") == 3


@pytest.mark.gen_test(timeout=30)
async def test_a_value_that_its_annotation_does_not_describe_is_an_error_of_the_typed_call(url: str) -> None:
    async with Client(url) as client:
        with pytest.raises(SerializationError, match="is not what its annotation says: expected `int`, got `str`"):
            await client.task(typed.wrong)("a")
        assert await client.task("typed.wrong")("a") == "a"


@pytest.mark.gen_test(timeout=30)
async def test_jobs_have_arguments(url: str, tmp_path: Path) -> None:
    async with Client(url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db")) as client:
        job = await client.task(typed.resize, timeout="1m").submit(IMAGE, width=3)
        assert await job.result(SOON) == Image("cat-3.png", NOON, IMAGE.formats)
        record = await client.jobs.get(job.id)
        assert record.body is not None
        sent = client.decode(record.body)
        assert isinstance(sent, Arguments)
        assert sent.kwargs == {"width": 3}
        refused = await client.task("typed.add").submit(1, "x")
        with pytest.raises(InvalidArguments, match="argument `b`: expected `int`, got `str`"):
            await refused.result(SOON)


def test_threads_call_with_arguments(url: str, tmp_path: Path) -> None:
    with blocking.Client(url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db")) as client:
        resize = client.task(typed.resize, expiration=SOON)
        assert resize(IMAGE, width=3).result() == Image("cat-3.png", NOON, IMAGE.formats)
        assert resize.submit(IMAGE).result(SOON) == Image("cat-640.png", NOON, IMAGE.formats)
        with pytest.raises(InvalidArguments, match="argument `width`"):
            resize(IMAGE, width="wide")  # type: ignore[arg-type]
        assert client.task("typed.add")(1, 2).result() == 3


@pytest.mark.gen_test
async def test_a_mistake_in_the_options_is_one_sentence(url: str) -> None:
    client = Client(url)
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: client.task("t", timout=3), TypeError, "no argument 'timout' .did you mean 'timeout'"),  # type: ignore[call-overload]
        (lambda: client.task(test_threads_call_with_arguments), ValueError, 'is no task: write @Task."name". above it'),
        (lambda: client.task("t", unique="skip")(1), TypeError, "unique"),
        (lambda: client.task("t", serializer="text")("a"), ValueError, "serializer must be json or msgpack"),
        (lambda: client.task(""), ValueError, "task must"),
    ]
    for make, kind, sentence in wrong:
        with pytest.raises(kind, match=sentence):
            make()
    await client.close()
