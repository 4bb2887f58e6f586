"""The calls that nobody wants any longer, remembered until their deadline: the broker may hand one out yet.

A job has no deadline, and is remembered until there are too many. The record of one that was forgotten, or never heard
of, still says that it was given up: whoever starts it says so, and is told to stop at once.
"""

import math
import time
from typing import Final

from crew.protocol.message import Control
from crew.worker.reason import Reason

SWEEP_EVERY: Final = 1_000  # cancels
MAX_KEPT: Final = 100_000  # cancels; the oldest go first, and a call that starts for nobody is cancelled once more


_Key = tuple[str, float | None]


class CanceledCalls:
    """The calls that are not to be started: each by its id and its deadline, as its id may be another call's by now."""

    def __init__(self) -> None:
        self._until: dict[_Key, tuple[float, Reason]] = {}  # -> epoch seconds, why
        self._sweep_at = SWEEP_EVERY

    def __len__(self) -> int:
        return len(self._until)

    def __repr__(self) -> str:
        return f"<CanceledCalls: {len(self)}>"

    def add(self, control: Control) -> None:
        """Remember the call that `control` is about."""
        now = time.time()
        until = math.inf if control.deadline is None else control.deadline  # a job may be queued for weeks
        key = control.id, control.deadline
        self._until.pop(key, None)
        self._until[key] = until, reason_of(control)
        if len(self._until) >= self._sweep_at:
            self._sweep(now)

    def get(self, id: str, deadline: float | None) -> Reason | None:
        """Why the call of this id and deadline (epoch seconds) must not be started; None where it may be."""
        return self._until.get((id, deadline), (0.0, None))[1]

    def _sweep(self, now: float) -> None:
        living = [(key, one) for key, one in self._until.items() if one[0] > now]
        self._until = dict(living[-MAX_KEPT:])
        self._sweep_at = len(self._until) + SWEEP_EVERY


def reason_of(control: Control) -> Reason:
    """Why its call is to end; a reason that a newer client may have is a cancel."""
    return Reason.TIMEOUT if control.reason == Reason.TIMEOUT else Reason.CANCELED
