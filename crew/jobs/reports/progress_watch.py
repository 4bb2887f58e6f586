"""Detects that job reports arrive but are not recorded. Logs when that begins, and when it ends."""

import logging
from collections.abc import Callable

from crew.clock import monotonic_time
from crew.jobs.tuning import DEFAULT

logger = logging.getLogger(__name__)


class ProgressWatch:
    """Checks that waiting reports are recorded.

    Args:
        oldest: returns when the oldest report arrived that waits and blocks others (time.monotonic()); None if there is
            none.
        clock: seconds; for tests.
        stalled_after: seconds without a recorded report, after which no job ends.
    """

    def __init__(
        self,
        oldest: Callable[[], float | None],
        clock: Callable[[], float] = monotonic_time,
        *,
        stalled_after: float = DEFAULT.stalled_after,
    ) -> None:
        self._oldest = oldest
        self._stalled_after = stalled_after
        self._clock = clock
        self._progressed_at = clock()
        self._stalled_since: float | None = None
        self.last_error = ""  # why a report was not recorded, the last time

    def progressed(self) -> None:
        """Note that a report was recorded or discarded."""
        self._progressed_at = self._clock()
        if self._stalled_since is not None:
            logger.warning("job reports are recorded again after %.0f s", self._progressed_at - self._stalled_since)
            self._stalled_since = None

    def check(self) -> None:
        """Log an error if nothing has been recorded for a while."""
        if (obstacle := self.obstacle()) is not None and self._stalled_since is None:
            self._stalled_since = self._since()
            logger.error("%s", obstacle)

    def obstacle(self) -> str | None:
        """Why no job ends, in one sentence; None if reports are recorded, or there are none."""
        since = self._since()
        if since is None or (seconds := self._clock() - since) < self._stalled_after:
            return None
        why = f"; the last error: {self.last_error}" if self.last_error else ""
        return f"job reports arrive, but none has been recorded for {seconds:.0f} s, so no job ends{why}"

    def _since(self) -> float | None:
        oldest = self._oldest()
        return None if oldest is None else max(oldest, self._progressed_at)
