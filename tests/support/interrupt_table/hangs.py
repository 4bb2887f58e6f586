"""Hanging plain functions: the rows of the interrupt table for the main thread executor and the thread pool.

None of them ends by itself within the time of a test. The ones in C code need only the standard library: a mutex that
is locked twice, and a comparison that takes twice as long for each level.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import itertools
import multiprocessing
import os
import queue
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from crew.worker import context
from tests.support.interrupt_table import sight
from tests.support.interrupt_table.row import MAIN, THREADS, Fate, Row

LONG: Final = 60  # seconds: longer than a test
CLEAN_UP: Final = 0.3  # seconds: less than the grace of the tests
SLEEP: Final = ["sleep", str(LONG)]

SEEN, GIVEN_UP, REPLACED, KILLED = Fate.SEEN, Fate.GIVEN_UP, Fate.REPLACED, Fate.KILLED


# --- Python code -----------------------------------------------------------------------------------------------------


def endless_loop() -> None:
    """Python code that makes no call."""
    while True:
        pass


def _loop_with_calls() -> None:
    for number in itertools.count():
        str(number)


def _loop_with_sleep() -> None:
    while True:
        time.sleep(0.01)


def _except_exception() -> None:
    for _ in itertools.count():
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def _finally() -> None:
    try:
        time.sleep(0)
    finally:
        _loop_with_calls()


def _swallow() -> None:
    for _ in itertools.count():
        try:
            time.sleep(0.01)
        except BaseException:
            continue


@contextlib.contextmanager
def _cleaned_up() -> Iterator[None]:
    try:
        yield
    finally:
        sight.report(sight.SEEN)
        time.sleep(CLEAN_UP)
        sight.report(sight.CLEANED)


def _long_clean_up() -> None:
    with _cleaned_up():
        _loop_with_sleep()


def _cancelled() -> None:
    context.canceled.wait(LONG)
    _loop_with_sleep()


# --- blocking calls --------------------------------------------------------------------------------------------------


def _receive(timeout: float | None = None) -> None:
    ours, _theirs = socket.socketpair()
    ours.settimeout(timeout)
    ours.recv(1)


def _accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.accept()


def _select() -> None:
    ours, _theirs = socket.socketpair()
    select.select([ours], [], [])


def _fifo() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fifo"
        os.mkfifo(path)
        path.read_bytes()


def _lock(timeout: float = -1) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=timeout)


def _join() -> None:
    thread = threading.Thread(target=time.sleep, args=(LONG,), daemon=True)
    thread.start()
    thread.join()


# --- C code ----------------------------------------------------------------------------------------------------------


def _c_sleep(library: type[ctypes.CDLL]) -> None:
    library(None).sleep(LONG)


def mutex(library: type[ctypes.CDLL]) -> None:
    """No signal ends the wait for a mutex: https://man7.org/linux/man-pages/man3/pthread_mutex_lock.3p.html."""
    c, mutex = library(None), ctypes.create_string_buffer(64)
    c.pthread_mutex_lock(mutex)
    c.pthread_mutex_lock(mutex)


# From 3.12 on, `str` of a huge integer is Python code (Lib/_pylong.py). Its calls of C code take up to 100 ms each
# and hold the GIL.
_STR_IS_C: Final = sys.version_info < (3, 12)


def _str() -> None:
    sys.set_int_max_str_digits(0)
    str(1 << 100_000_000)


def _sorted() -> None:
    """Two keys that differ deep down: as each level is compared twice, there are 2**60 comparisons."""
    first: Any = (0,)
    second: Any = (0.0,)
    for _ in range(60):
        first, second = (first, first), (second, second)
    sorted([first, second])


def _sqlite() -> None:
    query = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    sqlite3.connect(":memory:").execute(query).fetchone()


# --- processes and signals -------------------------------------------------------------------------------------------


