"""Serves the in-memory broker to AMQP clients of this machine: over a Unix domain socket, or a loopback port."""

import asyncio
import contextlib
import socket
from typing import Final

from crew.testing.broker.broker import Broker
from crew.testing.broker.session import Session

NO_HEARTBEAT: Final = 0  # of connections inside one process: a peer that is dead takes the broker with it


class BrokerServer:
    """Accepts connections for `broker` on the running event loop.

    Args:
        heartbeat: seconds that it suggests to clients; 0: none.
    """

    def __init__(self, broker: Broker, *, heartbeat: int = NO_HEARTBEAT) -> None:
        self.broker = broker
        self.sessions: set[Session] = set()
        self._heartbeat = heartbeat
        self._block_reason: str | None = None
        self._refuses = False
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<BrokerServer: {len(self.sessions)} connections, {self.broker!r}>"

    async def listen_unix(self, path: str) -> None:
        """Accept connections on a Unix domain socket at `path`."""
        self._servers.append(await self._loop.create_unix_server(self._session, path))

    async def listen_tcp(self, port: int = 0) -> int:
        """Accept connections on a loopback port; returns the port, which the system chooses for 0."""
        server = await self._loop.create_server(self._session, "127.0.0.1", port)
        for listening in server.sockets:
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Cut all connections, and accept no more."""
        for server in self._servers:
            server.close()
        self.cut_connections()
        self._stop_timer()
        await asyncio.sleep(0)

    # --- on demand --------------------------------------------------------------------------------------------------

    def cut_connections(self) -> int:
        """Lose every connection, without a word to its client; returns their number."""
        sessions = list(self.sessions)
        for session in sessions:
            session.cut()
        return len(sessions)

    def refuse_connections(self, refuses: bool) -> None:
        """While it `refuses`, each new connection is lost at once, as if the broker were down."""
        self._refuses = refuses

    def block(self, reason: str = "low on memory") -> None:
        """Block publishing: RabbitMQ reads nothing more from a connection once it publishes."""
        self._block_reason = reason
        for session in self.sessions:
            session.block(reason)

    def unblock(self) -> None:
        """Allow publishing again."""
        self._block_reason = None
        for session in list(self.sessions):
            session.unblock()

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _session(self) -> asyncio.BaseProtocol:
        if self._refuses:
            return _Refusal()
        session = Session(
            self.broker, heartbeat=self._heartbeat, on_processed=self._schedule, on_closed=self.sessions.discard
        )
        if self._block_reason is not None:
            session.block(self._block_reason)
        self.sessions.add(session)
        return session

    # --- time -------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Call `on_time` of the broker when it is due."""
        due = self.broker.due_at
        if self._timer is not None and due == self._timer.when():
            return
        self._stop_timer()
        if due is not None:
            self._timer = self._loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.broker.on_time()
        self._schedule()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Refusal(asyncio.Protocol):
    """Loses a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        with contextlib.suppress(Exception):
            transport.close()
