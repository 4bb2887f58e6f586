"""The client for asyncio and Tornado: calls tasks, submits jobs, publishes and subscribes."""

import asyncio
import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, Unpack, overload

from crew import errors, forks
from crew import settings as settings_module
from crew.client import loops
from crew.client.calling.call import OnResult, PendingCall, current_scope
from crew.client.calling.caller import Caller
from crew.client.calling.parallel import Parallel
from crew.client.calling.pending import MAX_BYTES, check_limit
from crew.client.closing import run_all
from crew.client.events.pubsub import PubSub
from crew.client.events.subscription import OnEvent, Subscription, Subscriptions
from crew.client.job_store import default_store, store_of
from crew.client.links import Links, has_running_loop
from crew.client.options import SubmitOptions, TaskOptions
from crew.client.started import Connecting, PendingEvent
from crew.client.task_ref import TaskRef
from crew.duration import Duration, parse_duration, wait_time
from crew.protocol import deadline, topology, user_headers
from crew.protocol.arguments import UNSET, renamed
from crew.protocol.encoding import codec
from crew.protocol.message import Event, Headers, new_id
from crew.settings import Tuning

if TYPE_CHECKING:  # types only: a worker needs no job store
    from crew.jobs.handle import JobHandle
    from crew.jobs.service import JobService, JobStore

P = ParamSpec("P")
R = TypeVar("R")

MAX_PENDING: Final = 10_000  # calls
PUBLISH_TIMEOUT: Final = 10.0  # seconds
DRAIN_TIMEOUT: Final = 30.0  # seconds
DRAIN_POLL: Final = 0.01  # seconds
PUBLISH_WITHIN: Final = 2.0  # seconds that `close` waits for events that are being published
CLOSED: Final = "the client was closed"
NO_LOOP: Final = "there is no running event loop; in a script or a thread, use crew.client.blocking.Client"
OTHER_LOOP: Final = (
    "belongs to another event loop, which is still open; make one client for each loop, or use "
    "crew.client.blocking.Client, which threads may share"
)
LOOP_CLOSED: Final = "has no result: its event loop was closed before the reply came"
DRAINING: Final = "the client is draining: it makes no new calls"
NAME_BYTES: Final = 100  # the name begins the names of queues, which have at most 255


