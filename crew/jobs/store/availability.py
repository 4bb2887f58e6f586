"""Whether the job store can be used, as its last uses have shown. Logs one line per outage, and one at its end."""

import logging
import time
from typing import Final

from crew.errors import ConnectionError

logger = logging.getLogger(__name__)

QUIET_FOR: Final = 1.0  # seconds without a failure until an outage is over: one use may succeed while others fail


class Availability:
    """Notes which uses of the job store fail.

    Reading and writing are noted apart: a full disk, or a server that only reads, refuses the one and serves the other.

    Attributes:
        is_logged: whether outages are logged. False for a command, which reports the error itself.
    """

    def __init__(self) -> None:
        self.is_logged = False
        self._faults: dict[str, ConnectionError] = {}  # by kind of use
        self._began: float | None = None  # of the outage, time.monotonic()
        self._failed = 0.0  # the last time

    def __repr__(self) -> str:
        return f"<Availability: {self.fault or 'available'}>"

    @property
    def fault(self) -> ConnectionError | None:
        """Why the last use of some kind failed; None if the last use of each kind succeeded."""
        return next(iter(self._faults.values()), None)

    def failed(self, use: str, error: ConnectionError) -> None:
        """A use of the store, "read" or "write", has failed."""
        self._faults[use] = error
        self._failed = time.monotonic()
        if self._began is None:
            self._began = self._failed
            if self.is_logged:
                logger.warning("job store unavailable, retrying until it is back: %s", error)

    def succeeded(self, use: str) -> None:
        """A use of the store has succeeded."""
        if self._began is None:
            return
        self._faults.pop(use, None)
        now = time.monotonic()
        if not self._faults and now - self._failed >= QUIET_FOR:
            if self.is_logged:
                logger.warning("job store available again after %.1f s", now - self._began)
            self._began = None
