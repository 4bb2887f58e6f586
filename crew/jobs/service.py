"""The job service: submit, wait, cancel, list and retry jobs.

`submit` inserts the record, then publishes the job. Reports of workers arrive over the queue of the store; committed
reports wake the waiters. Gateways that share a store tell each other of commits. Each gateway maintains all jobs.
"""

import asyncio
import functools
import logging
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

from crew import errors, forks
from crew.amqp import Link
from crew.client import off_loop
from crew.client.closing import run_all
from crew.client.events.subscription import Event, OnEvent, Subscription
from crew.client.links import Links
from crew.client.options import SUBMIT_RENAMES, SubmitOptions
from crew.duration import Duration, parse_duration
from crew.jobs.handle import JobHandle
from crew.jobs.job import Job, JobStatus
from crew.jobs.maintenance.maintenance import Maintenance
from crew.jobs.maintenance.watermark import MAX_GAP, Watermark
from crew.jobs.notifier import Notifier
from crew.jobs.publisher import Publisher
from crew.jobs.quota import Usage
from crew.jobs.reports import report
from crew.jobs.reports.inbox import Inbox
from crew.jobs.reports.report import Report
from crew.jobs.result import result_of
from crew.jobs.specification import Specification, check_id, retry_of, specify
from crew.jobs.store.probe import StoreProbe
from crew.jobs.store.query import JobQuery, Page
from crew.jobs.store.store import Store
from crew.jobs.store.submissions import Submissions
from crew.jobs.store.update import AppliedReport
from crew.jobs.waiters import Waiters, within
from crew.protocol import topology
from crew.protocol.arguments import check_names, with_new_names
from crew.protocol.encoding import codec
from crew.protocol.message import RevocationRequest
from crew.settings import Settings

logger = logging.getLogger(__name__)

RETRY_STORE: Final = 1.0  # seconds until an unavailable store is tried again
SUBMIT_ARGUMENTS: Final = ("task", "payload", *SubmitOptions.__annotations__)


class JobsClient(Protocol):
    """The part of `crew.Client` that jobs use. A Protocol, as the client imports the types of its `store`."""

    id: str
    name: str
    settings: Settings
    max_message: int

    @property
    def links(self) -> Links:
        """Its connections."""

    def publish(self, topic: str, payload: Any = None, /) -> Awaitable[None]:
        """As `crew.Client.publish`."""

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """As `crew.Client.subscribe`."""


