"""Watches the event loops of a process. With this folder on PYTHONPATH, Python imports this module at its start.

A timer that is late by more than LATE is written to the file CREW_FUZZ_LATE, if the process itself used the CPU for
that time: other processes of a busy machine make every timer late. Host names are not resolved beyond this machine, so
that a mutated URL causes no DNS request.
"""

import asyncio
import os
import socket
import sys
import time

INTERVAL = 0.02  # seconds between two timers
LATE = 0.1  # seconds: the guaranteed limit
LOCAL = {"localhost", "127.0.0.1", "::1", None}

_run_forever = asyncio.BaseEventLoop.run_forever
_getaddrinfo = socket.getaddrinfo


def _watched(loop: asyncio.BaseEventLoop) -> None:
    def look(due: float, cpu: float) -> None:
        now, used = time.monotonic(), time.process_time()
        late = now - due
        if late > LATE and used - cpu > LATE:
            _report(f"a timer was {late:.3f} s late, and this process used {used - cpu:.3f} s of CPU meanwhile")
        loop.call_later(INTERVAL, look, time.monotonic() + INTERVAL, time.process_time())

    loop.call_soon(look, time.monotonic() + INTERVAL, time.process_time())
    _run_forever(loop)


def _report(text: str) -> None:
    with open(os.environ["CREW_FUZZ_LATE"], "a", encoding="utf-8") as file:  # noqa: PTH123  # imports nothing more
        file.write(f"{os.getpid()} {sys.argv[0]}: {text}\n")


def _local_only(host: object, *args: object, **kwargs: object) -> object:
    if host not in LOCAL:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is unknown here")
    return _getaddrinfo(host, *args, **kwargs)  # type: ignore[arg-type]


if "CREW_FUZZ_LATE" in os.environ:
    asyncio.BaseEventLoop.run_forever = _watched  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = _local_only  # type: ignore[assignment]
