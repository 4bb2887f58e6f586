"""A service that takes its time, and says what it hears. python slow_service.py --port=8889

A report takes so many seconds. Like most services it does not notice that its client has gone, unless somebody looks:
this one goes on with a report until it is told to stop, by a DELETE to the same URL.
"""

import asyncio
import signal

from tornado.options import define, options, parse_command_line
from tornado.web import Application, RequestHandler

making: dict[str, asyncio.Task[None]] = {}


class Report(RequestHandler):
    """GET and POST /reports/<name>?seconds=5 make a report; DELETE stops the one that is made."""

    async def get(self, name: str) -> None:
        say(f"{self.request.method} {self.request.uri}")
        work = asyncio.create_task(asyncio.sleep(float(self.get_query_argument("seconds", "5"))))
        making[name] = work
        await asyncio.wait([work])
        if work.cancelled():
            self.send_error(410)
        else:
            say(f"{name} is done")
            self.write({"report": name, "asked": self.request.body.decode()})

    post = get

    def delete(self, name: str) -> None:
        say(f"{self.request.method} {self.request.uri}")
        if (work := making.pop(name, None)) is not None and work.cancel():
            say(f"{name} is stopped")
            self.set_status(204)
        else:
            self.send_error(404)

    def on_connection_close(self) -> None:
        say(f"whoever wanted {self.request.uri} has gone")


def say(text: str) -> None:
    print(text, flush=True)


async def main() -> None:
    application = Application([(r"/reports/(\w+)", Report)], log_function=lambda handler: None)
    server = application.listen(options.port, address="127.0.0.1")
    (socket,) = server._sockets.values()
    say(f"http://127.0.0.1:{socket.getsockname()[1]}")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    define("port", 8889, help="port on 127.0.0.1; 0 takes a free one")
    parse_command_line()
    asyncio.run(main())
