"""The calls made on behalf of one HTTP request, or of one execution: they end with it.

What runs while a scope is current makes its calls, and waits for calls, on the scope's behalf. `current` is inherited
by asyncio tasks and by the runners of `gen.coroutine`, so that `gather` and `yield` need no care. When the scope is
abandoned, everybody who waits on its behalf gets Canceled, and a call for which nobody else waits is cancelled.
"""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from crew.errors import Canceled

if TYPE_CHECKING:
    from crew.client.calling.call import PendingCall


class Scope:
    """On whose behalf calls are made; it serves one event loop.

    with Scope() as scope:                       # a scope of its own, whatever surrounds it
        call = client.call("resize", image)      # belongs to it
        ...
        scope.abandon("the browser has gone")    # now `await call` raises Canceled

    A scope that is left, or closed, lets go of its calls: they go on.
    """

    def __init__(self) -> None:
        self._calls: dict[PendingCall[Any], None] = {}  # in their order; each leaves it when it ends
        self._why: str | None = None
        self._is_closed = False
        self._before: Token[Scope | None] | None = None

    def __repr__(self) -> str:
        state = f"abandoned: {self._why}" if self._why is not None else "closed" if self._is_closed else "open"
        return f"<Scope of {self.in_flight} calls in flight: {state}>"

    def __enter__(self) -> "Scope":
        self._before = current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            current.reset(self._before)
            self._before = None
        self.close()

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody is left to hear an answer."""
        return self._why is not None

    @property
    def why(self) -> str | None:
        """Why it was abandoned."""
        return self._why

    @property
    def in_flight(self) -> int:
        """How many of its calls have not ended."""
        return len(self._calls)

    def enter(self) -> None:
        """Be current for the rest of this context: of an asyncio task, say."""
        current.set(self)

    def check(self, task: str) -> None:
        """Raise Canceled where it was abandoned: `task` is not called on its behalf."""
        if self._why is not None:
            raise Canceled(
                f"task {task!r} is not called: {self._why}. What has to run all the same belongs in a scope "
                "of its own: `with crew.client.Scope(): ...`",
                task=task,
                is_abandoned=True,
            )

    def add(self, call: "PendingCall[Any]", *, wholly: bool = False) -> None:
        """`call` is made on its behalf, too; it is given up at once where the scope was abandoned already.

        Args:
            call: one that may have ended, and may belong to other scopes.
            wholly: it ends with the last of its scopes, whoever else waits without a scope, or has a callback.
        """
        if call.done() or (self._is_closed and self._why is None):
            return
        self._calls[call] = None
        call.join(self, wholly=wholly)
        if self._why is not None:
            self._give_up(call, self._why)

    def discard(self, call: "PendingCall[Any]") -> None:
        """`call` is none of its calls any longer: it has ended."""
        self._calls.pop(call, None)

    def abandon(self, why: str) -> list["PendingCall[Any]"]:
        """Nobody is left to hear an answer: whoever waits on its behalf gets Canceled, and calls are given up.

        Args:
            why: for the message: "the HTTP client has gone".

        Returns:
            The calls that were cancelled: all in flight but those for which somebody else waits. None of them the
            second time, or after `close`.
        """
        if self._is_closed:
            return []
        self._why, self._is_closed = why, True
        return [call for call in list(self._calls) if self._give_up(call, why)]

    def close(self) -> None:
        """It has come to its end: let go of the calls, which go on; idempotent."""
        self._is_closed = True
        for call in self._calls:
            call.part(self)
        self._calls.clear()

    def _give_up(self, call: "PendingCall[Any]", why: str) -> bool:
        self.discard(call)
        return call.abandon(self, why)


current: Final[ContextVar[Scope | None]] = ContextVar("current", default=None)
