"""`context` for a task that a test calls as a function, without a worker."""

import functools
from typing import TYPE_CHECKING, Any

from crew.protocol.message import Body, Call, Headers, new_id
from crew.worker.task import Task

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution

TASK = "called-directly"  # the name of the task in `context`: a function does not know under which it is registered


class DirectContext:
    """What one test's tasks see in `context`, and what they did with it.

    Attributes:
        progress: the values that were passed to `context.progress`, in their order.
        call_headers: headers of the call; a test sets them before it calls the task.
    """

    def __init__(self) -> None:
        self.progress: list[Any] = []
        self.call_headers: Headers = {}

    def __repr__(self) -> str:
        return f"<DirectContext: progress {self.progress}>"

    @functools.cached_property
    def execution(self) -> "Execution":
        """The execution that `context` reads."""
        from crew.worker.execution.execution import Execution  # with the AMQP stack: few tests need it

        call = Call(id=new_id(), task=TASK, body=Body(b"null", "application/json"), headers=self.call_headers)
        return Execution(None, call, Task(TASK))  # type: ignore[arg-type]  # no broker has delivered it

    @property
    def headers(self) -> Headers:
        """The headers of the reply, as the task has set them."""
        return self.execution.headers

    def cancel(self) -> None:
        """Set `context.canceled`, as if the caller had canceled the call."""
        self.execution.interruption.canceled.set()

    def report(self, value: Any) -> None:
        """Record a value of `context.progress`."""
        self.progress.append(value)
