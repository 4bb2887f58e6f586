"""The client for scripts and threads: the same methods, on an event loop in a background thread.

    with Client() as client:
        print(client.call("resize", {"width": 640}).result())
        job = client.submit("resize", {"width": 640})       # with Client(store=...), or CREW_DATABASE
        print(client.job(job.id).status())

Threads may share one client.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

from crew import forks
from crew.client.calling.call import PendingCall, current_scope
from crew.client.calling.parallel import CallGroup
from crew.client.client import DRAIN_TIMEOUT
from crew.client.client import Client as AsyncClient
from crew.client.events.subscription import OnEvent, Subscription
from crew.client.loop_thread import LoopThread
from crew.client.options import CALL_RENAMES, SUBMIT_RENAMES, CallOptions, PublishOptions, SubmitOptions, TaskOptions
from crew.client.task_ref import TaskRef
from crew.duration import Duration, wait_time
from crew.errors import TaskError
from crew.protocol.arguments import with_new_names
from crew.protocol.message import Headers

if TYPE_CHECKING:  # types only: a worker needs no job store
    from crew.jobs.handle import JobHandle
    from crew.jobs.job import Job, JobStatus
    from crew.jobs.service import JobStore

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class ClientOptions(TypedDict, total=False):
    """Keyword arguments of `crew.Client`."""

    name: str | None
    max_pending: int
    max_pending_bytes: int
    fail_fast: bool
    queue_type: str | None
    signing_key: str | None
    store: "JobStore | str | None"


class BlockingCall(Generic[T]):
    """A call of a blocking client: `result()` waits for its value."""

    def __init__(self, call: PendingCall[T], ended: "concurrent.futures.Future[T]", thread: LoopThread) -> None:
        self._call = call
        self._ended = ended
        self._thread = thread

    def __repr__(self) -> str:
        return repr(self._call).replace("PendingCall", "BlockingCall")

    @property
    def id(self) -> str:
        """The call's id."""
        return self._call.id

    @property
    def headers(self) -> Headers:
        """The reply's headers, once the call has ended."""
        return self._call.headers

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._call.done()

    def result(self, timeout: Duration | None = None) -> T:
        """Wait for the task's value.

        Args:
            timeout: how long to wait here: seconds, or text like "10s". Default: until the call ends, which it does by
                its own deadline.

        Raises:
            builtins.TimeoutError: the timeout is over; the call goes on, and you can wait again.
            RuntimeError: this is the client's own thread, in which its callbacks run.
            ConnectionError: this process was forked after the call was made: the parent gets the reply.
            What awaiting `Client.call` raises.
        """
        seconds = wait_time(timeout)
        if self._thread.is_inherited and not self._ended.done():
            return self._call.value()
        self._call.is_awaited = True
        if not self._ended.done():
            self._thread.check()
        return self._ended.result(seconds)

    def cancel(self) -> bool:
        """Cancel the call; False if it has ended already."""
        if self._thread.is_inherited:
            return False  # the call is the parent's
        return self._thread.run(_sync(self._call.cancel))


class BlockingTaskRef(Generic[P, R]):
    """A task that is called with arguments by threads: `crew.client.TaskRef` for the blocking client."""

    def __init__(self, client: "Client", ref: TaskRef[P, R]) -> None:
        self._client = client
        self._ref = ref

    def __repr__(self) -> str:
        return repr(self._ref).replace("TaskRef", "BlockingTaskRef")

    @property
    def name(self) -> str:
        """Name of the task."""
        return self._ref.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> BlockingCall[R]:
        """As `crew.client.TaskRef`; wait for the value with `.result()`."""
        return self._client.begin(lambda: self._ref(*args, **kwargs))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> "BlockingJob":
        """As `crew.client.TaskRef.submit`; returns when the job is accepted."""
        return self._client.submitted(self._ref.submit(*args, **kwargs))


