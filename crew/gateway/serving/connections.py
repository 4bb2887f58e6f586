"""The HTTP clients' connections: timeouts, limits of their number, and which are closed to make room.

A connection waits for its client (the head of a request, the next request, a body), or its client waits for the gateway
(a call, a long poll, a stream of events, a WebSocket). Only connections that wait for their clients have timeouts, and
may be closed to make room for others. In both cases a client must read what it is sent.

Streams of events end only when the gateway closes them: see `mark_as_open_stream`.
"""

import asyncio
import enum
import fcntl
import logging
import struct
import termios
import time
import weakref
from collections import Counter
from typing import Any, Final

import msgspec
from tornado.httputil import HTTPConnection, HTTPServerRequest
from tornado.iostream import IOStream

from crew.limits import GatewayLimits

logger = logging.getLogger(__name__)

MIN_IDLE_WAIT: Final = 5.0  # seconds, the same between two requests
CLOSED_AT_A_TIME: Final = 8  # connections, to make room
RETRY_INTERVAL: Final = 0.1  # seconds until the next attempt to make room, after one that found nothing to close
OVERFLOW: Final = 64  # connections above a limit that get a response: a refusal, or a health check
TOTAL: Final = "in all"
PER_PEER: Final = "of one address"
IDLE_TIMEOUT: Final = "idle"  # the usual end of a connection, which is not logged


class Intervals(msgspec.Struct, frozen=True, kw_only=True):
    """Durations that no server needs to change; tests use others.

    Attributes:
        check: seconds between two checks of all timeouts.
        min_wait: seconds that a connection waits for its client before it may be closed to make room.
        report: seconds between two log lines about closed connections.
    """

    check: float = 1.0
    min_wait: float = 1.0
    report: float = 60.0


DEFAULT: Final = Intervals()

_OPEN_STREAMS: Final["weakref.WeakSet[HTTPConnection]"] = weakref.WeakSet()


def mark_as_open_stream(request: HTTPServerRequest) -> None:
    """Mark the response to `request` as endless: it ends when the gateway does, so draining does not wait for it."""
    if request.connection is not None:
        _OPEN_STREAMS.add(request.connection)


def is_open_stream(connection: object) -> bool:
    """Whether the current response on this connection is an endless one."""
    return connection in _OPEN_STREAMS


class Phase(enum.Enum):
    """What a connection waits for."""

    HEAD = "the head of its first request"
    IDLE = "its next request"
    BODY = "the body of a request"
    SERVED = "the gateway"


class Connection(msgspec.Struct, eq=False, kw_only=True):
    """One client connection.

    Attributes:
        stream: Tornado's stream.
        peer: address of the client, without its port.
        phase: what the connection waits for.
        since: when the phase began (time.monotonic(), as all times here).
        progress_at: when the client last sent a part of a body.
        received: bytes of the body so far.
        sent: bytes of the current response that the client has received; None: nothing is being written.
        sent_at: when `sent` last increased.
        is_admitted: whether it is within the limits; if not, it may only request health checks.
    """

    stream: IOStream
    peer: str
    phase: Phase = Phase.HEAD
    since: float = 0.0
    progress_at: float = 0.0
    received: int = 0
    sent: int | None = None
    sent_at: float = 0.0
    is_admitted: bool = False

    def enter(self, phase: Phase) -> None:
        """Start a phase."""
        self.phase, self.since = phase, time.monotonic()
        self.progress_at, self.received = self.since, 0

    def add(self, size: int) -> None:
        """Record that `size` bytes of a body have arrived."""
        self.received += size
        self.progress_at = time.monotonic()


