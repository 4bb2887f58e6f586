"""A small application whose requests wait for long tasks, for test_abandon.py: python abandon_app.py"""

import asyncio
import signal
from typing import Any

from prometheus_client import generate_latest
from tornado.httpserver import HTTPServer
from tornado.log import enable_pretty_logging
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from crew import Client
from crew.client import PendingCall
from crew.gateway import AbandonMixin


class Handler(AbandonMixin, RequestHandler):
    """Base of the handlers that call the task."""

    application: "App"

    def sleep(self) -> PendingCall[Any]:
        """Call the task of the request."""
        data = {"name": self.get_argument("name"), "seconds": float(self.get_argument("seconds"))}
        return self.application.crew.call("sleep", data, expiration=60, persistent=False)


class Sleep(Handler):
    """Waits for a call of its own."""

    async def get(self) -> None:
        self.write(await self.sleep())


class Shared(Handler):
    """Waits for the call that the first request of its name has made."""

    async def get(self) -> None:
        calls, name = self.application.shared, self.get_argument("name")
        if name not in calls:
            calls[name] = self.sleep()
        print("WAITS", name, flush=True)
        self.write(await calls[name])


class InFlight(RequestHandler):
    """The number of calls that have not ended."""

    def get(self) -> None:
        self.write(str(len(self.application.crew._calls)))  # type: ignore[attr-defined]


class Metrics(RequestHandler):
    """The counters."""

    def get(self) -> None:
        self.write(generate_latest())


class App(Application):
    """The site."""

    def __init__(self) -> None:
        super().__init__([("/sleep", Sleep), ("/shared", Shared), ("/in-flight", InFlight), ("/metrics", Metrics)])
        self.crew = Client()
        self.shared: dict[str, PendingCall[Any]] = {}


async def main() -> None:
    """Serve until SIGTERM."""
    app = App()
    sockets = bind_sockets(0, "127.0.0.1", backlog=1000)
    server = HTTPServer(app)
    server.add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.stop()
    await server.close_all_connections()
    await app.crew.close()


if __name__ == "__main__":
    enable_pretty_logging()
    asyncio.run(main())
