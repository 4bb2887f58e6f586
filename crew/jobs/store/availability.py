"""Availability of the job store, from its last uses. Logs one line when an outage begins, and one when it ends."""

import logging
from collections.abc import Callable
from typing import Final

from crew.clock import monotonic_time
from crew.errors import ConnectionError

logger = logging.getLogger(__name__)

QUIET_FOR: Final = 1.0  # seconds without a failure until an outage is over: some uses may succeed while others fail


class Availability:
    """Records which uses of the job store fail.

    Reads and writes are recorded separately: a full disk or a read-only server refuses writes and serves reads.

    Args:
        clock: seconds. Default: time.monotonic.

    Attributes:
        is_logged: whether outages are logged. False for a command, which reports the error itself.
    """

    def __init__(self, clock: Callable[[], float] = monotonic_time) -> None:
        self.is_logged = False
        self._clock = clock
        self._errors: dict[str, ConnectionError] = {}  # by kind of use
        self._outage_began: float | None = None  # by the clock
        self._last_failure = 0.0  # by the clock

    def __repr__(self) -> str:
        return f"<Availability: {self.error or 'available'}>"

    @property
    def error(self) -> ConnectionError | None:
        """Why the last use of some kind failed; None if the last use of each kind succeeded."""
        return next(iter(self._errors.values()), None)

    def failed(self, use: str, error: ConnectionError) -> None:
        """Record that a use of the store ("open", "read" or "write") has failed."""
        self._errors[use] = error
        self._last_failure = self._clock()
        if self._outage_began is None:
            self._outage_began = self._last_failure
            if self.is_logged:
                logger.warning("job store unavailable, retrying until it is back: %s", error)

    def succeeded(self, use: str) -> None:
        """Record that a use of the store has succeeded."""
        if self._outage_began is None:
            return
        self._errors.pop(use, None)
        now = self._clock()
        if not self._errors and now - self._last_failure >= QUIET_FOR:
            if self.is_logged:
                logger.warning("job store available again after %.1f s", now - self._outage_began)
            self._outage_began = None
