"""Wires that are on their way out: a broker that says no goodbye keeps nobody from the next connection."""

import asyncio

from crew.amqp.connection.connection import Wire, hang_up


class Goodbyes:
    """Closes wires in the background."""

    def __init__(self) -> None:
        self._going_on: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Goodbyes: {len(self._going_on)} go on>"

    def begin(self, wire: Wire | None) -> None:
        """Close `wire`, where there is one."""
        if wire is not None:
            task = asyncio.get_running_loop().create_task(hang_up(wire))
            self._going_on.add(task)
            task.add_done_callback(self._going_on.discard)

    async def ended(self) -> None:
        """Wait until all are closed: a few seconds at most."""
        await asyncio.gather(*self._going_on)
