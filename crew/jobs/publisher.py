"""Publishes jobs: waits for the broker's confirm, then marks the record as enqueued.

The record of a job whose publish was not confirmed keeps the instant from which on any gateway publishes it again.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec

from crew.amqp import Confirm, ConfirmStatus, Link
from crew.amqp.outbox.outbox import Outbox
from crew.amqp.outbox.outgoing import AwaitedMessage
from crew.amqp.outbox.policy import JOBS
from crew.errors import ConnectionError, CrewError, MessageRefused, Overloaded, TooLarge, UnknownTask
from crew.jobs.job import Job
from crew.jobs.store.store import Store
from crew.jobs.tuning import DEFAULT, JobTuning
from crew.protocol import properties, topology
from crew.protocol.message import Call

RETRY_UNKNOWN: Final = 5.0  # seconds until a job without a worker is published again; sooner when one starts
MARKED_WITHIN: Final = 1.0  # seconds for the last marks when the gateway stops
MARK_AGAIN_AFTER: Final = 0.5  # seconds until a mark is retried, while the store is unavailable

T = TypeVar("T")


class _OutgoingJob(AwaitedMessage, kw_only=True):
    """The call message of a job, on its way to the queue of its task."""

    call: Call
    link: Link

    def publish(self) -> Confirm:
        return self.link.publish(
            topology.DEFAULT_EXCHANGE,
            topology.task_queue_name(self.call.task),
            properties.of_call(self.call, now=time.time(), clock=self.link.clock_offset),
            self.call.body.data,
            mandatory=True,
        )


class Publisher:
    """Publishes the jobs of `store` over `link`.

    Nothing is published before `on_queue_declared` was called: the reports of workers need the queue of the store.

    Args:
        tuning: durations.
    """

    def __init__(self, link: Link, store: Store, *, tuning: JobTuning = DEFAULT) -> None:
        self._tuning = tuning
        self._link = link
        self._store = store
        self._outbox = Outbox(link, msgspec.structs.replace(JOBS, kept_for=tuning.publish_patience))
        self._has_queue = asyncio.Event()
        self._marks: set[asyncio.Task[None]] = set()
        self._in_background: set[asyncio.Task[Any]] = set()  # each waits for a confirm, also after its caller has left
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<Publisher: {len(self._marks)} not marked yet>"

    @property
    def can_publish(self) -> bool:
        """Whether the broker takes messages now."""
        return self._has_queue.is_set() and self._link.is_ready and not self._link.is_blocked

    def on_queue_declared(self) -> None:
        """The broker has the queue for the reports of this store. The queue is durable, so once is enough."""
        self._has_queue.set()

    async def publish(self, job: Job) -> bool:
        """Publish `job`; False if it stays in the store, to be published later.

        Raises:
            UnknownTask: no worker has ever served its task, and the job does not wait for one.
            Overloaded: the queue of its task is full.
            TooLarge: the broker takes no message of that size.
            MessageRefused: the broker does not accept the message for another reason.
        """
        if self._link.is_blocked or not await self._is_there():
            await self._store.postpone(job.id, time.time())  # not published: any gateway may do it at once
            return False
        publishing = self._start(self._publish(job))
        await asyncio.wait([publishing], timeout=self._tuning.confirm_patience)
        if publishing.cancelled():  # by `drain`; the caller itself was not canceled
            return False
        if publishing.done():
            return await publishing
        self._start(self._extend_lease(job, publishing))
        return False

    async def publish_waiting(self, tasks: Sequence[str], wake: Callable[[], None]) -> None:
        """Publish the jobs of `tasks` that wait for a worker: one has started."""
        now = time.time()
        # A job that a gateway publishes right now has a longer lease, unless half of its lease is over.
        if await self._store.make_due(tasks, now, before=now + RETRY_UNKNOWN):
            wake()

    async def drain(self) -> None:
        """Stop publishing, and wait up to `MARKED_WITHIN` for marks: an unmarked job is published again."""
        self._is_closing = True
        for task in self._in_background:
            task.cancel()
        self._outbox.close()
        if self._marks:
            await asyncio.wait(self._marks, timeout=MARKED_WITHIN)

    async def _is_there(self) -> bool:
        """Whether the broker is connected now, or reconnects in time."""
        try:
            async with asyncio.timeout(self._tuning.publish_patience):
                await self._has_queue.wait()
                await self._link.ready()
        except (ConnectionError, TimeoutError):
            return False
        return True

    async def _publish(self, job: Job) -> bool:
        published = time.time()  # now: a worker may start the job before the confirm arrives
        confirm = await self._confirmed(job)
        match confirm and confirm.status:
            case ConfirmStatus.CONFIRMED:
                self._mark(job, published)
                return True
            case ConfirmStatus.RETURNED if job.wait_for_worker:
                await self._store.postpone(job.id, time.time() + RETRY_UNKNOWN)
            case ConfirmStatus.RETURNED:
                raise UnknownTask(f"no worker has ever served task {job.task!r}", task=job.task, id=job.id)
            case ConfirmStatus.REFUSED:
                raise Overloaded(f"the queue of task {job.task!r} is full", task=job.task, id=job.id)
            case ConfirmStatus.TOO_LARGE:
                raise TooLarge(
                    f"job {job.id} of task {job.task!r} is larger than the broker's max_message_size: raise the limit, "
                    "or submit a smaller payload"
                )
            case ConfirmStatus.INVALID if confirm is not None:
                why = f"the broker does not accept job {job.id} of task {job.task!r}: {confirm.reason}"
                raise MessageRefused(why, task=job.task, id=job.id)
        return False

    async def _extend_lease(self, job: Job, publishing: "asyncio.Task[bool]") -> None:
        """Keep other gateways from publishing `job` while its confirm is late: the broker may have it."""
        while not publishing.done():
            with contextlib.suppress(CrewError):
                await self._store.postpone(job.id, time.time() + self._tuning.lease)
            await asyncio.wait([publishing], timeout=self._tuning.lease / 2)

    def _start(self, step: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run `step` in the background: it goes on when its caller is canceled."""
        task = asyncio.get_running_loop().create_task(step)
        self._in_background.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: "asyncio.Task[Any]") -> None:
        self._in_background.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the caller has it, or the next attempt fails alike

    async def _confirmed(self, job: Job) -> Confirm | None:
        """Publish until the broker confirms or refuses; None if it is away. LOST if it may have the job."""
        message = _OutgoingJob(id=job.id, call=job.call(self._store.queue), link=self._link)
        self._outbox.send(message)
        try:
            return await self._outbox.settled(message)
        except ConnectionError:
            return None

    def _mark(self, job: Job, published: float) -> None:
        """Mark the job as enqueued, in the background: without its mark it is published twice, but never lost."""
        marking = asyncio.get_running_loop().create_task(self._mark_with_retries(job, published))
        self._marks.add(marking)
        marking.add_done_callback(self._marks.discard)

    async def _mark_with_retries(self, job: Job, published: float) -> None:
        """Retry while the store is unavailable, until the lease is over."""
        while True:
            try:
                return await self._store.mark_enqueued(job.id, published)
            except CrewError:
                if self._is_closing or time.time() > published + self._tuning.lease:
                    return None
            await asyncio.sleep(MARK_AGAIN_AFTER)
