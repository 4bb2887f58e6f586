"""Log lines about a broker outage: a few lines for the whole process instead of one line for each attempt.

The first failed attempt is logged at once, and so is each new reason. After that there is one line every 30 seconds, and
one line when all connections are back:

    no connection to the broker: amqp://crew:***@broker/%2F: the connection broke; retrying in 0.1 s connection='host-17 worker consume'
    still no connection to the broker after 31 s, 64 attempts: amqp://...: connection refused; retrying in 0.9 s connection='host-17 worker consume'
    connected to the broker again after 42 s, 85 attempts connection='host-17 worker consume'

A connection that breaks within 5 seconds after it was made continues the same outage. Otherwise a broker that accepts
and drops connections would fill the log.
"""  # noqa: E501 - log lines as they are

import logging
from collections.abc import Callable
from typing import Final

from crew.amqp.backoff import SETTLED_AFTER
from crew.clock import monotonic_time

logger = logging.getLogger(__name__)

REPEATED_EVERY: Final = 30.0  # seconds between two lines with a reason that was logged before
MOST_REASONS: Final = 10  # in one outage; a further reason waits for the next repeated line


class Outage:
    """Writes the log lines about lost connections of one process; all its links to one broker share this object.

    Args:
        level: log level of failed attempts; the end of the outage is logged with INFO at most.
        clock: monotonic seconds; for tests.
    """

    def __init__(self, *, level: int = logging.WARNING, clock: Callable[[], float] = monotonic_time) -> None:
        self._level = level
        self._clock = clock
        self._away: set[str] = set()
        self._since = 0.0
        self._ended_at: float | None = None
        self._attempts = 0
        self._reasons: set[str] = set()
        self._logged_at = 0.0
        self._is_logged = False  # whether this outage was logged
        self._was_connected = False
        self._refusals: set[str] = set()

    def __repr__(self) -> str:
        return f"<Outage of {', '.join(sorted(self._away)) or 'nothing'}, {self._attempts} attempts>"

    def on_failed(self, link: str, reason: str, then: str) -> None:
        """Log that `link` has lost its connection, or that an attempt to connect has failed.

        Args:
            reason: the error in one clause, with the broker's URL.
            then: what happens next, like "retrying in 0.1 s".
        """
        now = self._clock()
        if not self._away:
            self._begin(now)
        self._away.add(link)
        self._attempts += 1
        is_new = reason not in self._reasons and len(self._reasons) < MOST_REASONS
        if not is_new and now - self._logged_at < REPEATED_EVERY:
            logger.debug("no connection to the broker: %s; %s connection=%r", reason, then, link)
            return
        event = "no connection to the broker"
        if self._reasons:
            event = f"still {event} after {now - self._since:.0f} s, {self._attempts} attempts"
        logger.log(self._level, "%s: %s; %s connection=%r", event, reason, then, link)
        self._reasons.add(reason)
        self._logged_at = now
        self._is_logged = True

    def on_ready(self, link: str) -> None:
        """`link` is connected and has declared everything; log the end of the outage when this was the last link."""
        self._refusals.clear()
        was_away = bool(self._away)
        self._away.discard(link)
        if was_away and not self._away:
            self._end(link)
        self._was_connected = self._was_connected or not self._away

    def on_refused(self, link: str, reason: str) -> None:
        """Log that the broker refuses `link`, which does not retry: one line, however many links it refuses."""
        is_new = reason not in self._refusals
        self._refusals.add(reason)
        level = logging.ERROR if is_new else logging.DEBUG
        logger.log(level, "connection refused by the broker, not retrying: %s connection=%r", reason, link)

    def on_closed(self, link: str) -> None:
        """`link` was closed and does not retry any more."""
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
            "connected to the broker%s after %.1f s, %d %s connection=%r",
            " again" if self._was_connected else "",
            self._ended_at - self._since,
            self._attempts,
            "attempt" if self._attempts == 1 else "attempts",
            link,
        )
