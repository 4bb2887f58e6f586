"""Untrusted text forges no log line and controls no terminal; tested with real processes."""

import contextlib
import json
import os
import pty
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from tests.support import raw
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually, until
from tests.tasks.hostile_text import FORGED, HOSTILE

SCRIPT = TASK_FOLDER / "hostile_text.py"
NAMES = ("a\nb", f"\x1b[2J{FORGED}", f"x\n{FORGED}", "\x9b\u202e")


def check(output: str) -> None:
    """Check that it has no control characters and no forged line."""
    assert all(one == "\n" or one.isprintable() for one in output), ascii(output)
    lines = output.split("\n")
    assert not any(line.startswith((FORGED, "crew: forged")) for line in lines), output


def on_terminal(*arguments: str, url: str) -> str:
    """Run a command of crew on a pseudo-terminal; returns its output."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "CREW_AMQP_URL": url, "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "crew", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # EIO: the other end is closed
                break
            if not part:
                break
            written += part
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("flags", [(), ("configured",)], ids=["crews_logging", "an_applications_logging"])
def test_untrusted_text_forges_no_line_of_a_workers_log(
    processes: Processes, prefix: str, broker_url: str, flags: tuple[str, ...]
) -> None:
    worker = processes.python(SCRIPT, *flags).says("serving 4 tasks")
    for name in NAMES:  # of ids, queues and clients, which any publisher can choose
        headers = {"crew-client": name, "crew-attempt": 1}
        raw.send(broker_url, f"crew.tasks.{prefix}fail", b"1", correlation_id=name, reply_to=name, headers=headers)
        raw.send(broker_url, f"crew.tasks.{prefix}fail", b"1", headers={"crew-timeout": name})
        raw.send(broker_url, f"crew.tasks.{prefix}named", b"1", correlation_id=name, content_type=name)
    worker.says("execution failed", times=len(NAMES))
    eventually(lambda: raw.depth(broker_url, f"crew.tasks.{prefix}named") == 0)
    worker.stop()
    check(worker.output)
    assert "ValueError: x\\x1b[2J\\x9b3J\\u202e\\r" in worker.output, "the text stays readable"


@pytest.mark.gen_test(timeout=60)
async def test_untrusted_text_forges_no_line_of_a_gateways_log(
    processes: Processes, broker_url: str, tmp_path: Path
) -> None:
    gateway = processes.crew("gateway", "--port", "0", "--database", f"sqlite:///{tmp_path}/jobs.db").says(
        "listening on"
    )
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        ((store,),) = database.execute("SELECT store FROM crew_schema").fetchall()
    queue = f"crew.jobs.{store}"
    await until(lambda: _has_consumer(broker_url, queue))
    for name in NAMES:
        raw.send(broker_url, queue, b"1", correlation_id=name, type="reply", headers={"crew-worker": name})
        raw.send(broker_url, queue, b"1", correlation_id="x", headers={"crew-outcome": name})
        raw.send(broker_url, queue, b"[1]", correlation_id=name, reply_to=name, type="briefing")
    port = int(gateway.output.partition("listening on http://127.0.0.1:")[2].split()[0])
    for request in (
        f"GET /\x1b[2J\r\n{FORGED}\r\n\r\n",
        f"\x9b{HOSTILE} HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n\x1b: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request.encode())
            connection.settimeout(10)
            connection.recv(1000)
    await until(lambda: raw.depth(broker_url, queue) == 0)
    await until(lambda: "job report discarded" in gateway.output)
    gateway.stop()
    check(gateway.output)


def _has_consumer(url: str, queue: str) -> bool:
    try:
        return raw.consumers(url, queue) > 0
    except pika.exceptions.ChannelClosedByBroker:  # it is not declared yet
        return False


@pytest.fixture(scope="module")
def serving(shared_prefix: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("worker"), environment, preloaded=True) as processes:
        yield processes.python(SCRIPT).says("serving 4 tasks")


@pytest.mark.usefixtures("serving")
def test_no_reply_controls_the_terminal_of_a_call(shared_prefix: str, broker_url: str) -> None:
    for task in ("fail", "named", "value"):
        check(on_terminal("call", "--verbose", shared_prefix + task, url=broker_url))
    text = on_terminal("call", shared_prefix + "bytes", url=broker_url)
    assert text == f"x\\x1b[2J\\x9b3J\\u202e\\r\n{FORGED}\ncrew: forged", "line breaks of the value are kept"


@pytest.mark.usefixtures("serving")
def test_a_value_is_printed_without_escapes_if_a_program_reads_it(shared_prefix: str, broker_url: str) -> None:
    def read(task: str) -> bytes:
        command = [sys.executable, "-m", "crew", "call", shared_prefix + task, "--url", broker_url]
        return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout

    assert json.loads(read("value")) == HOSTILE
    assert read("bytes") == HOSTILE.encode()


def test_no_event_controls_the_terminal_of_a_subscriber(processes: Processes) -> None:
    topic = f"t{uuid.uuid4().hex}"
    subscriber = processes.crew("subscribe", "--count", "1", topic).says("subscribed")
    assert processes.crew("publish", topic, json.dumps(HOSTILE)).ends(30) == 0
    assert subscriber.ends(30) == 0
    check(subscriber.output)
    assert json.loads(subscriber.output.splitlines()[-1])["payload"] == HOSTILE