class Client:
    """Calls tasks by name, submits jobs, publishes and subscribes.

    One client serves a whole process. `async with Client() as client` connects and closes. You can make a client, and
    call its `connect` and `subscribe`, before an event loop runs; the first call connects.

    A client belongs to the event loop on which it connects first. When that loop has been closed, the client starts
    again on the next loop; calls in flight fail. In a forked child it starts again with an id and connections of its
    own; calls in flight remain the parent's. The subscriptions are kept in both cases.

    Args:
        url: AMQP URL, or several with commas between them. Default: see `crew.settings.load`.
        name: shown in the broker's lists; begins the client's id; need not be unique. Default: host and process id.
        max_pending: calls that may be in flight; one more raises Overloaded. Default 10,000.
        max_pending_bytes: encoded payloads of the calls that the broker has not confirmed yet; the client keeps them
            until then. One more raises Overloaded. Default 256 MiB.
        fail_fast: whether `call` and `publish` raise ConnectionError at once while the broker is unavailable; default:
            they wait for the broker within their own time.
        queue_type: "classic", or "quorum" for queues that a cluster replicates; the workers need the same. Default:
            `CREW_QUEUE_TYPE`, else classic.
        signing_key: signs each message; messages that are not signed are refused. All clients and workers need the
            same. 32 characters or more, or several keys with commas between them: the first signs, each is accepted.
            Default: `CREW_SIGNING_KEY`, else messages are neither signed nor checked.
        store: in which its jobs are recorded: a `crew.jobs.JobStore`, or its URL, like "sqlite:///jobs.db". Default:
            the first use of jobs opens the store that `CREW_DATABASE` names; without it, the client has no jobs.
        tuning: durations and sizes inside the connections, for tests. Default: those of `crew.settings.Tuning`.

    Raises:
        SettingsError: the URL, the queue type or the signing key cannot be used.
        ValueError: `name`, `max_pending`, `max_pending_bytes` or `store` is out of its range.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        name: str | None = None,
        max_pending: int = MAX_PENDING,
        max_pending_bytes: int = MAX_BYTES,
        fail_fast: bool = False,
        queue_type: str | None = None,
        signing_key: str | None = None,
        store: "JobStore | str | None" = None,
        tuning: Tuning | None = None,
    ) -> None:
        self.settings = settings = settings_module.load(
            url, queue_type=queue_type, signing_key=signing_key, tuning=tuning
        )
        self.max_message = settings.max_message
        self.compresses = settings.compresses
        self._given_name = name
        self._fail_fast = fail_fast
        self._limit = check_limit("max_pending", max_pending)
        self._max_bytes = check_limit("max_pending_bytes", max_pending_bytes)
        self._decode = codec.decoder_of(settings)
        self._subscriptions = Subscriptions(self._decode)
        self._is_closed = False
        self._is_draining = False
        self._jobs: JobService | None = None
        self._reset()
        if store:
            self.keep_jobs_in(store)
        forks.register(self)

    def _reset(self) -> None:
        """Make an id, connections and calls for this process and event loop."""
        self.name, self.id = _identity(self._given_name)
        self._loop: asyncio.AbstractEventLoop | None = None  # to which the client belongs
        self._links = Links(
            self.settings, self.name, on_ready=self._on_ready, on_refused=lambda fault: self._calls.settle_all(fault)
        )
        links = {"publishing": self._links.publishing, "consuming": self._links.consuming}
        self._caller = Caller(
            self.id,
            self._limit,
            **links,
            max_message=self.max_message,
            compresses=self.compresses,
            max_bytes=self._max_bytes,
            decode=self._decode,
        )
        self._calls = self._caller.calls
        self._pubsub = PubSub(
            self.id,
            **links,
            decode=self._decode,
            subscriptions=self._subscriptions,
            max_message=self.max_message,
        )
        self._links.consuming.remember(self._caller.consumer, self._caller.queue, self._caller.binding)
        if self._jobs is not None:
            self._jobs.reset()

    def __repr__(self) -> str:
        return f"<Client {self.id}: {self._links.publishing.state.value}, {len(self._calls)} calls in flight>"

    async def __aenter__(self) -> "Client":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def links(self) -> Links:
        """The connections; for code that builds on the client."""
        return self._links

    @property
    def decode(self) -> codec.Decode:
        """Decodes bodies within the limits of the settings; for code that builds on the client."""
        return self._decode

    @property
    def is_ready(self) -> bool:
        """Whether a call would be sent at once."""
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """Why a call would not be sent at once, in one sentence; None if it would."""
        if self._is_closed or self._is_draining:
            return DRAINING if self._is_draining else CLOSED
        return self._calls.obstacle

    def keep_jobs_in(self, store: "JobStore | str") -> None:
        """Record the jobs of this client in `store`, as `Client(store=...)` does; call it before it connects."""
        if self._jobs is None:
            self._jobs = store_of(store).service(self)

    # --- start and stop ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start to connect, and return at once.

        Raises:
            ConnectionError: the client was closed.
            RuntimeError: no event loop runs here, or another one than the client's.
        """
        self._join_loop()
        if self._is_closed:
            raise errors.ConnectionError(CLOSED, missing="client")
        self._links.open()
        self._pubsub.open()
        if self._jobs is not None:
            self._jobs.open()

    def open_later(self) -> None:
        """Connect as soon as an event loop runs in this thread, or with the first call."""
        loops.call_when_loop_runs(self._open_unless_closed)

    def connect(self, timeout: Duration | None = None) -> Connecting:
        """Start to connect, and return at once; await the result to wait until the broker is reached.

        The client tries until it is connected, whether or not the result is awaited. Before an event loop runs, it
        starts as soon as one does, or with the first call.

        Args:
            timeout: how long awaiting takes at most: seconds, or text like "10s". Default: no limit.

        Raises:
            ConnectionError: the client was closed.

        What awaiting it raises:
            ConnectionError: the broker refuses the login, the timeout is over, or the client was closed.
        """
        seconds = wait_time(timeout)
        if has_running_loop():
            self.open()
        else:
            self.open_later()
        return Connecting(functools.partial(self._reach, seconds))

    async def _reach(self, timeout: float | None) -> None:
        self.open()
        await self._links.ready(timeout)

    def _open_unless_closed(self) -> None:
        if not self._is_closed:
            self.open()

    async def drain(self, timeout: Duration = DRAIN_TIMEOUT) -> None:
        """Make no new calls, wait for those in flight, then close. Until then subscriptions and `publish` work.

        Args:
            timeout: how long to wait for calls in flight: seconds, or text like "1m". The rest ends as with `close`.
        """
        until = time.monotonic() + parse_duration("timeout", timeout)
        self._is_draining = True
        while len(self._calls) and time.monotonic() < until:
            await asyncio.sleep(DRAIN_POLL)
        await self.close()

    async def close(self) -> None:
        """Close the connections and delete this client's queues; calls in flight get ConnectionError. Idempotent.

        Events that are being published get 2 seconds before. Each step is done even if one before has failed; then the
        first error is raised.
        """
        if self._is_closed:
            return
        self._join_loop()
        self._is_closed = True
        jobs = () if self._jobs is None else (self._jobs.close,)
        await run_all(
            *jobs, self._calls.close, self._publish_rest, self._delete_queues, self._links.close, self._end_events
        )

    async def _publish_rest(self) -> None:
        if self._links.publishing.is_ready:
            await self._pubsub.sent(PUBLISH_WITHIN)

    async def _end_events(self) -> None:
        """Wait until the events that were not published have failed: their connections are closed."""
        await self._pubsub.sent(PUBLISH_WITHIN)

    async def _delete_queues(self) -> None:
        """Delete the queues of this client; if that takes too long, the broker expires them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.tuning.delete_timeout):
                await self._pubsub.close()
                if self._links.consuming.is_ready:
                    await self._links.consuming.delete_queue(self._caller.queue)

    # --- processes and loops ----------------------------------------------------------------------------------------

    def _join_loop(self) -> None:
        """Belong to the event loop that runs here; if the former loop was closed, start again on this one."""
        loop = asyncio._get_running_loop()  # it raises nothing; asyncio uses it itself
        if loop is self._loop and loop is not None:
            return
        if loop is None:
            raise RuntimeError(NO_LOOP)
        if self._loop is not None:
            if not self._loop.is_closed():
                raise RuntimeError(f"{self!r} {OTHER_LOOP}")
            self._links.drop()
            if self._jobs is not None:
                self._jobs.drop()
            self._calls.log_unawaited("the event loop of the client was closed")
            self._calls.detach(LOOP_CLOSED)
            if not self._is_closed:
                self._reset()
        self._loop = loop

    def on_forked(self) -> None:
        """Start again in a forked child, with an id of its own; calls in flight remain the parent's."""
        forks.keep_alive(self._links, self._caller, self._pubsub, self._pubsub.tasks)
        if self._jobs is not None:
            self._jobs.keep()
        self._calls.detach(f"was made by the parent process {os.getppid()}, which gets the result; call again here")
        if not self._is_closed:
            self._is_draining = False
            self._reset()

    def _fails_fast(self, given: bool | None) -> bool:
        return self._fail_fast if given is None else bool(given)

    def _on_ready(self) -> None:
        self._calls.send_waiting()
        self._pubsub.on_ready()
        if self._jobs is not None:
            self._jobs.on_ready()

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(
        self,
        task: str,
        payload: Any = None,
        *,
        priority: int = 0,
        expiration: Duration = deadline.DEFAULT_EXPIRATION,
        timeout: Duration | None = None,
        persistent: bool = True,
        serializer: str | None = None,
        headers: Headers | None = None,
        callback: OnResult | None = None,
        id: str | None = None,
        fail_fast: bool | None = None,
        data: Any = UNSET,
    ) -> PendingCall[Any]:
        """Call a task. Returns at once; await the result for the task's value.

        Durations are seconds, or text like "90", "10m", "1h30m" or "500ms".

        Args:
            task: name of the task.
            payload: value for the task.
            priority: 0-255, larger first.
            expiration: from now until the reply: the whole time of the call. Default 60 seconds.
            timeout: how long the task may run. Default: until the expiration.
            persistent: run at least once, also through a restart of the broker; False: at most once.
            serializer: "json", "msgpack", "text" or "bytes". Default: bytes as they are, anything else as JSON.
            headers: for the task: names to str, int or bool.
            callback: called with (value, headers) when the call ends; a failure comes as an exception value.
            id: unique among the calls in flight. Default: a new one.
            fail_fast: raise ConnectionError at once while the broker is unavailable; False: wait for it within
                `expiration`. Default: that of the client. When the connection breaks later, a persistent call
                waits in any case, because the broker may have it.
            data: deprecated name of `payload`.

        Raises:
            ValueError: an argument is out of its range.
            SerializationError: the serializer cannot carry the payload.
            TooLarge: the body exceeds CREW_MAX_MESSAGE. A body of more than 256 KiB is compressed in a thread first;
                then awaiting the call raises this error.
            DuplicateCallId: a call with this id is in flight.
            Overloaded: too many calls are in flight, too many bytes wait for the broker, or the broker has blocked
                publishing.
            ConnectionError: the client was closed, is draining, or, with `fail_fast`, the broker is unavailable.
            Canceled: the current scope was abandoned: see `crew.client.Scope`.
            RuntimeError: no event loop runs here, or another one than the client's.

        What awaiting it raises:
            TimeoutError, ExpirationError, TaskFailed, InvalidArguments, UnknownTask, Canceled, WorkerLost, Overloaded,
            ConnectionError, SerializationError, TooLarge.
        """
        if data is not UNSET:
            payload = renamed("call", "data", "payload", data)
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a function or None, not {callback!r}")
        self._join_loop()
        if self._is_draining:
            raise errors.ConnectionError(DRAINING, missing="client")
        if (scope := current_scope.get()) is not None:
            scope.check(task)
        call = self._caller.make(
            task,
            payload,
            priority=priority,
            expiration=expiration,
            timeout=timeout,
            persistent=persistent,
            serializer=serializer,
            headers=headers,
            callback=callback,
            id=id,
        )
        if not self._links.are_ready:
            self.open()
        self._caller.send(call, fail_fast=self._fails_fast(fail_fast))
        if scope is not None:
            scope.add(call)
        return call

    @overload
    def task(self, task: str, **options: Unpack[TaskOptions]) -> TaskRef[..., Any]: ...
    @overload
    def task(self, task: Callable[P, Coroutine[Any, Any, R]], **options: Unpack[TaskOptions]) -> TaskRef[P, R]: ...
    @overload
    def task(self, task: Callable[P, R], **options: Unpack[TaskOptions]) -> TaskRef[P, R]: ...
    def task(self, task: str | Callable[..., Any], **options: Unpack[TaskOptions]) -> TaskRef[..., Any]:
        """A task that is called with arguments, as a function is: `client.task("resize", timeout=5)(path, width=640)`.

        Args:
            task: the name of a task, or a function with `@Task` above it. With the function, mypy and pyright know
                the types of arguments and value; the arguments are checked before they are sent, and values that JSON
                lacks (datetime, dataclass, bytes, ...) are read back by the annotations.
            options: of its calls: those of `call`, or of `submit` for `TaskRef.submit`.

        Raises:
            TypeError: there is no such option.
            ValueError: `task` is no name of a task, or a function that is no task.
            SettingsError: values cannot be converted by the annotations of the function.
        """
        return TaskRef(task, dict(options), call=self.call, submit=self.submit)

    def parallel(self) -> Parallel:
        """Make several calls and wait for all of them: see `Parallel`."""
        return Parallel(self.call)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    @property
    def has_jobs(self) -> bool:
        """Whether the client has a job store: it was made with one, or has used the one of `CREW_DATABASE`."""
        return self._jobs is not None

    @property
    def jobs(self) -> "JobService":
        """The service that runs the jobs of this client.

        Raises SettingsError if the client has no job store, and `CREW_DATABASE` names none.
        """
        if self._jobs is None:
            self._jobs = default_store().service(self)
        return self._jobs

    async def submit(self, task: str, payload: Any = None, **options: Unpack[SubmitOptions]) -> "JobHandle":
        """Submit a job: a call that is recorded and needs no waiting client. Returns when the job is accepted.

        A job is accepted when its record is committed and the broker has its message. While the broker is
        unavailable, the commit is enough: the message is published later. If you cancel the wait for `submit`, the
        job may be accepted all the same. Durations are seconds, or text like "90", "10m", "1h30m" or "500ms".

        Args:
            task: name of the task.
            payload: value for the task.
            priority: 0-255, larger first; default 0.
            timeout: how long one execution may run; default 10 minutes. With more than 25 minutes, the job is not run
                again once it has started.
            expiration: how long the job may wait for its first worker. Default: no limit.
            result_ttl: how long the record is kept after a success; default one day.
            failure_ttl: how long the record is kept after any other end; default 7 days.
            unique: "skip": if a job with the same unique key is queued or runs, return its handle; "replace": cancel
                that job first. Default: neither.
            unique_key: for `unique`. Default: a hash of task and payload.
            id: a UUID. Default: a new one.
            idempotency_key: a second submit with the same key returns the same job, also when that has ended.
            serializer, headers: as for `call`.
            wait_for_worker: accept the job even if no worker has ever served the task; default False.

        Raises:
            TypeError: there is no such argument.
            ValueError: an argument is out of its range.
            SerializationError, TooLarge: as for `call`.
            UnknownTask: no worker has ever served the task.
            Overloaded: the queue of the task is full.
            DuplicateCallId: there is a job with this id.
            KeyReused: the idempotency key was used for another job.
            SettingsError: the client has no job store, or the store cannot be used.
            ConnectionError: the job store is unavailable, or the client was closed.
        """
        jobs = self.jobs
        self.open()
        return await jobs.submit(task, payload, **options)

    def job(self, id: str) -> "JobHandle":
        """The handle of a job that was submitted before, here or by any other program with the same job store.

        Reads nothing: the methods of the handle raise UnknownJob if there is no such job.

        Args:
            id: UUID of the job.

        Raises:
            ValueError: `id` is not a UUID.
            SettingsError: the client has no job store, or the store cannot be used.
            ConnectionError: the client was closed.
            RuntimeError: no event loop runs here, or another one than the client's.
        """
        jobs = self.jobs
        self.open()
        return jobs.handle(id)

    # --- events -------------------------------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: Any = None,
        *,
        serializer: str | None = None,
        headers: Headers | None = None,
        persistent: bool = False,
        timeout: Duration = PUBLISH_TIMEOUT,
        fail_fast: bool | None = None,
        data: Any = UNSET,
    ) -> PendingEvent:
        """Publish an event on a topic. Returns at once; await the result to know that the broker has the event.

        The event is published whether or not the result is awaited, and whether or not there are subscribers. A failure
        that is not awaited is logged.

        Args:
            topic: words between dots.
            payload, serializer, headers: as for `call`.
            persistent: publish again if the connection breaks before the broker has confirmed the event, which may then
                arrive twice. Default: ConnectionError in that case.
            timeout: how long to wait for the broker: seconds, or text like "10s".
            fail_fast: as for `call`.
            data: deprecated name of `payload`.

        Raises:
            ValueError: an argument is out of its range.
            SerializationError, TooLarge: as for `call`.
            Overloaded: the broker has blocked publishing.
            ConnectionError: the client was closed, or, with `fail_fast`, the broker is unavailable.
            RuntimeError: no event loop runs here.

        What awaiting it raises:
            ConnectionError: the broker did not confirm the event in time.
            Overloaded, TooLarge, MessageRefused: the broker refuses the event.
        """
        if data is not UNSET:
            payload = renamed("publish", "data", "payload", data)
        event = Event(
            topic=topology.check_topic(topic),
            body=codec.encode_on_loop(payload, serializer, max_size=self.max_message, compresses=self.compresses),
            persistent=bool(persistent),
            headers=user_headers.check(headers),
        )
        within = parse_duration("timeout", timeout)
        self.open()
        if self._fails_fast(fail_fast) and not self._links.publishing.is_ready:
            raise errors.ConnectionError(f"the event on topic {event.topic!r} was not published: {self.obstacle}")
        return self._pubsub.start(event, within)

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """Call `callback` with each Event on `topic` until `unsubscribe`; restored after a reconnect.

        Before an event loop runs, the subscription starts as soon as one does, or with the first call.

        Args:
            topic: words between dots; `*` is one word, `#` any number.
            callback: function or coroutine function that takes one Event.

        Raises:
            ValueError: `topic` is not a topic, or `callback` is not a function.
        """
        is_running = has_running_loop()
        if is_running:
            self._join_loop()
        subscription = self._pubsub.subscribe(topic, callback)
        if is_running:
            self.open()
        else:
            self.open_later()
        return subscription

    def unsubscribe(self, topic: str, callback: OnEvent | None = None) -> None:
        """Close the subscriptions to `topic`, or only those with `callback`, if there are any."""
        if has_running_loop():
            self._join_loop()
        self._pubsub.unsubscribe(topic, callback)


def _identity(name: str | None) -> tuple[str, str]:
    """The name of a new client, by default host and process id, and its unique id; raises ValueError."""
    given = topology.check_name("name", name or f"{socket.gethostname()}-{os.getpid()}")
    short = given.encode()[:NAME_BYTES].decode(errors="ignore")
    return short, f"{short}-{new_id()[:12]}"
