"""`crew broker`: a private RabbitMQ node starts, serves clients, restarts, and leaves no process when it stops."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew import CrewError
from crew.cli.broker.node import Node, Status
from crew.client.blocking import Client
from tests.support.waiting import eventually

Started = subprocess.Popen[str]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for `crew broker`; its node stops at the end of the module."""
    workplace = tmp_path_factory.mktemp("with blank")
    yield workplace
    Node(workplace / ".crew" / "broker").stop()
    eventually(lambda: not left_in(workplace))


@pytest.fixture
def running(workplace: Path) -> Path:
    """The same folder, with a running node."""
    Node(workplace / ".crew" / "broker").start()
    return workplace


def start(workplace: Path, *arguments: str) -> Started:
    """Start `crew broker` in the folder, as from a shell."""
    return subprocess.Popen(
        [sys.executable, "-m", "crew", "broker", *arguments],
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(workplace: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of `crew broker` in the folder."""
    return end(start(workplace, *arguments))


def end(process: Started) -> tuple[int, str]:
    """Wait for the process; returns its exit status and output."""
    output, _ = process.communicate(timeout=90)
    return process.returncode, output


def left_in(workplace: Path) -> list[str]:
    """Command lines of the running processes that a node in `workplace` or below has started."""
    return [command for entry in Path("/proc").glob("[0-9]*") if (command := command_if_from(entry, workplace))]


def command_if_from(entry: Path, workplace: Path) -> str | None:
    try:
        if f"HOME={workplace}".encode() not in (entry / "environ").read_bytes():
            return None
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:  # it has ended, or belongs to another user
        return None


@pytest.mark.chaos
def test_two_starts_at_the_same_time_start_one_node(workplace: Path) -> None:
    both = [start(workplace, "start"), start(workplace, "start")]

    (status, output), (other_status, other_output) = map(end, both)

    assert (status, other_status) == (0, 0), output + other_output
    assert output == other_output
    assert "RabbitMQ is running at amqp://crew:***@127.0.0.1:" in output
    assert (workplace / ".crew" / "broker" / "password").read_text() not in output


def test_starting_a_running_node_changes_nothing(running: Path) -> None:
    before = run(running, "status")

    assert run(running, "start")[0] == 0
    assert run(running, "status") == before
    assert before[0] == 0


def test_clients_below_the_folder_find_the_node(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(running)

    with Client() as client:
        client.connect(timeout=5)


def test_a_node_requires_its_password_and_has_no_guest_user(running: Path) -> None:
    port = Node(running / ".crew" / "broker").url.rpartition(":")[2]

    with Client(f"amqp://guest:guest@127.0.0.1:{port}") as client, pytest.raises(CrewError, match="refused"):
        client.connect(timeout=5)


def test_a_node_listens_on_loopback_only(running: Path) -> None:
    ports = json.loads((running / ".crew" / "broker" / "ports.json").read_text()).values()

    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {fields[1] for fields in lines if fields[3] == "0A"}  # proc_net_tcp(5): TCP_LISTEN

    assert {f"0100007F:{port:04X}" for port in ports} <= listening
    assert not {f"00000000:{port:04X}" for port in ports} & listening


@pytest.mark.chaos
def test_a_crashed_node_restarts_at_the_same_url(running: Path) -> None:
    node = Node(running / ".crew" / "broker")
    before, pid = node.url, node.pid
    node.kill()
    assert run(running, "status") == (1, "RabbitMQ is not running\n")

    assert run(running, "start")[0] == 0

    assert node.url == before
    assert node.pid != pid
    assert node.status is Status.RUNNING


@pytest.mark.chaos
def test_the_files_of_a_node_are_private_whatever_the_umask(running: Path) -> None:
    before = os.umask(0)
    try:
        Node(running / ".crew" / "broker").stop()
        assert run(running, "start")[0] == 0
        assert "crew" in Node(running / ".crew" / "broker").ctl("list_users")
    finally:
        os.umask(before)

    found = {str(path): path.lstat().st_mode for path in (running / ".crew", *(running / ".crew").rglob("*"))}
    assert any("/log/" in name for name in found)
    assert any("/mnesia/" in name for name in found)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


@pytest.mark.parametrize("name", [".crew", ".crew/broker", ".crew/broker/url", ".crew/broker/password"])
def test_no_command_uses_files_that_another_user_may_have_planted(running: Path, tmp_path: Path, name: str) -> None:
    """The working folder is a copy in which one entry is a symbolic link."""
    shutil.copytree(running / ".crew", tmp_path / ".crew", ignore=shutil.ignore_patterns("mnesia"))
    (tmp_path / name).rename(tmp_path / "theirs")
    (tmp_path / name).symlink_to(tmp_path / "theirs")
    environment = {key: value for key, value in os.environ.items() if key != "CREW_AMQP_URL"}
    commands = [["broker", "start"], ["worker", "--http"], ["call", "x"]]
    reads_url = name != ".crew/broker/password"

    for command in commands if reads_url else commands[:1]:
        done = subprocess.run(
            [sys.executable, "-m", "crew", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"crew: {tmp_path}/{name} is a symbolic link: it is not followed"), command
        assert done.returncode in (2, 78), command
        assert done.stdout == ""


def test_rabbitmqctl_works_on_a_node_and_its_error_is_one_line(running: Path) -> None:
    node = Node(running / ".crew" / "broker")

    assert "crew" in node.ctl("list_users")
    with pytest.raises(CrewError, match=r"rabbitmqctl nonsense failed: Command 'nonsense' not found\.$"):
        node.ctl("nonsense")


def test_a_stop_leaves_no_process_and_can_be_repeated(running: Path) -> None:
    assert run(running, "stop") == (0, "RabbitMQ stopped\n")

    assert not left_in(running)
    assert not (running / ".crew" / "broker" / "url").exists()
    assert run(running, "status") == (1, "RabbitMQ is not running\n")
    assert run(running, "stop") == (0, "RabbitMQ was not running\n")


def test_a_stop_without_a_node_creates_no_folder(tmp_path: Path) -> None:
    assert run(tmp_path, "stop") == (0, "RabbitMQ was not running\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_start_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    starting = start(tmp_path, "start")
    eventually(lambda: any("beam" in command for command in left_in(tmp_path)), timeout=10)

    starting.send_signal(number)

    assert end(starting)[0] != 0
    assert eventually(lambda: not left_in(tmp_path))


def test_a_start_can_be_canceled_by_its_caller(tmp_path: Path) -> None:
    with pytest.raises(CrewError, match="RabbitMQ start canceled"):
        Node(tmp_path / "broker").start(is_canceled=lambda: True)

    assert eventually(lambda: not left_in(tmp_path))


@pytest.mark.chaos
def test_the_error_of_a_node_that_exits_while_it_starts_has_the_reason(tmp_path: Path) -> None:
    node = Node(tmp_path / "broker", conf=["nonsense = 1"])

    with pytest.raises(CrewError, match="exited while it started: You've tried to set nonsense") as caught:
        node.start()

    assert "\n" not in str(caught.value)
    assert not left_in(tmp_path)


def test_a_node_that_does_not_start_in_time_is_stopped(tmp_path: Path) -> None:
    status, output = run(tmp_path, "start", "--timeout", "0.5")

    assert status == 7
    assert "RabbitMQ start timeout: it accepted no connection within 0.5 s" in output
    assert eventually(lambda: not left_in(tmp_path))


def test_a_port_in_use_prints_one_line_on_stderr(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        folder = tmp_path / ".crew" / "broker"
        folder.mkdir(parents=True)
        (folder / "ports.json").write_text(f'{{"amqp":{port},"dist":31998,"epmd":31999}}')

        status, output = run(tmp_path, "start")

    assert status == 2
    assert output.startswith(f"crew: port {port} of the private broker (amqp) is in use by another program: ")
    assert len(output.splitlines()) == 1


def test_a_stale_process_id_is_not_taken_for_the_node(tmp_path: Path) -> None:
    node = Node(tmp_path / "broker")
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "pid").write_text(str(os.getpid()))

    assert node.status is Status.STOPPED
    assert not node.stop()  # and the process is not killed
