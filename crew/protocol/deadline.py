"""The durations of a call: how long it may take, how long it may run, what is left of both.

Durations are float seconds. An instant that travels is wall-clock epoch seconds (`time.time()`), because two hosts
share no monotonic clock; an instant that stays inside a process is `time.monotonic()` seconds.
"""

import re

from crew.protocol.encoding.foreign import brief

DEFAULT_EXPIRATION = 60.0
MAX_DURATION = 366 * 86_400.0  # a year; anything longer is a unit mistaken
DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
HEARTBEAT_EVERY = 30.0  # between two words of a worker on a job that it runs: a message, and a write into the store
MAX_BROKER_TTL_MS = 2**32 - 1  # RabbitMQ refuses a larger per-message TTL


def check_duration(name: str, value: object, *, may_be_zero: bool = False) -> float:
    """Return `value` as float seconds.

    Args:
        may_be_zero: whether 0 is one, too: that of who waits for nothing.

    Raises:
        ValueError: `value` is not an int or float greater than 0 and at most a year.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number of seconds, not {brief(value)}")
    return _in_range(name, value, value, may_be_zero=may_be_zero)


def _in_range(name: str, seconds: float, given: object, *, may_be_zero: bool) -> float:
    """Return `seconds`; raises ValueError where they are out of range, which quotes what was `given`."""
    if not (0 < seconds <= MAX_DURATION or (may_be_zero and seconds == 0)):  # NaN is not either
        least = "at least" if may_be_zero else "greater than"
        raise ValueError(f"{name} must be {least} 0 and at most {MAX_DURATION:.0f} seconds, not {brief(given)}")
    return float(seconds)


def parse_duration(name: str, value: object, *, may_be_zero: bool = False) -> float:
    """Return `value` as float seconds: a number of them, or text like "90", "15m", "2h", "1d".

    Raises:
        ValueError: it is neither, or not a duration as `check_duration` has it.
    """
    if not isinstance(value, str):
        return check_duration(name, value, may_be_zero=may_be_zero)
    seconds = seconds_of(value)
    if seconds is None:
        raise ValueError(
            f'{name} must be a number of seconds, or text like "90", "15m", "2h", "1d", not {brief(value)}'
        )
    return _in_range(name, seconds, value, may_be_zero=may_be_zero)


def seconds_of(text: str) -> float | None:
    """What text like "90", "15m", "2h", "1d" says, from 0 on; None: it is no duration."""
    match = DURATION.fullmatch(text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


def remaining(deadline: float, now: float) -> float:
    """Seconds from `now` to `deadline`, both of one clock; never below 0."""
    return max(0.0, deadline - now)


def is_past(deadline: float | None, now: float) -> bool:
    """Whether `deadline` has been reached; None is never reached."""
    return deadline is not None and now >= deadline


def run_limit(*, timeouts: tuple[float | None, ...], deadline: float | None, started: float) -> float | None:
    """The instant at which an execution must end: the earliest of its deadline and its timeouts.

    Args:
        timeouts: how long the task may run, in seconds, as call and task have it; None where unlimited.
        deadline: when the call's whole budget ends, on the clock of `started`; None where unlimited.
        started: when the execution started.
    """
    limits = [started + timeout for timeout in timeouts if timeout is not None]
    if deadline is not None:
        limits.append(deadline)
    return min(limits, default=None)


def broker_ttl_ms(expiration: float) -> int:
    """The per-message TTL for `expiration` seconds: broker clean-up only, so a second late on purpose.

    RabbitMQ looks at a TTL only when the message reaches the head of its queue
    (https://www.rabbitmq.com/docs/ttl#per-message-ttl-caveats): the client's own timer is the authority on time.
    """
    return min(round((expiration + 1.0) * 1000), MAX_BROKER_TTL_MS)
