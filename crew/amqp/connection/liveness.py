"""Detects a broker that sends nothing any more: it is frozen, or the network drops every packet.

RabbitMQ sends something in each heartbeat interval, see https://www.rabbitmq.com/docs/heartbeats. The time is counted
in iterations of our own event loop. A process that was itself stopped, or whose loop was blocked, first reads what has
arrived meanwhile, before it reports a timeout.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from crew.amqp.errors import LinkError

CHECKS_PER_HEARTBEAT: Final = 4
MAX_SILENT_CHECKS: Final = 6  # checks in a row without new bytes: one and a half heartbeats


class Liveness:
    """Checks at intervals that the broker still sends bytes, until a timeout or `stop`.

    Args:
        received_bytes: returns the number of bytes received since the start.
        heartbeat: seconds; 0: the broker sends no heartbeats, and nothing is checked.
        on_timeout: called once, when nothing was received for one and a half heartbeats.
    """

    def __init__(
        self, received_bytes: Callable[[], int], *, heartbeat: float, on_timeout: Callable[[LinkError], None]
    ) -> None:
        self._received_bytes = received_bytes
        self._every = heartbeat / CHECKS_PER_HEARTBEAT
        self._on_timeout = on_timeout
        self._before = received_bytes()
        self._silent_checks = 0
        self._timer: asyncio.TimerHandle | None = None
        if heartbeat:
            self._check_later()

    def __repr__(self) -> str:
        return f"<Liveness: silent for {self._silent_checks * self._every:g} s>"

    def stop(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()

    def _check_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._check)

    def _check(self) -> None:
        now, before, self._before = self._received_bytes(), self._before, self._received_bytes()
        self._silent_checks = self._silent_checks + 1 if now == before else 0
        if self._silent_checks < MAX_SILENT_CHECKS:
            self._check_later()
        else:
            silent = MAX_SILENT_CHECKS * self._every
            self._on_timeout(LinkError(f"heartbeat timeout: the broker sent nothing for {silent:g} s"))