class JobService:
    """Runs the jobs of `store` with `client`. The client opens and closes it.

    What its methods raise:
        UnknownJob: there is no job with that id.
        ConnectionError: the job store is unavailable.
    """

    def __init__(self, client: JobsClient, store: "JobStore") -> None:
        self.store = store
        self._client = client
        self._link = Link(
            client.settings,
            name=f"{client.name} jobs",
            topology=(*topology.EXCHANGES, topology.task_queue(topology.HTTP_TASK)),
            outage=client.links.outage,
            signer=client.links.signer,
            on_ready=self._on_consuming,
            on_lost=lambda fault: self._on_lost(),
        )
        self._publisher = Publisher(client.links.publishing, store, tuning=store.tuning)
        self._notifier = Notifier(client.links.publishing, store)
        self._submissions = Submissions(store, self._publisher, on_replaced=self._on_replaced)
        self._inbox = Inbox(
            store,
            on_applied=self._on_applied,
            on_revocation_request=self._on_revocation_request,
            tuning=store.tuning,
        )
        self._waiters = Waiters(store.several, poll_interval=store.tuning.poll_interval)
        self._probe = StoreProbe(store.check)
        store.availability.is_logged = True
        interval = store.tuning.maintenance_interval
        self._watermark = Watermark(
            depth=lambda: self._link.depth(store.queue),
            settle=self._inbox.settle,
            publish=self._tell_gateways,
            interval=interval,
            max_gap=MAX_GAP * interval,
        )
        self._maintenance = Maintenance(store, self._publisher, self._watermark, apply=self._apply, interval=interval)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened: asyncio.Task[None] | None = None
        self._not_consuming_since: float | None = None  # time.monotonic()
        self.decode = codec.decoder_of(client.settings)
        self.is_leaving = False
        self.is_closed = False

    def __repr__(self) -> str:
        return f"<JobService of {self.store}: {len(self._waiters)} waiters>"

    # --- open and close ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start to open the store and to serve its jobs; idempotent."""
        if self._opened is None and not self.is_closed:
            self._opened = asyncio.get_running_loop().create_task(self._open(), name="jobs")

    async def ready(self) -> None:
        """Wait until the store is open; raises what `JobStore.open` does, and ConnectionError after `close`."""
        if self.is_closed:
            raise errors.ConnectionError("the client was closed", missing="client")
        self.open()
        await self.store.open()

    def leave(self) -> None:
        """Return from every `wait`, as the process is about to end: another gateway can serve it. `result` goes on."""
        self.is_leaving = True
        self._waiters.wake_all()

    async def close(self) -> None:
        """Wake the waiters, commit the received reports, and close the store; idempotent."""
        if self.is_closed:
            return
        self.is_leaving = self.is_closed = True
        await run_all(
            self._waiters.close,
            self._probe.close,
            self._submissions.close,
            self._end_opening,
            self._maintenance.stop,
            self._pause,
            self._inbox.close,
            self._publisher.drain,
            self._link.close,
            self._cancel_tasks,
            self.store.close,
        )

    async def _end_opening(self) -> None:
        if self._opened is not None:
            self._opened.cancel()
            await asyncio.wait([self._opened])

    async def _pause(self) -> None:
        """Stop consuming reports."""
        self._watermark.on_lost()
        pausing = self._start(self._link.pause(self.store.queue))
        await asyncio.wait([pausing], timeout=self.store.tuning.pause_timeout)

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def on_ready(self) -> None:
        """Publish the waiting jobs: the client has reached the broker."""
        self._maintenance.wake()

    async def _open(self) -> None:
        logged = ""
        while True:
            try:
                await self.store.open()
                break
            except errors.CrewError as error:
                is_outage = isinstance(error, errors.ConnectionError)  # the store itself logs an outage
                if not is_outage and str(error) != logged:  # log each error once
                    logger.error("job store cannot be opened, retrying in %g s: %s", RETRY_STORE, error)
                logged = str(error)
                await asyncio.sleep(RETRY_STORE)
        self._client.subscribe(self.store.queue, self._on_gateway_event)
        self._link.remember(self._inbox.consumer, *topology.jobs_queue(self.store.id))
        self._not_consuming_since = time.monotonic()
        self._link.open()
        self._maintenance.start()

    async def obstacle(self) -> str | None:
        """Why jobs cannot be submitted or read now, in one sentence: "the job store ... cannot be used: ...".

        None if the store answers, the last write succeeded, and reports of workers arrive and are recorded. Queries the
        store, for up to 2 s.
        """
        if self.is_closed:
            return "the client was closed"
        if (obstacle := await self._probe.obstacle()) is not None:
            return obstacle
        if (error := self.store.availability.error) is not None:
            return str(error)
        return self._inbox.obstacle or self._not_consuming()

    def _not_consuming(self) -> str | None:
        """Why reports are not consumed here, if that has lasted for a while."""
        since = self._not_consuming_since
        if since is None or time.monotonic() - since < self.store.tuning.stalled_after:
            return None
        why = self._link.last_error or "the broker has not been reached"
        return f"job reports have not been consumed for {time.monotonic() - since:.0f} s: {why}"

    # --- processes and loops ----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Start again for a client with new connections."""
        JobService.__init__(self, self._client, self.store)

    def keep(self) -> None:
        """In a forked child: keep the parent's objects from being closed or collected."""
        forks.keep_alive(vars(self).copy())

    def drop(self) -> None:
        """Abandon the connections of a closed event loop."""
        self._link.drop()
        self.store.reset()

    # --- for callers ------------------------------------------------------------------------------------------------

    async def submit(self, task: str, payload: Any = None, **options: Any) -> JobHandle:
        """Submit a job: see `Client.submit`."""
        given = with_new_names("submit", {"payload": payload, **options}, SUBMIT_RENAMES)
        check_names("submit", given, SUBMIT_ARGUMENTS)
        largest = self._client.max_message
        if task != topology.HTTP_TASK:  # the payload of a URL job is checked first
            given["payload"] = await off_loop.encoded(given["payload"], given.get("serializer"), max_size=largest)
        return await self.submit_specification(specify(task, max_message=largest, **given))

    async def submit_specification(self, specification: Specification) -> JobHandle:
        """Submit a job that `crew.jobs.specification` has checked."""
        await self.ready()
        result = await self._submissions.submit(specification)
        return JobHandle(self, result.job.id, is_new=result.is_new)

    def handle(self, id: str) -> JobHandle:
        """The handle of a job; raises ValueError if `id` is not a uuid."""
        return JobHandle(self, check_id(id), is_new=False)

    async def get(self, id: str, *, with_bodies: bool = True) -> Job:
        """The record of a job."""
        await self.ready()
        return await self.store.get(check_id(id), with_bodies=with_bodies)

    async def get_with_request(self, id: str) -> Job:
        """The record of a job, without its result; of a URL job with its request."""
        await self.ready()
        return await self.store.get_with_request(check_id(id))

    async def page(self, query: JobQuery) -> Page:
        """A page of jobs, the newest first; raises ValueError for a bad cursor or limit."""
        await self.ready()
        return await self.store.page(query)

    async def usage(self) -> list[Usage]:
        """The number of queued and running jobs, by token and host."""
        await self.ready()
        return await self.store.usage()

    async def wait(self, id: str, timeout: Duration | None = None) -> Job:
        """Wait until a job ends, `timeout` is over, or the process is about to end; returns its record.

        The record has the result of the job, but not its payload.
        """
        return await self.wait_for_change(id, None, timeout, until_leaving=True)

    async def wait_for_change(
        self,
        id: str,
        version: int | None,
        timeout: Duration | None = None,
        *,
        with_result: bool = True,
        until_leaving: bool = False,
    ) -> Job:
        """Wait until a job ends, has a newer version, or `timeout` is over; returns its record, without its payload.

        Args:
            id: of the job.
            version: the known version; None: wait for the end.
            timeout: seconds, or text like "15m"; None: no limit.
            with_result: whether the record has the result.
            until_leaving: whether the wait also ends when this process is about to end.
        """
        await self.ready()
        id = check_id(id)
        wait = None if timeout is None else parse_duration("timeout", timeout, may_be_zero=True)
        until = None if wait is None else time.monotonic() + wait
        read = self.store.get_with_result if with_result else functools.partial(self.store.get, with_bodies=False)
        with self._waiters.waiting(id, version) as woken:
            while True:
                woken.clear()
                job = await read(id)
                is_news = job.status.is_final or (version is not None and job.version > version)
                left = None if until is None else until - time.monotonic()
                if is_news or self.is_closed or (until_leaving and self.is_leaving) or (left is not None and left <= 0):
                    return job
                await within(left, woken)

    async def result(self, id: str, timeout: Duration | None = None) -> Any:
        """Wait for the result of a job: see `JobHandle.result`."""
        job = await self.wait_for_change(id, None, timeout)
        if job.status.is_final:
            return await self.value_of(job)
        if self.is_closed:
            raise errors.ConnectionError("the client was closed", missing="client")
        raise errors.TimeoutError(f"job {job.id} has not ended in time; it goes on", task=job.task, id=job.id)

    async def value_of(self, job: Job) -> Any:
        """The result of a job that has ended: see `JobHandle.result`."""
        is_large = job.result is not None and codec.is_large(job.result)
        return await off_loop.run(result_of, job, self.decode, is_large=is_large)

    async def cancel(self, id: str) -> bool:
        """Cancel a job; False if it had ended."""
        await self.ready()
        canceled = report.canceled(check_id(id), at=time.time(), message="the job was canceled")
        (applied,) = await self.store.apply([canceled])
        if applied.job is None:
            raise errors.UnknownJob(f"there is no job {id}")
        self._after([applied])
        return not applied.is_late

    async def delete_result(self, id: str) -> bool:
        """Delete the result of a job; False if there was none."""
        await self.ready()
        return await self.store.delete_result(check_id(id))

    async def discard_response(self, id: str) -> None:
        """Delete the result of a job that has ended. A canceled job has no response, and is left as it is."""
        job = await self.get(id, with_bodies=False)
        if job.status.is_final and job.status is not JobStatus.CANCELED:
            await self.store.delete_result(job.id)

    async def retry(self, id: str) -> JobHandle:
        """Submit a job that has ended again, as a new job; an active job with its unique key is returned instead.

        Raises:
            ValueError: the job has not ended.
        """
        job = await self.get(id)
        if not job.status.is_final:
            raise ValueError(f"job {job.id} is {job.status.value}: only a job that has ended can be retried")
        return await self.submit_specification(retry_of(job))

    # --- after a commit ---------------------------------------------------------------------------------------------

    async def _apply(self, reports: Sequence[Report]) -> None:
        self._after(await self.store.apply(reports))

    def _on_applied(self, applied: Sequence[AppliedReport]) -> None:
        """Reports of workers are committed. Tell a worker to stop if it has started a job that had ended."""
        for one in applied:
            if one.report.status is JobStatus.STARTED and (one.job is None or one.job.status.is_final):
                self._notifier.stop(one.report)
        self._after(applied)

    def _after(self, applied: Sequence[AppliedReport]) -> None:
        """Wake the waiters of committed records, and tell workers of revoked jobs."""
        changed = [one.job for one in applied if one.job is not None and not one.is_late]
        for job in changed:
            if job.is_given_up:
                self._notifier.cancel(job)
        late = [one for one in applied if one.is_late and one.report.status is not JobStatus.STARTED]
        if late:
            logger.debug("late or repeated job reports discarded: reports=%d", len(late))
        self._wake({job.id: job.version for job in changed}, [job.id for job in changed if job.status.is_final])

    def _wake(self, versions: Mapping[str, int], ended: Sequence[str]) -> None:
        """Wake the waiters for these versions of jobs, here and at other gateways; `ended` are some of the jobs."""
        if versions:
            self._waiters.wake(versions, ended)
            event = {"changed": list(versions), "versions": list(versions.values()), "ended": ended}
            self._tell_gateways(event)

    def _tell_gateways(self, event: dict[str, Any]) -> None:
        """Publish an event to the other gateways of the store."""
        self._start(self._publish({"from": self._client.id, **event}))

    async def _publish(self, payload: dict[str, Any]) -> None:
        await self._client.publish(self.store.queue, payload)

    def _on_replaced(self, replaced: Sequence[Job]) -> None:
        for job in replaced:
            self._notifier.cancel(job)
        # `replaced` has the records of before. By now all these jobs are canceled.
        self._wake({job.id: job.version + 1 for job in replaced}, [job.id for job in replaced])

    def _on_gateway_event(self, event: Event) -> None:
        """Another gateway has committed reports, or asks which reports are committed here, or answers that."""
        match event.payload:
            case {"from": self._client.id}:
                return
            case {"changed": [*changed], "ended": [*ended], **others}:
                self._waiters.wake(_versions(changed, others.get("versions")), list(map(str, ended)))
            case {"changed": [*changed]}:  # of an older crew, which does not send `ended`
                self._waiters.wake(_versions(changed, None), list(map(str, changed)))
            case {"checkpoint": str(checkpoint)}:
                self._start(self._watermark.answer(checkpoint))
            case {"settled": [*checkpoints], "consumer": str(consumer)}:
                self._watermark.on_settled(checkpoints, consumer)

    def _on_revocation_request(self, request: RevocationRequest) -> None:
        """A worker has started: answer it, and publish the jobs that wait for a worker of its tasks."""
        self._start(
            self._notifier.answer(request, lambda tasks: self._publisher.publish_waiting(tasks, self._maintenance.wake))
        )

    # --- consuming and background work ------------------------------------------------------------------------------

    def _on_consuming(self) -> None:
        self._watermark.on_consuming()
        self._not_consuming_since = None
        self._publisher.on_queue_declared()
        self._maintenance.wake()

    def _on_lost(self) -> None:
        self._watermark.on_lost()
        self._not_consuming_since = time.monotonic()
        self._inbox.on_lost()

    def _start(self, step: Any) -> "asyncio.Task[None]":
        """Run `step` in the background. If it fails, a poll or the maintenance does its work later."""
        task = asyncio.get_running_loop().create_task(_logged(step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class JobStore(Store):
    """The job store: keeps the records of jobs in a database.

    Several processes may share a store: processes of one host with SQLite, of several hosts with PostgreSQL. You may
    create it before an event loop runs; the first use opens it.

    Args:
        url: sqlite:///path or postgresql://user:password@host/name; default `CREW_DATABASE`, else the file
            .crew/jobs.db below the current folder.
        max_result: bytes that an encoded result may have (compressed, if that makes it smaller). A job with a larger
            result ends as `error`. Default 16 MiB.
        tuning: further durations, for tests. Default: those of `crew.jobs.tuning.JobTuning`.

    Raises:
        SettingsError: the URL cannot be used, or its driver is not installed.

    What its methods raise:
        ConnectionError: the database is unavailable.
        SettingsError: the file is no database, or a newer crew has made its tables.
    """

    def service(self, client: JobsClient) -> JobService:
        """Make the service that runs the jobs of this store with `client`."""
        return JobService(client, self)


def _versions(ids: Sequence[Any], versions: Any) -> dict[str, int]:
    """The committed versions in an event, by job; an older crew sends none, so that each counts as new."""
    if isinstance(versions, list) and len(versions) == len(ids) and all(isinstance(one, int) for one in versions):
        return dict(zip(map(str, ids), versions, strict=True))
    return dict.fromkeys(map(str, ids), sys.maxsize)


async def _logged(step: Any) -> None:
    try:
        await step
    except errors.CrewError as error:
        logger.debug("background step of the job service failed: %s", error)
    except Exception:
        logger.exception("background step of the job service failed")
