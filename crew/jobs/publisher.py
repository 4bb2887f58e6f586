"""Jobs on their way from the store to the broker: published, confirmed, and only then marked as enqueued.

A job whose publish was not confirmed stays in the store with the instant from which on it may be published again, by
whichever gateway sees it then.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from crew.amqp import Confirm, ConfirmStatus, Link
from crew.errors import ConnectionError, CrewError, MessageRefused, Overloaded, TooLarge, UnknownTask
from crew.jobs.job import Job
from crew.jobs.store.store import Store
from crew.protocol import properties, topology

LEASE: Final = 10.0  # seconds that one gateway has to publish a job before another may
RETRY_UNKNOWN: Final = 5.0  # seconds until a job without a worker is tried again; workers that start are heard of, too
PATIENCE: Final = 2.0  # seconds that a submit waits for a broker that is away; then it is recorded, and that is enough
AGAIN_AFTER: Final = 0.1  # seconds: a quorum queue refuses until it has elected its leader
ELECTION: Final = 5.0  # seconds that this may take
CONFIRMED_WITHIN: Final = 6.0  # seconds that a submit waits for the broker: longer than an election, within its lease
MARKED_WITHIN: Final = 1.0  # seconds at the end
MARK_AGAIN_AFTER: Final = 0.5  # seconds until a store that is away is tried again

T = TypeVar("T")


class Publisher:
    """Publishes the jobs of `store` over `link`.

    Nothing is published before `can_hear` was called: what workers say of a job has no place to go as long as the
    queue of the store was never declared.
    """

    def __init__(self, link: Link, store: Store) -> None:
        self._link = link
        self._store = store
        self._hears = asyncio.Event()
        self._marks: set[asyncio.Task[None]] = set()
        self._going_on: set[asyncio.Task[Any]] = set()  # what waits for the broker's word, whoever waits for that
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<Publisher: {len(self._marks)} not marked yet>"

    @property
    def can_publish(self) -> bool:
        """Whether the broker is there."""
        return self._hears.is_set() and self._link.is_ready and not self._link.is_blocked

    def can_hear(self) -> None:
        """The broker has the queue of the store, which is durable."""
        self._hears.set()

    async def publish(self, job: Job) -> bool:
        """Publish `job`; False where it stays in the store, to be published later.

        Raises:
            UnknownTask: no worker has ever served its task, and it is not to wait for one.
            Overloaded: the queue of its task is full.
            TooLarge: the broker takes no message of that size.
            MessageRefused: the broker does not accept the message for another reason.
        """
        if self._link.is_blocked or not await self._is_there():
            await self._store.postpone(job.id, time.time())  # nobody has it: it need not wait until its lease is over
            return False
        publishing = self._go_on(self._publish(job))
        await asyncio.wait([publishing], timeout=CONFIRMED_WITHIN)
        if publishing.cancelled():  # by `drain`, and nobody has cancelled who waits here
            return False
        if publishing.done():
            return await publishing
        self._go_on(self._keep(job, publishing))
        return False

    async def hasten(self, tasks: Sequence[str], hurry: Callable[[], None]) -> None:
        """Jobs of `tasks` that wait for a worker need not wait any longer: there is one."""
        now = time.time()
        # What somebody publishes at this moment has a longer lease, unless he has been at it for as long as half of it.
        if await self._store.hasten(tasks, now, before=now + RETRY_UNKNOWN):
            hurry()

    async def drain(self) -> None:
        """Publish no more, and wait until what the broker has is marked, for a moment: else it is published again."""
        self._is_closing = True
        for task in self._going_on:
            task.cancel()
        if self._marks:
            await asyncio.wait(self._marks, timeout=MARKED_WITHIN)

    async def _is_there(self) -> bool:
        """Whether the broker is there now, or comes back before patience is over."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._hears.wait()
                await self._link.ready()
        except (ConnectionError, TimeoutError):
            return False
        return True

    async def _publish(self, job: Job) -> bool:
        published = time.time()  # a worker may begin before the broker's word is here
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
                raise TooLarge(f"job {job.id} of task {job.task!r} is larger than what the broker takes in one message")
            case ConfirmStatus.INVALID if confirm is not None:
                why = f"the broker does not accept job {job.id} of task {job.task!r}: {confirm.reason}"
                raise MessageRefused(why, task=job.task, id=job.id)
        return False

    async def _keep(self, job: Job, publishing: "asyncio.Task[bool]") -> None:
        """Keep others from publishing it, as the broker may have it: its word is late, as it is blocked or frozen."""
        while not publishing.done():
            with contextlib.suppress(CrewError):
                await self._store.postpone(job.id, time.time() + LEASE)
            await asyncio.wait([publishing], timeout=LEASE / 2)

    def _go_on(self, step: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """In the background: who waits for it may leave."""
        task = asyncio.get_running_loop().create_task(step)
        self._going_on.add(task)
        task.add_done_callback(self._on_gone)
        return task

    def _on_gone(self, task: "asyncio.Task[Any]") -> None:
        self._going_on.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it; if nobody does, the next attempt has it, too

    async def _confirmed(self, job: Job) -> Confirm | None:
        """The broker's word, or None where it goes away meanwhile: it may have the job."""
        until = time.monotonic() + ELECTION
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._link.ready()
                confirm = self._send(job)
                status = await confirm
            except (ConnectionError, TimeoutError):
                return None
            if status is not ConfirmStatus.REFUSED or not self._link.is_replicated or time.monotonic() > until:
                return confirm
            self._link.change_channel()
            await asyncio.sleep(AGAIN_AFTER)

    def _send(self, job: Job) -> Confirm:
        call = job.call(self._store.queue)
        return self._link.publish(
            topology.DEFAULT_EXCHANGE,
            topology.task_queue_name(job.task),
            properties.of_call(call, now=time.time(), clock=self._link.clock_offset),
            call.body.data,
            mandatory=True,
        )

    def _mark(self, job: Job, published: float) -> None:
        """In the background: a job that is published twice because nobody could mark it is none that is lost."""
        marking = asyncio.get_running_loop().create_task(self._mark_in_time(job, published))
        self._marks.add(marking)
        marking.add_done_callback(self._marks.discard)

    async def _mark_in_time(self, job: Job, published: float) -> None:
        """Where the store is away, when it is back, unless the lease is over by then."""
        while True:
            try:
                return await self._store.mark_enqueued(job.id, published)
            except CrewError:
                if self._is_closing or time.time() > published + LEASE:
                    return None
            await asyncio.sleep(MARK_AGAIN_AFTER)