class BlockingParallel(CallGroup[BlockingCall[Any]]):
    """Collects calls; `result()` waits for all of them.

    with client.parallel() as calls:
        calls.call("resize", {"width": 640})
        calls.call("stat")
    small, stat = calls.result()

    Each call is sent when it is made. If an exception leaves the block, the calls are canceled.
    """

    def result(self, timeout: Duration | None = None) -> list[Any]:
        """Wait for every call. Returns their values in the order of the calls, a failure as an exception value.

        Args:
            timeout: how long to wait for all of them: seconds, or text like "10s". Default: until they end.

        Raises:
            builtins.TimeoutError: the timeout is over; the calls go on, and you can wait again.
        """
        seconds = wait_time(timeout)
        until = None if seconds is None else time.monotonic() + seconds
        return [_value_or_error(call, until) for call in self._calls]


class BlockingJob:
    """A job that was submitted: `crew.jobs.JobHandle` for scripts and threads.

    What its methods raise:
        UnknownJob: the record was deleted, because its time to live was over.
        ConnectionError: the job store is unavailable.
    """

    def __init__(self, handle: "JobHandle", thread: LoopThread) -> None:
        self._handle = handle
        self._thread = thread

    def __repr__(self) -> str:
        return repr(self._handle).replace("JobHandle", "BlockingJob")

    @property
    def id(self) -> str:
        """The job's id."""
        return self._handle.id

    @property
    def is_new(self) -> bool:
        """Whether a submit through this object made the job; False if it was there before."""
        return self._handle.is_new

    def job(self) -> "Job":
        """The whole record of the job."""
        return self._thread.run(self._handle.job())

    def status(self) -> "JobStatus":
        """The status of the job."""
        return self._thread.run(self._handle.status())

    def progress(self) -> Any:
        """The latest value that the task has passed to `context.progress`; None if there is none."""
        return self._thread.run(self._handle.progress())

    def error(self) -> TaskError | None:
        """What `result` raises because the job has no value; None if it has not ended, or has a value."""
        return self._thread.run(self._handle.error())

    def result(self, timeout: Duration | None = None) -> Any:
        """Wait for the value of the job's task: see `crew.jobs.JobHandle.result`."""
        return self._thread.run(self._handle.result(timeout))

    def events(self) -> "Iterator[Job]":
        """Yield the record as it is, then after each change, until the job has ended."""
        events = self._handle.events()

        async def following() -> "Job | None":
            return await anext(events, None)

        while (job := self._thread.run(following())) is not None:
            yield job

    def cancel(self) -> bool:
        """Cancel the job; False if it had ended."""
        return self._thread.run(self._handle.cancel())


