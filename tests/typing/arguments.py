"""Calls with arguments as a user writes them: each line marked `type: ignore` is wrong, all others are right.

`tests/unit/test_typing.py` runs mypy and pyright, which also report a mark on a line that is right.
"""

import dataclasses
import datetime
from typing import Any, assert_type

from crew import Client, InvalidArguments
from crew.client import PendingCall, TaskRef, blocking
from crew.jobs import JobHandle
from crew.worker import Task, context


@dataclasses.dataclass
class Image:
    path: str
    taken: datetime.datetime | None = None


@Task("resize")
def resize(image: Image, width: int = 640, *, quality: float = 0.8) -> Image:
    return image


@Task("add")
async def add(a: int, b: int) -> int:
    return a + b


@Task("greet")
def greet(*names: str, **days: datetime.date) -> list[str]:
    return [*names, *days]


async def by_function(client: Client) -> None:
    assert_type(client.task(add)(1, 2), PendingCall[int])
    assert_type(await client.task(add)(1, b=2), int)
    assert_type(await client.task(resize)(Image("a")), Image)
    assert_type(await client.task(resize, timeout=5, priority=9)(Image("a"), 3, quality=1), Image)
    assert_type(await client.task(greet)("a", "b", c=datetime.date(2026, 1, 2)), list[str])
    ref = client.task(resize)
    assert_type(ref.name, str)
    assert_type(await ref.submit(Image("a"), width=3), JobHandle)

    client.task(add)(1)  # type: ignore[call-arg]
    client.task(add)(1, "2")  # type: ignore[arg-type]
    client.task(add)(1, 2, 3)  # type: ignore[call-arg]
    client.task(add)(1, c=2)  # type: ignore[call-arg]
    client.task(resize)({"path": "a"})  # type: ignore[arg-type]
    client.task(resize)(Image("a"), 3, 0.5)  # type: ignore[call-arg]
    client.task(resize)(Image("a"), width="wide")  # type: ignore[arg-type]
    client.task(greet)("a", 7)  # type: ignore[arg-type]
    client.task(greet)(c="soon")  # type: ignore[arg-type]
    await ref.submit(3)  # type: ignore[arg-type]
    print((await client.task(add)(1, 2)).upper())  # type: ignore[attr-defined]
    client.task(add, timout=5)(1, 2)  # type: ignore[call-overload]
    client.task(add, priority="high")(1, 2)  # type: ignore[call-overload]
    client.task(7)  # type: ignore[call-overload]


async def by_name(client: Client) -> None:
    ref = client.task("resize", timeout=5, expiration="10s", serializer="msgpack")
    assert_type(ref, TaskRef[..., Any])
    assert_type(await ref("cat.png", width=640), Any)
    assert_type(await ref.submit("cat.png"), JobHandle)
    client.task("resize", unique="skip", result_ttl="1h")
    client.task("resize", unique=True)  # type: ignore[call-overload]


def in_a_thread(client: blocking.Client) -> None:
    assert_type(client.task(add)(1, 2), blocking.BlockingCall[int])
    assert_type(client.task(resize)(Image("a")).result(timeout=3), Image)
    assert_type(client.task("resize")("a").result(), Any)
    assert_type(client.task(add).submit(1, 2), blocking.BlockingJob)
    client.task(add)(1, "2")  # type: ignore[arg-type]
    client.task(add).submit("1", 2)  # type: ignore[arg-type]
    client.task(add, timout=5)  # type: ignore[call-overload]


async def in_a_task() -> None:
    assert_type(await context.task_ref(add)(1, 2), int)
    assert_type(context.task_ref(resize, expiration=3)(Image("a")).result(), Image)
    assert_type(context.task_ref("add")(1, 2).result(), Any)
    context.task_ref(add)("1", 2)  # type: ignore[arg-type]
    context.task_ref(add, callback=print)  # type: ignore[call-overload]


def refused(error: InvalidArguments) -> None:
    assert_type(error.path, str)
    assert_type(error.task, str | None)
