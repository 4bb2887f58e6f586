"""What a running task sees of the world: `from crew.worker import context`."""

from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from crew.protocol.message import Headers

if TYPE_CHECKING:
    from crew.worker.cancellation import Cancellation
    from crew.worker.execution import Execution

running: ContextVar["Execution | None"] = ContextVar("running", default=None)


class ContextPubSub:
    """Publishing from inside a task."""

    def __init__(self) -> None:
        self._publish: Callable[..., None] | None = None

    def bind(self, publish: Callable[..., None]) -> None:
        """Publish with `publish` from now on."""
        self._publish = publish

    def publish(
        self, topic: str, message: Any = None, *, serializer: str | None = None, headers: Headers | None = None
    ) -> None:
        """Publish `message` on `topic`; returns when the broker has it. Arguments as for `Client.publish`.

        Raises:
            ConnectionError: the broker did not take it in time.
            ValueError, SerializationError: as `Client.publish` does.
            RuntimeError: no worker runs here.
        """
        if self._publish is None:
            raise RuntimeError("context.pubsub can be used inside a running worker only")
        self._publish(topic, message, serializer=serializer, headers=headers)


class Context:
    """The one `context`: it shows each task its own execution.

    Attributes:
        settings: what `run(**settings)` was given, kept between tasks, and besides: `uuid` of this worker process,
            `node_uuid` of its host, `options` of the command line.
        pubsub: for `context.pubsub.publish(topic, message)`.
    """

    def __init__(self) -> None:
        self.settings = SimpleNamespace()
        self.pubsub = ContextPubSub()

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
    def task(self) -> str:
        """The name by which the task was called."""
        return self._execution.task.name

    @property
    def attempt(self) -> int:
        """1 for the first time; one more for each retry, and for each worker process of this host that died over it."""
        return self._execution.attempt

    @property
    def remaining(self) -> float | None:
        """Seconds that the task may still run; None where unlimited."""
        return self._execution.remaining

    @property
    def cancelled(self) -> "Cancellation":
        """Set when the task should end: for loops that would rather look than be interrupted."""
        return self._execution.cancelled

    @property
    def _execution(self) -> "Execution":
        execution = running.get()
        if execution is None:
            raise RuntimeError("no task is running here: context tells of one only inside a task's own thread")
        return execution


context = Context()
