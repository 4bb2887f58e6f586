"""The folder of a private node: files written once, files written at each start, and their permissions."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew import SettingsError
from crew.cli.broker.node_folder import PORTS, NodeFolder


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    folder = NodeFolder(tmp_path / "broker")
    with folder.locked():
        folder.prepare()
    return folder


@pytest.fixture
def taken_port(folder: NodeFolder) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", folder.ports.dist)):
        yield folder.ports.dist


def test_ports_and_password_are_chosen_once(folder: NodeFolder) -> None:
    before = folder.url

    folder.prepare()

    assert NodeFolder(folder.path).url == before


def test_two_nodes_have_nothing_in_common(folder: NodeFolder, tmp_path: Path) -> None:
    other = NodeFolder(tmp_path / "other")
    with other.locked():
        other.prepare()

    assert other.url != folder.url
    assert other.marker != folder.marker
    assert (other.path / ".erlang.cookie").read_text() != (folder.path / ".erlang.cookie").read_text()


def test_no_port_is_one_that_outgoing_connections_use(folder: NodeFolder) -> None:
    assert {folder.ports.amqp, folder.ports.dist, folder.ports.epmd} <= set(PORTS)
    assert max(PORTS) < 32768


def test_no_other_user_can_read_a_nodes_folder_that_was_open_before(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir(mode=0o755)
    folder = NodeFolder(tmp_path / "broker")
    before = os.umask(0)
    try:
        with folder.locked():
            folder.prepare()
            folder.write_url()
    finally:
        os.umask(before)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert modes[".erlang.cookie"] == 0o400
    assert {modes[name] for name in ("url", "password", "rabbitmq.conf", "ports.json")} == {0o600}


def test_a_node_has_one_user_and_listens_on_this_machine_only(folder: NodeFolder) -> None:
    lines = (folder.path / "rabbitmq.conf").read_text().splitlines()

    assert f"listeners.tcp.1 = 127.0.0.1:{folder.ports.amqp}" in lines
    assert "default_user = crew" in lines
    assert f":{lines[2].removeprefix('default_pass = ')}@" in folder.url
    environment = folder.environment()
    assert environment["ERL_EPMD_ADDRESS"] == environment["RABBITMQ_NODE_IP_ADDRESS"] == "127.0.0.1"
    assert "inet_dist_use_interface {127,0,0,1}" in environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]


def test_additional_configuration_applies_to_one_start_only(folder: NodeFolder) -> None:
    folder.prepare(["consumer_timeout = 5000"])
    with_line = (folder.path / "rabbitmq.conf").read_text()
    folder.prepare()

    assert with_line.endswith("\nconsumer_timeout = 5000\n")
    assert "consumer_timeout" not in (folder.path / "rabbitmq.conf").read_text()


def test_the_callers_environment_does_not_reach_the_node(folder: NodeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_NODENAME", "rabbit@elsewhere")
    monkeypatch.setenv("RABBITMQ_USE_LONGNAME", "true")

    assert folder.environment()["RABBITMQ_NODENAME"] == "crew@localhost"
    assert "RABBITMQ_USE_LONGNAME" not in folder.environment()


def test_an_error_about_a_port_in_use_says_what_to_do(folder: NodeFolder, taken_port: int) -> None:
    with pytest.raises(
        SettingsError, match=rf"port {taken_port} of .* is in use by another program: .* delete .*ports.json"
    ):
        folder.check_ports()


def test_an_error_about_damaged_ports_says_what_to_do(folder: NodeFolder) -> None:
    folder.ports_file.write_text("{")

    with pytest.raises(SettingsError, match=r"ports\.json is damaged: delete it"):
        assert folder.ports
