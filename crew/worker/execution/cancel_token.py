"""What `context.cancelled` is: an event that a signal handler may set.

`threading.Event` holds a lock while it is looked at; a handler that runs in just that moment, in the same thread, would
wait for it for ever. `queue.SimpleQueue.put` is made for this case:
https://docs.python.org/3/library/queue.html#simplequeue-objects
"""

import queue


class Cancellation:
    """Set once, never cleared."""

    def __init__(self) -> None:
        self._is_set = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __repr__(self) -> str:
        return f"<Cancellation: {'set' if self._is_set else 'not set'}>"

    def is_set(self) -> bool:
        """Whether the task should end."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds; whether it is set."""
        if not self._is_set:
            try:
                self._tokens.get(timeout=None if timeout is None else max(0.0, timeout))
            except queue.Empty:
                return self._is_set
            self._tokens.put(None)  # for the next who waits
        return True

    def set(self) -> None:
        """Tell the task to end."""
        self._is_set = True
        self._tokens.put(None)
