"""The end of a process: as Python ends it, but within a bounded time.

Python waits for all threads that are no daemons, and runs what is registered with `atexit`. A thread that never ends,
or a function that hangs, would keep a process that has drained for ever. So it has EXIT_TIMEOUT seconds for both.
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

EXIT_TIMEOUT: Final = 5.0  # seconds for threads and for what is registered with `atexit`
FORCED_EXIT_TIMEOUT: Final = 0.5  # the same while the main thread hangs: callers wait for the next process
FLUSH_WITHIN: Final = 1.0  # seconds: a pipe that nobody reads takes nothing


def forget_inherited() -> None:
    """At the beginning of a worker process: leave the temporary files that its supervisor has made to the supervisor.

    What a module has registered with `atexit` runs in each process that ends, as after any `os.fork`.
    """
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def end_process(code: int) -> NoReturn:
    """End this worker process: wait for its threads, run its `atexit` functions, flush stdout and stderr.

    It does not come back, and ends the process after EXIT_TIMEOUT in any case. In another thread than the main one it
    waits for no thread, and ends the process after FORCED_EXIT_TIMEOUT: the main thread hangs in a task then.
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
        _leave(code)


def bound_exit(code: int) -> None:
    """Bound the end of this process, which is in the hands of its main thread from now on.

    SIGTERM or SIGINT end it at once. Once the main thread has returned, Python has EXIT_TIMEOUT for the rest.

    Args:
        code: exit status where Python does not come to set its own.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: _leave(code))
    threading.Thread(target=_end_after_main, args=(code,), name="crew process end", daemon=True).start()


def _end_after_main(code: int) -> None:
    threading.main_thread().join()
    _end_late(code, EXIT_TIMEOUT)


def _end_late(code: int, timeout: float) -> NoReturn:
    time.sleep(timeout)
    threads = [one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    what = f"threads still run: {', '.join(threads)}" if threads else "functions registered with atexit still run"
    logger.warning("process %d ends now, though %s", os.getpid(), what)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Flush and end, also where another thread hangs while it flushes."""
    try:
        flushing = threading.Thread(target=stdio.flush, name="crew flush", daemon=True)
        flushing.start()
        flushing.join(FLUSH_WITHIN)
    except RuntimeError:  # no thread can be started any longer
        stdio.flush()
    finally:
        os._exit(code)
