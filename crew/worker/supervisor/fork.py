"""Fork a worker process and prepare it: own session, own signals, none of the supervisor's sockets."""

import gc
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from crew.worker.posix import process_end, signal_handlers, stdio
from crew.worker.shared_state.exit_status import EXIT_BROKEN
from crew.worker.supervisor.child_process import ChildProcess

RunChild = Callable[[int, socket.socket], int]


def fork(number: int, run_child: RunChild, *, closing: Iterable[socket.socket], signals: Iterable[int]) -> ChildProcess:
    """Fork a process that calls `run_child` with its number and its socket, and exits with the returned code.

    Args:
        closing: sockets of the supervisor, closed in the new process.
        signals: reset to the system's default action in the new process.

    Raises:
        OSError: no memory, process or descriptor is left.
    """
    ours, theirs = socket.socketpair()
    stdio.flush()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        raise
    else:
        if pid == 0:
            _be_child(lambda: run_child(number, theirs), (ours, *closing), signals)
    finally:
        theirs.close()
    return ChildProcess(pid, number, ours)


def _be_child(run: Callable[[], int], closing: Iterable[socket.socket], signals: Iterable[int]) -> NoReturn:
    """Run in the new process: leave the supervisor's session, sockets and signals, call `run`, exit."""
    code = EXIT_BROKEN
    try:
        # A garbage collection writes to each object that it looks at. Without this, the first one copies all pages with
        # objects that this process shares with the supervisor: 5 MiB for a worker without modules of its own.
        gc.freeze()
        os.setsid()
        signal.set_wakeup_fd(-1)
        for one in signals:
            signal.signal(one, signal.SIG_DFL)
        signal_handlers.install(signal.SIGINT, signal_handlers.do_nothing)  # Ctrl-C stops the supervisor
        stdio.prepare()
        process_end.forget_inherited()
        for inherited in closing:
            inherited.close()
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        process_end.end_process(code)
