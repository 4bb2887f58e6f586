"""Decodes and packs large bodies in a thread, so that the event loop goes on meanwhile.

One thread for the whole process: bodies are decoded in the order in which they came, and a few hostile ones take one
thread, which lets the loop run every few milliseconds. Small bodies, nearly all, are decoded where they are: a thread
would cost more.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from crew import forks
from crew.protocol.encoding import codec
from crew.protocol.message import Body

T = TypeVar("T")


class _Thread:
    """The thread, which is started when it is first wanted; a forked child has one of its own."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        forks.register(self)

    def on_forked(self) -> None:
        """The thread is the parent's."""
        forks.keep_alive(self._executor)
        self._executor = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="crew decoding")
        return self._executor


_thread: Final = _Thread()


async def run(step: Callable[..., T], *given: Any, is_large: bool) -> T:
    """What `step(*given)` returns: in the thread where it is about something large, else here."""
    return await start(step, *given) if is_large else step(*given)


def start(step: Callable[..., T], *given: Any) -> "asyncio.Future[T]":
    """Begin `step(*given)` in the thread, after all that was begun there before."""
    return asyncio.get_running_loop().run_in_executor(_thread.executor, step, *given)


async def decoded(body: Body, decode: codec.Decode = codec.decode) -> Any:
    """What `decode` makes of `body`; raises SerializationError."""
    return await run(decode, body, is_large=codec.is_large(body))


async def checked(body: Body, decode: codec.Decode = codec.decode) -> None:
    """Raise SerializationError where `decode` would; nothing of a large body's value is kept."""
    await run(codec.check, body, decode, is_large=codec.is_large(body))


async def packed(body: Body) -> Body:
    """`body` as it travels: compressed where it is large and that makes it smaller."""
    return await start(codec.packed, body) if codec.is_large(body) else body


async def unpacked(body: Body) -> Body:
    """`body` without compression; raises SerializationError."""
    return await start(codec.unpacked, body) if codec.is_large(body) else body
