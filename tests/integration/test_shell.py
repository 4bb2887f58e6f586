"""`crew call`, `crew publish` and `crew subscribe`: the client from the shell."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crew.cli import main
from crew.cli.connection import ConnectTimeout
from crew.client.similar_tasks import similar_tasks
from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually

TASKS = """
import os, time
from crew.worker import Task

PREFIX = os.environ["CREW_TEST_PREFIX"]

@Task(PREFIX + "echo")
def echo(data):
    return data

@Task(PREFIX + "bytes")
def raw(data):
    return bytes([0, 255])

@Task(PREFIX + "fail")
def fail(data):
    raise KeyError(data)

@Task(PREFIX + "sleep")
def sleep(seconds):
    print("sleeping", flush=True)
    time.sleep(seconds)
"""

Crew = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def environment(broker_url: str, shared_prefix: str) -> dict[str, str]:
    """The environment of every process of this module."""
    return {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}


@pytest.fixture
def prefix(shared_prefix: str) -> str:
    """Prefix of the task names of this module's worker."""
    return shared_prefix


@pytest.fixture(scope="module", autouse=True)
def worker(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Process]:
    """One worker process for all tests of the module."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "tasks.py").write_text(TASKS)
    with running(folder, environment) as processes:
        yield processes.crew("worker", "tasks.py").says("serving")


@pytest.fixture
def crew(processes: Processes) -> Crew:
    """Run a `crew` command to its end."""
    return processes.run


def test_a_call_prints_the_value_as_json(crew: Crew, prefix: str) -> None:
    done = crew("call", prefix + "echo", '{"width": 640, "name": "ü"}')

    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == {"width": 640, "name": "ü"}
    assert done.stdout.endswith(b"}\n")


def test_a_call_reads_its_payload_from_standard_input(crew: Crew, prefix: str) -> None:
    large = ["x" * 1_000_000]

    assert json.loads(crew("call", prefix + "echo", "-", stdin=json.dumps(large).encode()).stdout) == large


def test_a_value_of_bytes_is_printed_unchanged(crew: Crew, prefix: str) -> None:
    assert crew("call", prefix + "bytes").stdout == b"\x00\xff"


def test_a_failed_task_is_one_line_and_its_traceback_needs_verbose(crew: Crew, prefix: str) -> None:
    brief = crew("call", prefix + "fail", '"why"')
    verbose = crew("call", "-v", prefix + "fail", '"why"')

    assert (brief.returncode, brief.stdout, brief.stderr) == (1, b"", b"crew: KeyError: 'why'\n")
    assert verbose.returncode == 1
    assert b"Traceback" in verbose.stderr
    assert b"tasks.py" in verbose.stderr


@pytest.mark.parametrize("flag", ["--expiration", "--timeout"])
def test_a_timeout_has_its_own_exit_status(crew: Crew, prefix: str, flag: str) -> None:
    done = crew("call", prefix + "sleep", "30", flag, "0.5")

    assert done.returncode == 5
    assert done.stderr.startswith(b"crew: ")
    assert done.stderr.count(b"\n") == 1


def test_an_unknown_task_is_an_error_at_once(crew: Crew, prefix: str) -> None:
    began = time.monotonic()
    done = crew("call", prefix + "absent")

    assert done.returncode == 3
    assert f"{prefix}absent" in done.stderr.decode()
    assert time.monotonic() - began < 10  # seconds: not the expiration of a minute


@pytest.mark.parametrize("typo", ["ehco", "Echo", "echoo"])
def test_an_error_about_an_unknown_task_suggests_a_similar_one(
    environment: dict[str, str], prefix: str, typo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = functools.partial(similar_tasks, within=60.0)  # seconds: a busy machine may need more than one
    monkeypatch.setattr("crew.cli.suggestions.similar_tasks", patient)

    done = CliRunner().invoke(main, ["call", prefix + typo], env=environment)

    assert done.exit_code == 3
    unknown = f"crew: no worker has ever served task '{prefix}{typo}'"
    assert done.stderr == f"{unknown}. Did you mean '{prefix}echo'?\n"


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        (">&-", 0, b""),
        ("| true", 0, b""),
        (">/dev/full", 74, b"crew: cannot write the output: no space left on device\n"),
    ],
)
def test_a_closed_or_full_output_causes_no_traceback(
    environment: dict[str, str], prefix: str, redirection: str, status: int, message: bytes
) -> None:
    script = f"""{sys.executable} -m crew call {prefix}echo '"value"' {redirection}; exit ${{PIPESTATUS[0]}}"""
    done = subprocess.run(
        ["/bin/bash", "-c", script], env={**os.environ, **environment}, capture_output=True, timeout=30, check=False
    )

    assert (done.returncode, done.stderr) == (status, message)


def test_a_call_that_no_worker_starts_expires(crew: Crew, prefix: str, processes: Processes, tmp_path: Path) -> None:
    script = f"from crew.worker import Task\nTask('{prefix}stopped')(print)"
    (tmp_path / "stopped.py").write_text(script)
    processes.crew("worker", "stopped.py").says("serving").stop()

    done = crew("call", prefix + "stopped", "--expiration", "0.5")

    assert done.returncode == 4
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", [("call", "echo"), ("publish", "topic"), ("subscribe", "topic")])
def test_an_unavailable_broker_is_one_line_on_stderr(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*command, "--url", "amqp://127.0.0.1:1/"], obj=ConnectTimeout(0.5))

    assert (done.exit_code, done.stdout) == (6, "")
    assert done.stderr.startswith("crew: connection timeout: the broker was not reached")
    assert done.stderr.endswith("connection refused; `crew broker start` starts a broker on this machine\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["call", "echo", "{"],
        ["call", "echo", "--priority", "256"],
        ["call", "echo", "--expiration", "0"],
        ["call", "echo", "--url", "http://127.0.0.1/"],
        ["call"],
        ["publish", "topic", "{"],
        ["publish", ""],
        ["call", "x" * 300],
        ["subscribe", "good", "bad\n"],
        ["subscribe"],
        ["subscribe", "topic", "--count", "0"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_wrong_usage_prints_no_traceback(crew: Crew, arguments: list[str]) -> None:
    done = crew(*arguments)

    assert done.returncode == 2
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_ends_a_call_without_a_traceback(processes: Processes, prefix: str, worker: Process) -> None:
    before = worker.output.count("sleeping")
    calling = processes.crew("call", prefix + "sleep", "2")
    worker.says("sleeping", times=before + 1)

    assert calling.stop(signal.SIGINT) == 130
    assert calling.output == ""


def test_published_events_are_printed_by_subscribers(crew: Crew, processes: Processes, prefix: str) -> None:
    subscriber = processes.crew("subscribe", prefix + "news.*", prefix + "#.sport", "--count", "3")
    subscriber.says("subscribed to")

    payloads: list[Any] = [{"text": "ü"}, None, "not subscribed", [1]]
    topics = ["news.a", "a.b.sport", "other", "news.b"]
    for topic, payload in zip(topics, payloads, strict=True):
        assert crew("publish", prefix + topic, json.dumps(payload)).returncode == 0

    assert subscriber.ends(timeout=5) == 0
    events = [json.loads(line) for line in subscriber.output.splitlines()[1:]]
    received = [(event["topic"].removeprefix(prefix), event["payload"]) for event in events]
    assert received == [("news.a", {"text": "ü"}), ("a.b.sport", None), ("news.b", [1])]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_a_subscriber_without_output(processes: Processes, prefix: str, number: signal.Signals) -> None:
    subscriber = processes.crew("subscribe", prefix + "news").says("subscribed to")

    assert subscriber.stop(number) == 0
    assert subscriber.output.splitlines() == [f"subscribed to {prefix}news"]


def test_a_closed_pipe_ends_a_subscriber(crew: Crew, processes: Processes, prefix: str) -> None:
    subscriber = processes.start("/bin/sh", "-c", f"{sys.executable} -m crew subscribe {prefix}pipe | head -1")
    subscriber.says("subscribed to")

    def has_ended() -> bool:
        assert crew("publish", prefix + "pipe", '"x"').returncode == 0
        return not subscriber.is_running

    assert eventually(has_ended, timeout=10)
    assert "Traceback" not in subscriber.output
    assert subscriber.output.count('"x"') == 1
