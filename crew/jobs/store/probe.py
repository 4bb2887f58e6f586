"""Checks whether the job store answers, for `/readyz`."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from crew.errors import CrewError

ANSWERS_WITHIN: Final = 2.0  # seconds; load balancers mostly wait for 2 to 5


class StoreProbe:
    """Runs one check at a time for all callers: a database that hangs costs one connection.

    Args:
        check: raises CrewError if the store cannot be used.
        timeout: seconds for the check. Default 2.
    """

    def __init__(self, check: Callable[[], Coroutine[Any, Any, None]], *, timeout: float = ANSWERS_WITHIN) -> None:
        self._check = check
        self._timeout = timeout
        self._checking: asyncio.Task[None] | None = None

    async def obstacle(self) -> str | None:
        """Why the store cannot be used, in one sentence; None if it can."""
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check(), name="job store probe")
            self._checking.add_done_callback(self._on_checked)
        checking = self._checking
        done, _ = await asyncio.wait([checking], timeout=self._timeout)
        if not done:
            return f"the job store has not answered within {self._timeout:g} s"
        if checking.cancelled():
            return "the client was closed"
        error = checking.exception()
        if error is not None and not isinstance(error, CrewError):
            raise error
        return None if error is None else str(error)

    def close(self) -> None:
        """Cancel the current check; idempotent."""
        if self._checking is not None:
            self._checking.cancel()

    def _on_checked(self, checking: "asyncio.Task[None]") -> None:
        self._checking = None
        if not checking.cancelled():
            checking.exception()  # marks it as retrieved: all callers may be canceled by now
