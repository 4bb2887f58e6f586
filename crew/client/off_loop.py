"""Decodes and compresses large bodies in a thread, so that the event loop does not block.

The process has one such thread. So bodies are decoded in the order of their arrival, and hostile bodies occupy only one
thread; the loop runs every few milliseconds. Small bodies, nearly all, are decoded on the loop: a thread costs more.
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
    """The thread. It starts with its first use; a forked child starts its own."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        forks.register(self)

    def on_forked(self) -> None:
        """Leave the thread to the parent process."""
        forks.keep_alive(self._executor)
        self._executor = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="crew decoding")
        return self._executor


_thread: Final = _Thread()


async def run(step: Callable[..., T], *given: Any, is_large: bool) -> T:
    """Return `step(*given)`: run in the thread if `is_large`, else here."""
    return await start(step, *given) if is_large else step(*given)


def start(step: Callable[..., T], *given: Any) -> "asyncio.Future[T]":
    """Start `step(*given)` in the thread, after all earlier steps."""
    return asyncio.get_running_loop().run_in_executor(_thread.executor, step, *given)


async def decoded(body: Body, decode: codec.Decode = codec.decode) -> Any:
    """Decode `body`; raises SerializationError."""
    return await run(decode, body, is_large=codec.is_large(body))


async def checked(body: Body, decode: codec.Decode = codec.decode) -> None:
    """Raise SerializationError if `decode` would; the value of a large body is not kept."""
    await run(codec.check, body, decode, is_large=codec.is_large(body))


async def packed(body: Body, max_size: int, *, compresses: bool) -> Body:
    """Compress the plain `body` as `codec.encode_for_settings` does."""
    if not (codec.is_large(body) and (compresses or len(body.data) > max_size)):
        return body
    return await start(codec.packed, body, max_size)


async def encoded(
    payload: Any, serializer: str | None, *, max_size: int, compresses: bool = True, is_exact: bool = False
) -> Body:
    """Encode `payload`, and compress it in the thread if it is large; raises SerializationError and TooLarge."""
    body = codec.encode_on_loop(payload, serializer, max_size=max_size, compresses=compresses, is_exact=is_exact)
    return await compressed(body, max_size)


async def compressed(body: Body, max_size: int) -> Body:
    """Finish the body of `codec.encode_on_loop`; raises TooLarge."""
    return await start(codec.compressed, body, max_size) if body.to_compress else body


async def unpacked(body: Body) -> Body:
    """Decompress `body`; raises SerializationError."""
    return await start(codec.unpacked, body) if codec.is_large(body) else body
