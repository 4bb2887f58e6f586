"""`/jobs/`: submits and lists jobs."""

import functools
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from tornado.web import stream_request_body

from crew.client import Client, off_loop
from crew.gateway.body import BodyMixin, HeadMixin
from crew.gateway.jobs.job_handler import APPLIED, JobHandlerBase
from crew.gateway.jobs.job_limits import JobLimits
from crew.gateway.jobs.job_request import parse_job
from crew.gateway.problems import RequestRefused
from crew.gateway.serving.auth import submitter_of
from crew.gateway.url_guard import UrlGuard
from crew.jobs import JobQuery, JobStatus
from crew.jobs.records.record import record
from crew.jobs.specification import check_key
from crew.jobs.store.query import PAGE, check_limit
from crew.protocol.encoding import codec

LIST_PARAMETERS: Final = ("status", "task", "limit", "cursor")
ANY: Final = "any"  # the status of a query for all jobs


@stream_request_body
class JobsHandler(BodyMixin, HeadMixin, JobHandlerBase):
    """Submits a job (`POST`), and lists jobs (`GET`).

    The body of `POST` is a JSON object: `{"task", "payload", "headers"}` or `{"url", "method", "headers", "data"}`,
    with the options `priority`, `timeout`, `expiration`, `result_ttl`, `failure_ttl`, `unique`, `unique_key`, `id` and
    `wait_for_worker` of `Client.submit`. The response is 303 with the Location of the job, or 202 with `Prefer:
    respond-async`. A repeated request with the same `Idempotency-Key` returns the same job.

    `GET` lists queued jobs, newest first. `?status=` selects other statuses, separated by commas, or `any`; `task`
    selects a task; `limit` is the size of the page (default 50, at most 500), and `cursor` continues the list. The
    header `Link` has this page as `self`, and the next one, if any, as `next`.

    Args:
        client: submits the jobs.
        guard: refuses URLs that URL jobs may not request.
        limits: limits for jobs and pages.
        max_body: maximum bytes of the body.
    """

    def initialize(  # type: ignore[override]  # of a base that takes less
        self, *, client: Client, guard: UrlGuard, limits: JobLimits, max_body: int, **given: Any
    ) -> None:
        """Set the arguments of the route."""
        super().initialize(**given)
        self.client, self.guard, self.limits = client, guard, limits
        self.expect(max_body)

    async def post(self) -> None:
        """Submit a job."""
        self.check_query()
        self.check_size()
        preferences = self.preferences()
        self._check_content_type()
        body = self.body()
        make_job = functools.partial(
            parse_job,
            body,
            self.limits,
            idempotency_key=self._idempotency_key(),
            origin=self.request.remote_ip,
            submitter=submitter_of(self.request),
            max_message=self.client.max_message,
            decode=self.client.decode,
        )
        job = await off_loop.run(make_job, is_large=len(body) > codec.LARGE)
        await self.guard.check_job(job)
        handle = await self.limits.submit(self.client, job)
        self.set_status(202 if preferences.respond_async else 303)
        if preferences.respond_async:
            self.set_header(APPLIED, "respond-async")
        self.set_header("Location", self.path_of(handle.id))
        self.respond_encoded(msgspec.json.encode({"id": handle.id, "is_new": handle.is_new}))

    async def get(self) -> None:
        """List jobs."""
        self.check_query(*LIST_PARAMETERS)
        query = self._query()
        try:
            page = await self.jobs.page(query)
        except ValueError as error:  # the limit is valid by now
            raise RequestRefused(400, str(error), name="bad-cursor") from None
        links = {"self": self._path_of_page(query.cursor)}
        if page.cursor is not None:
            links["next"] = self._path_of_page(page.cursor)
        self.set_links(links)
        jobs = [record(job, shows_query=True) for job in page.jobs]
        self.respond_encoded(msgspec.json.encode({"jobs": jobs, "next": links.get("next")}))

    def _check_content_type(self) -> None:
        """Raise RequestRefused if the type is not JSON. An empty body is refused later, for being empty."""
        given = self.request.headers.get("Content-Type", "")
        if self._received and given.partition(";")[0].strip().lower() != codec.JSON:
            raise RequestRefused(415, f"Content-Type must be {codec.JSON}, not {given[:80]!r}", name="unsupported-type")

    def _idempotency_key(self) -> str | None:
        given = self.request.headers.get("Idempotency-Key")
        if given is None:
            return None
        key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given  # a string, in newer drafts
        try:
            return check_key("Idempotency-Key", key)
        except ValueError as error:
            raise RequestRefused(400, str(error), name="bad-idempotency-key") from None

    def _query(self) -> JobQuery:
        return JobQuery(
            statuses=self._statuses(),
            task=self.get_query_argument("task", None),
            limit=self._limit(),
            cursor=self.get_query_argument("cursor", None),
        )

    def _statuses(self) -> tuple[JobStatus, ...] | None:
        given = ",".join(self.get_query_arguments("status")) or JobStatus.QUEUED.value
        try:
            return None if given == ANY else tuple(map(JobStatus, given.split(",")))
        except ValueError:
            detail = f"status must be {ANY}, or one or more of {', '.join(JobStatus)}, not {given[:80]!r}"
            raise RequestRefused(400, detail, name="bad-status") from None

    def _limit(self) -> int:
        most = self.limits.max_page
        given = self.get_query_argument("limit", str(min(PAGE, most)))
        try:
            return check_limit(int(given) if given.isdecimal() and len(given) < 10 else given, most)
        except ValueError as error:
            raise RequestRefused(400, str(error), name="bad-limit") from None

    def _path_of_page(self, cursor: str | None) -> str:
        given = [(name, value) for name in ("status", "task", "limit") for value in self.get_query_arguments(name)]
        query = urlencode([*given, *([] if cursor is None else [("cursor", cursor)])])
        return f"{self.root}?{query}" if query else self.root
