"""Tasks with parameters and types: a module that a worker and its callers share, as users will have one."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Any

import msgspec
import pydantic

from crew.worker import HandlerClass, Task, context, run


class Format(enum.Enum):
    PNG = "png"
    JPEG = "jpeg"


@dataclasses.dataclass
class Image:
    path: str
    taken: datetime.datetime
    formats: set[Format] = dataclasses.field(default_factory=set)


class Order(msgspec.Struct):
    id: uuid.UUID
    price: decimal.Decimal
    proof: bytes


class User(pydantic.BaseModel):
    name: str
    born: datetime.date


@Task("typed.resize")
def resize(image: Image, width: int = 640, *, suffix: str = ".png") -> Image:
    return dataclasses.replace(image, path=f"{image.path}-{width}{suffix}")


@Task("typed.add")
async def add(a: int, b: int) -> int:
    return a + b


@Task("typed.pay")
def pay(order: Order) -> Order:
    return msgspec.structs.replace(order, price=order.price * 2)


@Task("typed.greet")
def greet(*users: User, **days: datetime.date) -> dict[str, datetime.date]:
    return {user.name: user.born for user in users} | days


@Task("typed.count", retries=3, backoff=(0.05, 0.05))
def count(until: int, *, error: str) -> int:
    if context.attempt < until:
        raise OSError(error)
    return context.attempt


@Task("typed.sum", long=True)
def sum_of(numbers: list[int]) -> int:
    return sum(context.task_ref(add)(0, number).result() for number in numbers)


@Task("typed.sum_later")
async def sum_later(numbers: list[int]) -> int:
    return sum([await context.task_ref("typed.add")(0, number) for number in numbers])


@Task("typed.misuse")
def misuse() -> int:
    """Its own call is wrong, not the call that it serves."""
    return context.task_ref(add)("a", 1).result()  # type: ignore[arg-type]


@Task("typed.wrong")
def wrong(value: Any) -> int:
    return value  # type: ignore[no-any-return]  # the annotation is wrong


@Task("typed.plain")
def plain(payload):  # type: ignore[no-untyped-def]  # as many will write it
    return payload


class Stat(HandlerClass):
    def process(self, path: str, depth: int = 1) -> list[Any]:  # type: ignore[override]
        return [path, depth, self.payload]


Stat.bind("typed.stat")


if __name__ == "__main__":
    run()
