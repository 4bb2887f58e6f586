"""The client of a test."""

import asyncio
from typing import Any

from crew.client import Client, blocking
from crew.testing.clock import Clock


class ClockedClient(Client):
    """As `crew.Client`; the event loop on which it is used gets the clock of the test."""

    clock: Clock

    def _join_loop(self) -> None:
        if (loop := asyncio._get_running_loop()) is not None:
            self.clock.adopt(loop)
        super()._join_loop()

    def end(self) -> None:
        """Close it after the test: its event loop does not run any longer, and may be closed."""
        loop = self._loop
        if loop is not None and not loop.is_closed() and not loop.is_running():
            loop.run_until_complete(self.close())
        else:
            self.links.drop()


class ClockedBlockingClient(blocking.Client):
    """As `crew.client.blocking.Client`, with the clock of the test in its thread."""

    def __init__(self, url: str, *, clock: Clock, **options: Any) -> None:
        super().__init__(url, **options)
        with clock.busy():  # until its thread takes part
            self.run(_adopt(clock))


async def _adopt(clock: Clock) -> None:
    clock.adopt(asyncio.get_running_loop())
