"""Durations and sizes inside the job store and the service that runs its jobs."""

from typing import Final

import msgspec

from crew.amqp.outbox.policy import JOBS
from crew.jobs.job import LEASE


class JobTuning(msgspec.Struct, frozen=True, kw_only=True):
    """Durations and sizes that no installation needs to change; tests use others. Durations are in seconds.

    Attributes:
        connect_timeout: for a connection to PostgreSQL.
        close_timeout: for the last writes of a store that closes, if the server does not answer.
        pause_timeout: for the broker to answer that reports are no longer consumed: it must not delay the end of a
            process.
        stalled_after: until a gateway that does not consume or record reports is not ready: longer than a busy
            database needs for one batch.
        poll_interval: between two reads of the jobs that callers wait for. The event of another gateway may be lost
            with a connection.
        publish_patience: that a submit waits for the broker; then the record alone makes the job accepted.
        confirm_patience: that a submit waits for the confirm: longer than an election, within its lease.
        lease: during which no other gateway publishes a job whose confirm is late; extended until it arrives.
        retry_full: until an accepted job is published again, if its queue was full.
        reconnect: that workers may take longer than a gateway to reconnect after an outage.
        prefetch: reports, of up to 16 MiB each: they stay in memory until they are committed.
        retry_store: until an unavailable store is tried again.
        retry_report: until a report that failed for an unknown reason is retried; doubled each time.
        max_retry_report: the longest of these delays.
        progress_check: between two checks that reports are recorded.
        maintenance_interval: between two steps of each maintenance service.
    """

    connect_timeout: float = 10.0
    close_timeout: float = 5.0
    pause_timeout: float = 1.0
    stalled_after: float = 30.0
    poll_interval: float = 5.0
    publish_patience: float = JOBS.kept_for
    confirm_patience: float = 6.0
    lease: float = LEASE
    retry_full: float = 5.0
    reconnect: float = 2.0
    prefetch: int = 100
    retry_store: float = 1.0
    retry_report: float = 1.0
    max_retry_report: float = 30.0
    progress_check: float = 5.0
    maintenance_interval: float = 1.0


DEFAULT: Final = JobTuning()
