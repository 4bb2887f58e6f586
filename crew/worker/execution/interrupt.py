"""Why a task is interrupted, and the token by which it sees that."""

import enum
import queue

import msgspec


class InterruptReason(enum.StrEnum):
    """Why an execution is interrupted; the task reads it from `Interrupt.reason`."""

    TIMEOUT = "timeout"  # its own limit, or the deadline of the call, has passed
    CANCELED = "canceled"  # the caller canceled the call
    DRAIN = "drain"  # its worker stops


class CancelToken(msgspec.Struct, eq=False, gc=False):
    """The value of `context.canceled`: an event that a signal handler may set. It is set once and never cleared.

    `threading.Event` holds a lock during each of its methods. A signal handler that ran at that moment, in the same
    thread, would wait for this lock for ever. `queue.SimpleQueue.put` may be called from a signal handler:
    https://docs.python.org/3/library/queue.html#simplequeue-objects
    """

    _is_set: bool = False
    _tokens: queue.SimpleQueue[None] = msgspec.field(default_factory=queue.SimpleQueue)

    def __repr__(self) -> str:
        return f"<CancelToken: {'set' if self._is_set else 'not set'}>"

    def is_set(self) -> bool:
        """Whether the task should end."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the token is set, or for `timeout` seconds; return whether it is set."""
        if not self._is_set:
            try:
                self._tokens.get(timeout=None if timeout is None else max(0.0, timeout))
            except queue.Empty:
                return self._is_set
            self._tokens.put(None)  # for the next thread that waits
        return True

    def set(self) -> None:
        """Ask the task to end."""
        self._is_set = True
        self._tokens.put(None)