class Client:
    """`crew.Client` for threads, with the same arguments and errors.

    Its methods block until the client's event loop, which runs in a thread of its own, has done them; `call` returns at
    once. Callbacks of `call` and `subscribe` run in that thread and must not block it. In a forked child the client
    starts again, as `crew.Client` does, with another thread.
    """

    def __init__(self, url: str | None = None, **options: Unpack[ClientOptions]) -> None:
        self._client = AsyncClient(url, **options)
        self._thread = LoopThread()
        forks.register(self)

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """The client's id."""
        return self._client.id

    def connect(self, timeout: Duration | None = None) -> None:
        """As `crew.Client.connect`; returns when the broker is reached."""

        async def connect() -> None:
            await self._client.connect(timeout)

        self._thread.run(connect())

    def call(self, task: str, payload: Any = None, **options: Unpack[CallOptions]) -> BlockingCall[Any]:
        """As `crew.Client.call`; wait for the value with `.result()`."""
        given = with_new_names("call", {"payload": payload, **options}, CALL_RENAMES)
        return self.begin(lambda: self._client.call(task, **given))

    def begin(self, make: Callable[[], PendingCall[T]]) -> BlockingCall[T]:
        """Make a call on the client's event loop; for code that builds on the client."""
        thread = self._thread

        async def begin() -> "tuple[PendingCall[T], concurrent.futures.Future[T]]":
            current_scope.set(None)  # a scope of this thread serves another event loop
            call = make()
            return call, asyncio.run_coroutine_threadsafe(_wait(call), asyncio.get_running_loop())

        call, ended = thread.run(begin())
        return BlockingCall(call, ended, thread)

    @overload
    def task(self, task: str, **options: Unpack[TaskOptions]) -> BlockingTaskRef[..., Any]: ...
    @overload
    def task(
        self, task: Callable[P, Coroutine[Any, Any, R]], **options: Unpack[TaskOptions]
    ) -> BlockingTaskRef[P, R]: ...
    @overload
    def task(self, task: Callable[P, R], **options: Unpack[TaskOptions]) -> BlockingTaskRef[P, R]: ...
    def task(self, task: str | Callable[..., Any], **options: Unpack[TaskOptions]) -> BlockingTaskRef[..., Any]:
        """As `crew.Client.task`: `client.task("resize", timeout=5)(path, width=640).result()`."""
        client = self._client
        return BlockingTaskRef(self, TaskRef(task, dict(options), call=client.call, submit=client.submit))

    def parallel(self) -> BlockingParallel:
        """Make several calls and wait for all of them: see `BlockingParallel`."""
        return BlockingParallel(self.call)

    def submit(self, task: str, payload: Any = None, **options: Unpack[SubmitOptions]) -> BlockingJob:
        """As `crew.Client.submit`; returns when the job is accepted."""
        given = with_new_names("submit", {"payload": payload, **options}, SUBMIT_RENAMES)
        return self.submitted(self._client.submit(task, **given))

    def submitted(self, submit: "Coroutine[Any, Any, JobHandle]") -> BlockingJob:
        """Run `submit` on the client's event loop; for code that builds on the client."""
        return BlockingJob(self._thread.run(submit), self._thread)

    def job(self, id: str) -> BlockingJob:
        """As `crew.Client.job`: the handle of a job that any program with the same job store has submitted."""
        return BlockingJob(self._thread.run(_sync(self._client.job, id)), self._thread)

    def publish(self, topic: str, payload: Any = None, **options: Unpack[PublishOptions]) -> None:
        """As `crew.Client.publish`; returns when the broker has the event."""
        given = with_new_names("publish", {"payload": payload, **options}, CALL_RENAMES)

        async def publish() -> None:
            await self._client.publish(topic, **given)

        self._thread.run(publish())

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """As `crew.Client.subscribe`; returns when the broker has the subscription."""

        async def begin() -> Subscription:
            subscription = self._client.subscribe(topic, callback)
            await subscription.ready()
            return subscription

        return self._thread.run(begin())

    def unsubscribe(self, topic: str, callback: OnEvent | None = None) -> None:
        """As `crew.Client.unsubscribe`."""
        self._thread.run(_sync(self._client.unsubscribe, topic, callback))

    def drain(self, timeout: Duration = DRAIN_TIMEOUT) -> None:
        """As `crew.Client.drain`; then ends the thread. Calls of other threads end before."""
        self._thread.run(self._client.drain(timeout))
        self.close()

    def close(self) -> None:
        """As `crew.Client.close`; then ends the thread. Idempotent."""
        self._thread.close(self._client.close)

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` on the client's event loop, and wait for it."""
        return self._thread.run(step)

    def on_forked(self) -> None:
        """Start again in a forked child: the thread is the parent's, and the next use starts another one."""
        forks.keep_alive(self._thread)
        self._thread.is_inherited = True
        self._thread = self._thread.anew()


def _value_or_error(call: BlockingCall[Any], until: float | None) -> Any:
    """The value of `call`, or its failure as a value; raises builtins.TimeoutError at `until` (time.monotonic())."""
    try:
        return call.result(None if until is None else max(0.0, until - time.monotonic()))
    except Exception as error:
        if not call.done():
            raise
        return error


async def _wait(call: PendingCall[T]) -> T:
    return await call.until_done()


async def _sync(function: Callable[..., T], *args: Any) -> T:
    return function(*args)
