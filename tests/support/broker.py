"""The broker of the tests: one private node a session, or the one that CREW_TEST_AMQP_URL names."""

import json
import os
import random
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from crew import private_folder
from crew.cli.broker.node import Node
from crew.cli.broker.node_folder import PORTS
from tests.support.certificates import Certificates

# Stops the node when its standard input ends, which is when the tests do: also when they are killed or time out.
LEASH = "import sys, pathlib, crew.cli.broker.node as n; sys.stdin.read(); n.Node(pathlib.Path(sys.argv[1])).stop()"

VHOSTS = 16  # made at a time: rabbitmqctl takes half a second to start, and the node 20 ms for one


@contextmanager
def leashed(folder: Path, *, conf: Sequence[str] = ()) -> Iterator[Node]:
    """A node in `folder` that runs, with more lines of rabbitmq.conf; it ends with the block, and with the tests."""
    node = Node(folder, conf=conf)
    with subprocess.Popen([sys.executable, "-c", LEASH, folder], stdin=subprocess.PIPE, start_new_session=True):
        node.start()
        yield node
        node.kill()  # what it holds is of no use to anybody, and a clean stop takes a second
    assert node.pid is None


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `node` keeps everything."""
    folder = tmp_path_factory.mktemp("home") / ".crew" / "broker"  # a command that runs in `home` finds it
    private_folder.make_folder(folder)
    return folder


@pytest.fixture(scope="session")
def certificates(node_folder: Path) -> Certificates:
    """What the node and its clients show each other where they talk over TLS."""
    return Certificates(node_folder / "certificates")


@pytest.fixture(scope="session")
def tls_port() -> int:
    """Where the node listens for clients that show a certificate."""
    return next(port for port in random.sample(PORTS, k=100) if _is_free(port))


@pytest.fixture(scope="session")
def node(node_folder: Path, certificates: Certificates, tls_port: int) -> Iterator[Node]:
    """A node that tests may ask by `rabbitmqctl`; leave it running."""
    if "CREW_TEST_AMQP_URL" in os.environ:
        pytest.skip("this needs a node of our own, and CREW_TEST_AMQP_URL names another broker")
    with leashed(node_folder, conf=_tls_listener(tls_port, certificates)) as node:
        yield node


@pytest.fixture(scope="session")
def broker_url(request: pytest.FixtureRequest) -> str:
    """AMQP URL of the broker; it is the same for all tests, so that they keep apart by `unique` or by `vhost_url`."""
    if url := os.environ.get("CREW_TEST_AMQP_URL"):
        return url
    node: Node = request.getfixturevalue("node")
    return node.url


@pytest.fixture(scope="session")
def vhost_url(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Make a virtual host with nothing in it, and return its AMQP URL; the first of each `VHOSTS` costs a second."""
    file = tmp_path_factory.mktemp("vhosts") / "definitions.json"
    names: list[str] = []

    def make() -> str:
        if not names:
            names.extend(f"test-{uuid.uuid4().hex[:8]}" for _ in range(VHOSTS))
            file.write_text(json.dumps(_definitions(names)))
            node.ctl("import_definitions", str(file))
        return node.url + names.pop()

    return make


def _tls_listener(port: int, certificates: Certificates) -> list[str]:
    """As rabbitmq.conf has it: https://www.rabbitmq.com/docs/ssl."""
    return [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {certificates.ca}",
        f"ssl_options.certfile = {certificates.server}",
        f"ssl_options.keyfile = {certificates.key_of(certificates.server)}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    ]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _definitions(vhosts: Sequence[str]) -> dict[str, object]:
    """As rabbitmqctl imports them: https://www.rabbitmq.com/docs/definitions."""
    everything = {"user": "crew", "configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": name} for name in vhosts],
        "permissions": [{"vhost": name, **everything} for name in vhosts],
    }


@pytest.fixture
def unique() -> str:
    """Begins the names of what a test declares, so that it meets no other test's."""
    return f"t{uuid.uuid4().hex[:8]}."
