"""A worker whose tasks hang in what they are told to.

`CREW_TEST_LANE` says which tasks it serves: with plain ones and `async def` beside them, a process has both lanes.
"""

import asyncio
import os
from typing import Any

from crew.worker import Task, run
from tests.integration import async_hangs, hangs, sight
from tests.integration.row import ASYNCIO, BESIDE

PREFIX = os.environ["CREW_TEST_PREFIX"]
LANE = os.environ["CREW_TEST_LANE"]

PLAIN = {row.name: row.hang for row in hangs.ROWS}
COROUTINES: dict[str, Any] = {row.name: row.hang for row in async_hangs.ROWS}

if LANE != ASYNCIO:

    @Task(PREFIX + ("plain." if LANE == BESIDE else "") + "who")
    def who(_: object) -> int:
        """Which process serves this."""
        return os.getpid()

    @Task(PREFIX + ("plain." if LANE == BESIDE else "") + "hang")
    def hang(name: str) -> None:
        """Hang; tell of the interrupt."""
        sight.started()
        try:
            PLAIN[name]()
        except SystemExit:
            sight.tell(sight.SEEN)
            raise


if LANE in (ASYNCIO, BESIDE):

    @Task(PREFIX + "who")
    async def async_who(_: object) -> int:
        """Which process serves this."""
        return os.getpid()

    @Task(PREFIX + "hang")
    async def async_hang(name: str) -> None:
        """Hang; tell of the interrupt."""
        sight.started()
        try:
            await COROUTINES[name]()
        except asyncio.CancelledError:
            sight.tell(sight.SEEN)
            raise


if __name__ == "__main__":
    run()
