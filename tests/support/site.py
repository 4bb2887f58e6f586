"""A Tornado application on loopback with a client without a broker, and browsers that disconnect."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.routing import URLSpec
from tornado.web import Application, RequestHandler

from crew.client import Client, PendingCall
from crew.errors import SerializationError
from crew.gateway import AbandonMixin
from crew.protocol.encoding import codec
from crew.protocol.message import Headers
from tests.support.broker import unreachable_url
from tests.support.waiting import until


class Browser:
    """One connection with a pending request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def request(self, path: str) -> None:
        """Send a request."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())

    def request_in_part(self) -> None:
        """Send a request without the end of its body."""
        self._writer.write(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nnot all")

    async def response(self) -> tuple[int, str]:
        """Status and body of the response."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        return int(head.split()[1]), (await self._reader.readexactly(length)).decode()

    async def disconnect(self) -> None:
        """Close the connection."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class Site:
    """An application whose handlers call tasks by `self.crew`; the test plays broker and workers.

    Attributes:
        port: on 127.0.0.1.
    """

    def __init__(self, application: Application, crew: Client, port: int) -> None:
        self.application, self.crew, self.port = application, crew, port
        self._browsers: list[Browser] = []

    @property
    def calls(self) -> list[PendingCall[Any]]:
        """The pending calls."""
        return list(self.crew._calls._pending)

    def reply_to_all(self, value: Any) -> None:
        """Reply to every pending call."""
        for call in self.calls:
            self.reply(call, value)

    def reply(self, call: PendingCall[Any], value: Any, headers: Headers | None = None) -> None:
        """Reply to one call; in MessagePack if the call was."""
        if call.keeps_body and not isinstance(value, BaseException):
            is_packed = call.message.body.content_type == codec.MSGPACK and not isinstance(value, bytes)
            with suppress(SerializationError):  # a value that no worker could have sent
                value = codec.encode(value, "msgpack" if is_packed else None)
        self.crew._calls._pending.settle(call.id, value, headers)

    async def wait_for_calls(self, count: int) -> list[PendingCall[Any]]:
        """Wait until `count` calls are pending."""
        await until(lambda: len(self.calls) == count)
        await asyncio.sleep(0.01)  # by now the handlers wait for them
        return self.calls

    async def open_browser(self, path: str = "/") -> Browser:
        """Connect, and send a request."""
        browser = Browser(*await asyncio.open_connection("127.0.0.1", self.port))
        self._browsers.append(browser)
        browser.request(path)
        return browser

    async def close(self) -> None:
        """Close all connections."""
        for browser in self._browsers:
            await browser.disconnect()


class Handler(RequestHandler):
    """Base of handlers without the mixin."""

    @property
    def crew(self) -> Client:
        """The application's client."""
        crew: Client = self.settings["crew"]
        return crew


class Abandoned(AbandonMixin, Handler):
    """Base of handlers with the mixin."""


@asynccontextmanager
async def site(
    *handlers: tuple[str, type[RequestHandler]],
    mount: Callable[[Client], list[URLSpec]] = lambda crew: [],
    **settings: Any,
) -> AsyncIterator[Site]:
    """Serve `handlers`, and the routes that `mount` returns, until the end of the block."""
    with unreachable_url() as url:
        crew = Client(url)
        application = Application([*handlers, *mount(crew)], crew=crew, **settings)
        server = HTTPServer(application)
        (socket, *_) = sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        web = Site(application, crew, socket.getsockname()[1])
        try:
            yield web
        finally:
            server.stop()
            await web.close()
            await server.close_all_connections()
            await crew.close()


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and message of the log lines at INFO and above, except those about the missing broker."""
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.levelno >= logging.INFO and not record.name.startswith("crew.amqp")
    ]
