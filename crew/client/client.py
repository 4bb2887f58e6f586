"""The client: makes calls, publishes, subscribes. What happens to a call is told in `calls.py`."""

import asyncio
import contextlib
import functools
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Unpack

from crew import errors, forks
from crew import settings as settings_module
from crew.client import loops
from crew.client.calling.call import OnAnswer, PendingCall
from crew.client.calling.caller import Caller
from crew.client.calling.parallel import Parallel
from crew.client.calling.pending import MAX_BYTES, check_limit
from crew.client.calling.scope import current
from crew.client.closing import run_all
from crew.client.events.pubsub import PubSub
from crew.client.events.subscription import OnEvent, Subscription, Subscriptions
from crew.client.links import Links, has_running_loop
from crew.client.options import SubmitOptions
from crew.client.started import Connecting, PendingEvent
from crew.protocol import deadline, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.message import Event, Headers, new_id

if TYPE_CHECKING:  # for the types of users alone: a worker needs no job store
    from crew.jobs.handle import JobHandle
    from crew.jobs.service import JobService, JobStore

MAX_PENDING: Final = 10_000  # calls
PUBLISH_TIMEOUT: Final = 10.0  # seconds
DRAIN_TIMEOUT: Final = 30.0  # seconds
DRAIN_POLL: Final = 0.01  # seconds
PUBLISH_WITHIN: Final = 2.0  # seconds that `close` gives to events on their way
DELETE_WITHIN: Final = 2.0  # seconds: a broker that has fallen silent must not keep a process from its end
CLOSED: Final = "the client was closed"
NO_LOOP: Final = "this needs a running event loop: in a script, use crew.client.blocking.Client"
OTHER_LOOP: Final = (
    "belongs to another event loop, which has not been closed: make a client for each loop, or use "
    "crew.client.blocking.Client, which threads may share"
)
LOOP_ENDED: Final = "has no result: its event loop was closed before it ended"
DRAINING: Final = "the client is draining: it makes no new calls"
NAME_BYTES: Final = 100  # it begins the names of queues, which have 255


