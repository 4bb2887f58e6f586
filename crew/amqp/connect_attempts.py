"""Several attempts to connect at a time: the first that opens wins.

A broker that is frozen, or a network that swallows packets, lets an attempt hang without a word; who waits for its end
comes back long after the broker has. So another attempt begins beside one that hangs: where the broker wakes up, an old
one is answered; where the network has come back, a new one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Final

from crew.amqp.connection.connection import Wire, hang_up
from crew.amqp.errors import LinkFault, LinkRefused

NEXT_AFTER: Final = 1.0  # seconds without an answer: a broker that is back is used within 2
AT_ONCE: Final = 4  # attempts of one link: hundreds of peers must not bury a broker that wakes up

Open = Callable[[str], Coroutine[None, None, Wire]]


class Attempts:
    """Connects to one of `urls`, which are tried in turn.

    Args:
        open: connects to one of them, or raises LinkFault; its cancellation gives the attempt up.
        on_failed: told the URL and the fault of an attempt that has failed, where others still go on.

    Attributes:
        url: of the attempt that has opened, or failed, last.
    """

    def __init__(self, urls: Iterator[str], open: Open, *, on_failed: Callable[[str, LinkFault], None]) -> None:
        self.url = ""
        self._urls = urls
        self._open = open
        self._on_failed = on_failed
        self._going: dict[asyncio.Task[Wire], str] = {}  # the oldest first

    def __repr__(self) -> str:
        return f"<Attempts: {len(self._going)} go on>"

    async def first(self) -> Wire:
        """The wire of the first that opens; all others are given up.

        Raises:
            LinkFault: none goes on, and the last one failed with this; LinkRefused as soon as one is refused.
        """
        try:
            while True:
                await self._begin()
                next_at = asyncio.get_running_loop().time() + NEXT_AFTER
                while (patience := next_at - asyncio.get_running_loop().time()) > 0:
                    for task in await self._ended(patience):
                        if self._has_opened(task):
                            return await self._won(task.result())
        finally:
            await self._give_up(list(self._going))

    async def _won(self, wire: Wire) -> Wire:
        """`wire`, when the others are given up; nobody has it yet who could close it, should he be cancelled now."""
        try:
            await self._give_up(list(self._going))
        except asyncio.CancelledError:
            await hang_up(wire)
            raise
        return wire

    async def _begin(self) -> None:
        """One more; where there are too many, in place of the second: the first has the longest patience."""
        if len(self._going) >= AT_ONCE:
            await self._give_up(list(self._going)[1:2])
        url = next(self._urls)
        self._going[asyncio.ensure_future(self._open(url))] = url

    async def _ended(self, patience: float) -> "list[asyncio.Task[Wire]]":
        """Those that have ended first, within `patience` seconds, in the order in which they began."""
        ended, _ = await asyncio.wait(self._going, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        return [task for task in self._going if task in ended]

    def _has_opened(self, task: "asyncio.Task[Wire]") -> bool:
        """Whether it has opened; raises the fault where that is the end of all attempts."""
        self.url = self._going.pop(task)
        if (fault := _fault(task)) is None:
            return True
        if not self._going or isinstance(fault, LinkRefused):
            raise fault
        self._on_failed(self.url, fault)
        return False

    async def _give_up(self, tasks: "list[asyncio.Task[Wire]]") -> None:
        for task in tasks:
            del self._going[task]
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and _fault(task) is None:
                await hang_up(task.result())  # it has opened in the very moment


def _fault(task: "asyncio.Task[Wire]") -> LinkFault | None:
    """Why it failed; anything but a LinkFault is raised."""
    error = task.exception()
    if error is not None and not isinstance(error, LinkFault):
        raise error
    return error
