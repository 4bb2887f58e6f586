"""Scopes: groups the calls of one HTTP request or one execution, so that they are canceled together.

Code that runs while a scope is current makes its calls, and waits for calls, in that scope. asyncio tasks and the
runners of `gen.coroutine` inherit `current_scope`, so `gather` and `yield` work. When a scope is abandoned, everything
that waits in it gets Canceled, and a call without another waiter is canceled.
"""

from contextvars import Token
from types import TracebackType
from typing import Any

from crew.client.calling.call import CallScope, PendingCall, current_scope
from crew.errors import Canceled


class Scope:
    """A group of calls that can be canceled together. It serves one event loop.

    with Scope() as scope:                       # a new scope, independent of the surrounding one
        call = client.call("resize", image)      # belongs to it
        ...
        scope.abandon("the browser has gone")    # now `await call` raises Canceled

    When the block is left, or the scope is closed, the calls leave it and go on.
    """

    def __init__(self) -> None:
        self._calls: dict[PendingCall[Any], None] = {}  # in their order; each leaves when it ends
        self._why: str | None = None
        self._is_closed = False
        self._before: Token[CallScope | None] | None = None

    def __repr__(self) -> str:
        state = f"abandoned: {self._why}" if self._why is not None else "closed" if self._is_closed else "open"
        return f"<Scope of {self.in_flight} calls in flight: {state}>"

    def __enter__(self) -> "Scope":
        self._before = current_scope.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            current_scope.reset(self._before)
            self._before = None
        self.close()

    @property
    def is_abandoned(self) -> bool:
        """Whether `abandon` was called: no caller is left to take a result."""
        return self._why is not None

    @property
    def why(self) -> str | None:
        """Why it was abandoned."""
        return self._why

    @property
    def in_flight(self) -> int:
        """The number of its calls that have not ended."""
        return len(self._calls)

    def enter(self) -> None:
        """Make it the current scope for the rest of this context, for example of an asyncio task."""
        current_scope.set(self)

    def check(self, task: str) -> None:
        """Raise Canceled if the scope was abandoned, so that `task` must not be called."""
        if self._why is not None:
            raise Canceled(
                f"task {task!r} is not called: {self._why}. To make a call anyway, use a new scope: "
                "`with crew.client.Scope(): ...`",
                task=task,
                is_abandoned=True,
            )

    def add(self, call: PendingCall[Any], *, wholly: bool = False) -> None:
        """Add `call` to the scope; if the scope was abandoned already, abandon the call at once.

        Args:
            call: may have ended, and may belong to other scopes.
            wholly: cancel the call with the last of its scopes, even if something waits without a scope, or the call
                has a callback.
        """
        if call.done() or (self._is_closed and self._why is None):
            return
        self._calls[call] = None
        call.join(self, wholly=wholly)
        if self._why is not None:
            self._abandon_call(call, self._why)

    def discard(self, call: PendingCall[Any]) -> None:
        """Remove `call`, which has ended."""
        self._calls.pop(call, None)

    def abandon(self, why: str) -> list[PendingCall[Any]]:
        """Cancel the calls of the scope, as no caller is left: everything that waits in the scope gets Canceled.

        Args:
            why: for the message: "the HTTP client has gone".

        Returns:
            The calls that were canceled. A call goes on if something outside of the scope waits for it. The list is
            empty the second time, or after `close`.
        """
        if self._is_closed:
            return []
        self._why, self._is_closed = why, True
        return [call for call in list(self._calls) if self._abandon_call(call, why)]

    def close(self) -> None:
        """End the scope: its calls leave it, and go on; idempotent."""
        self._is_closed = True
        for call in self._calls:
            call.leave(self)
        self._calls.clear()

    def _abandon_call(self, call: PendingCall[Any], why: str) -> bool:
        self.discard(call)
        return call.abandon(self, why)
