"""Durations inside the job store and the service that runs its jobs."""

from typing import Final

import msgspec


class JobTuning(msgspec.Struct, frozen=True, kw_only=True):
    """Durations that no installation needs to change; tests use others. All are in seconds.

    Attributes:
        connect_timeout: for a connection to PostgreSQL.
        close_timeout: for the last writes of a store that closes, if the server does not answer.
        pause_timeout: for the broker to answer that reports are no longer consumed: it must not delay the end of a
            process.
        stalled_after: until a gateway that does not consume reports is not ready.
        poll_interval: between two reads of the jobs that callers wait for. The event of another gateway may be lost
            with a connection.
    """

    connect_timeout: float = 10.0
    close_timeout: float = 5.0
    pause_timeout: float = 1.0
    stalled_after: float = 30.0
    poll_interval: float = 5.0


DEFAULT: Final = JobTuning()
