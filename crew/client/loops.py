"""Calls a method as soon as an event loop runs in this thread.

asyncio has no event for that. But code that runs a loop first gets a new loop from asyncio's policy (`asyncio.run`,
Tornado's `IOLoop.current`). So `new_event_loop` of the policy is wrapped while something waits.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Final

_waiting: Final[list[tuple[int, "weakref.WeakMethod[Callable[[], None]]"]]] = []  # thread, method to call there


def call_when_loop_runs(method: Callable[[], None]) -> None:
    """Call `method` as soon as an event loop of asyncio's policy runs in this thread; other loops are not noticed.

    Args:
        method: held by a weak reference: it is not called if its object is gone.
    """
    _waiting.append((threading.get_ident(), weakref.WeakMethod(method)))
    policy = asyncio.get_event_loop_policy()
    loop = getattr(getattr(policy, "_local", None), "_loop", None)
    if loop is not None and not loop.is_closed():
        loop.call_soon(_call_waiting)  # this thread has a loop already
    if not isinstance(vars(policy).get("new_event_loop"), _NewEventLoop):
        policy.new_event_loop = _NewEventLoop(policy)  # type: ignore[method-assign]


class _NewEventLoop:
    """Replaces `new_event_loop` of a policy while something waits."""

    def __init__(self, policy: asyncio.AbstractEventLoopPolicy) -> None:
        self._policy = policy
        self._make: Callable[[], asyncio.AbstractEventLoop] = policy.new_event_loop

    def __call__(self) -> asyncio.AbstractEventLoop:
        loop = self._make()
        if _waiting:
            loop.call_soon(_call_waiting)
        else:
            vars(self._policy).pop("new_event_loop", None)
        return loop


def _call_waiting() -> None:
    """Call the methods that wait in this thread: its loop runs."""
    here = threading.get_ident()
    methods = [method for thread, method in _waiting if thread == here]
    _waiting[:] = [one for one in _waiting if one[0] != here and one[1]() is not None]
    for method in methods:
        if (call := method()) is not None:
            call()
