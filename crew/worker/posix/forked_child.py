"""Separates a process that a task forks from its worker process: signal handlers, sockets, event loop.

`os.fork` and multiprocessing copy the whole process. With crew's SIGTERM handler the copy could not be terminated. With
its sockets the broker would see a dead worker process as alive, and would not redeliver its calls. A program that a
task executes inherits neither: `exec` closes Python's descriptors and resets handlers.
"""

import contextlib
import os
import selectors
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from crew.worker.posix import signal_handlers, stdio

is_child = False  # whether this process was forked by a task


def separate(selector: selectors.BaseSelector, on_forked: Callable[[], object]) -> None:
    """Separate each process that this process forks from now on. Call it once in a worker process.

    Args:
        selector: of the I/O thread's event loop; the child process loses the descriptors that it watches.
        on_forked: called in the child process.
    """
    fork = _Fork(selector, on_forked)
    os.register_at_fork(before=fork.before, after_in_parent=fork.in_parent, after_in_child=fork.in_child)


def end(error: BaseException | None = None) -> NoReturn:
    """Exit from this process, which a task forked, after the task has returned in it or has raised `error`.

    It must not run on as a second worker process. Its exit status is the one that Python would set.
    """
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    elif error is not None:
        code = 1
        with contextlib.suppress(Exception):
            traceback.print_exception(error)
    else:
        code = 0
    stdio.flush()
    os._exit(code & 0xFF)


class _Fork:
    """Callbacks before and after each fork, in the thread that forks.

    Signals are blocked during the fork: the child process would lose them, or run a handler of the worker process.
    (Python ignores exceptions in these callbacks, so an interrupt that arrives here is lost. It is sent again after a
    second.)
    """

    def __init__(self, selector: selectors.BaseSelector, on_forked: Callable[[], object]) -> None:
        self._selector = selector
        self._on_forked = on_forked
        self._masks: dict[int, set[int]] = {}  # thread -> its mask: several may fork at a time

    def before(self) -> None:
        self._masks[threading.get_ident()] = set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def in_parent(self) -> None:
        mask = self._masks.pop(threading.get_ident(), None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def in_child(self) -> None:
        global is_child
        try:
            if not is_child:  # a child of a child uses these descriptors for its own files
                is_child = True
                signal_handlers.remove()
                signal.set_wakeup_fd(-1)
                self._on_forked()
                self._drop_sockets()
        finally:
            self.in_parent()

    def _drop_sockets(self) -> None:
        """Replace each descriptor by the null device; the objects that hold it may close it later.

        These objects must not close it now: that would change the selector of the parent process. Connections to the
        broker have closed their sockets already (`crew.forks`).
        """
        watched = self._selector.get_map()
        descriptors = [key.fd for key in (watched or {}).values()]
        if hasattr(self._selector, "fileno"):  # epoll and kqueue
            descriptors.append(self._selector.fileno())
        still_open = [descriptor for descriptor in descriptors if _is_open(descriptor)]
        null = os.open(os.devnull, os.O_RDWR)  # may reuse the number of a closed descriptor
        for descriptor in still_open:
            os.dup2(null, descriptor, inheritable=False)
        os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
