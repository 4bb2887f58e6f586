"""`@on_process_start` and `@on_process_stop`: hooks that set up and tear down resources of each worker process.

Worker processes are forked: a connection that a module opens when it is imported would be shared by all of them. A
start hook runs in each process before it takes a call, a stop hook after its last task. Both run in the main thread; an
`async def` hook runs on the event loop of the `async def` tasks.
"""

import faulthandler
import inspect
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import msgspec

from crew.duration import Duration, parse_duration
from crew.errors import Interrupt, SettingsError
from crew.log import Lines
from crew.protocol import failure
from crew.worker import signature
from crew.worker.executors.signals import ALARM
from crew.worker.posix import signal_handlers, stdio

if TYPE_CHECKING:
    import asyncio

F = TypeVar("F", bound=Callable[[], Any])

logger = logging.getLogger(__name__)

START_TIMEOUT: Final = 60.0  # seconds, unless the hook has its own timeout
STOP_TIMEOUT: Final = 10.0
GRACE: Final = 5.0  # seconds from the interrupt of a hook to the end of its process


class Hook(msgspec.Struct, frozen=True):
    """One hook function and its timeout in seconds."""

    function: Callable[[], Any]
    timeout: float

    @property
    def origin(self) -> str:
        """Name, file and line of the function."""
        return signature.origin_of(self.function)


class Hooks:
    """The hooks of this worker, in the order in which they were registered."""

    def __init__(self) -> None:
        self.start: list[Hook] = []
        self.stop: list[Hook] = []
        self._own_loop: asyncio.AbstractEventLoop | None = None  # if the process has no `async def` tasks

    @property
    def stop_timeout(self) -> float:
        """Seconds that all stop hooks of a process may take together."""
        return sum(hook.timeout + GRACE for hook in self.stop)

    def check(self) -> None:
        """Raise SettingsError if a hook cannot be called without arguments."""
        for hook in (*self.start, *self.stop):
            if not signature.takes(hook.function):
                raise SettingsError(
                    f"process hook {hook.origin} requires arguments, but hooks are called without any: remove them"
                )

    def run_start(self, loop: "asyncio.AbstractEventLoop | None") -> bool:
        """Run the start hooks; if one fails, log it, skip those after it and return False.

        Args:
            loop: for `async def` hooks; None if the process has no `async def` tasks.
        """
        return all(_run(hook, "start", lambda: self._loop(loop)) for hook in self.start)

    def run_stop(self, loop: "asyncio.AbstractEventLoop | None") -> None:
        """Run the stop hooks, the last one first; log those that fail."""
        for hook in reversed(self.stop):
            _run(hook, "stop", lambda: self._loop(loop))

    def _loop(self, loop: "asyncio.AbstractEventLoop | None") -> "asyncio.AbstractEventLoop":
        if loop is not None:
            return loop
        if self._own_loop is None:
            import asyncio  # the supervisor needs none

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

    Hooks run in the order of their registration, in the main thread, with `context.settings`. They also run in
    processes that replace others, and after a reload. An `async def` hook runs on the event loop of the `async def`
    tasks. If a hook raises or takes too long, its traceback is logged and the process is restarted, after a delay that
    grows to 5 seconds.

    Args:
        timeout: seconds that it may take; default 60. After that SystemExit is raised in it, and 5 seconds later its
            process exits.

    Raises:
        ValueError: the timeout is not a duration.
    """
    return _registered(hooks.start, function, timeout)


@overload
def on_process_stop(function: F, /) -> F: ...
@overload
def on_process_stop(*, timeout: Duration = STOP_TIMEOUT) -> Callable[[F], F]: ...
def on_process_stop(function: F | None = None, /, *, timeout: Duration = STOP_TIMEOUT) -> F | Callable[[F], F]:
    """Run a function in each worker process after its last task, if the process ends in order.

    Hooks run in the reverse order of their registration, otherwise like those of `on_process_start`. A hook that raises
    or takes too long is logged. No hook runs if the process is killed, or replaced because a task cannot be
    interrupted.

    Args:
        timeout: seconds that it may take; default 10. After that SystemExit is raised in it, and 5 seconds later its
            process exits.

    Raises:
        ValueError: the timeout is not a duration.
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


def _run(hook: Hook, kind: str, loop: "Callable[[], asyncio.AbstractEventLoop]") -> bool:
    """Run one hook and log its failure; returns whether it succeeded."""
    began = time.monotonic()
    try:
        _call_bounded(hook, loop)
    except BaseException as error:
        logger.error(
            "process %s hook failed: hook=%s seconds=%.3f%s%s",
            kind,
            hook.origin,
            time.monotonic() - began,
            "; restarting this process" if kind == "start" else "",
            Lines(failure.describe(error).traceback),
        )
        return False
    return True


def _call_bounded(hook: Hook, loop: "Callable[[], asyncio.AbstractEventLoop]") -> None:
    """Call a hook; after its timeout interrupt it, and after GRACE exit from the process."""
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
