"""`GET /jobs/<uuid>/events`: the changes of one job, as server-sent events or by a long poll.

The stream follows the HTML standard: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import contextlib
import re
import time
from typing import Any, Final

import msgspec
from tornado.iostream import StreamClosedError

from crew.duration import parse_duration
from crew.errors import ConnectionError, UnknownJob
from crew.gateway.jobs.job_handler import JobHandlerBase, id_of
from crew.gateway.problems import RequestRefused
from crew.gateway.serving.connections import mark_as_open_stream
from crew.jobs import Job
from crew.jobs.records.event import event_of, is_changed

STREAM: Final = "text/event-stream"
KEEPALIVE_INTERVAL: Final = 15.0  # seconds: most proxies close a connection after 30 or 60 s without data
RETRY: Final = 2_000  # milliseconds until a browser reconnects
STORE_RETRY_INTERVAL: Final = 0.5  # seconds between attempts to read while the job store is unavailable
LONG_POLL: Final = 30.0  # seconds: the default of `?wait=`

_VERSION: Final = re.compile(r"[0-9]{1,18}")


class JobEventsHandler(JobHandlerBase):
    """Streams the changes of a job, or responds to a long poll.

    Stream: with `Accept: text/event-stream`; also without `after` and `wait`, unless `Accept` excludes it. The first
    event is the job's current state. One event follows for each change of its status, progress or attempts, and the
    stream ends after the job's last one. The `id` of an event is the version of the job's record. A client that
    reconnects sends it as `Last-Event-ID` (or `?after=`) and gets only newer events, or 204 if none will follow.
    `?wait=` limits the duration of the stream.

    Long poll: responds with the newest event as JSON, as soon as its version is above `?after=` or the job has ended,
    or after `?wait=` (default 30 s) with the current state.
    """

    def initialize(
        self, *, keepalive: float = KEEPALIVE_INTERVAL, store_retry: float = STORE_RETRY_INTERVAL, **common: Any
    ) -> None:
        """Set the arguments of the route.

        Args:
            keepalive: seconds without an event until something is sent. Default 15.
            store_retry: seconds between attempts to read while the job store is unavailable. Default 0.5.
            common: see JobHandlerBase.
        """
        super().initialize(**common)
        self._keepalive = keepalive
        self._store_retry = store_retry

    async def get(self, id: str) -> None:
        """Send the events, or the newest one."""
        self.check_query("after", "wait")
        id, seen, wait = id_of(id), self._seen(), self._wait()
        self.set_header("Cache-Control", "no-store")
        if self._wants_stream():
            await self._stream(id, seen, wait)
        else:
            job = await self._changed(id, seen, LONG_POLL if wait is None else wait, until_leaving=True)
            self.respond_encoded(self._encoded(job))

    # --- the request ------------------------------------------------------------------------------------------------

    def _wants_stream(self) -> bool:
        accepted = {
            part.partition(";")[0].strip().lower()
            for line in self.request.headers.get_list("Accept")
            for part in line.split(",")
        }
        if STREAM in accepted:
            return True
        is_poll = bool(self.request.query_arguments.keys() & {"after", "wait"})
        return not is_poll and (not accepted or bool(accepted & {"*/*", "text/*"}))

    def _seen(self) -> int:
        """The version that the client has, or 0. The header takes precedence: a browser reconnects to the same URL."""
        header = self.request.headers.get("Last-Event-ID")
        if header:
            return _version(header, "Last-Event-ID", name="bad-last-event-id")
        return _version(self.get_query_argument("after", "0"), "after", name="bad-after")

    def _wait(self) -> float | None:
        given = self.get_query_argument("wait", None)
        try:
            return None if given is None else parse_duration("wait", given, may_be_zero=True)
        except ValueError as error:
            raise RequestRefused(400, str(error), name="bad-wait") from None

    # --- the stream -------------------------------------------------------------------------------------------------

    async def _stream(self, id: str, seen: int, wait: float | None) -> None:
        job = await self.jobs.get(id, with_bodies=False)
        if job.status.is_final and job.version == seen:
            self.set_status(204)
            return
        self._begin()
        # If the record was deleted, the stream just ends: the client reconnects, and gets 404.
        with contextlib.suppress(StreamClosedError, UnknownJob):
            await self._send_events(job, seen, None if wait is None else time.monotonic() + wait)

    def _begin(self) -> None:
        # Keep the stream open while the gateway drains: a browser that reconnects is refused, and never retries.
        mark_as_open_stream(self.request)
        self.set_header("Content-Type", STREAM)
        self.set_header("X-Accel-Buffering", "no")  # else nginx buffers events until it has some kilobytes
        self.write(f"retry: {RETRY}\n\n")

    async def _send_events(self, job: Job, seen: int, until: float | None) -> None:
        """Send an event if `job` is newer than `seen`, then one for each change, until `until` (time.monotonic())."""
        sent = job if job.version == seen else None  # the state that the client has
        while True:
            # After a restore of the store, a client may have a version above the current one: it still gets the end.
            if (job.version > seen or job.status.is_final) and is_changed(job, sent):
                self._write(job, sent)
                sent = job
            else:
                self.write(":\n\n")
            await self.flush()
            seen = max(seen, job.version)
            left = self._keepalive if until is None else min(self._keepalive, until - time.monotonic())
            if job.status.is_final or self.jobs.is_closed or left <= 0:
                return
            job = await self._changed_or_away(job, seen, left)

    def _write(self, job: Job, sent: Job | None) -> None:
        kind = "progress" if sent is not None and sent.status is job.status else "status"
        self.write(f"id: {job.version}\nevent: {kind}\ndata: ".encode() + self._encoded(job) + b"\n\n")

    def _encoded(self, job: Job) -> bytes:
        return msgspec.json.encode(event_of(job, self.path_of(job.id, "response/")))

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _changed_or_away(self, job: Job, seen: int, wait: float) -> Job:
        """As `_changed`; while the store is unavailable, `job` unchanged after a pause, so that the stream goes on."""
        try:
            return await self._changed(job.id, seen, wait)
        except ConnectionError:
            await self._while_connected(lambda: asyncio.sleep(min(self._store_retry, wait)))
            return job

    async def _changed(self, id: str, seen: int, wait: float, *, until_leaving: bool = False) -> Job:
        """The job as soon as it is newer than `seen` or has ended; after `wait` seconds in any case."""
        terms = {"with_result": False, "until_leaving": until_leaving}
        return await self._while_connected(lambda: self.jobs.wait_for_change(id, seen, wait, **terms))


def _version(text: str, what: str, *, name: str) -> int:
    if not _VERSION.fullmatch(text):
        detail = f"{what} must be the version of a job, which is the id of an event of it, not {text[:80]!r}"
        raise RequestRefused(400, detail, name=name)
    return int(text)
