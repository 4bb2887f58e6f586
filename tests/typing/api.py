"""The public API as a user writes it: `mypy --strict` on this file is the test, nothing here is run."""

from collections.abc import Awaitable
from typing import Any, assert_type

from tornado import gen
from tornado.routing import URLSpec
from tornado.web import Application, RequestHandler

import crew
from crew import (
    Client,
    ConnectionError,
    CrewError,
    ExpirationError,
    Interrupt,
    TaskError,
    TaskFailed,
    TimeoutError,
    UnknownTask,
)
from crew.client import Event, Parallel, PendingCall, Scope, Subscription, blocking
from crew.gateway import AbandonMixin, CallHandler, cancel_when_abandoned, routes, serve
from crew.jobs import Job, JobHandle, JobStatus, JobStore
from crew.worker import HandlerClass, Task, context, on_process_start, on_process_stop, run

assert_type(crew.__version__, str)


# --- a worker script ------------------------------------------------------------------------------------------------


@Task("resize", timeout=10, long=True)
def resize(image: dict[str, int], *, quality: float = 0.8) -> int:
    return image["width"] // 2


@Task("plain")
def plain(req):  # type: ignore[no-untyped-def]  # users need not annotate
    return req


assert_type(resize({"width": 640}), int)
assert_type(resize({"width": 640}, quality=0.5), int)
resize("not a dict")  # type: ignore[arg-type]
resize({"width": 1}, quality="best")  # type: ignore[arg-type]
resize()  # type: ignore[call-arg]
Task(7)  # type: ignore[arg-type]
Task("resize", timeout="10m")
Task("resize", timeout=["10"])  # type: ignore[arg-type]


@Task("fetch", retries=3, backoff=(0.5, 60), retry_on=(OSError, KeyError))
def fetch(url: str) -> str:
    return url


assert_type(fetch("x"), str)
Task("fetch", retries="3")  # type: ignore[arg-type]
Task("fetch", long=2)  # type: ignore[arg-type]
Task("fetch", backoff=1)  # type: ignore[arg-type]
Task("fetch", retry_on=(SystemExit,))  # type: ignore[arg-type]


class Stat(HandlerClass):
    def process(self) -> dict[str, int]:
        return {"width": self.payload["width"]}


Stat.bind("stat")
Stat.bind("stat", timeout=3)
Stat.bind("stat", retries=3, backoff=(1, 60), retry_on=(OSError,))
Stat.bind("stat", max_queue=1000)
Task("stat", max_queue=1000)
Task("stat", max_queue=0.5)  # type: ignore[arg-type]
assert_type(Stat({"width": 1}).process(), dict[str, int])


@Task("everything")
def everything(data: Any) -> Any:
    context.settings.counter += 1
    context.headers["took"] = 3
    context.pubsub.publish("news", {"x": 1})
    context.pubsub.publish("news", payload={"x": 1}, headers={"a": 1}, serializer="msgpack")
    assert_type(context.call("stat", data, expiration="10s").result(timeout="5s"), Any)
    assert_type(context.remaining, float | None)
    assert_type(context.canceled.is_set(), bool)
    assert_type(context.canceled.wait(0.1), bool)
    assert_type(context.attempt, int)
    assert_type(context.id, str)
    try:
        return data
    except Interrupt as interrupt:
        assert_type(interrupt.reason, str)
        raise
    except SystemExit:
        return None


@on_process_start
def connect() -> int:
    return 1


@on_process_stop(timeout=3)
async def disconnect() -> None: ...


assert_type(connect(), int)


def main() -> None:
    run(counter=0, anything="else")


# --- a gateway ------------------------------------------------------------------------------------------------------


def on_answer(value: Any, headers: dict[str, Any]) -> None: ...


async def on_answer_later(value: Any, headers: dict[str, Any]) -> None: ...


def on_event(event: Event) -> None:
    assert_type(event.topic, str)
    assert_type(event.headers, dict[str, Any])


