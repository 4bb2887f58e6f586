"""Connects and subscribes, then forks as a Tornado application does, and prints the events of each process: PREFIX."""

import asyncio
import os
import sys

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.process import fork_processes
from tornado.web import Application

from crew import Client

PREFIX = sys.argv[1]
CHILDREN = 2


def say(text: str) -> None:
    os.write(1, f"process {os.getpid()} {text}\n".encode())


async def watch() -> None:
    """Print when the broker has the subscription, without using the client; end together with the parent."""
    while not subscription._is_settled.is_set():
        await asyncio.sleep(0.01)
    say("is subscribed")
    while os.getppid() == parent:
        await asyncio.sleep(0.05)
    IOLoop.current().stop()


parent = os.getpid()
client = Client(name="prefork")
client.connect()
subscription = client.subscribe(PREFIX + "news", lambda event: say(f"got {event.payload}"))
sockets = bind_sockets(0, "127.0.0.1")
fork_processes(CHILDREN, max_restarts=0)
HTTPServer(Application()).add_sockets(sockets)
IOLoop.current().add_callback(watch)
IOLoop.current().start()
