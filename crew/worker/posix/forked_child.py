"""What a process that a task forks has of its worker process: nothing that is crew's.

`os.fork` and multiprocessing copy the whole process. With crew's handler of SIGTERM the copy could not be terminated;
with its sockets the broker would take the worker process for alive after its death, and would not deliver again what
it ran. Programs that a task executes get none of this: Python's descriptors are closed by `exec`, handlers are reset.
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
    """Separate every process that is forked here from now on. Once in a worker process.

    Args:
        selector: of the I/O thread's loop; what it watches is closed in the child.
        on_forked: called in the child.
    """
    fork = _Fork(selector, on_forked)
    os.register_at_fork(before=fork.before, after_in_parent=fork.in_parent, after_in_child=fork.in_child)


def end(error: BaseException | None = None) -> NoReturn:
    """End this process, which was forked by a task, where the task has returned in it or has raised `error`.

    It must not go on as a second worker process. The exit status is as Python would have it.
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
    """What happens before and after each fork, in the thread that forks.

    Signals are held back meanwhile: one for the child would be lost in it, or run a handler of the worker process. (An
    interrupt that lands in here is lost: Python ignores exceptions here. It is sent again after a second.)
    """

    def __init__(self, selector: selectors.BaseSelector, on_forked: Callable[[], object]) -> None:
        self._selector = selector
        self._on_forked = on_forked
        self._masks: dict[int, set[int]] = {}  # by thread: several may fork at a time

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
            if not is_child:  # else it is a child of a child, and what has these descriptors is its own
                is_child = True
                signal_handlers.remove()
                signal.set_wakeup_fd(-1)
                self._on_forked()
                self._drop_sockets()
        finally:
            self.in_parent()

    def _drop_sockets(self) -> None:
        """Put the null device in the place of each descriptor, which the objects that know it may close later.

        Nothing is closed by those objects: they would change what the parent waits for. Connections to the broker have
        closed their sockets already (`crew.forks`).
        """
        watched = self._selector.get_map()
        descriptors = [key.fd for key in (watched or {}).values()]
        if hasattr(self._selector, "fileno"):  # epoll and kqueue
            descriptors.append(self._selector.fileno())
        still_open = [descriptor for descriptor in descriptors if _is_open(descriptor)]
        null = os.open(os.devnull, os.O_RDWR)  # may have the number of one that is closed
        for descriptor in still_open:
            os.dup2(null, descriptor, inheritable=False)
        os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
