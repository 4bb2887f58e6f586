"""`TaskRef`: a task that is called with arguments as a function is; `Client.task` makes it."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar

from crew.client.calling.call import PendingCall
from crew.client.calling.target import Target, target_of
from crew.client.options import TaskOptions

if TYPE_CHECKING:  # types only: a worker needs no job store
    from crew.jobs.handle import JobHandle

P = ParamSpec("P")
R = TypeVar("R")

OPTIONS: Final = tuple(TaskOptions.__annotations__)


class TaskRef(Generic[P, R]):
    """A task and the options of its calls: `client.task("resize", timeout=5)`. Calling it calls the task.

    thumbnail = client.task("resize", timeout=5)
    await thumbnail("cat.png", width=640)

    Everything in the parentheses of the call belongs to the task; the options were given before. A TaskRef of a
    function has the types of the function, and checks the arguments before it sends them. You may keep a TaskRef and
    call it as often as you like.

    Args:
        task: its name, or its function.
        options: of its calls.
        call, submit: methods of the client.
    """

    def __init__(
        self,
        task: str | Callable[..., Any],
        options: dict[str, Any],
        *,
        call: Callable[..., PendingCall[Any]],
        submit: "Callable[..., Coroutine[Any, Any, JobHandle]]",
    ) -> None:
        self._call = call
        self._submit = submit
        self._target: Target = target_of(task, options, OPTIONS)
        self._read = self._target.read_result

    def __repr__(self) -> str:
        return f"<TaskRef of task {self.name!r}>"

    @property
    def name(self) -> str:
        """Name of the task."""
        return self._target.task

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]:
        """Call the task with these arguments. Returns at once; await the result for the task's value.

        Raises:
            InvalidArguments: the function is known, and they do not fit its parameters; nothing was sent.
            TypeError: an option is none of `Client.call`.
            What `Client.call` raises.

        What awaiting it raises:
            InvalidArguments: they do not fit the parameters of the task in its worker.
            SerializationError: the value has not the type of the function's annotation.
            What awaiting `Client.call` raises.
        """
        target = self._target
        call: PendingCall[R] = self._call(self.name, target.arguments(args, kwargs), **target.options)
        call.read = self._read
        return call

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> "JobHandle":
        """Submit a job that runs the task with these arguments; returns when the job is accepted.

        Raises:
            InvalidArguments: as for a call.
            TypeError: an option is none of `Client.submit`.
            What `Client.submit` raises.
        """
        target = self._target
        job = await self._submit(self.name, target.arguments(args, kwargs), **target.options)
        job.read = self._read
        return job
