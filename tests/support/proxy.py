"""A TCP proxy between crew and a broker that simulates faults: cut, silence, delay, throttling, altered bytes."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")

CHUNK = 64 * 1024  # bytes
ANSWER_WITHIN = 10.0  # seconds for an action in the proxy's event loop
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST, so that neither side sees an orderly end


class Proxy:
    """Real sockets on loopback, in a thread with its own event loop: a blocking test does not stop the proxy.

    A fault is active when its method returns. Faults add up; `heal` ends all of them except half-open connections.

    Args:
        url: AMQP URL of the broker; one host. The proxy has no TLS of its own: it forwards all bytes.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._broker = (parts.hostname or "127.0.0.1", parts.port or 5672)
        self._pipes: set[_Pipe] = set()
        self._going = asyncio.Event()
        self._swallows = False
        self._server: asyncio.Server | None = None
        self.port = 0
        self.attempts = 0  # number of connections accepted so far
        self.latency = 0.0  # seconds, in each direction
        self.alter: Callable[[bytes], bytes] = _unchanged  # applied to each piece of data from the broker
        self.rate = 0.0  # bytes per second, in each direction of a connection; 0: no limit
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._run(self._listen())
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        self.url = urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{self.port}"))

    def __repr__(self) -> str:
        return f"<Proxy on port {self.port}, {self.connections} connections>"

    @property
    def connections(self) -> int:
        """The number of connections that work; half-open ones do not count."""
        return sum(pipe.is_whole for pipe in list(self._pipes))

    # --- faults -----------------------------------------------------------------------------------------------------

    def cut(self, *, refuse: bool = False) -> None:
        """Reset all connections.

        Args:
            refuse: also refuse new connections until `heal`.
        """
        self._run(self._cut(refuse=refuse))

    def half_open(self, *, new: bool = False) -> None:
        """Forward nothing on the existing connections, in both directions; they stay open. New connections work.

        Args:
            new: also forward nothing on new connections until `heal`; those accepted before `heal` stay half-open.
        """
        self._run(self._half_open(new=new))

    def freeze(self) -> None:
        """Accept connections, but forward nothing until `heal`; then all held bytes are forwarded."""
        self._run(self._freeze())

    def delay(self, seconds: float) -> None:
        """Delay every byte by `seconds`, in each direction."""
        self.latency = seconds

    def throttle(self, bytes_per_second: float) -> None:
        """Limit the rate, in each direction of a connection."""
        self.rate = bytes_per_second

    def heal(self) -> None:
        """End all faults."""
        self.latency = self.rate = 0.0
        self.alter = _unchanged
        self._run(self._heal())

    def close(self) -> None:
        """Close all connections and end the thread."""
        self._run(self._cut(refuse=True))
        self._run(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_WITHIN)
        self._loop.close()

    # --- in the event loop ------------------------------------------------------------------------------------------

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(ANSWER_WITHIN)

    async def _listen(self) -> None:
        self._going.set()
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self, *, refuse: bool) -> None:
        if refuse and self._server is not None:
            self._server.close()
            self._server = None
        for pipe in list(self._pipes):
            pipe.reset()

    async def _half_open(self, *, new: bool) -> None:
        self._swallows = new
        for pipe in list(self._pipes):
            pipe.is_whole = False

    async def _freeze(self) -> None:
        self._going.clear()

    async def _heal(self) -> None:
        self._swallows = False
        self._going.set()
        if self._server is None:
            await self._listen()

    async def _settle(self) -> None:
        """Cancel the remaining tasks of the event loop."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        pipe = _Pipe(self._passes, writer, is_whole=not self._swallows)
        self._pipes.add(pipe)
        try:
            await self._passes(pipe)
            there, pipe.broker = await asyncio.open_connection(*self._broker)
            ways = [pipe.pump(self, reader, pipe.broker), pipe.pump(self, there, writer)]
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # broker or proxy have ended: the client sees the end of the connection, as from a stopping broker
        finally:
            pipe.close()
            self._pipes.discard(pipe)

    async def _passes(self, pipe: "_Pipe") -> None:
        """Wait until data may be forwarded; raises ConnectionResetError at the end of a half-open connection."""
        await self._going.wait()
        if not pipe.is_whole:
            await pipe.over.wait()
            raise ConnectionResetError


class _Pipe:
    """One connection through the proxy, with both sides."""

    def __init__(
        self,
        passes: Callable[["_Pipe"], Coroutine[Any, Any, None]],
        client: asyncio.StreamWriter,
        *,
        is_whole: bool,
    ) -> None:
        self._passes = passes
        self._client = client
        self.is_whole = is_whole
        self.broker: asyncio.StreamWriter | None = None
        self.over = asyncio.Event()

    def close(self) -> None:
        """Close both sides in an orderly way: data in flight still arrives."""
        self._end()
        for writer in self._writers():
            writer.close()

    def reset(self) -> None:
        """Reset both sides, as after a network failure."""
        self._end()
        for writer in self._writers():
            with contextlib.suppress(OSError):  # already closed
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    def _end(self) -> None:
        self.is_whole = False
        self.over.set()

    def _writers(self) -> list[asyncio.StreamWriter]:
        return [writer for writer in (self._client, self.broker) if writer is not None]

    async def pump(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward data from one side to the other, until that side ends."""
        loop = asyncio.get_running_loop()
        on_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)  # pieces: a network holds limited data

        async def take() -> None:
            async for data in _pieces(reader, proxy):
                await on_way.put((loop.time() + proxy.latency, data))
            await on_way.put((loop.time() + proxy.latency, b""))

        taking = asyncio.ensure_future(take())
        try:
            while data := await _due(on_way):
                await self._passes(self)
                writer.write(proxy.alter(data) if writer is self._client else data)
                await writer.drain()
                if proxy.rate:
                    await asyncio.sleep(len(data) / proxy.rate)
            await self._passes(self)  # the end of a connection waits like its bytes
        except OSError:
            pass
        finally:
            taking.cancel()


def _unchanged(data: bytes) -> bytes:
    return data


async def _pieces(reader: asyncio.StreamReader, proxy: Proxy) -> AsyncIterator[bytes]:
    with contextlib.suppress(OSError):
        while data := await reader.read(max(1, int(proxy.rate / 10)) if proxy.rate else CHUNK):
            yield data


async def _due(on_way: "asyncio.Queue[tuple[float, bytes]]") -> bytes:
    due, data = await on_way.get()
    await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    return data


@contextlib.contextmanager
def proxying() -> Iterator[Callable[[str], Proxy]]:
    """Makes proxies that are closed at the end of the block."""
    with contextlib.ExitStack() as ending:

        def make(url: str) -> Proxy:
            proxy = Proxy(url)
            ending.callback(proxy.close)
            return proxy

        yield make
