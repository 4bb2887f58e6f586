"""The client for scripts and threads: the same calls, on an event loop in a background thread.

    with Client() as client:
        print(client.call("resize", {"width": 640}).result())

Threads may share one client.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from crew import forks
from crew.client.calling.call import PendingCall
from crew.client.calling.scope import current
from crew.client.client import DRAIN_TIMEOUT
from crew.client.client import Client as AsyncClient
from crew.client.events.subscription import OnEvent, Subscription
from crew.client.loop_thread import LoopThread
from crew.protocol.message import Headers

T = TypeVar("T")


class BlockingCall:
    """A call that a thread may wait for."""

    def __init__(self, call: PendingCall, ended: "concurrent.futures.Future[Any]", thread: LoopThread) -> None:
        self._call = call
        self._ended = ended
        self._thread = thread

    def __repr__(self) -> str:
        return repr(self._call).replace("PendingCall", "BlockingCall")

    @property
    def id(self) -> str:
        """The call's id."""
        return self._call.id

    @property
    def headers(self) -> Headers:
        """The reply's headers, once the call has ended."""
        return self._call.headers

    def done(self) -> bool:
        """Whether it has ended."""
        return self._call.done()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task's value.

        Args:
            timeout: seconds to wait here; None: until the call ends, which it does by its own deadline.

        Raises:
            builtins.TimeoutError: `timeout` is over; the call goes on, and may be waited for again.
            RuntimeError: this is the client's own thread, of its callbacks.
            ConnectionError: this process was forked after the call was made: its parent gets the reply.
            What awaiting `Client.call` raises.
        """
        if self._thread.is_inherited and not self._ended.done():
            return self._call.value()
        self._call.is_awaited = True
        if not self._ended.done():
            self._thread.check()
        return self._ended.result(timeout)

    def cancel(self) -> bool:
        """Give the call up; False where it has ended already."""
        if self._thread.is_inherited:
            return False  # what it belongs to is the parent's
        return self._thread.run(_sync(self._call.cancel))


class Client:
    """As `crew.Client`, for threads: arguments and errors are the same.

    Its methods block until the client's loop, which runs in a thread of its own, has done them; `call` returns at once.
    Callbacks of `call` and `subscribe` run in that thread, and must not block it. In a forked child it begins anew, as
    `crew.Client` does, with another thread.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._client = AsyncClient(url, **options)
        self._thread = LoopThread()
        forks.register(self)

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """The client's id."""
        return self._client.id

    def connect(self, timeout: float | None = None) -> None:
        """As `crew.Client.connect`; returns when the broker is reached."""

        async def connect() -> None:
            await self._client.connect(timeout)

        self._thread.run(connect())

    def call(self, task: str, data: Any = None, **options: Any) -> BlockingCall:
        """As `crew.Client.call`; wait for the value with `.result()`."""
        thread = self._thread

        async def begin() -> tuple[PendingCall, "concurrent.futures.Future[Any]"]:
            current.set(None)  # the thread's scope, if any, serves the loop of its request, and this is another
            call = self._client.call(task, data, **options)
            return call, asyncio.run_coroutine_threadsafe(_wait(call), asyncio.get_running_loop())

        call, ended = thread.run(begin())
        return BlockingCall(call, ended, thread)

    def publish(self, topic: str, data: Any = None, **options: Any) -> None:
        """As `crew.Client.publish`; returns when the broker has the event."""

        async def publish() -> None:
            await self._client.publish(topic, data, **options)

        self._thread.run(publish())

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """As `crew.Client.subscribe`; returns when the broker knows of it."""

        async def begin() -> Subscription:
            subscription = self._client.subscribe(topic, callback)
            await subscription.ready()
            return subscription

        return self._thread.run(begin())

    def unsubscribe(self, topic: str, callback: OnEvent | None = None) -> None:
        """As `crew.Client.unsubscribe`."""
        self._thread.run(_sync(self._client.unsubscribe, topic, callback))

    def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """As `crew.Client.drain`: other threads have their values; ends the thread."""
        self._thread.run(self._client.drain(timeout))
        self.close()

    def close(self) -> None:
        """As `crew.Client.close`; ends the thread. Idempotent."""
        self._thread.close(self._client.close)

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` on the client's loop, and wait for it."""
        return self._thread.run(step)

    def on_forked(self) -> None:
        """This is a forked child: the thread is its parent's, and another one begins with the next use."""
        forks.keep_alive(self._thread)
        self._thread.is_inherited = True
        self._thread = self._thread.anew()


async def _wait(call: PendingCall) -> Any:
    return await call.ended()


async def _sync(function: Callable[..., T], *args: Any) -> T:
    return function(*args)
