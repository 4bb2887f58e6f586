"""`context`: what a running task reads of its call, and does beside returning its value."""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from crew.deprecated import warn_deprecated
from crew.duration import Duration
from crew.protocol.arguments import UNSET, renamed
from crew.protocol.message import Headers

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution
    from crew.worker.execution.interrupt import CancelToken
    from crew.worker.execution.shield import Shield
    from crew.worker.nested_calls.call import NestedCall
    from crew.worker.nested_calls.task_ref import NestedOptions, NestedTaskRef

P = ParamSpec("P")
R = TypeVar("R")


class ContextPubSub:
    """Publishes events from inside a task."""

    def __init__(self) -> None:
        self._publish: Callable[..., None] | None = None

    def bind(self, publish: Callable[..., None] | None) -> None:
        """Set the function that publishes; None: none."""
        self._publish = publish

    def publish(
        self,
        topic: str,
        payload: Any = None,
        *,
        serializer: str | None = None,
        headers: Headers | None = None,
        message: Any = UNSET,
    ) -> None:
        """Publish `payload` on `topic`, and wait until the broker has it. Arguments as for `Client.publish`.

        This blocks for milliseconds, or for up to 10 seconds while the broker is unavailable. In an `async def`, write
        `await asyncio.to_thread(context.pubsub.publish, topic, payload)` so that other tasks can run meanwhile.

        Raises:
            ConnectionError: the broker did not confirm it in time.
            ValueError, SerializationError: as `Client.publish` does.
            RuntimeError: this process is no running worker.
        """
        if self._publish is None:
            raise RuntimeError("context.pubsub can be used inside a running worker only")
        if message is not UNSET:
            payload = renamed("context.pubsub.publish", "message", "payload", message)
        self._publish(topic, payload, serializer=serializer, headers=headers)


class DirectCalls(Protocol):
    """Makes a context for a task that is called as a function, outside a worker."""

    @property
    def execution(self) -> "Execution":
        """What the task sees in `context`."""

    def report(self, value: Any) -> None:
        """Handle `context.progress(value)`."""


