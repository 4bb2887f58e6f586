"""PendingCall: the awaitable that `Client.call` returns."""

import asyncio
import logging
import types
from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from crew.amqp.outbox.outgoing import Outgoing
from crew.client.calling.callback import call_back
from crew.errors import Canceled, ConnectionError
from crew.protocol.message import Body, Call, Headers

logger = logging.getLogger(__name__)

T = TypeVar("T")

OnResult = Callable[[Any, Headers], object]


class CallScope(Protocol):
    """What a call needs of its scope: see `crew.client.Scope`."""

    @property
    def why(self) -> str | None:
        """Why it was abandoned; None if it was not."""

    @property
    def is_abandoned(self) -> bool:
        """Whether it was abandoned."""

    def check(self, task: str) -> None:
        """Raise Canceled if it was abandoned."""

    def add(self, call: "PendingCall[Any]", *, wholly: bool = False) -> None:
        """Add `call` to it."""

    def discard(self, call: "PendingCall[Any]") -> None:
        """Remove `call`, which has ended."""


current_scope: Final[ContextVar[CallScope | None]] = ContextVar("current_scope", default=None)

_IN_THE_BROKER: Final = Body(b"", None)  # in place of a body


class PendingCall(Generic[T]):
    """A call without a reply yet: `await` it (or `yield` it in a `gen.coroutine`) for the task's value.

    Several coroutines may await one call. It ends once, and all of them get the same value or exception.

    A call may belong to scopes. Each coroutine that waits does so in its current scope, if it has one. The call is
    canceled when the last waiter leaves.

    Args:
        message: the call message.
        callback: called with (value, headers) when the call ends; a failure comes as an exception value. May be a
            coroutine function. It runs in the context of the code that made the call, and so in its scope.
        on_canceled: called when the call is canceled.

    Attributes:
        keeps_body: whether its value is the undecoded Body of the reply.
        is_awaited: whether it was awaited, or has a callback; else its failure is logged.
        unsent: its message, while that waits for the broker in an outbox.
        read: reads its value back by the annotation of its task; None: the value is as it has arrived.
        refused_reply: why a reply to it was refused, or None: see `crew.protocol.signing`.
    """

    read: Callable[[Any], T] | None = None
    refused_reply: str | None = None
    _value: T = None  # type: ignore[assignment]  # read only once the call has a value

    def __init__(
        self, message: Call, *, callback: OnResult | None, on_canceled: "Callable[[PendingCall[Any]], None]"
    ) -> None:
        self.message = message
        self.headers: Headers = {}
        self.has_started = False
        self.was_published = False  # at least once; it may wait for the broker again
        self.unsent: Outgoing | None = None
        self.is_confirmed = False
        self.held_bytes = 0  # of its body, as ByteBudget counts them
        self._callback = callback
        self._context = None if callback is None else copy_context()
        self._on_canceled = on_canceled
        self._is_done = False
        self.is_awaited = callback is not None
        self.keeps_body = False
        self._error: BaseException | None = None
        self._waiters: dict[asyncio.Future[str | None], CallScope | None] = {}  # each with its scope
        self._scopes: tuple[CallScope, ...] = ()
        self._ends_with_scopes = False

    @property
    def id(self) -> str:
        """The call's id: unique among the calls in flight."""
        return self.message.id

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.message.task

    @property
    def is_published(self) -> bool:
        """Whether the broker has it, or will confirm or refuse it."""
        return self.was_published and self.unsent is None

    def __repr__(self) -> str:
        return f"<PendingCall {self.id} of {self.task}: {self._state()}>"

    def __await__(self) -> Generator[Any, None, T]:
        self.is_awaited = True  # now: a waiter that is canceled when the call ends has awaited it, too
        return self._result()

    def _result(self) -> Generator[Any, None, T]:
        if not self._is_done:
            yield from self._wait(current_scope.get())
        if self._error is not None:
            raise self._error
        return self._value

    def __del__(self) -> None:
        if self._error is not None and not self.is_awaited and not isinstance(self._error, Canceled):
            logger.warning(
                "call failed, and nothing awaited it: call_id=%s task=%s: %s", self.id, self.task, self._error
            )

    def done(self) -> bool:
        """Whether it has ended."""
        return self._is_done

    def confirm(self) -> None:
        """Mark it as confirmed by the broker, and free its body: it is not published again."""
        self.is_confirmed = True
        self.message = msgspec.structs.replace(self.message, body=_IN_THE_BROKER)

    def cancel(self) -> bool:
        """Cancel the call: awaiting it raises Canceled. False if it has ended already."""
        return self._cancel(self._canceled())

    def settle(self, result: Any, headers: Headers | None = None) -> bool:
        """End it with a value, or with an exception as `result`; False if it has ended already."""
        if self._is_done:
            return False
        self._is_done = True
        self.headers = headers or {}
        if isinstance(result, BaseException):
            self._error = result
        else:
            self._value = result
        self._wake_all()
        if self._callback is not None and self._context is not None:
            of = f"call_id={self.id} task={self.task}"
            self._context.run(call_back, self._callback, result, self.headers, of=of)
        return True

    def detach(self, error: Exception) -> None:
        """End it with `error` without waking its waiters: their event loop is closed, or runs in another process."""
        self._is_done = self.is_awaited = True
        self._error = error
        self._waiters, self._scopes, self._callback, self.unsent = {}, (), None, None

    @types.coroutine
    def until_done(self) -> Generator[Any, None, T]:
        """As awaiting it, but `is_awaited` does not change: the calling thread has not asked for the value."""
        return (yield from self._result())

    def value(self) -> T:
        """Its value; raises the exception that it ended with, or ConnectionError if it has not ended."""
        if self._error is not None:
            raise self._error
        if not self._is_done:
            raise ConnectionError(f"call {self.id} of task {self.task!r} has not ended")
        return self._value

    # --- scopes -----------------------------------------------------------------------------------------------------

    def join(self, scope: CallScope, *, wholly: bool = False) -> None:
        """Add it to `scope`: see `Scope.add`."""
        self._ends_with_scopes |= wholly
        if scope not in self._scopes:
            self._scopes += (scope,)

    def leave(self, scope: CallScope) -> None:
        """Remove it from `scope`."""
        self._scopes = tuple(one for one in self._scopes if one is not scope)

    def abandon(self, scope: CallScope, why: str) -> bool:
        """Cancel the waiters in `scope`, and the call if nothing else waits; whether the call was canceled."""
        self.leave(scope)
        for waiter in [waiter for waiter, of in self._waiters.items() if of is scope]:
            del self._waiters[waiter]
            _wake(waiter, why)
        return not self._is_wanted() and self._cancel(self._canceled(why))

    def _is_wanted(self) -> bool:
        if self._scopes or self._ends_with_scopes:
            return bool(self._scopes)
        return bool(self._waiters) or self._calls_back()

    def _calls_back(self) -> bool:
        """Whether it has a callback, and the scope of the callback was not abandoned."""
        if self._context is None:
            return False
        scope = self._context.get(current_scope)
        return scope is None or not scope.is_abandoned

    # --- waiting and ending -----------------------------------------------------------------------------------------

    def _wait(self, scope: CallScope | None) -> Generator[Any, None, None]:
        """Wait for the end; when asyncio cancels the last waiter, the call is canceled."""
        if scope is not None:
            if scope.why is not None:
                raise self._canceled(scope.why)
            scope.add(self)
        waiter: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = scope
        try:
            why = yield from waiter
        except asyncio.CancelledError:
            self._waiters.pop(waiter, None)
            if not self._waiters and not self._calls_back():
                self.cancel()
            raise
        if why is not None:
            raise self._canceled(why)

    def _wake_all(self) -> None:
        """Wake all waiters, and leave the scopes."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            _wake(waiter, None)
        for scope in self._scopes:
            scope.discard(self)
        self._scopes = ()

    def _cancel(self, why: Canceled) -> bool:
        if self._is_done:
            return False
        self._on_canceled(self)
        return self.settle(why)

    def _canceled(self, why: str | None = None) -> Canceled:
        text = f"call {self.id} of task {self.task} was canceled" + (f": {why}" if why else "")
        return Canceled(text, task=self.task, id=self.id, is_abandoned=why is not None)

    def _state(self) -> str:
        if not self._is_done:
            return "running" if self.has_started else "published" if self.is_published else "waiting for the broker"
        return f"failed: {self._error!r}" if self._error is not None else "returned"


def _wake(waiter: "asyncio.Future[str | None]", why: str | None) -> None:
    """Wake a waiter: the call has ended, or, with a reason, its scope was abandoned."""
    if not waiter.done():
        waiter.set_result(why)
