"""Limits the requests of URL jobs that run at the same time for one host; holds the deliveries beyond the limit.

A delivery beyond the limit waits here, without a slot, for up to a second. That is enough for a fast host: its
next request starts as soon as one ends. If a delivery has waited longer, its host is slow. For a slow host only a few
deliveries wait here, enough to keep its slots busy: more of them would block the deliveries for other hosts. The rest
is postponed through the broker.
"""

import collections
from collections.abc import Callable
from typing import Final, NamedTuple

from crew.amqp import Delivery
from crew.clock import monotonic_time
from crew.protocol.http_job.request import HttpRequest
from crew.protocol.message import Call
from crew.worker.execution.execution import Execution
from crew.worker.task import Task

WAIT: Final = 1.0  # seconds: the longest time for which a slow host delays the jobs of other hosts
SLOW_FOR: Final = 10.0  # seconds after a delivery for the host has last found the limit reached
# Seconds until a postponed delivery comes back: the shortest delay that is not below the age of the host's oldest
# request. Each delay is a queue at the broker.
DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def room_of(limit: int) -> int:
    """Number of deliveries that may wait for one slow host, with this limit of its requests."""
    return (limit + 1) // 2


class Waiting(NamedTuple):
    """A delivery that is not started yet.

    Attributes:
        since: time.monotonic() at which it began to wait.
        request: the parsed payload of the call.
    """

    delivery: Delivery
    call: Call
    task: Task
    since: float
    request: HttpRequest


class _Host:
    """The requests that run for one host, and the deliveries that wait for it."""

    def __init__(self) -> None:
        self.running: dict[Execution, float] = {}  # time.monotonic() of each start, the oldest first
        self.waiting: collections.deque[Waiting] = collections.deque()
        self.slow_until = 0.0  # time.monotonic()


class HostLimit:
    """Counts the requests of each host. It does no I/O.

    Args:
        limit: requests that may run at the same time for one host.
        wait: seconds that a delivery may wait here. Default 1.
        clock: time.monotonic.

    Attributes:
        room: deliveries that may wait here for one slow host.
    """

    def __init__(self, limit: int, *, wait: float = WAIT, clock: Callable[[], float] = monotonic_time) -> None:
        self.limit = limit
        self._wait = wait
        self.room = room_of(limit)
        self._clock = clock
        self._hosts: dict[str, _Host] = {}
        self._host_of: dict[Execution, str] = {}

    def __repr__(self) -> str:
        return f"<HostLimit {self.limit}: {len(self._host_of)} running, {len(self)} waiting>"

    def __len__(self) -> int:
        """Deliveries that wait here."""
        return sum(len(host.waiting) for host in self._hosts.values())

    def has_room(self, host: str) -> bool:
        """Whether another request for `host` may start."""
        return host not in self._hosts or len(self._hosts[host].running) < self.limit

    def begin(self, host: str, execution: Execution) -> None:
        """Count `execution`, which makes a request for `host`."""
        self._hosts.setdefault(host, _Host()).running[execution] = self._clock()
        self._host_of[execution] = host

    def end(self, execution: Execution) -> str | None:
        """Stop counting `execution`; return its host, for which another may start, or None if it was not counted."""
        host = self._host_of.pop(execution, None)
        if host is not None:
            del self._hosts[host].running[execution]
            self._forget(host)
        return host

    def following(self, host: str) -> Waiting | None:
        """Remove and return the first delivery that waits for `host`; None if no request may start."""
        if not (host in self._hosts and self._hosts[host].waiting and self.has_room(host)):
            return None
        first = self._hosts[host].waiting.popleft()
        self._forget(host)
        return first

    def hold(self, request: HttpRequest, delivery: Delivery, call: Call, task: Task) -> bool:
        """Let a delivery wait here; False if it must be postponed, because its host is slow."""
        found, now = self._hosts.setdefault(request.target.host, _Host()), self._clock()
        if now < found.slow_until:
            found.slow_until = now + SLOW_FOR
            if len(found.waiting) >= self.room:
                return False
        found.waiting.append(Waiting(delivery, call, task, now, request))
        return True

    def overdue(self) -> list[tuple[str, Waiting]]:
        """Remove and return the deliveries that have waited too long, with their hosts.

        The first such delivery makes its host slow; the deliveries for which a slow host has no room are removed too.
        """
        now = self._clock()
        taken: list[tuple[str, Waiting]] = []
        for name, host in self._hosts.items():
            while host.waiting and (
                now - host.waiting[0].since >= self._wait or (now < host.slow_until and len(host.waiting) > self.room)
            ):
                host.slow_until = now + SLOW_FOR
                taken.append((name, host.waiting.popleft()))
        return taken

    def next_look(self) -> float | None:
        """Seconds until `overdue` returns a delivery; None if none waits."""
        first = min((host.waiting[0].since for host in self._hosts.values() if host.waiting), default=None)
        return None if first is None else max(0.0, first + self._wait - self._clock())

    def withdraw(self) -> list[Waiting]:
        """Remove and return all deliveries that wait."""
        taken: list[Waiting] = []
        for name, host in list(self._hosts.items()):
            taken += host.waiting
            host.waiting.clear()
            self._forget(name)
        return taken

    def delay(self, host: str, remaining: float | None) -> float:
        """Seconds for which a delivery is postponed: at most half of its remaining time, but at least one second.

        Args:
            remaining: seconds within which it has to start; None: no limit.
        """
        found = self._hosts.get(host)
        oldest = next(iter(found.running.values()), None) if found is not None else None
        age = 0.0 if oldest is None else self._clock() - oldest
        if remaining is not None:
            age = min(age, remaining / 4)  # the delay is less than twice this age
        return next((delay for delay in DELAYS if delay >= age), DELAYS[-1])

    def _forget(self, name: str) -> None:
        """Delete a host without requests: jobs may name any number of hosts."""
        if not (self._hosts[name].running or self._hosts[name].waiting):
            del self._hosts[name]