class Client:
    """Calls tasks by name.

    It may be built, and `connect` and `subscribe` called, before any event loop runs; the first call connects. One
    client serves a whole process. `async with Client() as client` connects and closes.

    It belongs to the loop on which it first connects. Where that loop has been closed it begins anew on the next one;
    so it does in a forked child, with an id and connections of its own. Its subscriptions come with it. Calls in flight
    end in the first case, and remain the parent's in the second.

    Args:
        url: AMQP URL, or several with commas between them; default: see `crew.settings.load`.
        name: shown in the broker's lists and part of the client's id; needs not be unique. Default: host and pid.
        max_pending: calls that may be in flight; one more is Overloaded.
        max_pending_bytes: bodies, as they travel, of the calls that the broker has not taken yet: they are kept here
            until then, and the broker may be away; one more is Overloaded. Default 256 MiB.
        fail_fast: what `call` and `publish` do while the broker is away, unless they are told otherwise: fail at once
            with ConnectionError, instead of waiting for it within their time. Default False.
        queue_type: "classic", or "quorum" for queues that a cluster keeps on several nodes, as the workers have it;
            default: `CREW_QUEUE_TYPE`, else classic.
        signing_key: signs its messages, and those that it gets must be signed, as all clients and workers have it; 32
            characters or more, or several keys with commas between them: the first signs, each is accepted. Default:
            `CREW_SIGNING_KEY`, else messages are neither signed nor checked.
        store: where its jobs are recorded, a `crew.jobs.JobStore`; default: it has no jobs.

    Raises:
        SettingsError: the URL, the type of queue or the signing key cannot be used.
        ValueError: the name, max_pending or max_pending_bytes cannot be one.
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
        store: "JobStore | None" = None,
    ) -> None:
        self.settings = settings = settings_module.load(url, queue_type=queue_type, signing_key=signing_key)
        self.max_message = settings.max_message
        self._given_name = name
        self._fail_fast = fail_fast
        self._limit = check_limit("max_pending", max_pending)
        self._max_bytes = check_limit("max_pending_bytes", max_pending_bytes)
        self._decode = codec.decoder_of(settings)
        self._subscriptions = Subscriptions(self._decode)
        self._is_closed = False
        self._is_draining = False
        self._jobs: JobService | None = None
        self._begin_anew()
        if store is not None:
            self.keep_jobs_in(store)
        forks.register(self)

    def _begin_anew(self) -> None:
        """Have an id, connections and calls of its own, in a process or on a loop that had none of them."""
        self.name, self.id = _identity(self._given_name)
        self._loop: asyncio.AbstractEventLoop | None = None  # the one it belongs to
        self._links = Links(
            self.settings, self.name, on_ready=self._on_ready, on_refused=lambda fault: self._calls.settle_all(fault)
        )
        links = {"publishing": self._links.publishing, "consuming": self._links.consuming}
        self._caller = Caller(
            self.id,
            self._limit,
            **links,
            max_message=self.max_message,
            max_bytes=self._max_bytes,
            decode=self._decode,
        )
        self._calls = self._caller.calls
        self._pubsub = PubSub(self.id, **links, decode=self._decode, subscriptions=self._subscriptions)
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
        """Its connections, for what is built upon it."""
        return self._links

    @property
    def decode(self) -> codec.Decode:
        """How it decodes what it gets: within what its settings accept, for what is built upon it."""
        return self._decode

    @property
    def is_ready(self) -> bool:
        """Whether a call would be on its way at once."""
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """Why a call would not be on its way at once, in one sentence: "the broker is away: ..."; None: it would."""
        if self._is_closed or self._is_draining:
            return DRAINING if self._is_draining else CLOSED
        return self._calls.obstacle

    def keep_jobs_in(self, store: "JobStore") -> None:
        """Have the jobs of this client recorded in `store`; once, before it connects. As `Client(store=...)`."""
        if self._jobs is None:
            self._jobs = store.service(self)

    # --- life -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect, and return at once.

        Raises:
            ConnectionError: the client was closed.
            RuntimeError: no event loop runs here, or another one than that of the client.
        """
        self._join_loop()
        if self._is_closed:
            raise errors.ConnectionError(CLOSED, missing="client")
        self._links.open()
        self._pubsub.open()
        if self._jobs is not None:
            self._jobs.open()

    def open_later(self) -> None:
        """Begin to connect as soon as an event loop runs in this thread, or with the first call."""
        loops.when_one_runs(self._open_unless_closed)

    def connect(self, timeout: float | None = None) -> Connecting:
        """Begin to connect, and return at once; await what it returns to wait until the broker is reached.

        It is tried until then, whether or not anything awaits it. Before an event loop runs this is remembered, and
        begins when one does, or with the first call.

        Args:
            timeout: seconds that awaiting it takes at most; None waits for ever.

        Raises:
            ConnectionError: the client was closed.

        What awaiting it raises:
            ConnectionError: the broker refuses the login, `timeout` is over, or the client was closed.
        """
        if has_running_loop():
            self.open()
        else:
            self.open_later()
        return Connecting(functools.partial(self._reach, timeout))

    async def _reach(self, timeout: float | None) -> None:
        self.open()
        await self._links.ready(timeout)

    def _open_unless_closed(self) -> None:
        if not self._is_closed:
            self.open()

    async def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """Make no new calls, let those in flight end, then close; subscriptions and `publish` serve until then.

        Args:
            timeout: seconds for the calls in flight; what has not ended by then ends as with `close`.
        """
        until = time.monotonic() + deadline.check_duration("timeout", timeout)
        self._is_draining = True
        while len(self._calls) and time.monotonic() < until:
            await asyncio.sleep(DRAIN_POLL)
        await self.close()

    async def close(self) -> None:
        """End: calls in flight get ConnectionError, this client's queues are deleted; idempotent.

        Events that are on their way are published first, if the broker takes them within 2 seconds. Each step of it is
        done even if the ones before have failed; then the first error is raised.
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
        """Let the events fail that were not published: their links are closed."""
        await self._pubsub.sent(PUBLISH_WITHIN)

    async def _delete_queues(self) -> None:
        """Delete the queues of this client; where that takes too long they expire."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DELETE_WITHIN):
                await self._pubsub.close()
                if self._links.consuming.is_ready:
                    await self._links.consuming.delete_queue(self._caller.queue)

    # --- processes and loops ----------------------------------------------------------------------------------------

    def _join_loop(self) -> None:
        """Belong to the event loop that runs here; where that of before has ended, begin anew on this one."""
        loop = asyncio._get_running_loop()  # raises nothing, and is what asyncio itself asks
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
            self._calls.leave(LOOP_ENDED)
            if not self._is_closed:
                self._begin_anew()
        self._loop = loop

    def on_forked(self) -> None:
        """This is a forked child: what was in flight is the parent's; here it begins anew, with an id of its own."""
        forks.keep_alive(self._links, self._caller, self._pubsub, self._pubsub.tasks)
        if self._jobs is not None:
            self._jobs.keep()
        self._calls.leave(f"was made by process {os.getppid()}, which forked this one and gets its result: call again")
        if not self._is_closed:
            self._is_draining = False
            self._begin_anew()

    def _fails_fast(self, told: bool | None) -> bool:
        return self._fail_fast if told is None else bool(told)

    def _on_ready(self) -> None:
        self._calls.send_waiting()
        self._pubsub.on_ready()
        if self._jobs is not None:
            self._jobs.on_ready()

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(
        self,
        task: str,
        data: Any = None,
        *,
        priority: int = 0,
        expiration: float = deadline.DEFAULT_EXPIRATION,
        timeout: float | None = None,
        persistent: bool = True,
        serializer: str | None = None,
        headers: Headers | None = None,
        callback: OnAnswer | None = None,
        id: str | None = None,
        fail_fast: bool | None = None,
    ) -> PendingCall:
        """Call a task. Returns at once; await what it returns for the task's value.

        Args:
            task: name of the task.
            data: payload for it.
            priority: 0-255, larger first.
            expiration: seconds from now until the answer: the whole budget of the call.
            timeout: seconds that the task may run; None: as long as the budget lasts.
            persistent: run at least once, through a restart of the broker; else at most once.
            serializer: "json", "msgpack", "text" or "bytes"; default: bytes as they are, anything else as JSON.
            headers: for the task: names to str, int or bool.
            callback: called with (value, headers) when the call ends; a failure comes as an exception value.
            id: unique among the calls in flight; default: a new one.
            fail_fast: while the broker is away, or has not been reached yet, fail at once; False: wait for it within
                `expiration`. Default: as the client was told. Where the connection breaks later on, a persistent call
                waits in either case: the broker may have it.

        Raises:
            ValueError: an argument is out of its range.
            SerializationError: the serializer cannot carry `data`; TooLarge: nor would a message of CREW_MAX_MESSAGE.
            DuplicateTaskId: a call with this id is in flight.
            Overloaded: too many calls are in flight, too many bytes of them wait for the broker, or it has blocked
                publishing.
            ConnectionError: the client was closed, is draining, or, with `fail_fast`, the broker is away.
            Canceled: the current scope was abandoned: see `crew.client.Scope`.
            RuntimeError: no event loop runs here, or another one than that of the client.

        What awaiting it raises:
            TimeoutError, ExpirationError, TaskFailed, UnknownTask, Canceled, WorkerLost, Overloaded,
            ConnectionError, SerializationError.
        """
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a function or None, not {callback!r}")
        self._join_loop()
        if self._is_draining:
            raise errors.ConnectionError(DRAINING, missing="client")
        if (scope := current.get()) is not None:
            scope.check(task)
        call = self._caller.make(
            task,
            data,
            priority=priority,
            expiration=expiration,
            timeout=timeout,
            persistent=persistent,
            serializer=serializer,
            headers=headers,
            callback=callback,
            id=id,
        )
        self.open()
        self._caller.send(call, fail_fast=self._fails_fast(fail_fast))
        if scope is not None:
            scope.add(call)
        return call

    def parallel(self) -> Parallel:
        """Several calls at once: see `Parallel`."""
        return Parallel(self.call)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    @property
    def has_jobs(self) -> bool:
        """Whether it has a job store."""
        return self._jobs is not None

    @property
    def jobs(self) -> "JobService":
        """What runs its jobs; raises SettingsError where it has no job store."""
        if self._jobs is None:
            raise errors.SettingsError("this client has no job store: make it as Client(store=crew.jobs.JobStore())")
        return self._jobs

    async def submit(self, task: str, data: Any = None, **options: Unpack[SubmitOptions]) -> "JobHandle":
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
        return await self.jobs.submit(task, data, **options)

    # --- events -------------------------------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        serializer: str | None = None,
        headers: Headers | None = None,
        persistent: bool = False,
        timeout: float = PUBLISH_TIMEOUT,
        fail_fast: bool | None = None,
    ) -> PendingEvent:
        """Publish an event. Returns at once; await what it returns to know that the broker has the event.

        Nobody needs to have subscribed. The event is published whether or not anything awaits it; a failure that
        nothing awaits is logged.

        Args:
            topic: words between dots.
            data, serializer, headers: as for `call`.
            persistent: published again where the connection breaks before the broker has confirmed it, so that it may
                arrive twice; else that is a ConnectionError.
            timeout: seconds to wait for the broker.
            fail_fast: as for `call`.

        Raises:
            ValueError: an argument is out of its range.
            SerializationError, TooLarge: as `call` does.
            Overloaded: the broker has blocked publishing.
            ConnectionError: the client was closed, or, with `fail_fast`, the broker is away.
            RuntimeError: no event loop runs here.

        What awaiting it raises:
            ConnectionError: the broker did not take it in time.
            Overloaded, TooLarge: the broker refuses it.
        """
        event = Event(
            topic=topology.check_topic(topic),
            body=codec.encode(data, serializer, max_size=self.max_message),
            persistent=bool(persistent),
            headers=user_headers.check(headers),
        )
        within = deadline.check_duration("timeout", timeout)
        self.open()
        if self._fails_fast(fail_fast) and not self._links.publishing.is_ready:
            raise errors.ConnectionError(f"the event on {event.topic!r} is not published: {self.obstacle}")
        return self._pubsub.start(event, within)

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """Call back with every Event on `topic`, until `unsubscribe`; restored after a reconnect.

        Before an event loop runs it is remembered, and begins when one does, or with the first call.

        Args:
            topic: words between dots; `*` is one word, `#` any number.
            callback: function or coroutine function of one Event.

        Raises:
            ValueError: topic or callback cannot be one.
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
        """Close the subscriptions to `topic`, or only those of `callback`; nothing where there is none."""
        if has_running_loop():
            self._join_loop()
        self._pubsub.unsubscribe(topic, callback)


def _identity(name: str | None) -> tuple[str, str]:
    """The name, by default host and pid, and the id of a new client; raises ValueError where it cannot be one."""
    given = topology.check_name("name", name or f"{socket.gethostname()}-{os.getpid()}")
    short = given.encode()[:NAME_BYTES].decode(errors="ignore")
    return short, f"{short}-{new_id()[:12]}"
