"""Tornado handlers for a measured client: one without a call, one with one call, and one with the system's mixin."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


def listen(call: Callable[[Any], Awaitable[Any]], payload: Any, mixin: type | None = None) -> int:
    """Serve /bare, /call and, with a mixin, /mixin; returns the port on 127.0.0.1. All of them respond the same."""

    class Bare(RequestHandler):
        async def get(self) -> None:
            await asyncio.sleep(0)  # a handler that waits for nothing would be a different kind of handler
            self.write(payload)

    class Call(RequestHandler):
        async def get(self) -> None:
            self.write(await call(payload))

    handlers: list[tuple[str, type[RequestHandler]]] = [("/bare", Bare), ("/call", Call)]
    if mixin is not None:
        handlers.append(("/mixin", type("Mixed", (mixin, Call), {})))
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application(handlers)).add_sockets(sockets)
    return int(sockets[0].getsockname()[1])
