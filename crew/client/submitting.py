"""`Client.submit`: a call that outlives the request. What makes jobs of calls is `crew.jobs`, which stands above."""

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from crew.errors import SettingsError
from crew.protocol.message import Headers

if TYPE_CHECKING:  # for its users' types alone: it is not imported, and a worker needs no job store
    from crew.jobs import JobHandle, JobService


class Terms(TypedDict, total=False):
    """What `Client.submit` may be told of a job; the meaning stands there."""

    priority: int
    timeout: float | str | None
    expiration: float | str | None
    result_ttl: float | str
    failure_ttl: float | str
    unique: str | None
    key: str | None
    id: str | None
    idempotency_key: str | None
    serializer: str | None
    headers: Headers | None
    wait_for_worker: bool


class Submitting:
    """The part of a client that submits jobs."""

    _jobs: "JobService | None" = None

    @property
    def has_jobs(self) -> bool:
        """Whether it has a job store."""
        return self._jobs is not None

    @property
    def jobs(self) -> "JobService":
        """What runs its jobs; raises SettingsError where it has no job store."""
        if self._jobs is None:
            raise SettingsError("this client has no job store: make it as Client(store=crew.jobs.JobStore())")
        return self._jobs

    async def submit(self, task: str, data: Any = None, **terms: Unpack[Terms]) -> "JobHandle":
        """Submit a job: a call that is recorded, and goes on when nobody waits for it. Returns once it is accepted.

        It is accepted when its record is committed and the broker has it; where the broker is away, when it is
        committed: then it is published later. Who is cancelled while he awaits it may have submitted it all the same.
        Durations are seconds, or text like "90", "15m", "2h", "1d".

        Args:
            task: name of the task.
            data: payload for it.
            priority: 0-255, larger first; default 0.
            timeout: that an execution may run; default 10 minutes. Above 25 minutes it is run at most once from its
                start on.
            expiration: that it may wait for its first worker; default: as long as it takes.
            result_ttl: that it is kept after a success; default a day.
            failure_ttl: that it is kept after any other end; default 7 days.
            unique: "skip": where a job with the same key is queued or runs, its handle is returned; "replace": that one
                is cancelled. Default: none of this.
            key: of `unique`; default: a hash of task and data.
            id: a uuid; default: a new one.
            idempotency_key: who submits the same once more with it gets the same job, also when that has ended.
            serializer, headers: as for `call`.
            wait_for_worker: accept it even where no worker has ever served the task; default False.

        Raises:
            TypeError: there is no such argument.
            ValueError: an argument is out of its range.
            SerializationError, TooLarge: as `call` does.
            UnknownTask: no worker has ever served the task.
            Overloaded: the queue of the task is full.
            DuplicateTaskId: there is a job with this id.
            KeyReused: the idempotency key was used for something else.
            SettingsError: the client has no job store, or it cannot be used.
            ConnectionError: the job store is away, or the client was closed.
        """
        self.open()
        return await self.jobs.submit(task, data, **terms)

    def open(self) -> None:
        """Begin to connect."""
        raise NotImplementedError
