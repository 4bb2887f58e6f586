"""Revoked calls: calls that were canceled before their start, so that a later delivery of them does not run.

The cancel of a call is remembered until the deadline of the call. A job has no deadline: its cancel is remembered until
there are `MAX_REVOKED` newer ones. A job whose cancel was forgotten, or never arrived, is still canceled: its worker
reports the start, and the gateway answers with a cancel.
"""

from collections.abc import Callable
from typing import Final

from crew.clock import wall_time
from crew.protocol.message import Control
from crew.protocol.revocation_request import digest
from crew.worker.execution.interrupt import InterruptReason

SWEEP_EVERY: Final = 1_000  # cancels
MAX_REVOKED: Final = 100_000  # cancels of each kind
MAX_STORES: Final = 100  # stores whose revoked jobs are remembered

_JOB: Final = "job"
_Key = tuple[str, float | str | None]  # id; deadline, _JOB, or None for a cancel of an older client that names neither


class RevokedCalls:
    """Calls that must not start, by id and deadline, as a later call may have the same id.

    Args:
        most: cancels of each kind that are remembered: those of calls never displace those of jobs. Default 100,000.
        sweep_every: cancels between two sweeps. Default 1,000.
        wall: epoch seconds. Default: time.time.
    """

    def __init__(
        self, *, most: int = MAX_REVOKED, sweep_every: int = SWEEP_EVERY, wall: Callable[[], float] = wall_time
    ) -> None:
        self._most = most
        self._sweep_every = sweep_every
        self._wall = wall
        self._reasons: dict[_Key, InterruptReason] = {}
        self._sweep_at = sweep_every
        self._revoked_jobs: dict[str, tuple[str, frozenset[bytes]]] = {}  # queue of a store -> question, job digests

    def __len__(self) -> int:
        return len(self._reasons)

    def __repr__(self) -> str:
        return f"<RevokedCalls: {len(self)}>"

    def add(self, control: Control) -> None:
        """Remember the call that `control` cancels.

        A control that names one message is not remembered: it only cancels a call that has started already.
        """
        if control.message_id is not None:
            return
        key = control.id, _JOB if control.is_job else control.deadline
        self._reasons.pop(key, None)
        self._reasons[key] = reason_of(control)
        if len(self._reasons) >= self._sweep_at:
            self._sweep(self._wall())

    def set_revoked_jobs(self, queue: str, question: str, digests: frozenset[bytes]) -> None:
        """Set the revoked jobs of one store.

        Args:
            queue: of the store.
            question: that the store has answered; part of each digest.
        """
        self._revoked_jobs.pop(queue, None)
        self._revoked_jobs[queue] = question, digests
        while len(self._revoked_jobs) > MAX_STORES:
            del self._revoked_jobs[next(iter(self._revoked_jobs))]

    def is_revoked_job(self, job: str) -> bool:
        """Whether a store has named the job of this id in its last answer."""
        return any(digests and digest(question, job) in digests for question, digests in self._revoked_jobs.values())

    def get(self, id: str, deadline: float | None, *, is_job: bool = False) -> InterruptReason | None:
        """Why the call of this id and deadline (epoch seconds) must not start; None if it may."""
        reason = self._reasons.get((id, deadline))
        if reason is None and is_job:
            reason = self._reasons.get((id, _JOB)) or (InterruptReason.CANCELED if self.is_revoked_job(id) else None)
        return reason

    def _sweep(self, now: float) -> None:
        """Forget calls whose deadline has passed, and the oldest of each kind above the limit."""
        kinds: dict[object, list[_Key]] = {}
        for key in self._reasons:
            if not isinstance(key[1], float) or key[1] > now:
                kinds.setdefault(type(key[1]), []).append(key)
        self._reasons = {key: self._reasons[key] for keys in kinds.values() for key in keys[-self._most :]}
        self._sweep_at = len(self._reasons) + self._sweep_every


def reason_of(control: Control) -> InterruptReason:
    """InterruptReason of a cancel; a reason that only newer clients know counts as CANCELED."""
    return InterruptReason.TIMEOUT if control.reason == InterruptReason.TIMEOUT else InterruptReason.CANCELED
