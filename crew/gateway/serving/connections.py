"""The connections of a gateway's clients: how long each may let the gateway wait, and which are closed for others.

A connection waits for its client (head of a request, pause between two, body), or its client waits for the gateway
(a call, a long poll, a stream of events, a WebSocket). Only the first kind has time limits, and is closed where others
need the place; and whatever it is, a client has to read what it is sent.
"""

import asyncio
import enum
import fcntl
import logging
import struct
import termios
import time
from collections import Counter
from typing import Any, Final

import msgspec
from tornado.iostream import IOStream

from crew.limits import GatewayLimits

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0  # seconds
TENURE: Final = 1.0  # seconds that a client has to send something before another may get the place of its connection
IDLE_TENURE: Final = 5.0  # seconds, between two requests
CLOSE_AT_A_TIME: Final = 8  # connections, where room is needed
TRY_EVERY: Final = 0.1  # seconds, where no connection may be closed for others
OVERFLOW: Final = 64  # connections beyond a limit that are answered with a refusal, or with the health of the gateway
REPORT_EVERY: Final = 60.0  # seconds
IN_ALL: Final = "in all"
PER_PEER: Final = "of one address"
IDLE_FOR_LONG: Final = "idle"  # the usual end of a connection, which is not logged


class Phase(enum.Enum):
    """What a connection waits for."""

    HEAD = "the head of its first request"
    IDLE = "its next request"
    BODY = "the body of a request"
    SERVED = "the gateway"


class Connection(msgspec.Struct, eq=False, kw_only=True):
    """One of them.

    Attributes:
        stream: of Tornado.
        peer: address of the other side, without its port.
        phase: what is waited for.
        since: when the phase began (time.monotonic(), as all times here).
        progress: when the client sent something of a body last.
        received: bytes of a body.
        sent: bytes that the client has taken of what is being written; None: nothing is.
        sent_at: when that was more than before.
        is_admitted: whether it is within the limits; else it hears of the health of the gateway and nothing more.
    """

    stream: IOStream
    peer: str
    phase: Phase = Phase.HEAD
    since: float = 0.0
    progress: float = 0.0
    received: int = 0
    sent: int | None = None
    sent_at: float = 0.0
    is_admitted: bool = False

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.phase, self.since = phase, time.monotonic()
        self.progress, self.received = self.since, 0

    def add(self, size: int) -> None:
        """So many bytes of a body have come."""
        self.received += size
        self.progress = time.monotonic()


