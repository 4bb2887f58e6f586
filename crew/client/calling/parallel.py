"""Several calls at once, one answer."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Unpack

from crew.client.calling.call import PendingCall
from crew.client.calling.scope import current
from crew.client.options import CallOptions
from crew.errors import Canceled, is_abandonment


class Parallel:
    """Collects calls; `result()` waits for all of them.

    with client.parallel() as calls:
        calls.call("resize", {"width": 640})
        calls.call("stat")
    small, stat = await calls.result()

    The calls are on their way as soon as they are made. When the block is left by an exception, they are cancelled.
    """

    def __init__(self, call: Callable[..., PendingCall]) -> None:
        self._call = call
        self._calls: list[PendingCall] = []

    def __enter__(self) -> "Parallel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, task: str, data: Any = None, **options: Unpack[CallOptions]) -> PendingCall:
        """Make a call: arguments, errors and result are those of `Client.call`."""
        call = self._call(task, data, **options)
        self._calls.append(call)
        return call

    def cancel(self) -> None:
        """Cancel those that have not ended."""
        for call in self._calls:
            call.cancel()

    async def result(self) -> list[Any]:
        """Wait for every call; their values in the order of the calls, a failure as an exception value.

        Raises:
            Canceled: whoever it was done for has gone. It is over: nobody is left to look at a list of failures.
        """
        if (scope := current.get()) is not None:
            for call in self._calls:  # it waits for all of them, though it awaits one at a time
                scope.add(call)
        try:
            return [await _value_or_error(call) for call in self._calls]
        except Canceled:
            raise  # the scope has given up all for which nobody else waits
        except BaseException:
            self.cancel()
            raise


async def _value_or_error(call: PendingCall) -> Any:
    try:
        return await call
    except Exception as error:
        if is_abandonment(error):
            raise
        return error
