"""The process that has imported crew and forks: `python server.py`, with a socket as its standard input.

It receives one datagram a request, and replies with one. A request to start a program has the descriptors of its
standard streams attached; the reply is the pid. A request with a pid is answered with its exit status, or null while it
runs. The server exits when the other end closes the socket.

A fork has all that a new interpreter would have: session, folder, environment, standard streams, `sys.argv`,
`sys.path`, `__main__`, signals, random numbers. Only /proc shows the command line and the environment of the server.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MODULES: Final = (
    "crew.cli",
    "crew.cli.gateway",
    "crew.cli.worker",
    "crew.gateway.jobs.job_api",
    "crew.gateway.jobs.job_call_api",
    "crew.gateway.openapi.job_paths",
    "crew.gateway.serving.auth",
    "crew.gateway.serving.tls",
    "crew.jobs",
    "crew.worker.command",
    "crew.worker.url_jobs.task",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "aiosqlite",  # SQLAlchemy imports both drivers when it connects
    "asyncpg",
    "tornado.platform.asyncio",
)
LONGEST_REQUEST: Final = 200_000  # bytes; it has the whole environment


def serve() -> dict[str, Any]:
    """Answer requests until the socket is closed. In a fork it returns what the fork has to run."""
    ended: dict[int, int] = {}
    woken, wakes = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=os.dup(0)) as requests, selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(4096)
            ended.update(_reaped())  # always: a signal may arrive later than the end of the process that it is about
            if requests not in ready:
                continue
            text, descriptors, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
            if not text:
                os._exit(0)
            request: dict[str, Any] = json.loads(text)
            if "ended" in request:
                requests.send(json.dumps(ended.get(request["ended"])).encode())
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                os.setsid()
                for number, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, number)
                return request
            for descriptor in descriptors:
                os.close(descriptor)
            requests.send(json.dumps(pid).encode())


def _reaped() -> dict[int, int]:
    """Exit status by pid of the programs that have ended, negative after a signal."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (one := os.waitpid(-1, os.WNOHANG))[0]:
            ended[one[0]] = os.waitstatus_to_exitcode(one[1])
    return ended


def become(request: dict[str, Any]) -> None:
    """Make this fork what a new interpreter would be."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.closerange(3, 1024)
    Path("/proc/self/comm").write_text(request["comm"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    random.seed()
    sys.orig_argv = [sys.executable, *request["arguments"]]


def run(arguments: list[str]) -> None:
    """Do what `python *arguments` does with `-m MODULE` or a script."""
    sys.path[0] = str(Path.cwd()) if arguments[0] == "-m" else str(Path(arguments[0]).absolute().parent)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    module = ModuleType("__main__")
    module.__file__ = arguments[0]
    sys.modules["__main__"] = module
    exec(compile(Path(arguments[0]).read_bytes(), arguments[0], "exec"), module.__dict__)


if __name__ == "__main__":
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    started = serve()
    become(started)
    run(started["arguments"])
