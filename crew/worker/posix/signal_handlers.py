"""The signal handlers that crew installs in a worker process: a process that a task forks drops them."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

Handler = Callable[[int, FrameType | None], object]

_installed: Final[dict[int, Handler]] = {}


def install(number: int, handler: Handler) -> None:
    """Call `handler` on signal `number` from now on. Only in the main thread."""
    signal.signal(number, handler)
    _installed[number] = handler


def do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal in this process only: unlike SIG_IGN, a handler does not pass on to programs that it starts."""


def remove() -> None:
    """Give the signals back that still have crew's handler: each does what it does in a new Python process."""
    for number, handler in _installed.items():
        if signal.getsignal(number) == handler:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _installed.clear()
