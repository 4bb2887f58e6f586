"""What Tornado logs of peers that send no proper HTTP: bounded, as anybody may send that, without a token.

A line may otherwise hold 60 KB of what a peer has sent, and each request makes one.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Final

from tornado.log import gen_log

from crew.escape import escaped

MAX_LINE: Final = 300  # characters
LINES: Final = 10  # of one kind in each interval
INTERVAL: Final = 60.0  # seconds
MAX_KINDS: Final = 100  # of lines that are counted at a time


class PeerLog(logging.Filter):
    """Shortens and escapes each line, and passes at most `LINES` of a kind in each `INTERVAL`."""

    def __init__(self) -> None:
        super().__init__()
        self._since = 0.0  # time.monotonic()
        self._seen: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is logged."""
        now = time.monotonic()
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
        """Log how many lines the last interval has dropped."""
        seen, self._seen = self._seen, {}
        for kind, count in seen.items():
            if count > LINES:
                gen_log.info("%d more lines were dropped within %g s: %s", count - LINES, INTERVAL, kind)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bound what is logged of peers until the end of the block."""
    bounds = PeerLog()
    gen_log.addFilter(bounds)
    try:
        yield
    finally:
        gen_log.removeFilter(bounds)


def _printable(text: str) -> str:
    """`text` on one line, without what a terminal obeys, and not too long."""
    if len(text) > MAX_LINE:
        text = f"{text[:MAX_LINE]}... ({len(text)} characters)"
    return escaped(text)