async def on_event_later(event: Event) -> None: ...


class Resize(RequestHandler):
    crew: Client

    async def get(self) -> None:
        try:
            self.write(await self.crew.call("resize", {"width": 640}, priority=100, expiration=3))
        except ExpirationError:
            self.send_error(503)
        except TimeoutError as error:
            assert_type(error.task, str | None)
            self.send_error(504)

    @gen.coroutine
    def post(self) -> Any:
        value = yield self.crew.call("resize", {"width": 640})
        self.write(value)


async def gateway() -> None:
    client = Client()
    Client("amqp://guest:guest@127.0.0.1/", name="gateway", max_pending=100)
    Client(7)  # type: ignore[arg-type]
    await client.connect()
    await client.connect(timeout=3)

    call = client.call("resize")
    assert_type(call, PendingCall[Any])
    assert_type(call.id, str)
    assert_type(call.headers, dict[str, Any])
    assert_type(call.done(), bool)
    assert_type(call.cancel(), bool)
    client.call(
        "resize",
        {"width": 640},
        priority=100,
        expiration=3.5,
        timeout=2,
        persistent=False,
        serializer="msgpack",
        headers={"tenant": "a"},
        callback=on_answer,
        id="17",
    )
    client.call("resize", callback=on_answer_later)
    client.call("resize", callback=lambda value, headers: print(value, headers))
    client.call("resize", priority="high")  # type: ignore[arg-type]
    client.call("resize", expiration="1m30s", timeout="500ms")
    client.call("resize", expiration=["3"])  # type: ignore[arg-type]
    client.call(resize)  # type: ignore[arg-type]
    client.call("resize", {}, 100)  # type: ignore[call-arg]

    with client.parallel() as calls:
        assert_type(calls, Parallel)
        assert_type(calls.call("resize", {"width": 640}, expiration=3), PendingCall[Any])
        calls.call("stat")
        calls.call("stat", expires=3)  # type: ignore[call-arg]
    small, stat = await calls.result()
    print(small, stat)

    await client.publish("news", {"x": 1}, headers={"a": 1}, serializer="json", persistent=True)
    subscription = client.subscribe("news.*", on_event)
    assert_type(subscription, Subscription)
    client.subscribe("#", on_event_later)
    client.subscribe("news.*", "callback")  # type: ignore[arg-type]
    await subscription.ready()
    subscription.close()
    client.unsubscribe("news.*")
    client.unsubscribe("#", on_event_later)
    await client.close()
    async with Client() as other:
        assert_type(other, Client)


def script() -> None:
    with blocking.Client() as client:
        assert_type(client, blocking.Client)
        call = client.call("resize", {"width": 640}, expiration=3)
        call.result()
        call.result(timeout=1.5)
        assert_type(call.id, str)
        assert_type(call.cancel(), bool)
        assert_type(call, blocking.BlockingCall[Any])
        call.result(timeout="1m30s")
        client.call("resize", {"width": 640}, expiration="10m", priority=3)
        client.call("resize", priority="high")  # type: ignore[arg-type]
        client.call("resize", prio=3)  # type: ignore[call-arg]
        client.publish("news", {"x": 1})
        client.publish("news", {"x": 1}, persistent=True, timeout="10s")
        client.publish("news", persistant=True)  # type: ignore[call-arg]
        client.subscribe("news", on_event).close()
        with client.parallel() as calls:
            assert_type(calls, blocking.BlockingParallel)
            assert_type(calls.call("resize", expiration="1m"), blocking.BlockingCall[Any])
            calls.call("resize", prio=3)  # type: ignore[call-arg]
        assert_type(calls.result(timeout=3), list[Any])
        job = client.submit("resize", {"width": 640}, unique="skip", unique_key="a", timeout="1h30m")
        assert_type(job, blocking.BlockingJob)
        assert_type(job.status(), JobStatus)
        assert_type(job.job(), Job)
        assert_type(list(job.events()), list[Job])
        job.result(timeout="2h")
        client.submit("resize", timout=3)  # type: ignore[call-arg]
        assert_type(client.job(job.id), blocking.BlockingJob)
        assert_type(client.job(job.id).error(), TaskError | None)
        assert_type(client.job(job.id).progress(), Any)
        client.job(7)  # type: ignore[arg-type]
    blocking.Client(max_pending=100, fail_fast=True, store=JobStore())
    blocking.Client(store="sqlite:///jobs.db")
    blocking.Client(store=7)  # type: ignore[arg-type]
    blocking.Client(max_waiting=100)  # type: ignore[call-arg]


