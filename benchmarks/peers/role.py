"""What the processes of all peers share: the roles, and calls of libraries that block."""

import asyncio
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

URL: Final = os.environ.get("CREW_AMQP_URL", "")
PREFETCH: Final = 64
TIMEOUT: Final = 60.0  # seconds until a call must have its value

Role = Callable[[str], Awaitable[None]]


def main(client: Role, worker: Role) -> None:
    """Run the role that the command line names, with the address of the server."""
    role, address = sys.argv[1:3]
    asyncio.run({"client": client, "worker": worker}[role](address))  # type: ignore[arg-type]  # both are coroutines


async def until_stopped() -> None:
    """Say that the worker is ready, then wait until stdin ends."""
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class BlockingCalls:
    """Calls by a library that blocks, in one thread of their own: all that wait are sent before one is waited for.

    Args:
        send: sends a call; returns a handle of it.
        wait: waits for the value of a handle.
    """

    def __init__(self, send: Callable[[Any], Any], wait: Callable[[Any], Any]) -> None:
        self._send, self._wait = send, wait
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[tuple[Any, asyncio.Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def call(self, payload: Any) -> asyncio.Future[Any]:
        """Make a call; returns a future of its value."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._inbox.put((payload, future))
        return future

    def _run(self) -> None:
        sent: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        while True:
            while not sent or not self._inbox.empty():
                payload, future = self._inbox.get()
                sent.append((self._send(payload), future))
            handle, future = sent.popleft()
            try:
                value = self._wait(handle)
            except Exception as error:
                self._loop.call_soon_threadsafe(future.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(future.set_result, value)