class Connections:
    """All connections of one server.

    Args:
        limits: how many there may be, and how long they may take.
        intervals: further durations.
    """

    def __init__(self, limits: GatewayLimits, intervals: Intervals = DEFAULT) -> None:
        self._limits = limits
        self._intervals = intervals
        self._all: dict[IOStream, Connection] = {}
        self._of_peer: Counter[str] = Counter()
        self._refused: dict[IOStream, Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._full_peer: str | None = None  # the peer whose connections could not be closed to make room
        self._retry_at = 0.0  # time.monotonic() of the next attempt
        self._closed_by_reason: Counter[str] = Counter()
        self._reported_at = 0.0  # time.monotonic()

    def __len__(self) -> int:
        return len(self._all)

    def open(self, stream: IOStream, address: Any) -> None:
        """Add a new connection."""
        peer = str(address[0]) if isinstance(address, tuple) and address else ""
        connection = Connection(stream=stream, peer=peer)
        connection.enter(Phase.HEAD)
        self._all[stream] = connection
        self._of_peer[peer] += 1
        self._refused[stream] = connection
        if self.admit(connection) is not None and len(self._refused) > OVERFLOW:
            self._close(next(iter(self._refused.values())), "too many connections above the limit")
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._intervals.check, self._check)

    def get(self, stream: IOStream) -> Connection | None:
        """The connection with this stream."""
        return self._all.get(stream)

    def on_http_end(self, stream: IOStream) -> None:
        """Note the end of HTTP on this connection: it is closed, or has become a WebSocket."""
        connection = self._all.get(stream)
        if connection is None:
            return
        if stream.closed():
            self._remove(connection)
        else:
            connection.enter(Phase.SERVED)

    def admit(self, connection: Connection) -> str | None:
        """Admit the connection if it is within the limits, closing others to make room.

        Returns:
            The exceeded limit; None: admitted.
        """
        if not connection.is_admitted:
            exceeded = self._exceeded_limit(connection)
            if exceeded is not None and self.make_room(connection.peer if exceeded == PER_PEER else None):
                exceeded = self._exceeded_limit(connection)
            if exceeded is not None:
                return exceeded
            connection.is_admitted = True
            del self._refused[connection.stream]
        return None

    def make_room(self, peer: str | None = None) -> bool:
        """Close a few connections that wait for their clients, first those of the peers with the most connections.

        Args:
            peer: consider only its connections; None: all.

        Returns:
            Whether any was closed.
        """
        now = time.monotonic()
        if peer == self._full_peer and now < self._retry_at:
            return False  # in a flood each new connection would otherwise check all others
        waiting = [
            one for one in self._all.values() if (peer is None or one.peer == peer) and self._is_replaceable(one, now)
        ]
        waiting.sort(key=lambda one: (one.phase is Phase.IDLE, -self._of_peer[one.peer], one.since))
        for one in waiting[:CLOSED_AT_A_TIME]:
            self._close(one, f"closed to make room, while waiting for {one.phase.value}")
        if not waiting:
            self._full_peer, self._retry_at = peer, now + RETRY_INTERVAL
        return bool(waiting)

    # --- limits and timeouts ----------------------------------------------------------------------------------------

    def _exceeded_limit(self, connection: Connection) -> str | None:
        limits = self._limits
        most, of_peer = limits.max_connections, limits.max_connections_per_peer
        if of_peer is not None and self._of_peer[connection.peer] - self._count_refused(connection.peer) >= of_peer:
            return PER_PEER
        if most is not None and len(self._all) - len(self._refused) >= most:
            return TOTAL
        return None

    def _count_refused(self, peer: str) -> int:
        return sum(one.peer == peer for one in self._refused.values())

    def _is_replaceable(self, one: Connection, now: float) -> bool:
        min_wait = self._intervals.min_wait
        match one.phase:
            case Phase.HEAD:
                return now - one.since >= min_wait
            case Phase.IDLE:
                return now - one.since >= MIN_IDLE_WAIT
            case Phase.BODY:
                took = now - one.since
                return took >= min_wait and (
                    now - one.progress_at >= min_wait or one.received < self._limits.min_rate * took
                )
            case Phase.SERVED:
                return False

    def _check(self) -> None:
        """Close the connections that have exceeded a timeout."""
        self._timer = None
        now = time.monotonic()
        for one in list(self._all.values()):
            if one.stream.closed():
                self._remove(one)
            elif (reason := self._reason_to_close(one, now)) is not None:
                self._close(one, reason)
        self._report(now)
        if self._all:
            self._timer = asyncio.get_running_loop().call_later(self._intervals.check, self._check)

    def _reason_to_close(self, one: Connection, now: float) -> str | None:
        limits, took = self._limits, now - one.since
        if one.phase is Phase.HEAD and took > limits.head_timeout:
            return f"timeout: no request within {limits.head_timeout:g} s"
        if one.phase is Phase.IDLE and took > limits.idle_timeout:
            return IDLE_TIMEOUT
        if one.phase is Phase.BODY:
            if now - one.progress_at > limits.stall_timeout:
                return f"timeout: no more of a request body within {limits.stall_timeout:g} s"
            if took > limits.stall_timeout and one.received < limits.min_rate * took:
                return f"request body slower than {limits.min_rate:g} bytes/s"
        return self._reading_timeout(one, now)

    def _reading_timeout(self, one: Connection, now: float) -> str | None:
        """The reason to close a connection whose client reads nothing. Bytes that its system acknowledged are read."""
        if not one.stream.writing():
            one.sent = None
            return None
        done = one.stream._total_write_done_index  # private to Tornado; a test fails if it disappears
        taken = done - _unacknowledged(one.stream)
        if one.sent != taken:
            one.sent, one.sent_at = taken, now
        elif now - one.sent_at > self._limits.stall_timeout:
            return f"timeout: the client read nothing of a response within {self._limits.stall_timeout:g} s"
        return None

    def _close(self, one: Connection, reason: str) -> None:
        self._remove(one)
        one.stream.close()
        if reason != IDLE_TIMEOUT:
            self._closed_by_reason[reason] += 1

    def _remove(self, one: Connection) -> None:
        if self._all.pop(one.stream, None) is not None:
            self._refused.pop(one.stream, None)
            self._of_peer[one.peer] -= 1
            if not self._of_peer[one.peer]:
                del self._of_peer[one.peer]

    def _report(self, now: float) -> None:
        """Log the closed connections by reason, at most once in each interval."""
        if self._closed_by_reason and now - self._reported_at >= self._intervals.report:
            self._reported_at = now
            for reason, count in self._closed_by_reason.items():
                logger.warning("connections closed: count=%d reason=%r", count, reason)
            self._closed_by_reason.clear()


def _unacknowledged(stream: IOStream) -> int:
    """Bytes in the system's send buffer, which the client has not acknowledged; 0 if the system does not report them.

    They may be megabytes: a slow client receives them for a while before more can be written.
    """
    try:
        return int(struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
