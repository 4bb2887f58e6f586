"""Beginning with an event loop that does not run yet.

asyncio does not tell when a loop begins to run. What runs a loop asks asyncio's policy for a new one before
(`asyncio.run`, Tornado's `IOLoop.current`), so the policy is listened to while something waits for that.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Final

_waiting: Final[list[tuple[int, "weakref.WeakMethod[Callable[[], None]]"]]] = []  # thread, what begins there


def when_one_runs(begin: Callable[[], None]) -> None:
    """Call `begin` as soon as an event loop runs in this thread; never where that is a loop that is not asyncio's own.

    Args:
        begin: a method; its object may end before.
    """
    _waiting.append((threading.get_ident(), weakref.WeakMethod(begin)))
    policy = asyncio.get_event_loop_policy()
    loop = getattr(getattr(policy, "_local", None), "_loop", None)
    if loop is not None and not loop.is_closed():
        loop.call_soon(_begin)  # made for this thread already
    if not isinstance(vars(policy).get("new_event_loop"), _NewEventLoop):
        policy.new_event_loop = _NewEventLoop(policy)  # type: ignore[method-assign]


class _NewEventLoop:
    """In place of a policy's `new_event_loop` while something waits."""

    def __init__(self, policy: asyncio.AbstractEventLoopPolicy) -> None:
        self._policy = policy
        self._make: Callable[[], asyncio.AbstractEventLoop] = policy.new_event_loop

    def __call__(self) -> asyncio.AbstractEventLoop:
        loop = self._make()
        if _waiting:
            loop.call_soon(_begin)
        else:
            vars(self._policy).pop("new_event_loop", None)
        return loop


def _begin() -> None:
    """A loop runs in this thread."""
    here = threading.get_ident()
    methods = [method for thread, method in _waiting if thread == here]
    _waiting[:] = [one for one in _waiting if one[0] != here and one[1]() is not None]
    for method in methods:
        if (begin := method()) is not None:
            begin()
