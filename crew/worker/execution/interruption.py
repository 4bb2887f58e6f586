"""How the interrupt of one execution gets into its task: when it is raised, and what delays it."""

import math
import time
from typing import Final

import msgspec

from crew.protocol import failure
from crew.worker.execution.interrupt import CancelToken

ONE_INTERRUPT: Final = 0.5  # seconds within which one interrupt is enough, whichever thread sends it


class Interruption(msgspec.Struct, eq=False):
    """The way of one interrupt, from the thread that decided it to the thread of the task.

    It has no lock, as an interrupt may be raised between any two lines.

    Attributes:
        shields: number of shields that the task is in.
        is_pending: it is decided and not raised yet: on its way, or waiting for the end of a shield.
        requested_at: time.monotonic() at which the watchdog last had it sent.
        raised_at: time.monotonic() at which it was last raised.
        hung_at: where the task was when the interrupt was decided, as the text of a traceback; "" unless debugging.
        stopped_at: where it was raised in the task, as the text of a traceback.
        stopped_by: the exception, while that text is being made.
        canceled: set when the task should end.
    """

    shields: int = 0
    is_pending: bool = False
    requested_at: float = -math.inf
    raised_at: float = -math.inf
    hung_at: str = ""
    stopped_at: str = ""
    stopped_by: BaseException | None = None
    canceled: CancelToken = msgspec.field(default_factory=CancelToken)

    def begin(self) -> bool:
        """Mark it as pending; return whether it may be sent now. If not, the end of the shield raises it."""
        self.is_pending = True
        if self.shields:
            return False
        self.raised_at = time.monotonic()
        return True

    def end(self) -> None:
        """Mark it as raised: it is pending no longer."""
        self.is_pending = False
        self.raised_at = time.monotonic()

    def was_raised_lately(self, now: float, *, within: float = ONE_INTERRUPT) -> bool:
        """Whether it was raised in the last `within` seconds: the task is probably cleaning up."""
        return now - self.raised_at < within

    def where(self) -> str:
        """Where it was raised in the task, as the text of a traceback; "" before that."""
        error = self.stopped_by
        return self.stopped_at or ("" if error is None else failure.describe(error).traceback)
