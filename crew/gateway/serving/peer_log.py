"""Limits for the log lines that Tornado writes about malformed HTTP, which any client can send without a token.

Each such request makes a line, which may contain 60 KB of what the client has sent.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Final

from tornado.log import gen_log

from crew.clock import monotonic_time
from crew.escape import escaped

MAX_LINE: Final = 300  # characters
LINES: Final = 10  # of one kind in each interval
INTERVAL: Final = 60.0  # seconds
MAX_KINDS: Final = 100  # of lines, counted at a time


class PeerLog(logging.Filter):
    """Shortens and escapes each line, and passes at most `LINES` of a kind in each `INTERVAL`.

    Args:
        clock: seconds. Default: time.monotonic.
    """

    def __init__(self, clock: Callable[[], float] = monotonic_time) -> None:
        super().__init__()
        self._clock = clock
        self._since = 0.0  # by the clock, when the interval began
        self._seen: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is logged."""
        now = self._clock()
        if now - self._since >= INTERVAL:
            self._since = now
            self._report()
        kind = str(record.msg)
        if kind not in self._seen and len(self._seen) >= MAX_KINDS:
            return False
        self._seen[kind] = self._seen.get(kind, 0) + 1
        if self._seen[kind] > LINES:
            return False
        record.msg, record.args = _printable(record.getMessage()), ()
        return True

    def _report(self) -> None:
        """Log how many lines were suppressed in the last interval."""
        seen, self._seen = self._seen, {}
        for kind, count in seen.items():
            if count > LINES:
                gen_log.info("log lines suppressed: count=%d interval=%gs line=%r", count - LINES, INTERVAL, kind)


@contextlib.contextmanager
def bounded(clock: Callable[[], float] = monotonic_time) -> Iterator[None]:
    """Limit these log lines until the end of the block; for `clock` see PeerLog."""
    bounds = PeerLog(clock)
    gen_log.addFilter(bounds)
    try:
        yield
    finally:
        gen_log.removeFilter(bounds)


def _printable(text: str) -> str:
    """`text` on one line, shortened, and without control characters, which a terminal would execute."""
    if len(text) > MAX_LINE:
        text = f"{text[:MAX_LINE]}... ({len(text)} characters)"
    return escaped(text)
