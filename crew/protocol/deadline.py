"""Deadlines of a call: the time left, the time limit of an execution, and the broker's message TTL.

Durations are float seconds. A time in a message is epoch seconds (`time.time()`), because two hosts share no monotonic
clock. A time inside a process is `time.monotonic()` seconds.
"""

DEFAULT_EXPIRATION = 60.0
HEARTBEAT_EVERY = (
    30.0  # seconds between two heartbeats of a job that runs: each is a message and a write to the job store
)
MAX_BROKER_TTL_MS = 2**32 - 1  # RabbitMQ refuses a larger per-message TTL


def remaining(deadline: float, now: float) -> float:
    """Return the seconds from `now` to `deadline`, on the same clock; never below 0."""
    return max(0.0, deadline - now)


def is_past(deadline: float | None, now: float) -> bool:
    """Whether `deadline` has passed; None never passes."""
    return deadline is not None and now >= deadline


def run_limit(*, timeouts: tuple[float | None, ...], deadline: float | None, started: float) -> float | None:
    """Return the time at which an execution must end: the earliest of its deadline and its timeouts.

    Args:
        timeouts: seconds that the task may run, by the call and by the task; None for no limit.
        deadline: deadline of the call, on the clock of `started`; None for no limit.
        started: start of the execution.
    """
    limits = [started + timeout for timeout in timeouts if timeout is not None]
    if deadline is not None:
        limits.append(deadline)
    return min(limits, default=None)


def broker_ttl_ms(expiration: float) -> int:
    """Return the broker's message TTL for `expiration` seconds: one second more, as it is for clean-up only.

    RabbitMQ checks a TTL only at the head of the queue (https://www.rabbitmq.com/docs/ttl#per-message-ttl-caveats). So
    the client's own timer decides when a call expires.
    """
    return min(round((expiration + 1.0) * 1000), MAX_BROKER_TTL_MS)
