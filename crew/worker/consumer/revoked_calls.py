"""Cancels that this worker remembers: the broker may deliver a cancelled call later, which is then not started.

The cancel of a call is remembered until the deadline of the call. A job has no deadline: its cancel is remembered until
there are `MAX_KEPT` newer ones. A job whose cancel was forgotten, or never arrived, is still cancelled: its worker
reports the start, and the gateway answers with a cancel.
"""

import time
from typing import Final

from crew.protocol.briefing import digest
from crew.protocol.message import Control
from crew.worker.execution.interrupt import InterruptReason

SWEEP_EVERY: Final = 1_000  # cancels
MAX_KEPT: Final = 100_000  # cancels of each kind: those of calls never displace those of jobs
MAX_STORES: Final = 100  # whose answers are remembered

_JOB: Final = "job"
_Key = tuple[str, float | str | None]  # id; deadline, _JOB, or None for a cancel of an older client that names neither


class RevokedCalls:
    """The calls that are not to be started: each by its id and its deadline, as its id may be another call's by now."""

    def __init__(self) -> None:
        self._reasons: dict[_Key, InterruptReason] = {}
        self._sweep_at = SWEEP_EVERY
        self._given_up: dict[str, tuple[str, frozenset[bytes]]] = {}  # queue of a store -> question, digests of jobs

    def __len__(self) -> int:
        return len(self._reasons)

    def __repr__(self) -> str:
        return f"<RevokedCalls: {len(self)}>"

    def add(self, control: Control) -> None:
        """Remember the call that `control` cancels.

        A control that names one message is not remembered: it cancels a call that has started here, or nothing.
        """
        if control.message_id is not None:
            return
        key = control.id, _JOB if control.is_job else control.deadline
        self._reasons.pop(key, None)
        self._reasons[key] = reason_of(control)
        if len(self._reasons) >= self._sweep_at:
            self._sweep(time.time())

    def brief(self, queue: str, question: str, given_up: frozenset[bytes]) -> None:
        """The store of `queue` has answered the briefing `question`: those of its jobs are given up."""
        self._given_up.pop(queue, None)
        self._given_up[queue] = question, given_up
        while len(self._given_up) > MAX_STORES:
            del self._given_up[next(iter(self._given_up))]

    def is_revoked_job(self, job: str) -> bool:
        """Whether a store has named the job of this id in its last answer to a briefing."""
        return any(given_up and digest(question, job) in given_up for question, given_up in self._given_up.values())

    def get(self, id: str, deadline: float | None, *, is_job: bool = False) -> InterruptReason | None:
        """Why the call of this id and deadline (epoch seconds) must not be started; None where it may be."""
        reason = self._reasons.get((id, deadline))
        if reason is None and is_job:
            reason = self._reasons.get((id, _JOB)) or (InterruptReason.CANCELED if self.is_revoked_job(id) else None)
        return reason

    def _sweep(self, now: float) -> None:
        """Forget the calls whose deadline is over, and the oldest of each kind above `MAX_KEPT`."""
        kinds: dict[object, list[_Key]] = {}
        for key in self._reasons:
            if not isinstance(key[1], float) or key[1] > now:
                kinds.setdefault(type(key[1]), []).append(key)
        self._reasons = {key: self._reasons[key] for keys in kinds.values() for key in keys[-MAX_KEPT:]}
        self._sweep_at = len(self._reasons) + SWEEP_EVERY


def reason_of(control: Control) -> InterruptReason:
    """Why its call is to end; a reason that a newer client may have is a cancel."""
    return InterruptReason.TIMEOUT if control.reason == InterruptReason.TIMEOUT else InterruptReason.CANCELED
