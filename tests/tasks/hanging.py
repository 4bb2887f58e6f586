"""A worker with tasks that hang; the payload selects how.

`CREW_TEST_EXECUTOR` selects its tasks: plain ones, `async def` ones, or both; with both, a process has two executors.
"""

import asyncio
import os
import signal
import time
from typing import Any

from crew.worker import Task, context, run
from tests.support.interrupt_table import async_hangs, hangs, sight
from tests.support.interrupt_table.row import ASYNCIO, BESIDE

PREFIX = os.environ["CREW_TEST_PREFIX"]
EXECUTOR = os.environ["CREW_TEST_EXECUTOR"]

PLAIN = {row.name: row.hang for row in hangs.ROWS}
COROUTINES: dict[str, Any] = {row.name: row.hang for row in async_hangs.ROWS}

PLAIN_PREFIX = PREFIX + ("plain." if EXECUTOR == BESIDE else "")

if EXECUTOR != ASYNCIO:

    @Task(PLAIN_PREFIX + "who")
    def who(_: object) -> int:
        """The pid of the process that serves this call."""
        return os.getpid()

    @Task(PLAIN_PREFIX + "hang")
    def hang(name: str) -> None:
        """Hang; print the interrupt."""
        sight.started()
        try:
            PLAIN[name]()
        except SystemExit:
            sight.report(sight.SEEN)
            raise

    @Task(PLAIN_PREFIX + "work")
    def work(seconds: float) -> dict[str, int]:
        """Sleep, and return."""
        sight.started()
        time.sleep(seconds)
        return {"pid": os.getpid(), "attempt": context.attempt}

    @Task(PLAIN_PREFIX + "fork_and_die")
    def fork_and_die(_: object) -> dict[str, int]:
        """In the first execution: fork a child that inherits all open files, and die."""
        if context.attempt == 1 and hangs.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"attempt": context.attempt}

    @Task(PLAIN_PREFIX + "block_signals")
    def block_signals(_: object) -> None:
        """Block all signals, and leave them blocked."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


if EXECUTOR in (ASYNCIO, BESIDE):

    @Task(PREFIX + "who")
    async def async_who(_: object) -> int:
        """The pid of the process that serves this call."""
        return os.getpid()

    @Task(PREFIX + "hang")
    async def async_hang(name: str) -> None:
        """Hang; print the interrupt."""
        sight.started()
        try:
            await COROUTINES[name]()
        except asyncio.CancelledError:
            sight.report(sight.SEEN)
            raise


if __name__ == "__main__":
    run()
