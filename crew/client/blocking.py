"""The client for scripts and threads: the same calls, on an event loop in a background thread.

    with Client() as client:
        print(client.call("resize", {"width": 640}).result())

Threads may share one client.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from crew.client.call import PendingCall
from crew.client.client import DRAIN_TIMEOUT
from crew.client.client import Client as AsyncClient
from crew.client.scope import current
from crew.client.subscription import OnEvent, Subscription
from crew.errors import ConnectionError
from crew.protocol.message import Headers

T = TypeVar("T")


class BlockingCall:
    """A call that a thread may wait for."""

    def __init__(self, call: PendingCall, ended: "concurrent.futures.Future[Any]", client: "Client") -> None:
        self._call = call
        self._ended = ended
        self._client = client

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
            What awaiting `Client.call` raises.
        """
        if not self._ended.done():
            self._client.check_thread()
        return self._ended.result(timeout)

    def cancel(self) -> bool:
        """Give the call up; False where it has ended already."""
        return self._client.run(_sync(self._call.cancel))


class Client:
    """As `crew.Client`, for threads: arguments and errors are the same.

    Its methods block until the client's loop, which runs in a thread of its own, has done them; `call` returns at once.
    Callbacks of `call` and `subscribe` run in that thread, and must not block it.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._client = AsyncClient(url, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crew client", daemon=True)
        self._submitting = threading.Lock()
        self._is_closed = False

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
        """As `crew.Client.connect`."""
        self.run(self._client.connect(timeout))

    def call(self, task: str, data: Any = None, **options: Any) -> BlockingCall:
        """As `crew.Client.call`; wait for the value with `.result()`."""

        async def begin() -> tuple[PendingCall, "concurrent.futures.Future[Any]"]:
            current.set(None)  # the thread's scope, if any, serves the loop of its request, and this is another
            call = self._client.call(task, data, **options)
            return call, asyncio.run_coroutine_threadsafe(_wait(call), self._loop)

        call, ended = self.run(begin())
        return BlockingCall(call, ended, self)

    def publish(self, topic: str, data: Any = None, **options: Any) -> None:
        """As `crew.Client.publish`."""
        self.run(self._client.publish(topic, data, **options))

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """As `crew.Client.subscribe`; returns when the broker knows of it."""

        async def begin() -> Subscription:
            subscription = self._client.subscribe(topic, callback)
            await subscription.ready()
            return subscription

        return self.run(begin())

    def unsubscribe(self, topic: str, callback: OnEvent | None = None) -> None:
        """As `crew.Client.unsubscribe`."""
        self.run(_sync(self._client.unsubscribe, topic, callback))

    def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """As `crew.Client.drain`: other threads have their values; ends the thread."""
        self.run(self._client.drain(timeout))
        self.close()

    def close(self) -> None:
        """As `crew.Client.close`; ends the thread. Idempotent."""
        self.check_thread()
        with self._submitting:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            return
        if self._thread.is_alive():
            for step in (self._client.close, _cancel_others):
                asyncio.run_coroutine_threadsafe(step(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def check_thread(self) -> None:
        """Raises RuntimeError in the client's own thread, which would wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a callback runs in the thread of its client, and must not wait for it: "
                "make it a coroutine function of a crew.Client, or hand the work to another thread"
            )

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` on the client's loop, and wait for it."""
        try:
            return self._submit(step).result()
        except concurrent.futures.CancelledError:
            raise ConnectionError("the client was closed", missing="client") from None

    def _submit(self, step: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Nothing is submitted once `close` has begun: a loop that has stopped would never do it."""
        try:
            self.check_thread()
            with self._submitting:
                if self._is_closed:
                    raise ConnectionError("the client was closed", missing="client")
                if not self._thread.is_alive():
                    self._thread.start()
                return asyncio.run_coroutine_threadsafe(step, self._loop)
        except BaseException:
            step.close()
            raise


async def _wait(call: PendingCall) -> Any:
    return await call


async def _cancel_others() -> None:
    """Let go of the threads that still wait for something."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _sync(function: Callable[..., T], *args: Any) -> T:
    return function(*args)
