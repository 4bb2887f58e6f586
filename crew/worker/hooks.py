"""`@on_process_start` and `@on_process_stop`: what each worker process sets up for itself, and tears down.

A worker process is forked: a connection that a module opens when it is imported would be shared by all of them. A start
hook runs in each process before it takes a call, a stop hook after its last task. Both run in the main thread; an
`async def` hook runs on the event loop of the `async def` tasks.
"""

import asyncio
import faulthandler
import inspect
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

import msgspec

from crew.duration import Duration, parse_duration
from crew.errors import Interrupt, SettingsError
from crew.log import Lines
from crew.protocol import failure
from crew.worker import signature
from crew.worker.executors.signals import ALARM
from crew.worker.posix import signal_handlers, stdio

F = TypeVar("F", bound=Callable[[], Any])

logger = logging.getLogger(__name__)

START_TIMEOUT: Final = 60.0  # seconds, unless the hook says otherwise
STOP_TIMEOUT: Final = 10.0
GRACE: Final = 5.0  # seconds from the interrupt of a hook to the end of its process


class Hook(msgspec.Struct, frozen=True):
    """One function, and how many seconds it may take."""

    function: Callable[[], Any]
    timeout: float

    @property
    def origin(self) -> str:
        """Name, file and line."""
        return signature.origin_of(self.function)


class Hooks:
    """The hooks of this worker, in the order in which they were registered."""

    def __init__(self) -> None:
        self.start: list[Hook] = []
        self.stop: list[Hook] = []
        self._own_loop: asyncio.AbstractEventLoop | None = None  # where the process has no `async def` tasks

    @property
    def stop_timeout(self) -> float:
        """Seconds that all stop hooks of a process may take."""
        return sum(hook.timeout + GRACE for hook in self.stop)

    def check(self) -> None:
        """Raise SettingsError where a hook cannot be called."""
        for hook in (*self.start, *self.stop):
            if not signature.takes(hook.function):
                raise SettingsError(
                    f"a process hook is called without arguments, and {hook.origin} cannot be: remove its arguments"
                )

    def run_start(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Run the start hooks; False where one has failed, which is logged. Those after it do not run then.

        Args:
            loop: for `async def` hooks; None where the process has no `async def` tasks.
        """
        return all(_run(hook, "start", lambda: self._loop(loop)) for hook in self.start)

    def run_stop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Run the stop hooks, the last one first; one that fails is logged."""
        for hook in reversed(self.stop):
            _run(hook, "stop", lambda: self._loop(loop))

    def _loop(self, loop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
        if loop is not None:
            return loop
        if self._own_loop is None:
            self._own_loop = asyncio.new_event_loop()
        return self._own_loop


hooks = Hooks()


@overload
def on_process_start(function: F, /) -> F: ...
@overload
def on_process_start(*, timeout: Duration = START_TIMEOUT) -> Callable[[F], F]: ...
def on_process_start(function: F | None = None, /, *, timeout: Duration = START_TIMEOUT) -> F | Callable[[F], F]:
    """Run a function in each worker process before it takes its first call.

    @on_process_start
    def connect():
        context.settings.db = psycopg.connect(...)

    Hooks run in the order of their registration, in the main thread, with `context.settings`; also in the processes
    that replace others, and after a reload. An `async def` hook runs on the event loop of the `async def` tasks. Where
    a hook raises or takes too long, its traceback is logged, and the process is started again, after a delay that grows
    to 5 seconds.

    Args:
        timeout: seconds that it may take; default 60. It sees SystemExit then, and 5 seconds later its process ends.

    Raises:
        ValueError: the timeout is no duration.
    """
    return _registered(hooks.start, function, timeout)


@overload
def on_process_stop(function: F, /) -> F: ...
@overload
def on_process_stop(*, timeout: Duration = STOP_TIMEOUT) -> Callable[[F], F]: ...
def on_process_stop(function: F | None = None, /, *, timeout: Duration = STOP_TIMEOUT) -> F | Callable[[F], F]:
    """Run a function in each worker process after its last task, where the process ends in order.

    Hooks run in the reverse order of their registration, else as those of `on_process_start`. One that raises or takes
    too long is logged. None runs where the process is killed, or is replaced because a task cannot be interrupted.

    Args:
        timeout: seconds that it may take; default 10. It sees SystemExit then, and 5 seconds later its process ends.

    Raises:
        ValueError: the timeout is no duration.
    """
    return _registered(hooks.stop, function, timeout)


def _registered(among: list[Hook], function: F | None, timeout: Duration) -> F | Callable[[F], F]:
    seconds = parse_duration("timeout", timeout)

    def register(function: F) -> F:
        if not callable(function):
            raise ValueError(f"a process hook must be a function, not {function!r}")
        among.append(Hook(function, seconds))
        return function

    return register if function is None else register(function)


def _run(hook: Hook, kind: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> bool:
    """Whether it has returned."""
    began = time.monotonic()
    try:
        _call_bounded(hook, loop)
    except BaseException as error:
        logger.error(
            "process %s hook failed: hook=%s seconds=%.3f%s%s",
            kind,
            hook.origin,
            time.monotonic() - began,
            "; this process is started again" if kind == "start" else "",
            Lines(failure.describe(error).traceback),
        )
        return False
    return True


def _call_bounded(hook: Hook, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Call it; after its timeout it is interrupted, and where that does not help the process ends."""
    before = signal.getsignal(ALARM)
    stacks = stdio.descriptor_for_stacks()
    signal_handlers.install(ALARM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, hook.timeout)
    faulthandler.dump_traceback_later(hook.timeout + GRACE, exit=True, file=stacks)
    try:
        value = hook.function()
        if inspect.isawaitable(value):
            loop().run_until_complete(value)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(ALARM, before)
        os.close(stacks)


def _interrupt(_number: int, _frame: object) -> None:
    raise Interrupt("timeout")
