"""`@Task` and `HandlerClass`, and the registry of the tasks that this worker serves."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from crew.deprecated import warn_deprecated
from crew.duration import Duration, parse_duration
from crew.errors import SettingsError
from crew.protocol import topology
from crew.protocol.message import Call
from crew.signatures import parameters, registered
from crew.signatures.signature import Signature, signature_of, signature_of_method
from crew.worker.retry_policy import DEFAULT_BACKOFF, check_retry
from crew.worker.signature import mistake, origin_of

P = ParamSpec("P")
R = TypeVar("R")

MAX_QUEUE = 2**31 - 1  # calls; the longest queue length that all versions of RabbitMQ accept
MAX_TIMEOUT = 25 * 60.0  # seconds; the broker redelivers a call that is not acknowledged within 30 minutes


class Task:
    """Registers a function as a task under a name; the function itself does not change.

    @Task("resize", timeout=10)
    def resize(image):
        return ...

    Args:
        name: the name by which clients call the task.
        timeout: how long one execution may run: seconds, or text like "10m". Default: until the deadline of the call. A
            call may set a shorter timeout, not a longer one.
        long: whether a call is acknowledged when it starts; default False. Needed for a task that may run longer than
            25 minutes: the broker would deliver the call to a second worker after 30 minutes. A call that has started
            is then run at most once: if its process dies, its caller gets `WorkerLost`.
        retries: how often a call is run again after its execution has raised; default 0. Never after its deadline.
        backoff: delay before the first retry, and the longest delay; each delay is twice as long as the one before.
            Default (1, 60) seconds.
        retry_on: tuple of exceptions after which a call is retried; default (Exception,), which means all. A task that
            is interrupted, or calls `sys.exit()`, is not retried.
        max_queue: calls that may wait in its queue, without those that workers hold; one more raises Overloaded.
            Default: no limit. An existing queue keeps the limit with which it was declared.

    Raises:
        ValueError: an argument is not valid.
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
        self.function: Callable[..., Any] = _no_function
        self.handler: type[HandlerClass] | None = None  # `function` creates an instance of it for each execution

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        self.function = function
        registry.add(self)
        registered.add(function, self)
        return function

    def __repr__(self) -> str:
        return f"<Task {self.name}: {self.origin}>"

    @property
    def queues(self) -> tuple[topology.Queue, ...]:
        """The queues that deliver its calls: its own, and with `max_queue` the one for calls that come back."""
        own = topology.task_queue(self.name, max_queue=self.max_queue)
        return (own,) if self.max_queue is None else (own, topology.again_queue(self.name))

    @property
    def return_queue(self) -> str:
        """Name of the queue for a call that is run again."""
        return self.queues[-1].name

    def runs_once(self, call: Call) -> bool:
        """Whether the delivery of `call` is acknowledged at its start, so that it is not run again if its process dies.

        A job has no deadline: without a timeout it may run for ever.
        """
        if self.long or not call.persistent:
            return True
        if not call.is_job:
            return False
        timeouts = [timeout for timeout in (call.timeout, self.timeout) if timeout is not None]
        return min(timeouts, default=math.inf) > MAX_TIMEOUT

    @functools.cached_property
    def signature(self) -> Signature:
        """Its parameters and result; raises SettingsError if an annotation cannot be served."""
        if self.handler is not None and self.handler.has_parameters():
            return signature_of_method(self.name, self.handler, "process")
        return signature_of(self.name, self.function)

    @functools.cached_property
    def takes_any_payload(self) -> bool:
        """Whether its function takes any payload as it is."""
        return self.signature.is_untyped

    @property
    def is_async(self) -> bool:
        """Whether its function is an `async def`, wraps one or is wrapped in one, or has an async `__call__`."""
        function = self.function
        return any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function), type(function).__call__)))

    @property
    def origin(self) -> str:
        """Where the function is defined: name, file and line."""
        return origin_of(self.function)


class HandlerClass:
    """A task as a class: each execution creates an instance and calls `process()`, with the payload in `self.payload`.

    class Resize(HandlerClass):
        def process(self):
            return self.payload["width"] // 2

    Resize.bind("resize")

    If `process` has parameters, it gets the arguments, as a function does, and `self.payload` is None.
    """

    def __init__(self, payload: Any) -> None:
        self.payload = payload

    @property
    def data(self) -> Any:
        """Deprecated name of `payload`."""
        warn_deprecated("HandlerClass.data is now named HandlerClass.payload")
        return self.payload

    @data.setter
    def data(self, value: Any) -> None:
        self.payload = value

    def process(self) -> Any:
        """Return the task's value."""
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    @classmethod
    def has_parameters(cls) -> bool:
        """Whether `process` has parameters beside `self`."""
        return parameters.needs_arguments(cls, "process")

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

        def process(payload: Any) -> Any:
            return cls(payload).process()

        def process_arguments(*args: Any, **kwargs: Any) -> Any:
            return cls(None).process(*args, **kwargs)

        process = process_arguments if cls.has_parameters() else process
        process.__qualname__ = f"{cls.__qualname__}.process"
        process.__wrapped__ = cls.process  # type: ignore[attr-defined]  # so that errors name the line of the user's code
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
    """The tasks of this worker, by name, and the errors in their definitions."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._mistakes: list[str] = []

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, name: str) -> Task | None:
        """The task of that name, or None."""
        return self._tasks.get(name)

    def add(self, task: Task) -> None:
        """Register `task`. Its errors are reported by `check` at the start, as a sentence instead of a traceback."""
        other = self._tasks.get(task.name)
        if other is not None and other.origin != task.origin:
            self._mistakes.append(f"two tasks are named {task.name!r}: {other.origin} and {task.origin}")
        if wrong := mistake(task.name, task.function, task.handler):
            self._mistakes.append(wrong)
        if task.timeout is not None and task.timeout > MAX_TIMEOUT and not task.long:
            self._mistakes.append(
                f"task {task.name!r} has a timeout of {task.timeout:.0f} s, but the broker redelivers a call that is "
                f"not acknowledged within 30 minutes: write long=True, which acknowledges a call when it starts, or a "
                f"timeout of at most {MAX_TIMEOUT:.0f} s"
            )
        self._tasks[task.name] = task

    def clear(self) -> None:
        """Remove all tasks, for tests that register their own."""
        self._tasks.clear()
        self._mistakes.clear()

    def check(self) -> None:
        """Raise SettingsError if there is no task, or if the definition of a task has an error."""
        if not self._tasks:
            raise SettingsError('there is no task to serve: write @Task("name") above a function')
        if mistakes := [*self._mistakes, *self._mistakes_of_signatures()]:
            raise SettingsError("; ".join(dict.fromkeys(mistakes)))

    def _mistakes_of_signatures(self) -> Iterator[str]:
        """Why signatures cannot be served. They are read now, as annotations may name what is defined further down."""
        for task in self._tasks.values():
            if callable(task.function):
                try:
                    task.signature  # noqa: B018  # makes it
                except SettingsError as error:
                    yield str(error)


def _check_max_queue(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_QUEUE:
        raise ValueError(f"max_queue must be an int from 1 to {MAX_QUEUE}, or None for no limit, not {value!r}")
    return value


def _no_function(*_: object) -> None:
    raise TypeError("this Task has no function: write @Task above one")


registry = Registry()