def fork() -> int:
    """Fork a child that inherits all open files, including the connections to the broker; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            time.sleep(LONG)
        finally:
            os._exit(0)
    return pid


def _fork_and(hang: Callable[[], object]) -> None:
    fork()
    hang()


def _multiprocessing() -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(LONG,))
    child.start()
    child.join()


def _without_signals(then: Callable[[], object]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    then()


def _own_alarm() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(LONG)
    time.sleep(LONG)


# --- the table -------------------------------------------------------------------------------------------------------


def _row(
    name: str,
    hang: Callable[[], object],
    main: Fate = SEEN,
    threads: Fate | None = GIVEN_UP,
    *,
    burns: bool = False,
    is_late: bool = False,
) -> Row:
    fates = {MAIN: main} if threads is None else {MAIN: main, THREADS: threads}
    return Row(name=name, hang=hang, fates=fates, burns=burns, is_late=is_late)


ROWS: Final = (
    _row("endless loop", endless_loop, SEEN, SEEN, burns=True),
    _row("endless loop with calls", _loop_with_calls, SEEN, SEEN, burns=True),
    _row("loop with sleep", _loop_with_sleep, SEEN, SEEN),
    _row("except Exception", _except_exception, SEEN, SEEN),
    _row("busy in finally", _finally, SEEN, SEEN, burns=True),
    _row("long clean-up", _long_clean_up, SEEN, SEEN),
    _row("context.canceled.wait", _cancelled, SEEN, SEEN),
    _row("except BaseException", _swallow, REPLACED, GIVEN_UP),
    _row("time.sleep", lambda: time.sleep(LONG)),
    _row("socket.recv", _receive),
    _row("socket.recv with timeout", lambda: _receive(LONG)),
    _row("socket.accept", _accept),
    _row("select", _select),
    _row("read of a fifo", _fifo),
    _row("Lock.acquire", _lock),
    _row("Lock.acquire with timeout", lambda: _lock(LONG)),
    _row("Queue.get", lambda: queue.Queue[None]().get()),
    _row("Event.wait", lambda: threading.Event().wait()),
    _row("Thread.join", _join),
    _row("subprocess.run", lambda: subprocess.run(SLEEP, check=False)),
    _row("subprocess.run, captured", lambda: subprocess.run(SLEEP, check=False, capture_output=True)),
    _row("asyncio.run", lambda: asyncio.run(asyncio.sleep(LONG))),
    _row("sleep in C", lambda: _c_sleep(ctypes.CDLL)),
    _row("sleep in C, GIL held", lambda: _c_sleep(ctypes.PyDLL), SEEN, KILLED),
    _row("mutex in C", lambda: mutex(ctypes.CDLL), REPLACED),
    _row("mutex in C, GIL held", lambda: mutex(ctypes.PyDLL), KILLED, KILLED),
    _row("regular expression", lambda: re.match(r"(a+)+$", "a" * 60 + "b"), SEEN, KILLED, burns=True),
    _row("pow of huge integers", lambda: pow(3, 200_000_000), SEEN, KILLED, burns=True),
    _row("str of a huge integer", _str, SEEN, KILLED if _STR_IS_C else SEEN, burns=True, is_late=not _STR_IS_C),
    _row("sum of a range", lambda: sum(range(10**13)), KILLED, KILLED, burns=True),
    _row("sorted", _sorted, KILLED, KILLED, burns=True),
    _row("pbkdf2", lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1), REPLACED, REPLACED, burns=True),
    _row("query of sqlite", _sqlite, REPLACED, REPLACED, burns=True),
    _row("fork, then sleep", lambda: _fork_and(lambda: time.sleep(LONG))),
    _row("fork, then mutex in C, GIL held", lambda: _fork_and(lambda: mutex(ctypes.PyDLL)), KILLED, KILLED),
    _row("fork, then mutex in C", lambda: _fork_and(lambda: mutex(ctypes.CDLL)), REPLACED),
    _row("multiprocessing, then join", _multiprocessing),
    _row("signals blocked, then loop", lambda: _without_signals(_loop_with_calls), SEEN, SEEN, burns=True),
    _row("signals blocked, then sleep", lambda: _without_signals(lambda: time.sleep(LONG)), REPLACED),
    _row("signal.alarm of its own", _own_alarm, SEEN, None),
)
