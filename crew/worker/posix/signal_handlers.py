"""Signal handlers of a worker process; a process that a task forks removes them."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

Handler = Callable[[int, FrameType | None], object]

_installed: Final[dict[int, Handler]] = {}


def install(number: int, handler: Handler) -> None:
    """Call `handler` on signal `number`. Only the main thread may call this."""
    signal.signal(number, handler)
    _installed[number] = handler


def do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal in this process only: a program that it executes inherits SIG_IGN, but no handler."""


def remove() -> None:
    """Reset each signal that still has crew's handler to the action that it has in a new Python process."""
    for number, handler in _installed.items():
        if signal.getsignal(number) == handler:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _installed.clear()
