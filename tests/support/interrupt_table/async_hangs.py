"""Hanging coroutines: the rows of the interrupt table for the event loop executors."""

import asyncio
import contextlib
import ctypes
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.support.interrupt_table import hangs, sight
from tests.support.interrupt_table.hangs import CLEAN_UP, LONG, SLEEP
from tests.support.interrupt_table.row import ASYNCIO, BESIDE, Fate, Row

SEEN, GIVEN_UP, REPLACED, KILLED = Fate.SEEN, Fate.GIVEN_UP, Fate.REPLACED, Fate.KILLED


async def _lock() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def _receive() -> None:
    ours, _theirs = socket.socketpair()
    ours.setblocking(False)
    await asyncio.get_running_loop().sock_recv(ours, 1)


async def _subprocess() -> None:
    process = await asyncio.create_subprocess_exec(*SLEEP)
    await process.wait()


async def _captured() -> None:
    process = await asyncio.create_subprocess_exec(*SLEEP, stdout=asyncio.subprocess.PIPE)
    await process.communicate()


async def _loop() -> None:
    while True:
        await asyncio.sleep(0)


async def _swallow() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)


async def _long_clean_up(hang: Callable[[], Awaitable[object]]) -> None:
    try:
        await hang()
    finally:
        sight.report(sight.SEEN)
        await asyncio.sleep(CLEAN_UP)
        sight.report(sight.CLEANED)


def _blocking(hang: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """A coroutine function that blocks its event loop."""

    async def blocks() -> None:
        hang()

    return blocks


def _swallow_blocking() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(LONG)


_sleeping: Final = _blocking(lambda: time.sleep(LONG))


def _row(
    name: str, hang: Callable[[], object], alone: Fate = SEEN, beside: Fate | None = None, *, burns: bool = False
) -> Row:
    fates = {ASYNCIO: alone} if beside is None else {ASYNCIO: alone, BESIDE: beside}
    return Row(name=name, hang=hang, fates=fates, burns=burns)


ROWS: Final = (
    _row("asyncio.sleep", lambda: asyncio.sleep(LONG), SEEN, SEEN),
    _row("asyncio.Event.wait", lambda: asyncio.Event().wait()),
    _row("asyncio.Lock.acquire", _lock),
    _row("asyncio.Queue.get", lambda: asyncio.Queue[None]().get()),
    _row("loop.sock_recv", _receive),
    _row("asyncio.Process.wait", _subprocess, SEEN, SEEN),
    _row("asyncio.Process.communicate", _captured),
    _row("asyncio.to_thread", lambda: asyncio.to_thread(time.sleep, LONG), SEEN, SEEN),
    _row("await in a loop", _loop, burns=True),
    _row("long clean-up that awaits", lambda: _long_clean_up(lambda: asyncio.sleep(LONG)), SEEN, SEEN),
    _row("except CancelledError", _swallow, GIVEN_UP, GIVEN_UP),
    _row("time.sleep that blocks the loop", _sleeping, SEEN, REPLACED),
    _row("blocked loop, then long clean-up that awaits", lambda: _long_clean_up(_sleeping)),
    _row("Event.wait that blocks the loop", _blocking(lambda: threading.Event().wait())),
    _row("endless loop that blocks the loop", _blocking(hangs.endless_loop), SEEN, REPLACED, burns=True),
    _row(
        "regular expression that blocks the loop",
        _blocking(lambda: re.match(r"(a+)+$", "a" * 60 + "b")),
        burns=True,
    ),
    _row("except BaseException that blocks the loop", _blocking(_swallow_blocking), REPLACED, REPLACED),
    _row("mutex in C that blocks the loop", _blocking(lambda: hangs.mutex(ctypes.CDLL)), REPLACED, REPLACED),
    _row("mutex in C that blocks the loop, GIL held", _blocking(lambda: hangs.mutex(ctypes.PyDLL)), KILLED, KILLED),
)
