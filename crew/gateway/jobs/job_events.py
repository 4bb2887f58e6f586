"""`GET /jobs/<uuid>/events`: what becomes of one job while it does, as server-sent events or by a long poll.

The stream is that of the HTML standard: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import contextlib
import re
import time
from typing import Final

import msgspec
from tornado.iostream import StreamClosedError

from crew.errors import ConnectionError, UnknownJob
from crew.gateway.jobs.job_handler import JobHandlerBase, id_of
from crew.gateway.problems import RequestRefused
from crew.gateway.serving.connections import mark_as_open_stream
from crew.jobs import Job
from crew.jobs.event import event_of, has_news
from crew.protocol import deadline

STREAM: Final = "text/event-stream"
KEEPALIVE_INTERVAL: Final = 15.0  # seconds: most proxies cut a connection that was silent for 30 or 60
RETRY: Final = 2_000  # milliseconds after which a browser comes back
STORE_RETRY_INTERVAL: Final = 0.5  # seconds until a store that is away is asked again
LONG_POLL: Final = 30.0  # seconds, where the client does not say how long it would wait

_VERSION: Final = re.compile(r"[0-9]{1,18}")


class JobEventsHandler(JobHandlerBase):
    """What becomes of a job.

    With `Accept: text/event-stream`, and where neither `after` nor `wait` is given and nothing else is wanted: an event
    for the job as it is, then one for each change of its status, progress or attempts, and the end after its own. `id`
    is the version of its record: a client that comes back with it as `Last-Event-ID` (or `?after=`) gets what is newer,
    or 204 where nothing follows any more. `?wait=` ends the stream by then.

    Else the newest event as JSON: as soon as its version is above `?after=` or the job has ended, or after `?wait=`
    (30 s) as it is.
    """

    async def get(self, id: str) -> None:
        """Tell, and go on telling."""
        id, seen, wait = id_of(id), self._seen(), self._wait()
        self.set_header("Cache-Control", "no-store")
        if self._wants_stream():
            await self._stream(id, seen, wait)
        else:
            job = await self._changed(id, seen, LONG_POLL if wait is None else wait, until_leaving=True)
            self.respond_encoded(self._encoded(job))

    # --- what is asked for ------------------------------------------------------------------------------------------

    def _wants_stream(self) -> bool:
        accepted = {
            part.partition(";")[0].strip().lower()
            for line in self.request.headers.get_list("Accept")
            for part in line.split(",")
        }
        if STREAM in accepted:
            return True
        says_how = bool(self.request.query_arguments.keys() & {"after", "wait"})
        return not says_how and (not accepted or bool(accepted & {"*/*", "text/*"}))

    def _seen(self) -> int:
        """The version that the client knows; 0: none. The header is the newer one: a browser repeats its URL."""
        header = self.request.headers.get("Last-Event-ID")
        if header:
            return _version(header, "Last-Event-ID", name="bad-last-event-id")
        return _version(self.get_query_argument("after", "0"), "after", name="bad-after")

    def _wait(self) -> float | None:
        given = self.get_query_argument("wait", None)
        try:
            return None if given is None else deadline.parse_duration("wait", given, may_be_zero=True)
        except ValueError as error:
            raise RequestRefused(400, str(error), name="bad-wait") from None

    # --- the stream -------------------------------------------------------------------------------------------------

    async def _stream(self, id: str, seen: int, wait: float | None) -> None:
        job = await self.jobs.get(id, with_bodies=False)
        if job.status.is_final and job.version == seen:
            self.set_status(204)
            return
        self._begin()
        # Who hears nothing more comes back: where the record is gone, to be told so.
        with contextlib.suppress(StreamClosedError, UnknownJob):
            await self._send_events(job, seen, None if wait is None else time.monotonic() + wait)

    def _begin(self) -> None:
        # Keep the stream open while the gateway drains: a browser that reconnects is refused, and never retries.
        mark_as_open_stream(self.request)
        self.set_header("Content-Type", STREAM)
        self.set_header("X-Accel-Buffering", "no")  # nginx would keep events until it has some kilobytes of them
        self.write(f"retry: {RETRY}\n\n")

    async def _send_events(self, job: Job, seen: int, until: float | None) -> None:
        """`job` where it is newer than `seen`, and then whatever becomes of it."""
        told = job if job.version == seen else None  # what the client knows of it
        while True:
            # Of a store that was restored a client may know what never came about: it hears the end all the same.
            if (job.version > seen or job.status.is_final) and has_news(job, told):
                self._write(job, told)
                told = job
            else:
                self.write(":\n\n")
            await self.flush()
            seen = max(seen, job.version)
            left = KEEPALIVE_INTERVAL if until is None else min(KEEPALIVE_INTERVAL, until - time.monotonic())
            if job.status.is_final or self.jobs.is_closed or left <= 0:
                return
            job = await self._changed_or_away(job, seen, left)

    def _write(self, job: Job, told: Job | None) -> None:
        kind = "progress" if told is not None and told.status is job.status else "status"
        self.write(f"id: {job.version}\nevent: {kind}\ndata: ".encode() + self._encoded(job) + b"\n\n")

    def _encoded(self, job: Job) -> bytes:
        return msgspec.json.encode(event_of(job, self.path_of(job.id, "response/")))

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _changed_or_away(self, job: Job, seen: int, wait: float) -> Job:
        """As `_changed`; while the store is away, `job` as it was known: the stream outlives that."""
        try:
            return await self._changed(job.id, seen, wait)
        except ConnectionError:
            await self._while_connected(lambda: asyncio.sleep(min(STORE_RETRY_INTERVAL, wait)))
            return job

    async def _changed(self, id: str, seen: int, wait: float, *, until_leaving: bool = False) -> Job:
        """The job as soon as it is newer than `seen` or has ended, or as it is after `wait` seconds."""
        terms = {"with_result": False, "until_leaving": until_leaving}
        return await self._while_connected(lambda: self.jobs.wait_for_change(id, seen, wait, **terms))


def _version(text: str, what: str, *, name: str) -> int:
    if not _VERSION.fullmatch(text):
        told = f"{what} must be the version of a job, the id of an event that was told of it, not {text[:80]!r}"
        raise RequestRefused(400, told, name=name)
    return int(text)
