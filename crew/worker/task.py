"""`@Task`, `HandlerClass`, and the registry of what this worker serves."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from crew.duration import Duration, parse_duration
from crew.errors import SettingsError
from crew.protocol import topology
from crew.protocol.arguments import warn_deprecated
from crew.protocol.message import Call
from crew.worker.retry_policy import DEFAULT_BACKOFF, check_retry
from crew.worker.signature import mistake, origin_of

P = ParamSpec("P")
R = TypeVar("R")

MAX_QUEUE = 2**31 - 1  # calls: what every version of the broker takes as the length of a queue
MAX_TIMEOUT = 25 * 60.0  # seconds: the broker takes a delivery back that is not acknowledged for 30 minutes


class Task:
    """Registers a function under a name; the function stays what it was.

    @Task("resize", timeout=10)
    def resize(image):
        return ...

    Args:
        name: by which clients call it.
        timeout: seconds that one execution may run; default: as long as the call's own budget lasts. A call may ask for
            less, not for more.
        long: whether a call is acknowledged when it starts; default False. For what may run longer than 25 minutes:
            the broker would hand it to a second worker after 30. From its start on it is run at most once: where its
            process dies, its caller gets `WorkerLost`.
        retries: how often a call is run again whose execution has raised; default 0. Never beyond the call's deadline.
        backoff: seconds until the first retry, and the longest until any, as each waits twice as long as the one
            before it; default (1, 60).
        retry_on: tuple of the exceptions that are worth a retry; default (Exception,), which is all of them. A task
            that is interrupted, or calls `sys.exit()`, is not run again.
        max_queue: calls that may wait in its queue, those that workers hold not counted; one more is Overloaded.
            Default: no bound. A queue that the broker has already keeps the bound that it was made with.

    Raises:
        ValueError: the name cannot be one, the timeout is no duration, retries, backoff or retry_on cannot work, or
            max_queue is no bound.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout: Duration | None = None,
        long: bool = False,
        retries: int = 0,
        backoff: tuple[Duration, Duration] = DEFAULT_BACKOFF,
        retry_on: tuple[type[Exception], ...] = (Exception,),
        max_queue: int | None = None,
    ) -> None:
        if callable(name):
            raise ValueError(f'a task needs a name: write @Task("{getattr(name, "__name__", "name")}")')
        self.name = topology.check_name("task", name)
        self.timeout = None if timeout is None else parse_duration("timeout", timeout)
        self.long = bool(long)
        self.retry = check_retry(retries, backoff, retry_on)
        self.max_queue = None if max_queue is None else _check_max_queue(max_queue)
        self.function: Callable[..., Any] = _not_bound
        self.handler: type[HandlerClass] | None = None  # of which `function` makes an instance for each execution

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        self.function = function
        registry.add(self)
        return function

    def __repr__(self) -> str:
        return f"<Task {self.name}: {self.origin}>"

    @property
    def queues(self) -> tuple[topology.Queue, ...]:
        """Over which its calls come: its own queue, and the one over which they come back where that has a bound."""
        own = topology.task_queue(self.name, max_queue=self.max_queue)
        return (own,) if self.max_queue is None else (own, topology.again_queue(self.name))

    @property
    def way_back(self) -> str:
        """Name of the queue for a call that is to be run again."""
        return self.queues[-1].name

    def runs_once(self, call: Call) -> bool:
        """Whether the delivery of `call` is acknowledged at its start, so that it is not run again if its process dies.

        A job has no deadline: without a timeout it may run for ever.
        """
        if self.long or not call.persistent:
            return True
        timeouts = [timeout for timeout in (call.timeout, self.timeout) if timeout is not None]
        return call.is_job and min(timeouts, default=math.inf) > MAX_TIMEOUT

    @property
    def is_async(self) -> bool:
        """Whether it is an `async def`, is wrapped in one or wraps one, or is an object that is called as one."""
        function = self.function
        return any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function), type(function).__call__)))

    @property
    def origin(self) -> str:
        """Where the function is defined: name, file and line."""
        return origin_of(self.function)


class HandlerClass:
    """A task as a class: `process()` runs with the payload in `self.payload`, in an instance of its own each time.

    class Resize(HandlerClass):
        def process(self):
            return self.payload["width"] // 2

    Resize.bind("resize")
    """

    def __init__(self, payload: Any) -> None:
        self.payload = payload

    @property
    def data(self) -> Any:
        """Deprecated name of `payload`."""
        warn_deprecated("HandlerClass.data is now named HandlerClass.payload")
        return self.payload

    def process(self) -> Any:
        """Return the task's value."""
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    @classmethod
    def bind(
        cls,
        name: str,
        *,
        timeout: Duration | None = None,
        long: bool = False,
        retries: int = 0,
        backoff: tuple[Duration, Duration] = DEFAULT_BACKOFF,
        retry_on: tuple[type[Exception], ...] = (Exception,),
        max_queue: int | None = None,
    ) -> None:
        """Serve the task `name` with this class; arguments as for `Task`."""

        def process(data: Any) -> Any:
            return cls(data).process()

        process.__qualname__ = f"{cls.__qualname__}.process"
        process.__wrapped__ = cls.process  # type: ignore[attr-defined]  # so that it is found where the user wrote it
        task = Task(
            name,
            timeout=timeout,
            long=long,
            retries=retries,
            backoff=backoff,
            retry_on=retry_on,
            max_queue=max_queue,
        )
        task.handler = cls
        task(process)


class Registry:
    """The tasks of this worker, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._mistakes: list[str] = []

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, name: str) -> Task | None:
        """The task of that name."""
        return self._tasks.get(name)

    def add(self, task: Task) -> None:
        """Remember `task`; what is wrong with it is told at start, where it costs one sentence and no traceback."""
        other = self._tasks.get(task.name)
        if other is not None and other.origin != task.origin:
            self._mistakes.append(f"two tasks are named {task.name!r}: {other.origin} and {task.origin}")
        if wrong := mistake(task.name, task.function, task.handler):
            self._mistakes.append(wrong)
        if task.timeout is not None and task.timeout > MAX_TIMEOUT and not task.long:
            self._mistakes.append(
                f"task {task.name!r} has a timeout of {task.timeout:.0f} s, and the broker would hand it to a second "
                f"worker after 30 minutes: write long=True, which acknowledges a call when it starts, or a timeout of "
                f"{MAX_TIMEOUT:.0f} s at most"
            )
        self._tasks[task.name] = task

    def clear(self) -> None:
        """Forget all: for tests that fill it themselves."""
        self._tasks.clear()
        self._mistakes.clear()

    def check(self) -> None:
        """Raise SettingsError where what was registered cannot be served."""
        if not self._tasks:
            raise SettingsError('there is no task to serve: write @Task("name") above a function')
        if self._mistakes:
            raise SettingsError("; ".join(dict.fromkeys(self._mistakes)))


def _check_max_queue(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_QUEUE:
        raise ValueError(f"max_queue must be an int from 1 to {MAX_QUEUE}, or None for no bound, not {value!r}")
    return value


def _not_bound(*_: object) -> None:
    raise TypeError("this Task was never put above a function")


registry = Registry()
