"""A row of the interrupt table: a hanging operation, and how a task in it ends in each executor."""

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
    """How a hanging task ends after its limit."""

    SEEN = "interrupted"  # within 50 ms of its limit; its process serves the next call
    GIVEN_UP = "slot replaced"  # goes on, while the next call has its slot
    REPLACED = "process replaced"  # its process ends by itself when its grace is over
    KILLED = "process killed"  # its process can do nothing any more: its supervisor kills it


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A hanging operation.

    Attributes:
        name: in the table.
        hang: never returns; a coroutine function in the asyncio executors.
        fates: how the task ends, by executor; it is not tested in other executors.
        is_late: whether the task sees an interrupt only between long calls of C code.
        burns: whether the task keeps a CPU core busy, so that it is tested alone.
    """

    name: str
    hang: Callable[[], object]
    fates: dict[str, Fate]
    burns: bool = False
    is_late: bool = False

    @property
    def cleans_up(self) -> bool:
        """Whether the task reports its clean-up."""
        return "clean-up" in self.name
