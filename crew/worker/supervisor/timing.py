"""Durations of a supervisor."""

from typing import Final

import msgspec

from crew.worker.posix.process_end import EXIT_TIMEOUT, FLUSH_TIMEOUT


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Durations of a supervisor that no worker needs to change; tests use others.

    Attributes:
        first_delay: seconds before a process that died soon after its start is restarted; doubles each time.
        longest_delay: maximum seconds of this delay, and between two checks.
        kill_margin: seconds from the end of a process's grace to its kill: it flushes replies, exits, and has a margin
            of 3 s beyond its own deadlines.
    """

    first_delay: float = 0.1
    longest_delay: float = 5.0
    kill_margin: float = FLUSH_TIMEOUT + EXIT_TIMEOUT + 3.0


DEFAULT: Final = Timing()
