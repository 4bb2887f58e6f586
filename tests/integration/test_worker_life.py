"""Start, drain and restart of workers, and their one-line errors."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

import crew
from crew import Client
from tests.integration.conftest import TASKS, StartWorker
from tests.support.processes import Processes, running
from tests.support.waiting import until


@pytest.mark.gen_test(timeout=60)
async def test_a_stopped_worker_finishes_running_calls_and_takes_no_new_ones(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    async with Client(broker_url) as client:
        running = client.call(prefix + "note", {"name": "running", "seconds": 0.6})
        await until(lambda: "STARTED running" in worker.output)
        waiting = client.call(prefix + "note", {"name": "waiting"})
        os.kill(worker.pid, signal.SIGTERM)
        assert (await running)["name"] == "running"
        assert worker.ends(timeout=10) == 0
        assert "STARTED waiting" not in worker.output
        start_worker()
        assert (await waiting)["name"] == "waiting"


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("flags", [(), ("--threads", "2")], ids=["main thread", "threads"])
async def test_a_call_that_outlasts_the_drain_is_interrupted_and_runs_on_another_worker(
    broker_url: str, prefix: str, start_worker: StartWorker, flags: tuple[str, ...]
) -> None:
    workers = [start_worker("--drain", "0.3", *flags) for _ in range(2)]
    async with Client(broker_url) as client:
        kind = "endless loop"
        call = client.call(prefix + "hang", kind, expiration=2.5)
        await until(lambda: any(f"HANGING [{kind}]" in worker.output for worker in workers))
        worker, second = sorted(workers, key=lambda worker: f"HANGING [{kind}]" not in worker.output)
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 4
        assert f"INTERRUPTED [{kind}] drain" in worker.output
        with pytest.raises(crew.TimeoutError):
            await call
        await until(lambda: f"INTERRUPTED [{kind}] timeout" in second.output)


@pytest.mark.gen_test(timeout=60)
async def test_a_second_sigterm_interrupts_at_once(broker_url: str, prefix: str, start_worker: StartWorker) -> None:
    worker = start_worker("--drain", "30")
    async with Client(broker_url) as client:
        call = client.call(prefix + "sleep", 20, expiration=30)
        await until(lambda: call.has_started)
        os.kill(worker.pid, signal.SIGTERM)
        await until(lambda: "draining" in worker.output)
        began = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.ends(timeout=10) == 0
        assert time.monotonic() - began < 5


@pytest.mark.gen_test(timeout=60)
async def test_a_process_that_dies_is_replaced_and_its_call_runs_again(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "2", count=2)
    async with Client(broker_url) as client:
        call = client.call(prefix + "note", {"name": "again", "seconds": 0.8})
        await until(lambda: "STARTED again" in worker.output)
        for pid in _children(worker.pid):
            os.kill(pid, signal.SIGKILL)
        assert (await call)["name"] == "again"
    assert worker.output.count("was killed by SIGKILL") == 2
    assert worker.is_running


@pytest.mark.gen_test(timeout=60)
async def test_no_process_outlives_a_killed_supervisor(broker_url: str, prefix: str, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "2", count=2)
    children = _children(worker.pid)
    assert len(children) == 2
    worker.kill()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), timeout=10)


def test_a_refused_password_stops_the_worker_with_one_line(broker_url: str, processes: Processes) -> None:
    url = broker_url.replace(f":{urlsplit(broker_url).password}@", ":wrong-secret@")
    worker = processes.python(TASKS, "--url", url)
    assert worker.ends(timeout=10) == 78
    assert "user name or password refused" in worker.output
    assert "Traceback" not in worker.output
    assert "wrong-secret" not in worker.output


def test_an_unreachable_broker_is_logged_without_tracebacks(processes: Processes) -> None:
    worker = processes.python(TASKS, "--url", "amqp://guest:guest@127.0.0.1:1/", "--logging", "debug")
    worker.says("connection refused; retrying in", times=12)  # of both connections; all but the first at debug level
    assert "Traceback" not in worker.output
    (warning,) = (line for line in worker.output.splitlines() if "WARNING" in line)
    assert "connection refused; retrying in" in warning
    assert "; `crew broker start` starts a broker on this machine connection=" in warning
    assert worker.stop() == 0


@pytest.mark.gen_test
async def test_a_worker_decodes_only_what_it_accepts(
    broker_url: str, prefix: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with running(tmp_path, {**environment, "CREW_ACCEPT": "json", "CREW_MAX_PAYLOAD": "1000"}) as processes:
        processes.python(TASKS).says("serving")
        async with Client(broker_url) as client:
            assert await client.call(prefix + "echo", {"small": True}) == {"small": True}
            with pytest.raises(
                crew.TaskFailed, match="'application/msgpack' is not accepted here, only application/json"
            ):
                await client.call(prefix + "echo", 1, serializer="msgpack")
            with pytest.raises(crew.TaskFailed, match="more than the 1000"):
                await client.call(prefix + "echo", "x" * 1001)


@pytest.mark.gen_test
async def test_a_client_decodes_only_what_it_accepts(
    broker_url: str, prefix: str, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_worker()
    monkeypatch.setenv("CREW_ACCEPT", "json")
    async with Client(broker_url) as client:
        with pytest.raises(crew.SerializationError, match="not accepted here"):
            await client.call(prefix + "echo", b"raw")
    monkeypatch.setenv("CREW_ACCEPT", "pickle")
    with pytest.raises(crew.SettingsError, match="'pickle'"):
        Client(broker_url)
    monkeypatch.setenv("CREW_MAX_PAYLOAD", "a lot")
    with pytest.raises(crew.SettingsError, match="CREW_MAX_PAYLOAD"):
        Client(broker_url)


@pytest.mark.gen_test
async def test_a_client_without_a_broker_raises_at_its_deadline() -> None:
    client = Client("amqp://guest:guest@127.0.0.1:1/")
    began = time.monotonic()
    with pytest.raises(crew.ExpirationError, match="broker could not be reached"):
        await client.call("anything", expiration=0.5)
    assert 0.5 <= time.monotonic() - began < 1.0
    with pytest.raises(crew.ConnectionError, match=r"within 0\.2 s"):
        await client.connect(timeout=0.2)
    await client.close()


@pytest.mark.gen_test
async def test_a_client_with_a_wrong_password_fails_at_once_and_may_try_again(broker_url: str) -> None:
    client = Client(broker_url.replace(f":{urlsplit(broker_url).password}@", ":wrong-secret@"))
    for _ in range(2):
        with pytest.raises(crew.ConnectionError, match="password refused") as refused:
            await client.call("anything", expiration=10)
        assert "wrong-secret" not in str(refused.value)
    with pytest.raises(crew.ConnectionError, match="password refused"):
        await client.connect()
    await client.close()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('@Task("same")\ndef one(data): ...\n@Task("same")\ndef two(data): ...\n', "two tasks are named 'same'"),
        ("", "there is no task to serve"),
        ('@Task("later")\nasync def later(data):\n    yield data\n', "async generator"),
        ('@Task("add")\ndef add(a: type(print)): ...\n', "the annotation of parameter `a` cannot be served"),
        ('@Task("long", timeout=3600)\ndef long(data): ...\n', "write long=True"),
    ],
)
def test_a_worker_that_cannot_serve_logs_the_reason_in_one_line(
    processes: Processes, tmp_path: Path, script: str, reason: str
) -> None:
    path = tmp_path / "mistaken.py"
    path.write_text(f"from crew.worker import Task, run\n{script}\nrun()\n")
    worker = processes.python(path)
    assert worker.ends(timeout=10) == 78
    assert reason in worker.output
    assert len(worker.output.splitlines()) == 1


@pytest.mark.parametrize("flag", ["--processes=0", "--port=99999", "--nonsense", "--grace=-1", "--url=http://x"])
def test_an_invalid_flag_is_named_in_the_error(processes: Processes, flag: str) -> None:
    worker = processes.python(TASKS, flag)
    assert worker.ends(timeout=10) in (2, 78)
    assert flag.split("=")[0].lstrip("-") in worker.output or "http://x" in worker.output
    assert "Traceback" not in worker.output


def test_a_worker_needs_no_tornado(tmp_path: Path, broker_url: str, environment: dict[str, str]) -> None:
    """In a separate environment with only the core dependencies of crew."""
    import click
    import pika

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    packages = tmp_path / "packages"
    packages.mkdir()
    for package in (crew, click, pika, msgspec):
        folder = Path(str(package.__file__)).parent
        (packages / folder.name).symlink_to(folder)
    with running(tmp_path, {**environment, "PYTHONPATH": str(packages)}) as processes:
        python = tmp_path / "venv" / "bin" / "python"
        assert processes.start(python, "-c", "import tornado").ends(10) == 1
        started = processes.start(python, "-c", "import crew, crew.worker, sys; print('tornado' in sys.modules)")
        assert started.ends(10) == 0
        assert started.output.strip() == "False"
        worker = processes.start(python, TASKS).says("serving")
        assert worker.stop() == 0


@pytest.mark.own_interpreters
def test_an_idle_worker_process_stays_below_32_mib(start_worker: StartWorker) -> None:
    worker = start_worker()
    (child,) = _children(worker.pid)
    status = Path(f"/proc/{child}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert rss <= 32 * 1024


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.gen_test
async def test_a_task_that_cannot_be_interrupted_does_not_keep_its_worker_from_stopping(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker("--drain", "0.2", "--grace", "0.5")
    async with Client(broker_url) as client:
        call = client.call(prefix + "stubborn", persistent=False)
        await until(lambda: call.has_started)
        began = time.monotonic()
        assert await asyncio.get_running_loop().run_in_executor(None, worker.stop) == 0
        assert time.monotonic() - began < 0.2 + 0.5 + 2
        with pytest.raises(crew.WorkerLost):
            await call
