"""Raising an interrupt in another thread, and taking it back.

An exception is set in a thread from outside as a class, which the thread makes an instance of when it lands: between
two bytecodes, so not before a blocking call has returned.
https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
"""

import ctypes
import sys
import threading
import traceback
from typing import Final

from crew.errors import Interrupt
from crew.worker.execution.current import running
from crew.worker.execution.interrupt_reason import Reason


class _Landed(Interrupt):
    """Has reached its thread."""

    reason_of_class: Reason

    def __init__(self) -> None:
        super().__init__(self.reason_of_class)
        execution = running.get()
        if execution is not None:
            execution.is_owed = False


class _TimedOut(_Landed):
    reason_of_class = Reason.TIMEOUT


class _Canceled(_Landed):
    reason_of_class = Reason.CANCELED


class _Drained(_Landed):
    reason_of_class = Reason.DRAIN


_CLASSES: Final[dict[Reason, type[Interrupt]]] = {one.reason_of_class: one for one in (_TimedOut, _Canceled, _Drained)}


# Held from the look at a shield to the raising: else a shield is entered in between, finds nothing to take back, and
# what is sent then breaks it, or the clean-up after it.
sending: Final = threading.Lock()


def raise_in(thread: threading.Thread, reason: Reason) -> None:
    """Raise an Interrupt in `thread`, soon."""
    _set(thread.ident, _CLASSES[reason])


def retract() -> None:
    """Take back what is on its way to the calling thread, or about to be sent."""
    with sending:
        _set(threading.get_ident(), None)


def stack_of(thread: threading.Thread | None) -> str:
    """Where `thread` is, as the text of a traceback; "" where it has ended."""
    frame = None if thread is None or thread.ident is None else sys._current_frames().get(thread.ident)
    return "" if frame is None else "".join(traceback.format_stack(frame))


def stack_of_coroutine(coroutine: object) -> str:
    """Where `coroutine` awaits, as the text of a traceback; `asyncio.Task.get_stack` knows its outermost frame only."""
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
