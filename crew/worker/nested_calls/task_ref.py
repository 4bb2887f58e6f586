"""`NestedTaskRef`: a task that another task calls with arguments; `context.task_ref` makes it."""

from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypedDict, TypeVar

from crew.client.calling.target import Target, target_of
from crew.duration import Duration
from crew.protocol.message import Headers
from crew.worker.nested_calls.call import NestedCall

P = ParamSpec("P")
R = TypeVar("R")


class NestedOptions(TypedDict, total=False):
    """Keyword arguments of `context.task_ref`: those of `context.call`."""

    priority: int | None
    expiration: Duration | None
    timeout: Duration | None
    persistent: bool
    serializer: str | None
    headers: Headers | None
    id: str | None


OPTIONS: Final = tuple(NestedOptions.__annotations__)


class NestedTaskRef(Generic[P, R]):
    """A task that another task calls with arguments: `crew.client.TaskRef` for `context`.

    Args:
        task: its name, or its function.
        options: of its calls.
        call: `context.call`.
    """

    def __init__(
        self, task: str | Callable[..., Any], options: dict[str, Any], *, call: Callable[..., NestedCall[Any]]
    ) -> None:
        self._call = call
        self._target: Target = target_of(task, options, OPTIONS)

    def __repr__(self) -> str:
        return f"<NestedTaskRef of task {self.name!r}>"

    @property
    def name(self) -> str:
        """Name of the task."""
        return self._target.task

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> NestedCall[R]:
        """Call the task with these arguments.

        Raises:
            InvalidArguments: the function is known, and they do not fit its parameters; nothing was sent.
            What `context.call` raises.
        """
        target = self._target
        nested: NestedCall[R] = self._call(self.name, target.arguments(args, kwargs), **target.options)
        nested.read = target.read_result
        return nested
