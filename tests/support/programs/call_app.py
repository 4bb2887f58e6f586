"""An application with crew's own routes beside one of its own, for test_call_api.py: python call_app.py [BROKER]"""

import asyncio
import signal
import sys

from tornado.httpserver import HTTPServer
from tornado.log import enable_pretty_logging
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from crew import Client
from crew.gateway import routes

MAX_PENDING = 4  # calls, so that a few more are refused
MAX_BODY = 100_000  # bytes


class Own(RequestHandler):
    """A page of the application: the number of calls that have not ended."""

    def initialize(self, client: Client) -> None:
        self.client = client

    def get(self) -> None:
        self.write(f"{len(self.client._calls)} calls in flight")


async def main(broker: str | None = None) -> None:
    """Serve until SIGTERM."""
    client = Client(broker, max_pending=MAX_PENDING)
    application = Application([*routes(client, prefix="/crew", max_body=MAX_BODY), ("/", Own, {"client": client})])
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(application)
    server.add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.stop()
    await server.close_all_connections()
    await client.close()


if __name__ == "__main__":
    enable_pretty_logging()
    asyncio.run(main(*sys.argv[1:]))
