"""Several calls at once, one result."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

from crew.client.calling.call import PendingCall, current_scope
from crew.client.options import CallOptions
from crew.errors import Canceled, is_abandonment


class Cancelable(Protocol):
    """A call that a group can cancel."""

    def cancel(self) -> bool:
        """Cancel it; False if it has ended already."""


C = TypeVar("C", bound=Cancelable)


class CallGroup(Generic[C]):
    """Calls that are made together. If an exception leaves its `with` block, they are canceled.

    Args:
        call: the client's method `call`.
    """

    def __init__(self, call: Callable[..., C]) -> None:
        self._call = call
        self._calls: list[C] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, task: str, payload: Any = None, **options: Unpack[CallOptions]) -> C:
        """Make a call, with the arguments, errors and result of the client's `call`."""
        call = self._call(task, payload, **options)
        self._calls.append(call)
        return call

    def cancel(self) -> None:
        """Cancel the calls that have not ended."""
        for call in self._calls:
            call.cancel()


class Parallel(CallGroup[PendingCall[Any]]):
    """Collects calls; `result()` waits for all of them.

    with client.parallel() as calls:
        calls.call("resize", {"width": 640})
        calls.call("stat")
    small, stat = await calls.result()

    Each call is sent when it is made. If an exception leaves the block, the calls are canceled.
    """

    async def result(self) -> list[Any]:
        """Wait for every call. Returns their values in the order of the calls, a failure as an exception value.

        Raises:
            Canceled: the current scope was abandoned, so that no caller is left to use the values.
        """
        if (scope := current_scope.get()) is not None:
            for call in self._calls:  # the scope waits for all of them, and this awaits one at a time
                scope.add(call)
        try:
            return [await _value_or_error(call) for call in self._calls]
        except Canceled:
            raise  # the scope has canceled the calls for which no other caller waits
        except BaseException:
            self.cancel()
            raise


async def _value_or_error(call: PendingCall[Any]) -> Any:
    try:
        return await call
    except Exception as error:
        if is_abandonment(error):
            raise
        return error
