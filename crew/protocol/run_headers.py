"""Encodes and decodes the execution of a job as headers of a reply."""

from typing import Final

from crew.protocol.encoding import foreign
from crew.protocol.message import Headers, Run

HOST: Final = "crew-host"  # in a reply to a job: "host:pid" of the worker process
STARTED: Final = "crew-started"  # epoch milliseconds
ENDED: Final = "crew-ended"  # epoch milliseconds
ATTEMPT: Final = "crew-attempt"  # from 2 on
ONLY_ONE: Final = "crew-only-one"  # true where the job is not run again after a crash
PROGRESS_COUNT: Final = "crew-progress-count"  # number of progress values that the execution has sent; from 1 on


def of_run(run: Run | None) -> Headers:
    """Encode `run` as headers."""
    if run is None:
        return {}
    headers: Headers = {HOST: run.host}
    if run.started is not None:
        headers[STARTED] = round(run.started * 1000)
    if run.ended is not None:
        headers[ENDED] = round(run.ended * 1000)
    if run.attempt > 1:
        headers[ATTEMPT] = run.attempt
    if run.is_only_one:
        headers[ONLY_ONE] = True
    if run.progress_count > 0:
        headers[PROGRESS_COUNT] = run.progress_count
    return headers


def to_run(headers: Headers) -> Run | None:
    """Decode an execution from `headers`, or None; raise MalformedMessage where a header has the wrong type."""
    host = foreign.header(headers, HOST, str, None)
    if host is None:
        return None
    return Run(
        host=host,
        started=foreign.seconds(headers, STARTED),
        ended=foreign.seconds(headers, ENDED),
        attempt=foreign.attempt_number(headers, ATTEMPT),
        is_only_one=foreign.header(headers, ONLY_ONE, bool, False),
        progress_count=foreign.count(headers, PROGRESS_COUNT),
    )