class Connections:
    """All connections of one server.

    Args:
        limits: how many there may be, and how long they may take.
    """

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._all: dict[IOStream, Connection] = {}
        self._of_peer: Counter[str] = Counter()
        self._refused: dict[IOStream, Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tried: str | None = None  # the peer for which there was no room to be made
        self._try_again = 0.0  # time.monotonic() from which on there may be some
        self._closed: Counter[str] = Counter()
        self._reported = 0.0  # time.monotonic()

    def __len__(self) -> int:
        return len(self._all)

    def open(self, stream: IOStream, address: Any) -> None:
        """A client has connected."""
        peer = str(address[0]) if isinstance(address, tuple) and address else ""
        connection = Connection(stream=stream, peer=peer)
        connection.enter(Phase.HEAD)
        self._all[stream] = connection
        self._of_peer[peer] += 1
        self._refused[stream] = connection
        if self.admit(connection) is not None and len(self._refused) > OVERFLOW:
            self._close(next(iter(self._refused.values())), "there are too many")
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def of(self, stream: IOStream) -> Connection | None:
        """The connection of a stream."""
        return self._all.get(stream)

    def forget(self, stream: IOStream) -> None:
        """HTTP has ended on this connection: it is closed, or a WebSocket from now on."""
        connection = self._all.get(stream)
        if connection is None:
            return
        if stream.closed():
            self._drop(connection)
        else:
            connection.enter(Phase.SERVED)

    def admit(self, connection: Connection) -> str | None:
        """None where the connection is within the limits, which may close others; else the limit that it is beyond."""
        if not connection.is_admitted:
            beyond = self._beyond(connection)
            if beyond is not None and self.make_room(connection.peer if beyond == PER_PEER else None):
                beyond = self._beyond(connection)
            if beyond is not None:
                return beyond
            connection.is_admitted = True
            del self._refused[connection.stream]
        return None

    def make_room(self, peer: str | None = None) -> bool:
        """Close a few connections that wait for their clients, of the peers that have most; whether there were any."""
        now = time.monotonic()
        if peer == self._tried and now < self._try_again:
            return False  # a flood of connections would have all of them looked at for each of its own
        waiting = [
            one for one in self._all.values() if (peer is None or one.peer == peer) and self._may_be_closed(one, now)
        ]
        waiting.sort(key=lambda one: (one.phase is Phase.IDLE, -self._of_peer[one.peer], one.since))
        for one in waiting[:CLOSE_AT_A_TIME]:
            self._close(one, f"others need the place, and it waits for {one.phase.value}")
        if not waiting:
            self._tried, self._try_again = peer, now + TRY_EVERY
        return bool(waiting)

    # --- looking after them -----------------------------------------------------------------------------------------

    def _beyond(self, connection: Connection) -> str | None:
        limits = self._limits
        most, of_peer = limits.max_connections, limits.max_connections_per_peer
        if of_peer is not None and self._of_peer[connection.peer] - self._refused_of(connection.peer) >= of_peer:
            return PER_PEER
        if most is not None and len(self._all) - len(self._refused) >= most:
            return IN_ALL
        return None

    def _refused_of(self, peer: str) -> int:
        return sum(one.peer == peer for one in self._refused.values())

    def _may_be_closed(self, one: Connection, now: float) -> bool:
        match one.phase:
            case Phase.HEAD:
                return now - one.since >= TENURE
            case Phase.IDLE:
                return now - one.since >= IDLE_TENURE
            case Phase.BODY:
                took = now - one.since
                return took >= TENURE and (now - one.progress >= TENURE or one.received < self._limits.min_rate * took)
            case Phase.SERVED:
                return False

    def _look(self) -> None:
        """Close what has taken too long."""
        self._timer = None
        now = time.monotonic()
        for one in list(self._all.values()):
            if one.stream.closed():
                self._drop(one)
            elif (reason := self._fault(one, now)) is not None:
                self._close(one, reason)
        self._report(now)
        if self._all:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _fault(self, one: Connection, now: float) -> str | None:
        limits, took = self._limits, now - one.since
        if one.phase is Phase.HEAD and took > limits.head_timeout:
            return f"no request came within {limits.head_timeout:g} s"
        if one.phase is Phase.IDLE and took > limits.idle_timeout:
            return IDLE_FOR_LONG
        if one.phase is Phase.BODY:
            if now - one.progress > limits.stall_timeout:
                return f"nothing more of a request came within {limits.stall_timeout:g} s"
            if took > limits.stall_timeout and one.received < limits.min_rate * took:
                return f"the body of a request came with less than {limits.min_rate:g} bytes/s"
        return self._reading_fault(one, now)

    def _reading_fault(self, one: Connection, now: float) -> str | None:
        """Why a client does not read what it is sent; what the system still buffers counts as read."""
        if not one.stream.writing():
            one.sent = None
            return None
        done = one.stream._total_write_done_index  # private to Tornado; a test notices where it is gone
        taken = done - _unacknowledged(one.stream)
        if one.sent != taken:
            one.sent, one.sent_at = taken, now
        elif now - one.sent_at > self._limits.stall_timeout:
            return f"its client read nothing of an answer within {self._limits.stall_timeout:g} s"
        return None

    def _close(self, one: Connection, reason: str) -> None:
        self._drop(one)
        one.stream.close()
        if reason != IDLE_FOR_LONG:
            self._closed[reason] += 1

    def _drop(self, one: Connection) -> None:
        if self._all.pop(one.stream, None) is not None:
            self._refused.pop(one.stream, None)
            self._of_peer[one.peer] -= 1
            if not self._of_peer[one.peer]:
                del self._of_peer[one.peer]

    def _report(self, now: float) -> None:
        """Log what was closed, at most once in each interval."""
        if self._closed and now - self._reported >= REPORT_EVERY:
            self._reported = now
            for reason, count in self._closed.items():
                logger.warning("connections closed: count=%d reason=%r", count, reason)
            self._closed.clear()


def _unacknowledged(stream: IOStream) -> int:
    """Bytes that this system still holds, of what was written; 0 where it does not tell.

    They may be megabytes, which a slow client takes for a while before more can be written.
    """
    try:
        return int(struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
