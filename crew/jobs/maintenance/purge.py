"""Deletes the records of jobs whose time to live is over."""

import time

from crew.jobs.store.store import Store


class Purge:
    """Deletes due records of `store`, batch by batch."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Delete until none is due."""
        while await self._store.purge(time.time()):
            pass
