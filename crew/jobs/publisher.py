"""Jobs on their way from the store to the broker: published, confirmed, and only then marked as enqueued.

A job whose publish was not confirmed stays in the store with the instant from which on it may be published again, by
whichever gateway sees it then.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from crew.amqp import ConfirmStatus, Link
from crew.errors import ConnectionError, Overloaded, TooLarge, UnknownTask
from crew.jobs.job import Job
from crew.jobs.store import JobStore
from crew.protocol import properties, topology

LEASE: Final = 10.0  # seconds that one gateway has to publish a job before another may
RETRY_UNKNOWN: Final = 5.0  # seconds until a job without a worker is tried again; workers that start are heard of, too
PATIENCE: Final = 2.0  # seconds that a submit waits for a broker that is away; then it is recorded, and that is enough
AGAIN_AFTER: Final = 0.1  # seconds: a quorum queue refuses until it has elected its leader
ELECTION: Final = 5.0  # seconds that this may take


class Publisher:
    """Publishes the jobs of `store` over `link`.

    Nothing is published before `can_hear` was called: what workers say of a job has no place to go as long as the
    queue of the store was never declared.
    """

    def __init__(self, link: Link, store: JobStore) -> None:
        self._link = link
        self._store = store
        self._hears = asyncio.Event()
        self._marks: set[asyncio.Task[None]] = set()

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
        """
        if not await self._is_there():
            await self._store.postpone(job.id, time.time())  # nobody has it: it need not wait until its lease is over
            return False
        published = time.time()  # a worker may begin before the broker's word is here
        match await self._confirmed(job):
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
        return False

    async def hasten(self, tasks: Sequence[str], hurry: Callable[[], None]) -> None:
        """Jobs of `tasks` that wait for a worker need not wait any longer: there is one."""
        now = time.time()
        # What somebody publishes at this moment has a longer lease, unless he has been at it for as long as half of it.
        if await self._store.hasten(tasks, now, before=now + RETRY_UNKNOWN):
            hurry()

    async def drain(self) -> None:
        """Wait until what the broker has is marked."""
        while self._marks:
            await asyncio.wait(self._marks)

    async def _is_there(self) -> bool:
        """Whether the broker is there now, or comes back before patience is over."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._hears.wait()
                await self._link.ready()
        except (ConnectionError, TimeoutError):
            return False
        return True

    async def _confirmed(self, job: Job) -> ConfirmStatus | None:
        """The broker's word, or None where it goes away meanwhile: it may have the job."""
        until = time.monotonic() + ELECTION
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._link.ready()
                status = await self._publish(job)
            except (ConnectionError, TimeoutError):
                return None
            if status is not ConfirmStatus.REFUSED or not self._link.is_replicated or time.monotonic() > until:
                return status
            self._link.change_channel()
            await asyncio.sleep(AGAIN_AFTER)

    async def _publish(self, job: Job) -> ConfirmStatus:
        call = job.call(self._store.queue)
        return await self._link.publish(
            topology.DEFAULT_EXCHANGE,
            topology.task_queue_name(job.task),
            properties.of_call(call, now=time.time()),
            call.body.data,
            mandatory=True,
        )

    def _mark(self, job: Job, published: float) -> None:
        """In the background: a job that is published twice because nobody could mark it is none that is lost."""
        marking = asyncio.get_running_loop().create_task(self._store.mark_enqueued(job.id, published))
        self._marks.add(marking)
        marking.add_done_callback(self._on_marked)

    def _on_marked(self, marking: "asyncio.Task[None]") -> None:
        self._marks.discard(marking)
        if not marking.cancelled():
            marking.exception()  # the store is away: it is published again when its lease is over
