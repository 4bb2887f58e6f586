"""The awaitable that `Client.call` returns."""

import asyncio
import logging
import types
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any, Final, Generic, TypeVar

import msgspec

from crew.client.calling.callback import call_back
from crew.client.calling.scope import Scope, current
from crew.errors import Canceled, ConnectionError
from crew.protocol.message import Body, Call, Headers

logger = logging.getLogger(__name__)

T = TypeVar("T")

OnAnswer = Callable[[Any, Headers], object]

_IN_THE_BROKER: Final = Body(b"", None)  # in place of a body


class PendingCall(Generic[T]):
    """A call without a reply yet: `await` it (or `yield` it in a `gen.coroutine`) for the task's value.

    Several may await one call; it ends once, and all get the same value or exception.

    A call may belong to scopes, and each who waits for it does so on behalf of the scope that is current where he
    waits, or of none. It is given up when the last of those leaves.

    Args:
        message: the call as it travels.
        callback: called with (value, headers) when the call ends; a failure comes as an exception value. May be a
            coroutine function. It runs in the context of whoever made the call, and so in his scope.
        on_canceled: told when nobody wants the answer any longer.

    Attributes:
        keeps_body: whether its value is the Body of the reply as it came, which is not decoded.
        is_awaited: whether anything has awaited it, or has given it a callback; else its failure is logged.
        refused_reply: why a reply to it was refused, where one was: see `crew.protocol.signing`.
    """

    refused_reply: str | None = None
    _value: T = None  # type: ignore[assignment]  # read only once the call has a value

    def __init__(
        self, message: Call, *, callback: OnAnswer | None, on_canceled: "Callable[[PendingCall[Any]], None]"
    ) -> None:
        self.message = message
        self.headers: Headers = {}
        self.has_started = False
        self.is_published = False
        self.was_published = False  # once, though maybe it has not arrived, and waits for the broker again
        self.is_confirmed = False
        self.held_bytes = 0  # of its body, as ByteBudget counts them
        self._callback = callback
        self._context = None if callback is None else copy_context()
        self._on_canceled = on_canceled
        self._is_done = False
        self.is_awaited = callback is not None
        self.keeps_body = False
        self._error: BaseException | None = None
        self._waiters: dict[asyncio.Future[str | None], Scope | None] = {}  # each with the scope he waits for
        self._scopes: tuple[Scope, ...] = ()
        self._ends_with_scopes = False

    @property
    def id(self) -> str:
        """The call's id: unique among the calls in flight."""
        return self.message.id

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.message.task

    def __repr__(self) -> str:
        return f"<PendingCall {self.id} of {self.task}: {self._state()}>"

    def __await__(self) -> Generator[Any, None, T]:
        self.is_awaited = True  # from here on: who is cancelled in the moment of its end has looked too
        return self._end()

    def _end(self) -> Generator[Any, None, T]:
        if not self._is_done:
            yield from self._wait(current.get())
        if self._error is not None:
            raise self._error
        return self._value

    def __del__(self) -> None:
        if self._error is not None and not self.is_awaited and not isinstance(self._error, Canceled):
            logger.warning("call %s of task %s failed, and nothing awaited it: %s", self.id, self.task, self._error)

    def done(self) -> bool:
        """Whether it has ended."""
        return self._is_done

    def confirm(self) -> None:
        """The broker has it, and keeps its body from now on: it need never be published again."""
        self.is_confirmed = True
        self.message = msgspec.structs.replace(self.message, body=_IN_THE_BROKER)

    def cancel(self) -> bool:
        """Give the call up: who awaits it gets Canceled. False where it has ended already."""
        return self._cancel(self._canceled())

    def settle(self, answer: Any, headers: Headers | None = None) -> bool:
        """End it with a value, or with an exception as `answer`; False where it has ended already."""
        if self._is_done:
            return False
        self._is_done = True
        self.headers = headers or {}
        if isinstance(answer, BaseException):
            self._error = answer
        else:
            self._value = answer
        self._let_go()
        if self._callback is not None and self._context is not None:
            of = f"call {self.id} of task {self.task}"
            self._context.run(call_back, self._callback, answer, self.headers, of=of)
        return True

    def leave(self, error: Exception) -> None:
        """End it with `error` without waking anything: the event loop of those who wait for it does not run here."""
        self._is_done = self.is_awaited = True
        self._error = error
        self._waiters, self._scopes, self._callback = {}, (), None

    @types.coroutine
    def ended(self) -> Generator[Any, None, T]:
        """As awaiting it, for a thread that has not asked for the value yet: `is_awaited` stays as it is."""
        return (yield from self._end())

    def value(self) -> T:
        """Its value; raises what it has failed with, and ConnectionError where it has not ended."""
        if self._error is not None:
            raise self._error
        if not self._is_done:
            raise ConnectionError(f"call {self.id} of task {self.task!r} has not ended")
        return self._value

    # --- scopes -----------------------------------------------------------------------------------------------------

    def join(self, scope: Scope, *, wholly: bool = False) -> None:
        """It belongs to `scope` from now on: see `Scope.add`."""
        self._ends_with_scopes |= wholly
        if scope not in self._scopes:
            self._scopes += (scope,)

    def part(self, scope: Scope) -> None:
        """It belongs to `scope` no longer."""
        self._scopes = tuple(one for one in self._scopes if one is not scope)

    def abandon(self, scope: Scope, why: str) -> bool:
        """Who waits for it on behalf of `scope` gets Canceled; whether it was given up, as nobody else wants it."""
        self.part(scope)
        for waiter in [waiter for waiter, of in self._waiters.items() if of is scope]:
            del self._waiters[waiter]
            _wake(waiter, why)
        return not self._is_wanted() and self._cancel(self._canceled(why))

    def _is_wanted(self) -> bool:
        if self._scopes or self._ends_with_scopes:
            return bool(self._scopes)
        return bool(self._waiters) or self._calls_back()

    def _calls_back(self) -> bool:
        """Whether it has a callback, of somebody who is still there."""
        if self._context is None:
            return False
        scope = self._context.get(current)
        return scope is None or not scope.is_abandoned

    # --- waiting and ending -----------------------------------------------------------------------------------------

    def _wait(self, scope: Scope | None) -> Generator[Any, None, None]:
        """Wait for the end; when the last who waits is cancelled by asyncio, the call is given up."""
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

    def _let_go(self) -> None:
        """Wake all who wait, and leave the scopes."""
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
        text = f"call {self.id} of task {self.task} was cancelled" + (f": {why}" if why else "")
        return Canceled(text, task=self.task, id=self.id, is_abandoned=why is not None)

    def _state(self) -> str:
        if not self._is_done:
            return "running" if self.has_started else "published" if self.is_published else "waiting for the broker"
        return f"failed: {self._error!r}" if self._error is not None else "returned"


def _wake(waiter: "asyncio.Future[str | None]", why: str | None) -> None:
    """Let somebody go on who waits: the call has ended, or, where there is a reason, he waits for nobody any longer."""
    if not waiter.done():
        waiter.set_result(why)