class Context:
    """The type of `context`: each task sees its own execution in it.

    Attributes:
        settings: the arguments of `run(**settings)`, and `uuid` of this worker process, `node_uuid` of its host,
            `options` of the command line. Tasks may add to it; it is kept between tasks.
        pubsub: for `context.pubsub.publish(topic, payload)`.
    """

    def __init__(self) -> None:
        self.settings = SimpleNamespace()
        self.pubsub = ContextPubSub()
        self._call: Callable[..., NestedCall[Any]] | None = None
        self._report: Callable[[Execution, Any], None] | None = None
        self._direct: DirectCalls | None = None

    @property
    def headers(self) -> Headers:
        """Headers of the reply: empty at the start of each execution; the task may add some."""
        return self._execution.headers

    @property
    def call_headers(self) -> Headers:
        """The headers of the call; a copy."""
        return dict(self._execution.call.headers)

    @property
    def id(self) -> str:
        """The id of the call."""
        return self._execution.call.id

    @property
    def job(self) -> str | None:
        """The uuid of the job; None if the call is no job."""
        call = self._execution.call
        return call.id if call.is_job else None

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._execution.task.name

    @property
    def attempt(self) -> int:
        """Number of this execution: 1, plus one for each retry, and for each worker process that the call crashed."""
        return self._execution.attempt

    @property
    def remaining(self) -> float | None:
        """Seconds that the task may still run; None if unlimited."""
        return self._execution.remaining

    @property
    def canceled(self) -> "CancelToken":
        """Set when the task should end: for loops that check it instead of being interrupted."""
        return self._execution.canceled

    @property
    def cancelled(self) -> "CancelToken":
        """Deprecated name of `canceled`."""
        warn_deprecated("context.cancelled is now named context.canceled")
        return self.canceled

    def call(
        self,
        task: str,
        payload: Any = None,
        *,
        priority: int | None = None,
        expiration: Duration | None = None,
        timeout: Duration | None = None,
        persistent: bool = True,
        serializer: str | None = None,
        headers: Headers | None = None,
        id: str | None = None,
        data: Any = UNSET,
    ) -> "NestedCall[Any]":
        """Call another task: `context.call("stat").result()`, or `await context.call("stat")` in an `async def`.

        The nested call has the remaining time of this task, its priority and its trace headers. It is canceled when
        this task is interrupted, or returns without waiting for it. A called task needs a free slot of a worker: if
        tasks wait for each other and there are too few slots, they end by their deadline.

        Args:
            task: name of the called task.
            priority: 0-255; None: the priority of this call.
            expiration: seconds, or text like "10m"; at most the remaining time, which is the default (60 seconds if
                that is unlimited).
            headers: for the called task; `traceparent`, `tracestate` and `baggage` are passed on.
            timeout, persistent, serializer, id: as for `Client.call`.
            data: deprecated name of `payload`.

        Raises:
            ExpirationError: no time remains; the call was not sent.
            Canceled: this task was interrupted; the call was not sent.
            ValueError, SerializationError: as `Client.call` does.
            RuntimeError: no task runs here.
        """
        execution = self._execution
        if self._call is None:
            raise RuntimeError("context.call can be used inside a running worker only")
        if data is not UNSET:
            payload = renamed("context.call", "data", "payload", data)
        return self._call(
            execution,
            task,
            payload,
            priority=priority,
            expiration=expiration,
            timeout=timeout,
            persistent=persistent,
            serializer=serializer,
            headers=headers,
            id=id,
        )

    @overload
    def task_ref(self, task: str, **options: "Unpack[NestedOptions]") -> "NestedTaskRef[..., Any]": ...
    @overload
    def task_ref(
        self, task: Callable[P, Coroutine[Any, Any, R]], **options: "Unpack[NestedOptions]"
    ) -> "NestedTaskRef[P, R]": ...
    @overload
    def task_ref(self, task: Callable[P, R], **options: "Unpack[NestedOptions]") -> "NestedTaskRef[P, R]": ...
    def task_ref(self, task: str | Callable[..., Any], **options: "Unpack[NestedOptions]") -> "NestedTaskRef[..., Any]":
        """Another task that is called with arguments: `context.task_ref("resize")(path, width=640).result()`.

        Args:
            task: its name, or a function with `@Task` above it: see `Client.task`.
            options: of its calls: those of `call`.

        Raises:
            TypeError, ValueError, SettingsError: as `Client.task` does.
        """
        from crew.worker.nested_calls.task_ref import NestedTaskRef

        return NestedTaskRef(task, dict(options), call=self.call)

    def progress(self, value: Any) -> None:
        """Set the progress of the job in its record to `value`. If the call is no job, this does nothing.

        It does not block, and may be called as often as you like, also from threads and asyncio tasks that have the
        task's context (`asyncio.to_thread`, `contextvars.copy_context().run`). About ten values per second are sent,
        each time the newest, and the last one before the job ends. Progress that a task reports while it cleans up
        after an interrupt is recorded too.

        Args:
            value: any JSON value, encoded in 64 KiB at most.

        Raises:
            TooLarge: the encoded value is larger.
            SerializationError: JSON cannot encode the value.
            RuntimeError: no task runs here.
        """
        execution = self._execution
        if self._direct is not None and execution is self._direct.execution:
            self._direct.report(value)
            return
        if self._report is None:
            raise RuntimeError("context.progress can be used inside a running worker only")
        self._report(execution, value)

    def bind(self, call: "Callable[..., NestedCall[Any]]", report: "Callable[[Execution, Any], None]") -> None:
        """Set the functions that make nested calls and report progress."""
        self._call = call
        self._report = report

    def bind_direct(self, direct: DirectCalls | None) -> None:
        """Set what makes a context for a task that is called as a function; None: `context` raises there."""
        self._direct = direct

    def shield(self) -> "Shield":
        """Delay an interrupt while something must not be broken off, such as a commit: `with context.shield(): ...`.

        The interrupt is raised at the end of the outermost shield. The caller gets its reply on time all the same. If
        the section runs longer than the worker's `--grace`, it is stopped together with its process. An `async def`
        task also writes `with`, not `async with`.
        """
        from crew.worker.execution.shield import Shield

        return Shield(self._execution)

    @property
    def _execution(self) -> "Execution":
        # Not above: where a script is imported only for its tasks, the AMQP stack is not needed.
        from crew.worker.execution.execution import current_execution

        execution = current_execution.get()
        if execution is None and self._direct is not None:
            return self._direct.execution
        if execution is None:
            raise RuntimeError("no task is running here: use context inside a task, in its own thread or asyncio task")
        return execution


context = Context()
