"""Raises an interrupt in another thread, retracts it, and reads the stack of a thread or coroutine.

`PyThreadState_SetAsyncExc` sets a class as the pending exception of a thread. The thread makes an instance of it and
raises that between two bytecodes, so not before a blocking call has returned.
https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
"""

import ctypes
import sys
import threading
import traceback
from typing import Final

from crew.errors import Interrupt
from crew.worker.execution.execution import current_execution
from crew.worker.execution.interrupt import InterruptReason


class _Raised(Interrupt):
    """An interrupt that its thread has raised: it is pending no longer."""

    reason_of_class: InterruptReason

    def __init__(self) -> None:
        super().__init__(self.reason_of_class)
        execution = current_execution.get()
        if execution is not None:
            execution.interruption.is_pending = False


class _TimedOut(_Raised):
    reason_of_class = InterruptReason.TIMEOUT


class _Canceled(_Raised):
    reason_of_class = InterruptReason.CANCELED


class _Drained(_Raised):
    reason_of_class = InterruptReason.DRAIN


_CLASSES: Final[dict[InterruptReason, type[Interrupt]]] = {
    one.reason_of_class: one for one in (_TimedOut, _Canceled, _Drained)
}


# Held from the check for a shield until the exception is set. Without it, the task could enter a shield in between,
# find nothing to retract, and be interrupted inside the shield, or in the clean-up after it.
sending: Final = threading.Lock()


def raise_in(thread: threading.Thread, reason: InterruptReason) -> None:
    """Have `thread` raise an Interrupt as soon as it runs Python code."""
    _set(thread.ident, _CLASSES[reason])


def retract() -> None:
    """Retract an interrupt of the calling thread that is not raised yet, also one that is being sent just now."""
    with sending:
        _set(threading.get_ident(), None)


def stack_of(thread: threading.Thread | None) -> str:
    """The stack of `thread` as the text of a traceback; "" if it has ended."""
    frame = None if thread is None or thread.ident is None else sys._current_frames().get(thread.ident)
    return "" if frame is None else "".join(traceback.format_stack(frame))


def stack_of_coroutine(coroutine: object) -> str:
    """The stack of `coroutine` as the text of a traceback; `asyncio.Task.get_stack` has its outermost frame only."""
    frames = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return "".join(traceback.StackSummary.extract(iter(frames)).format())


def _set(ident: int | None, kind: type[Interrupt] | None) -> None:
    thrown = ctypes.c_void_p(None) if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident or 0), thrown)
