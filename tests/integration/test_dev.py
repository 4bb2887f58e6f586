"""`crew dev`: broker, workers and gateway start together, restart after a change or an exit, and stop together."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew.cli import process
from crew.cli.broker.node import Node, Status
from crew.client.blocking import Client
from tests.support.processes import Process, Processes, running

pytestmark = pytest.mark.own_interpreters

WORKER = """
import os
from crew.worker import Task

@Task(os.environ["CREW_TEST_PREFIX"] + "dev")
def task(data):
    return {value!r}
"""
GATEWAY = """
import sys, time
from crew.client.blocking import Client

with Client() as client:
    client.connect(timeout=10)
    print("gateway is up", *sys.argv[1:], flush=True)
    time.sleep(600)
"""
STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print("stubborn with child", child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with one folder for a worker and one for a gateway."""
    save(tmp_path / "work" / "worker.py", WORKER.format(value="first"))
    save(tmp_path / "web" / "gateway.py", GATEWAY)
    return tmp_path


def save(path: Path, text: str) -> None:
    """Write the file with a new timestamp, even immediately after the last write."""
    path.parent.mkdir(exist_ok=True)
    before = path.stat().st_mtime if path.exists() else 0.0
    path.write_text(text)
    os.utime(path, (before + 1, before + 1))


def is_running(node: Node) -> bool:
    return node.status is Status.RUNNING


def dev(processes: Processes, *flags: str) -> Process:
    return processes.crew("dev", "work/worker.py", *flags)


def stops_and_leaves_nothing(dev: Process, processes: Processes, number: int = signal.SIGINT) -> None:
    """Stop `crew dev`; it must leave no process running."""
    assert dev.stop(number) == 0, dev
    assert dev.output.splitlines()[-1] == "crew dev: everything stopped"
    assert not processes.alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_worker_and_gateway_run_until_they_are_stopped_together(
    processes: Processes, sources: Path, number: signal.Signals
) -> None:
    everything = dev(processes, "--gateway", "web/gateway.py --port=1", "--processes", "2", "--", "--threads=2")
    everything.says("serving 1 task", times=2).says("gateway is up --port=1\n")

    stops_and_leaves_nothing(everything, processes, number)
    assert "Traceback" not in everything.output


def test_a_changed_source_restarts_its_process(
    processes: Processes, sources: Path, broker_url: str, prefix: str
) -> None:
    everything = dev(processes, "--gateway", "web/gateway.py").says("serving 1 task").says("gateway is up")
    with Client(broker_url) as client:
        assert client.call(prefix + "dev").result() == "first"

        save(sources / "work" / "worker.py", WORKER.format(value="second"))
        everything.says("crew dev: worker.py changed: restarting worker work/worker.py").says("serving 1 task", times=2)

        assert client.call(prefix + "dev").result() == "second"
    save(sources / "web" / "page.py", "")
    everything.says("crew dev: page.py changed: restarting gateway web/gateway.py").says("gateway is up", times=2)
    assert everything.output.count("changed") == 2
    stops_and_leaves_nothing(everything, processes)


def test_no_module_of_the_working_folder_replaces_one_that_crew_needs(processes: Processes, sources: Path) -> None:
    for name in ("click", "msgspec", "pika"):
        save(sources / f"{name}.py", f"print('{name} from the working folder', flush=True)")
    save(sources / "work" / "worker.py", "import helper\n" + WORKER.format(value="first"))
    save(sources / "work" / "helper.py", "print('beside the worker', flush=True)")
    save(sources / "web" / "gateway.py", "import helper\n" + GATEWAY)
    save(sources / "web" / "helper.py", "print('beside the gateway', flush=True)")

    # Like the `crew` command in a terminal, which does not import from the working folder either.
    command = [sys.executable, "-P", "-m", "crew", "dev", "work/worker.py", "--gateway", "web/gateway.py"]
    everything = processes.start(*command).says("serving 1 task").says("gateway is up")

    assert "beside the worker" in everything.output
    assert "beside the gateway" in everything.output
    assert "from the working folder" not in everything.output
    stops_and_leaves_nothing(everything, processes)


def test_a_process_that_exits_is_logged_and_restarted(processes: Processes, sources: Path) -> None:
    save(sources / "web" / "gateway.py", "print('about to exit', flush=True); raise SystemExit(3)")
    everything = dev(processes, "--gateway", "web/gateway.py").says("about to exit", times=2)

    assert "gateway web/gateway.py exited with status 3: restarting it in 1 s, or when a source" in everything.output
    stops_and_leaves_nothing(everything, processes)


def test_a_worker_that_cannot_run_restarts_when_its_source_changes(processes: Processes, sources: Path) -> None:
    save(sources / "work" / "worker.py", "def (")
    everything = dev(processes).says("SyntaxError").says("restarting it when a source in")

    save(sources / "work" / "worker.py", WORKER.format(value="fixed"))

    everything.says("serving 1 task")
    stops_and_leaves_nothing(everything, processes)


def test_a_process_that_does_not_stop_is_killed_with_its_children(processes: Processes, sources: Path) -> None:
    save(sources / "web" / "gateway.py", STUBBORN)
    everything = dev(processes, "--gateway", "web/gateway.py").says("stubborn with child").says("serving")
    found = re.search(r"with child (\d+)", everything.output)
    assert found

    os.kill(everything.pid, signal.SIGINT)
    everything.says("stopping")
    os.kill(everything.pid, signal.SIGINT)  # a second Ctrl-C ends the wait

    assert everything.ends(timeout=5) == 0
    assert "gateway web/gateway.py does not stop: killing it (pid " in everything.output
    assert process.has_ended(int(found[1]))
    assert not processes.alive()


def test_a_missing_file_prints_one_line_on_stderr(processes: Processes, sources: Path) -> None:
    for arguments in (["dev", "missing.py"], ["dev", "work/worker.py", "--gateway", "web/missing.py --port=1"]):
        everything = processes.crew(*arguments)

        assert everything.ends(timeout=10) == 2
        assert re.fullmatch(r"crew: file (web/)?missing\.py does not exist\n", everything.output)


@pytest.fixture
def without_url(tmp_path: Path, prefix: str) -> Iterator[Processes]:
    """Starts processes without the address of a broker in their environment."""
    with running(tmp_path, {"CREW_TEST_PREFIX": prefix}) as processes:
        yield processes


@pytest.mark.chaos
def test_a_private_broker_starts_and_stops_with_the_rest(without_url: Processes, sources: Path) -> None:
    node = Node(sources / ".crew" / "broker")
    everything = dev(without_url, "--gateway", "web/gateway.py").says("serving 1 task").says("gateway is up")
    assert is_running(node)

    node.kill()
    everything.says("crew dev: RabbitMQ exited: restarting it").says("serving 1 task", times=2)

    stops_and_leaves_nothing(everything, without_url)
    assert not is_running(node)


def test_a_private_broker_that_ran_before_keeps_running(
    without_url: Processes, sources: Path, node: Node, node_folder: Path
) -> None:
    everything = without_url.crew("dev", sources / "work" / "worker.py", folder=node_folder.parents[1])

    stops_and_leaves_nothing(everything.says("serving 1 task"), without_url)

    assert is_running(node)
