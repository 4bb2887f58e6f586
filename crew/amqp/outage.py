"""What the log says while the broker is away: a few lines for the whole process instead of one for each attempt.

The first failed attempt is logged at once, and so is each new reason. After that there is one line every 30 seconds, and
one when all connections are back:

    host-17 worker consume: amqp://crew:***@broker/%2F: the connection broke; next attempt in 0.1 s
    host-17 worker consume: still not connected after 31 s, 64 attempts: amqp://...: connection refused; next attempt in 0.9 s
    host-17 worker consume: connected again after 42 s, 85 attempts

A connection that breaks within 5 seconds after it was made continues the same outage. Otherwise a broker that accepts
and drops connections would fill the log.
"""  # noqa: E501 - log lines as they are

import logging
import time
from collections.abc import Callable
from typing import Final

from crew.amqp.backoff import SETTLED_AFTER

logger = logging.getLogger(__name__)

REPEATED_EVERY: Final = 30.0  # seconds between two lines with a reason that was logged before
MOST_REASONS: Final = 10  # in one outage; a further one waits for the next repeated line


class Outage:
    """Groups the log lines of the links of one process to one broker, which share this object.

    Args:
        level: of the lines about failed attempts; the one about the end has INFO at most.
        clock: seconds that pass; for tests.
    """

    def __init__(self, *, level: int = logging.WARNING, clock: Callable[[], float] = time.monotonic) -> None:
        self._level = level
        self._clock = clock
        self._away: set[str] = set()
        self._since = 0.0
        self._ended_at: float | None = None
        self._attempts = 0
        self._reasons: set[str] = set()
        self._logged_at = 0.0
        self._is_logged = False  # whether a line was written since the last one about the end
        self._was_connected = False
        self._refusals: set[str] = set()

    def __repr__(self) -> str:
        return f"<Outage of {', '.join(sorted(self._away)) or 'nothing'}, {self._attempts} attempts>"

    def on_failed(self, link: str, reason: str, then: str) -> None:
        """A connection of `link` was lost, or an attempt to make it has failed.

        Args:
            reason: why, in one clause; with the broker's URL.
            then: what happens next.
        """
        now = self._clock()
        if not self._away:
            self._begin(now)
        self._away.add(link)
        self._attempts += 1
        is_new = reason not in self._reasons and len(self._reasons) < MOST_REASONS
        if not is_new and now - self._logged_at < REPEATED_EVERY:
            logger.debug("%s: %s; %s", link, reason, then)
            return
        since = f"still not connected after {now - self._since:.0f} s, {self._attempts} attempts: "
        logger.log(self._level, "%s: %s%s; %s", link, since if self._reasons else "", reason, then)
        self._reasons.add(reason)
        self._logged_at = now
        self._is_logged = True

    def on_ready(self, link: str) -> None:
        """`link` is connected, and has declared everything."""
        self._refusals.clear()
        was_away = bool(self._away)
        self._away.discard(link)
        if was_away and not self._away:
            self._end(link)
        self._was_connected = self._was_connected or not self._away

    def on_refused(self, link: str, reason: str) -> None:
        """The broker refuses `link`, which makes no further attempt: one line, however many links it refuses."""
        is_new = reason not in self._refusals
        self._refusals.add(reason)
        logger.log(logging.ERROR if is_new else logging.DEBUG, "%s: %s", link, reason)

    def on_closed(self, link: str) -> None:
        """`link` does not try any longer."""
        self._away.discard(link)

    def _begin(self, now: float) -> None:
        if self._ended_at is not None and now - self._ended_at < SETTLED_AFTER:
            return
        self._since = now
        self._attempts = 0
        self._reasons = set()

    def _end(self, link: str) -> None:
        self._ended_at = self._clock()
        if not self._is_logged:
            return
        self._is_logged = False
        logger.log(
            min(self._level, logging.INFO),
            "%s: %s after %.1f s, %d %s",
            link,
            "connected again" if self._was_connected else "connected",
            self._ended_at - self._since,
            self._attempts,
            "attempt" if self._attempts == 1 else "attempts",
        )
