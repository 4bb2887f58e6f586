"""Exit of a process, as Python does it, but within a bounded time.

Python waits for all non-daemon threads and runs the functions registered with `atexit`. A thread that never ends, or a
function that hangs, would keep a drained process alive for ever. Therefore both together have EXIT_TIMEOUT seconds.
"""

import atexit
import logging
import os
import signal
import threading
import time
import traceback
import weakref
from typing import Final, NoReturn

from crew.worker.posix import stdio

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT: Final = 5.0  # seconds for replies to reach the broker, before the exit begins
EXIT_TIMEOUT: Final = 5.0  # seconds for threads and for `atexit` functions
FORCED_EXIT_TIMEOUT: Final = 0.5  # the same if the main thread hangs: callers wait for the replacement
STDIO_TIMEOUT: Final = 1.0  # seconds to flush stdout and stderr: a full pipe without a reader blocks


def forget_inherited() -> None:
    """Leave the supervisor's temporary files to the supervisor; call this when a worker process begins.

    Functions that a module registered with `atexit` still run in each process that exits, as after any `os.fork`.
    """
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def end_process(code: int) -> NoReturn:
    """Exit from this worker process: wait for its threads, run its `atexit` functions, flush stdout and stderr.

    It never returns, and exits after EXIT_TIMEOUT in any case. If it is not called in the main thread, the main thread
    hangs in a task: then it waits for no thread, and exits after FORCED_EXIT_TIMEOUT.
    """
    is_forced = threading.current_thread() is not threading.main_thread()
    late = code, FORCED_EXIT_TIMEOUT if is_forced else EXIT_TIMEOUT
    try:
        threading.Thread(target=_end_late, args=late, name="crew process end", daemon=True).start()
        if not is_forced:
            threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing ends its processes
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        _exit(code)


def bound_exit(code: int) -> None:
    """Bound the time of this process's exit, which its main thread has begun.

    From now on SIGTERM and SIGINT end it at once. After the main thread has returned, Python has EXIT_TIMEOUT for the
    rest.

    Args:
        code: exit status if Python does not get to set its own.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: _exit(code))
    threading.Thread(target=_end_after_main, args=(code,), name="crew process end", daemon=True).start()


def _end_after_main(code: int) -> None:
    threading.main_thread().join()
    _end_late(code, EXIT_TIMEOUT)


def _end_late(code: int, timeout: float) -> NoReturn:
    time.sleep(timeout)
    threads = [one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    what = f"threads still run: {', '.join(threads)}" if threads else "functions registered with atexit still run"
    logger.warning("exit timeout after %g s: %s pid=%d", timeout, what, os.getpid())
    _exit(code)


def _exit(code: int) -> NoReturn:
    """Flush stdout and stderr and exit, even if another thread hangs while it flushes."""
    try:
        flushing = threading.Thread(target=stdio.flush, name="crew flush", daemon=True)
        flushing.start()
        flushing.join(STDIO_TIMEOUT)
    except RuntimeError:  # Python no longer starts threads
        stdio.flush()
    finally:
        os._exit(code)
