"""A slow HTTP service that prints its requests. python slow_service.py --port=8889

A report takes the requested number of seconds. Like most services, this one does not stop when its client disconnects:
it continues with a report until a DELETE on the same URL stops it.
"""

import asyncio
import signal

from tornado.options import define, options, parse_command_line
from tornado.web import Application, RequestHandler

running: dict[str, asyncio.Task[None]] = {}


class Report(RequestHandler):
    """GET and POST /reports/<name>?seconds=5 make a report; DELETE stops a running one."""

    async def get(self, name: str) -> None:
        log(f"{self.request.method} {self.request.uri}")
        work = asyncio.create_task(asyncio.sleep(float(self.get_query_argument("seconds", "5"))))
        running[name] = work
        await asyncio.wait([work])
        if work.cancelled():
            self.send_error(410)
        else:
            log(f"{name} is done")
            self.write({"report": name, "asked": self.request.body.decode()})

    post = get

    def delete(self, name: str) -> None:
        log(f"{self.request.method} {self.request.uri}")
        if (work := running.pop(name, None)) is not None and work.cancel():
            log(f"{name} is stopped")
            self.set_status(204)
        else:
            self.send_error(404)

    def on_connection_close(self) -> None:
        log(f"client disconnected: {self.request.uri}")


def log(text: str) -> None:
    print(text, flush=True)


async def main() -> None:
    application = Application([(r"/reports/(\w+)", Report)], log_function=lambda handler: None)
    server = application.listen(options.port, address="127.0.0.1")
    (socket,) = server._sockets.values()
    log(f"http://127.0.0.1:{socket.getsockname()[1]}")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    define("port", 8889, help="port on 127.0.0.1; 0 takes a free one")
    parse_command_line()
    asyncio.run(main())
