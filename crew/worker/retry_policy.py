"""Retry policy of a task: whether and when a call is run again after its task has raised."""

from collections.abc import Sequence
from typing import Any, Final, TypeGuard

import msgspec

from crew.duration import parse_duration

DEFAULT_BACKOFF: Final = (1.0, 60.0)  # seconds: the first delay, and the longest
SHORTEST_DELAY: Final = 0.001  # seconds: the broker delays by whole milliseconds
LONGEST_DELAY: Final = 86_400.0  # seconds: one day; a longer delay is probably a wrong unit

_DOUBLINGS: Final = 40  # enough to exceed the longest delay, starting from the shortest


class Verdict(msgspec.Struct, frozen=True):
    """Decision after an exception: retry or not.

    Attributes:
        delay: seconds until the call is run again; None: it is not.
        retryable: whether `retry_on` covers the exception.
        note: text about the attempts for the final error, or "".
    """

    delay: float | None
    retryable: bool = False
    note: str = ""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often, when and after which exceptions a call of a task is run again.

    Attributes:
        retries: executions after the first.
        backoff: seconds before the second execution, and the longest delay; each delay is twice the one before.
        retry_on: exceptions after which a call is retried.
    """

    retries: int = 0
    backoff: tuple[float, float] = DEFAULT_BACKOFF
    retry_on: tuple[type[Exception], ...] = (Exception,)

    def delay_after(self, attempt: int) -> float:
        """Seconds from the failure of execution number `attempt` (from 1) to the next execution; whole milliseconds."""
        first, longest = self.backoff
        return round(min(first * 2.0 ** min(attempt - 1, _DOUBLINGS), longest), 3)

    def verdict(self, error: Exception, *, attempt: int, deadline: float | None, now: float) -> Verdict:
        """Decide what to do after `error`, which execution number `attempt` has raised at `now`.

        Args:
            deadline: of the call, on the clock of `now`; None: no deadline. No execution starts after it.
        """
        # A reload may have reduced the retries of the task.
        note = f"attempt {attempt} of {max(attempt, self.retries + 1)}"
        retryable = self.retries > 0 and isinstance(error, self.retry_on)
        if not retryable or attempt > self.retries:
            return Verdict(None, retryable, note if attempt > 1 else "")
        delay = self.delay_after(attempt)
        if deadline is not None and now + delay >= deadline:
            return Verdict(None, retryable, f"{note}; no time for another")
        return Verdict(delay, retryable, f"{note}; another could not be sent")


def check_retry(retries: object, backoff: object, retry_on: object) -> Retry:
    """The policy from these three arguments of a task; raises ValueError if one is not valid."""
    return Retry(retries=_check_retries(retries), backoff=_check_backoff(backoff), retry_on=_check_retry_on(retry_on))


def _check_retries(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"retries must be an int of 0 or more, not {value!r}")
    return value


def _check_backoff(value: object) -> tuple[float, float]:
    try:
        delays = [parse_duration("delay", one) for one in value] if _is_sequence(value) else []
    except ValueError:
        delays = []
    if len(delays) != 2 or not SHORTEST_DELAY <= delays[0] <= delays[1] <= LONGEST_DELAY:
        raise ValueError(
            f"backoff must be two durations, the first delay and the longest, from {SHORTEST_DELAY} to "
            f'{LONGEST_DELAY:.0f} seconds, like (1, 60) or (1, "10m"), not {value!r}'
        )
    return delays[0], delays[1]


def _check_retry_on(value: object) -> tuple[type[Exception], ...]:
    if not (_is_sequence(value) and value and all(isinstance(one, type) for one in value)):
        raise ValueError(f"retry_on must be a tuple of exception classes, like (OSError,), not {value!r}")
    for one in value:
        if not issubclass(one, Exception):
            raise ValueError(f"retry_on must name subclasses of Exception, and {one.__qualname__} is none")
    return tuple(value)


def _is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, tuple | list)
