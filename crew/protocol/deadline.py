"""The durations of a call: how long it may take, how long it may run, what is left of both.

Durations are float seconds. An instant that travels is wall-clock epoch seconds (`time.time()`), because two hosts
share no monotonic clock; an instant that stays inside a process is `time.monotonic()` seconds.
"""

DEFAULT_EXPIRATION = 60.0
HEARTBEAT_EVERY = 30.0  # between two words of a worker on a job that it runs: a message, and a write into the store
MAX_BROKER_TTL_MS = 2**32 - 1  # RabbitMQ refuses a larger per-message TTL


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
