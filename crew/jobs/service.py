"""Jobs: submit -> a worker runs it -> settle; and meanwhile cancel, wait, list.

`submit` writes the record, then publishes. What workers say comes over the queue of the store into it, and wakes who
waits; gateways with one store tell each other. Every gateway looks after all jobs.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol

from crew import errors, forks
from crew.amqp import Link
from crew.client import off_loop
from crew.client.closing import run_all
from crew.client.events.subscription import Event, OnEvent, Subscription
from crew.client.links import Links
from crew.client.options import SubmitOptions
from crew.jobs import report
from crew.jobs.handle import JobHandle
from crew.jobs.inbox import Inbox
from crew.jobs.job import Job, JobStatus
from crew.jobs.maintenance import Caretaker
from crew.jobs.notifier import Notifier
from crew.jobs.progress_watch import STALLED_AFTER
from crew.jobs.publisher import Publisher
from crew.jobs.quota import Usage
from crew.jobs.report import Report
from crew.jobs.result import result_of
from crew.jobs.specification import again, check_id, order
from crew.jobs.store.insert import Candidate
from crew.jobs.store.query import JobQuery, Page
from crew.jobs.store.store import Store
from crew.jobs.store.submissions import Submissions
from crew.jobs.store.update import Settled
from crew.jobs.store_probe import Probe
from crew.jobs.waiters import Waiters, within
from crew.protocol import deadline, topology
from crew.protocol.arguments import check_names
from crew.protocol.encoding import codec
from crew.protocol.message import Briefing
from crew.settings import Settings

logger = logging.getLogger(__name__)

STORE_AGAIN_AFTER: Final = 1.0  # seconds until a store that is away is tried again
SUBMIT_ARGUMENTS: Final = ("task", "data", *SubmitOptions.__annotations__)
PAUSED_WITHIN: Final = 1.0  # seconds: a broker that has fallen silent must not keep a process from its end


class JobsClient(Protocol):
    """What jobs need of a `crew.Client`, which stands above them for type checkers: its `store` has their types."""

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
    """Runs the jobs of `store` with `client`, which opens and closes it.

    What its methods raise:
        UnknownJob: there is no job with that id.
        ConnectionError: the job store is away.
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
            on_ready=self._on_listening,
            on_lost=lambda fault: self._on_deaf(),
        )
        self._publisher = Publisher(client.links.publishing, store)
        self._notifier = Notifier(client.links.publishing, store)
        self._submissions = Submissions(store, self._publisher, on_replaced=self._on_replaced)
        self._inbox = Inbox(store, on_settled=self._on_settled, on_briefing=self._on_briefing)
        self._waiters = Waiters(store.several)
        self._probe = Probe(store.check)
        store.availability.is_logged = True
        is_behind = functools.partial(self._inbox.is_behind, self._link)
        self._caretaker = Caretaker(
            store, self._publisher, settle=self._settle, has_listened=self._has_listened, is_behind=is_behind
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened: asyncio.Task[None] | None = None
        self._listening_since: float | None = None  # time.monotonic()
        self._deaf_since: float | None = None  # time.monotonic()
        self.decode = codec.decoder_of(client.settings)
        self.is_leaving = False
        self.is_closed = False

    def __repr__(self) -> str:
        return f"<JobService of {self.store}: {len(self._waiters)} waiters>"

    # --- life -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to look after jobs; idempotent."""
        if self._opened is None and not self.is_closed:
            self._opened = asyncio.get_running_loop().create_task(self._open(), name="jobs")

    async def ready(self) -> None:
        """Wait until the store is open; raises what `JobStore.open` does, and ConnectionError after the end."""
        if self.is_closed:
            raise errors.ConnectionError("the client was closed", missing="client")
        self.open()
        await self.store.open()

    def leave(self) -> None:
        """The process is about to end: `wait` waits no longer, since others can be asked; `result` does until then."""
        self.is_leaving = True
        self._waiters.wake_all()

    async def close(self) -> None:
        """End: who waits is woken, what is heard is committed; idempotent."""
        if self.is_closed:
            return
        self.is_leaving = self.is_closed = True
        await run_all(
            self._waiters.close,
            self._probe.close,
            self._submissions.close,
            self._end_opening,
            self._caretaker.stop,
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
        """Take no more reports."""
        await asyncio.wait([self._do(self._link.pause(self.store.queue))], timeout=PAUSED_WITHIN)

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def on_ready(self) -> None:
        """The client has reached the broker: what could not be published is now."""
        self._caretaker.hurry()

    async def _open(self) -> None:
        told = ""
        while True:
            try:
                await self.store.open()
                break
            except errors.CrewError as error:
                is_outage = isinstance(error, errors.ConnectionError)  # which the store logs itself
                if not is_outage and str(error) != told:  # once, however long it lasts
                    logger.error("%s", error)
                told = str(error)
                await asyncio.sleep(STORE_AGAIN_AFTER)
        self._client.subscribe(self.store.queue, self._on_told)
        self._link.remember(self._inbox.consumer, *topology.jobs_queue(self.store.id))
        self._deaf_since = time.monotonic()
        self._link.open()
        self._caretaker.start()

    async def obstacle(self) -> str | None:
        """Why no job could be submitted or looked at now, in one sentence: "the job store ... cannot be used: ...".

        None if the store answers, took what was last written, and the reports of workers arrive and are recorded. It
        asks the store, for up to 2 s.
        """
        if self.is_closed:
            return "the client was closed"
        if (obstacle := await self._probe.obstacle()) is not None:
            return obstacle
        if (fault := self.store.availability.fault) is not None:
            return str(fault)
        return self._inbox.obstacle or self._deafness()

    def _deafness(self) -> str | None:
        """Why no report of a job arrives here, where none has for a while."""
        if self._deaf_since is None or time.monotonic() - self._deaf_since < STALLED_AFTER:
            return None
        why = self._link.fault or "the broker has not been reached"
        return f"job reports have not been consumed for {time.monotonic() - self._deaf_since:.0f} s: {why}"

    # --- processes and loops ----------------------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """Serve the client, which has got other connections."""
        JobService.__init__(self, self._client, self.store)

    def keep(self) -> None:
        """Keep what is the parent's, in a forked child."""
        forks.keep_alive(vars(self).copy())

    def drop(self) -> None:
        """Its event loop was closed: leave its connections."""
        self._link.drop()
        self.store.begin_anew()

    # --- what callers do --------------------------------------------------------------------------------------------

    async def submit(self, task: str, data: Any = None, **terms: Any) -> JobHandle:
        """Record a job and publish it: see `Client.submit`."""
        check_names("submit", terms, SUBMIT_ARGUMENTS)
        return await self.submit_order(order(task, data, max_message=self._client.max_message, **terms))

    async def submit_order(self, candidate: Candidate) -> JobHandle:
        """As `submit`, for what `crew.jobs.specification` has made."""
        await self.ready()
        admitted = await self._submissions.submit(candidate)
        return JobHandle(self, admitted.job.id, is_new=admitted.is_new)

    async def get(self, id: str, *, with_bodies: bool = True) -> Job:
        """The record of a job."""
        await self.ready()
        return await self.store.get(check_id(id), with_bodies=with_bodies)

    async def get_with_request(self, id: str) -> Job:
        """The record of a job, without its result, and with what a URL job asks for."""
        await self.ready()
        return await self.store.get_with_request(check_id(id))

    async def page(self, query: JobQuery) -> Page:
        """A page of jobs, the newest first; raises ValueError where cursor or limit cannot be one."""
        await self.ready()
        return await self.store.page(query)

    async def usage(self) -> list[Usage]:
        """How many jobs are queued and running, by the token and the host."""
        await self.ready()
        return await self.store.usage()

    async def wait(self, id: str, timeout: float | str | None = None) -> Job:
        """The record of a job when it has ended, or as it is when `timeout` is over, or the process leaves.

        It has the result of the job, and not its payload.
        """
        return await self.wait_for_change(id, None, timeout, until_leaving=True)

    async def wait_for_change(
        self,
        id: str,
        version: int | None,
        timeout: float | str | None = None,
        *,
        with_result: bool = True,
        until_leaving: bool = False,
    ) -> Job:
        """The record of a job, without its payload, when it has ended, has a newer version, or `timeout` is over.

        Args:
            id: of the job.
            version: that is known; None: only the end counts.
            timeout: seconds, or text like "15m"; None: as long as it takes.
            with_result: whether the record comes with its result.
            until_leaving: whether the wait also ends when this process is about to end.
        """
        await self.ready()
        id = check_id(id)
        wait = None if timeout is None else deadline.parse_duration("wait", timeout, may_be_zero=True)
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

    async def result(self, id: str, wait: float | str | None = None) -> Any:
        """What a job came to: see `JobHandle.result`."""
        job = await self.wait_for_change(id, None, wait)
        if job.status.is_final:
            return await self.value_of(job)
        if self.is_closed:
            raise errors.ConnectionError("the client was closed", missing="client")
        raise errors.TimeoutError(f"job {job.id} has not ended in time, and goes on", task=job.task, id=job.id)

    async def value_of(self, job: Job) -> Any:
        """What a job that has ended came to: see `JobHandle.result`."""
        is_large = job.result is not None and codec.is_large(job.result)
        return await off_loop.run(result_of, job, self.decode, is_large=is_large)

    async def cancel(self, id: str) -> bool:
        """Give a job up; False where it had ended."""
        await self.ready()
        given_up = report.canceled(check_id(id), at=time.time(), message="somebody cancelled the job")
        (settled,) = await self.store.settle([given_up])
        if settled.job is None:
            raise errors.UnknownJob(f"there is no job {id}")
        self._after([settled])
        return not settled.is_late

    async def delete_result(self, id: str) -> bool:
        """Delete what came of a job; False where there was nothing."""
        await self.ready()
        return await self.store.delete_result(check_id(id))

    async def discard_response(self, id: str) -> None:
        """Delete what came of a job that has ended; nothing where it was cancelled: it has no response."""
        job = await self.get(id, with_bodies=False)
        if job.status.is_final and job.status is not JobStatus.CANCELED:
            await self.store.delete_result(job.id)

    async def retry(self, id: str) -> JobHandle:
        """Submit a job that has ended once more, as a new one; where one with its unique key is active, that is meant.

        Raises ValueError where it has not ended.
        """
        job = await self.get(id)
        if not job.status.is_final:
            raise ValueError(f"job {job.id} is {job.status.value}: only one that has ended can be tried again")
        return await self.submit_order(again(job))

    # --- settle -----------------------------------------------------------------------------------------------------

    async def _settle(self, reports: Sequence[Report]) -> None:
        self._after(await self.store.settle(reports))

    def _on_settled(self, settled: Sequence[Settled]) -> None:
        """Workers have said this, and it is committed."""
        for one in settled:
            if one.report.status is JobStatus.STARTED and (one.job is None or one.job.status.is_final):
                self._notifier.stop(one.report)
        self._after(settled)

    def _after(self, settled: Sequence[Settled]) -> None:
        """These records are committed: who waits for them is woken, and who runs what was given up is told."""
        changed = [one.job for one in settled if one.job is not None and not one.is_late]
        for job in changed:
            if job.is_given_up:
                self._notifier.cancel(job)
        late = [one for one in settled if one.is_late and one.report.status is not JobStatus.STARTED]
        if late:
            logger.debug("%d late or repeated reports of jobs are dropped", len(late))
        self._wake([job.id for job in changed], [job.id for job in changed if job.status.is_final])

    def _wake(self, changed: Sequence[str], ended: Sequence[str]) -> None:
        """Wake the waiters for these jobs, here and at other gateways; `ended` are some of `changed`."""
        if changed:
            self._waiters.wake(changed, ended)
            self._do(self._publish({"from": self._client.id, "changed": changed, "ended": ended}))

    async def _publish(self, told: dict[str, Any]) -> None:
        await self._client.publish(self.store.queue, told)

    def _on_replaced(self, replaced: Sequence[Job]) -> None:
        for job in replaced:
            self._notifier.cancel(job)
        ids = [job.id for job in replaced]
        self._wake(ids, ids)  # the records are those of before: by now all of them are canceled

    def _on_told(self, event: Event) -> None:
        """Another gateway has committed something."""
        match event.payload:
            case {"from": self._client.id}:
                return
            case {"changed": [*changed], "ended": [*ended]}:
                self._waiters.wake(map(str, changed), list(map(str, ended)))
            case {"changed": [*changed]}:  # a gateway of an older crew does not say which have ended
                self._waiters.wake(map(str, changed), list(map(str, changed)))

    def _on_briefing(self, briefing: Briefing) -> None:
        """A worker has come."""
        self._do(self._notifier.brief(briefing, lambda tasks: self._publisher.hasten(tasks, self._caretaker.hurry)))

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _on_listening(self) -> None:
        self._listening_since = time.monotonic()
        self._deaf_since = None
        self._publisher.can_hear()
        self._caretaker.hurry()

    def _on_deaf(self) -> None:
        self._listening_since = None
        self._deaf_since = time.monotonic()
        self._inbox.on_lost()

    def _has_listened(self) -> float:
        return 0.0 if self._listening_since is None else time.monotonic() - self._listening_since

    def _do(self, step: Any) -> "asyncio.Task[None]":
        """In the background: what does not come about is made up for by a look now and then."""
        task = asyncio.get_running_loop().create_task(_quietly(step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class JobStore(Store):
    """Where jobs are recorded.

    Several processes may use one: of one host with SQLite, of several with PostgreSQL. It may be made before any loop
    runs; the first use opens it.

    Args:
        url: sqlite:///path or postgresql://user:password@host/name; default `CREW_DATABASE`, else the file
            .crew/jobs.db below the current folder.
        max_result: bytes that a result may have as it travels (compressed where that makes it smaller); the job of a
            larger one ends as `error`. Default 16 MiB.

    Raises:
        SettingsError: the URL cannot be used, or its driver is not installed.

    What its methods raise:
        ConnectionError: the database is away.
        SettingsError: it is none, or a newer crew has made its tables.
    """

    def service(self, client: JobsClient) -> JobService:
        """What runs its jobs with `client`."""
        return JobService(client, self)


async def _quietly(step: Any) -> None:
    try:
        await step
    except errors.CrewError as error:
        logger.debug("jobs: %s", error)
    except Exception:
        logger.exception("a step for jobs failed in the background")
