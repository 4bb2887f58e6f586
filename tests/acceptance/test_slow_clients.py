"""Clients that send nothing, at a gateway with a low limit of open files: other clients are served."""

import socket
import sys
import time
from contextlib import ExitStack

import pytest

from tests.support.processes import Processes
from tests.support.web import Web

FILES = 256  # that the gateway may open
SLOW = 260  # sockets: more than that
HALF_A_HEAD = b"GET /jobs/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HALF_A_BODY = b"POST /jobs/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{"


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"", id="nothing", marks=pytest.mark.chaos),
        pytest.param(HALF_A_HEAD, id="half a head"),
        pytest.param(HALF_A_BODY, id="half a body", marks=pytest.mark.chaos),
    ],
)
def test_idle_connections_at_the_limit_of_open_files_do_not_block_others(
    processes: Processes, beginning: bytes
) -> None:
    gateway = processes.start("sh", "-c", f"ulimit -n {FILES}; exec {sys.executable} -m crew gateway --port 0")
    web = Web.of(gateway)
    with ExitStack() as stack:
        for _ in range(SLOW):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=10))
            slow.sendall(beginning)
        began = time.monotonic()
        for _ in range(5):
            assert web.get("/healthz", timeout=10).status == 200
            assert web.get("/jobs/", timeout=10).status == 200
        assert time.monotonic() - began < 10
    assert "Traceback" not in gateway.output
    assert gateway.stop() == 0