async def typed_values(client: Client) -> None:
    width: PendingCall[int] = client.call("resize", {"width": 640})
    assert_type(await width, int)
    assert_type(width.value(), int)
    await client.call("resize", data={"width": 640})


def errors(error: CrewError) -> None:
    if isinstance(error, TaskFailed):
        assert_type(error.type_name, str)
        assert_type(error.message, str)
        assert_type(error.traceback, str)
        assert_type(error.retryable, bool)
        assert_type(error.attempts, int)
    elif isinstance(error, UnknownTask | TaskError):
        assert_type(error.id, str | None)
    elif isinstance(error, ConnectionError):
        print(error)


class Abandoned(AbandonMixin, RequestHandler):
    crew: Client

    async def get(self) -> None:
        self.write(await self.crew.call("resize"))


class Named(RequestHandler):
    crew: Client

    async def get(self) -> None:
        call = self.crew.call("resize")
        cancel_when_abandoned(self, call)
        cancel_when_abandoned(call)  # type: ignore[arg-type]
        self.write(await call)


class Guarded(CallHandler):
    def prepare(self) -> Awaitable[None] | None:
        assert_type(self.client, Client)
        return super().prepare()


def mounted(client: Client) -> None:
    assert_type(routes(client, prefix="/crew", max_expiration=5, max_body=1000), list[URLSpec])
    routes(client, fail_fast=True)
    routes(client, "/crew")  # type: ignore[arg-type]


async def served(application: Application) -> None:
    client = Client(max_pending=100, max_pending_bytes=1_000_000, fail_fast=True)
    assert_type(client.is_ready, bool)
    assert_type(client.obstacle, str | None)
    client.call("resize", fail_fast=False)
    await client.publish("news", fail_fast=True)
    await serve(application, client, port=0, address="::1", drain=10, linger=1, on_listening=print, xheaders=True)
    await client.drain(timeout=3)


def in_a_scope(client: Client) -> None:
    with Scope() as scope:
        scope.add(client.call("resize"))
        assert_type(scope.is_abandoned, bool)
        assert_type(scope.abandon("the HTTP client has gone"), list[PendingCall[Any]])


# --- jobs -----------------------------------------------------------------------------------------------------------


async def jobs() -> None:
    client = Client(store=JobStore("sqlite:///jobs.db", max_result=1_000_000))
    job = await client.submit("resize", {"width": 640}, timeout="10m", unique="skip", unique_key="a", priority=3)
    assert_type(job, JobHandle)
    assert_type(await job.status(), JobStatus)
    assert_type(await job.job(), Job)
    assert_type(await job.cancel(), bool)
    await job.result(timeout="2h")
    await job.result("2h")
    async for record in job.events():
        assert_type(record, Job)
        assert_type(record.decoded_progress, Any)
    other = Client(store="sqlite:///jobs.db").job(job.id)
    assert_type(other, JobHandle)
    assert_type(await other.error(), TaskError | None)
    assert_type(await other.progress(), Any)
    assert_type(await client.jobs.retry(job.id), JobHandle)
    routes(client, store=JobStore())
    await client.submit("resize", timout=3)  # type: ignore[call-arg]
    await client.submit("resize", unique=True)  # type: ignore[arg-type]
    await job.result("soon", 3)  # type: ignore[call-arg]
