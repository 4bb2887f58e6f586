"""What a running task sees of the world: `from crew.worker import context`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from crew.duration import Duration
from crew.protocol.arguments import UNSET, renamed, warn_deprecated
from crew.protocol.message import Headers
from crew.worker.execution.execution import current_execution
from crew.worker.execution.shield import Shield

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution
    from crew.worker.execution.interrupt import CancelToken
    from crew.worker.nested_calls.call import NestedCall


class ContextPubSub:
    """Publishing from inside a task."""

    def __init__(self) -> None:
        self._publish: Callable[..., None] | None = None

    def bind(self, publish: Callable[..., None] | None) -> None:
        """Publish with `publish` from now on; with None not any longer."""
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
        """Publish `payload` on `topic`; returns when the broker has it. Arguments as for `Client.publish`.

        It blocks until then: milliseconds, or up to 10 seconds while the broker is away. In an `async def` that is
        `await asyncio.to_thread(context.pubsub.publish, topic, payload)`, where others must not wait meanwhile.

        Raises:
            ConnectionError: the broker did not take it in time.
            ValueError, SerializationError: as `Client.publish` does.
            RuntimeError: no worker runs here.
        """
        if self._publish is None:
            raise RuntimeError("context.pubsub can be used inside a running worker only")
        if message is not UNSET:
            payload = renamed("context.pubsub.publish", "message", "payload", message)
        self._publish(topic, payload, serializer=serializer, headers=headers)


class Context:
    """The one `context`: it shows each task its own execution.

    Attributes:
        settings: what `run(**settings)` was given, kept between tasks, and besides: `uuid` of this worker process,
            `node_uuid` of its host, `options` of the command line.
        pubsub: for `context.pubsub.publish(topic, payload)`.
    """

    def __init__(self) -> None:
        self.settings = SimpleNamespace()
        self.pubsub = ContextPubSub()
        self._call: Callable[..., NestedCall] | None = None
        self._say: Callable[[Execution, Any], None] | None = None

    @property
    def headers(self) -> Headers:
        """Headers of the reply: the task's to fill, empty at the start of every execution."""
        return self._execution.headers

    @property
    def call_headers(self) -> Headers:
        """The headers that the caller gave; a copy."""
        return dict(self._execution.call.headers)

    @property
    def id(self) -> str:
        """The id of the call."""
        return self._execution.call.id

    @property
    def job(self) -> str | None:
        """The uuid of the job that the task runs for; None in a call that is no job."""
        call = self._execution.call
        return call.id if call.is_job else None

    @property
    def task(self) -> str:
        """The name by which the task was called."""
        return self._execution.task.name

    @property
    def attempt(self) -> int:
        """1 for the first time; one more for each retry, and for each process of this worker that it took down."""
        return self._execution.attempt

    @property
    def remaining(self) -> float | None:
        """Seconds that the task may still run; None where unlimited."""
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
    ) -> "NestedCall":
        """Call another task: `context.call("stat").result()`, or `await context.call("stat")` in an `async def`.

        The call has what is left of this task's own budget, its priority and its trace headers, and ends with it: when
        this task is interrupted, or returns without waiting, the call is cancelled. Called tasks need free slots: tasks
        that wait for each other on too few of them end by their deadline.

        Args:
            priority: 0-255; None: that of this call.
            expiration: seconds, or text like "10m"; never more than is left of the budget, which is the default (60
                seconds where that is unlimited).
            headers: for the task; `traceparent`, `tracestate` and `baggage` are passed on.
            timeout, persistent, serializer, id: as for `Client.call`.
            data: deprecated name of `payload`.

        Raises:
            ExpirationError: nothing is left of the budget; nothing was sent.
            Canceled: this task was interrupted; nothing was sent.
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

    def progress(self, value: Any) -> None:
        """Say how far the job is: its record has `value` until the next. In a call that is no job it does nothing.

        It does not block, and may be called as often as one likes, also from threads and asyncio tasks that have the
        task's context (`asyncio.to_thread`, `contextvars.copy_context().run`): some ten values a second leave, the
        newest each time, and the last one before the end of the job. What a task says while it cleans up after an
        interrupt is recorded, too.

        Args:
            value: anything that JSON carries, in 64 KiB at most.

        Raises:
            TooLarge: it has more.
            SerializationError: JSON cannot carry it.
            RuntimeError: no task runs here.
        """
        execution = self._execution
        if self._say is None:
            raise RuntimeError("context.progress can be used inside a running worker only")
        self._say(execution, value)

    def bind(self, call: "Callable[..., NestedCall]", say: "Callable[[Execution, Any], None]") -> None:
        """Make calls with `call`, and say how far jobs are with `say`, from now on."""
        self._call = call
        self._say = say

    def shield(self) -> Shield:
        """Put an interrupt off while something must not break, a commit say: `with context.shield(): ...`.

        What would have struck inside is raised at the end of the outermost shield. The caller is answered on time all
        the same, and a section that is longer than the worker's `--grace` goes with its process. An `async def` task
        writes `with` too.
        """
        return Shield(self._execution)

    @property
    def _execution(self) -> "Execution":
        execution = current_execution.get()
        if execution is None:
            raise RuntimeError("no task is running here: context tells of one only inside a task's own thread")
        return execution


context = Context()
