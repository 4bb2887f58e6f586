"""One row of the table of interrupts: what a task hangs in, and what becomes of it in each executor."""

import enum
from collections.abc import Callable
from typing import Final

import msgspec

MAIN: Final = "main"  # --threads 1
THREADS: Final = "threads"  # --threads 2
ASYNCIO: Final = "asyncio"  # the loop of `async def` tasks has the main thread
BESIDE: Final = "asyncio beside plain tasks"  # ... has a thread of its own

FLAGS: Final = {
    MAIN: ("--threads", "1"),
    THREADS: ("--threads", "2"),
    ASYNCIO: ("--concurrency", "1"),
    BESIDE: ("--concurrency", "1"),
}
SLOTS: Final = {MAIN: 1, THREADS: 2, ASYNCIO: 1, BESIDE: 1}


class Fate(enum.Enum):
    """What becomes of a task that hangs when its time is over."""

    SEEN = "interrupted"  # within 50 ms of its limit; its process serves the next call
    GIVEN_UP = "slot replaced"  # goes on, while the next call has its slot
    REPLACED = "process replaced"  # its process ends by itself when its grace is over
    KILLED = "process killed"  # its process can do nothing any more: its supervisor kills it


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What a task hangs in.

    Attributes:
        name: as the table has it.
        hang: never returns; a coroutine function in the asyncio executors.
        fates: executor -> what becomes of it there; it is not tried in other executors.
        is_late: whether an interrupt that is seen is seen only between calls of C that take long.
        burns: whether it keeps a core busy, so that it is tried alone.
    """

    name: str
    hang: Callable[[], object]
    fates: dict[str, Fate]
    burns: bool = False
    is_late: bool = False

    @property
    def cleans_up(self) -> bool:
        """Whether it tells of its clean-up."""
        return "clean-up" in self.name
