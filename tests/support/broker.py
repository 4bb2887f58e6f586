"""The broker of the tests: one private node for all processes of pytest-xdist, or that of CREW_TEST_AMQP_URL.

Each process of the tests has a virtual host of its own.
"""

import functools
import json
import os
import random
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from crew import private_folder
from crew.cli.broker.node import Node
from crew.cli.broker.node_folder import PORTS, NodeFolder
from tests.support import erlang
from tests.support.certificates import Certificates
from tests.support.shared_node import locked, used_node

# For each queue of a virtual host, its name and the number of messages in it, each on a line.
_DEPTHS = """lists:flatten([io_lib:format("~s~n~w~n", [element(4, Name), Messages]) ||
    [{name, Name}, {messages, Messages}] <- rabbit_amqqueue:info_all(<<"%s">>, [name, messages])])."""
# Closes all connections to a virtual host. One that has closed meanwhile is no error.
_CLOSE = """[catch rabbit_networking:close_connection(Connection, "a test") ||
    Connection <- rabbit_networking:connections(),
    (catch rabbit_networking:connection_info(Connection, [vhost])) =:= [{vhost, <<"%s">>}]]."""
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}  # permissions of a user on a virtual host


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `node`, the same for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "home" / ".crew" / "broker"  # a command in `home` finds the node
    with locked(shared / "preparing"):
        private_folder.make_folder(folder)
    return folder


@pytest.fixture(scope="session")
def certificates(node_folder: Path) -> Certificates:
    """The TLS certificates of the node and its clients."""
    with locked(node_folder / "preparing"):
        return Certificates(node_folder / "certificates")


@pytest.fixture(scope="session")
def tls_port(node_folder: Path) -> int:
    """The port on which the node accepts TLS clients with a certificate."""
    file = node_folder / "tls_port"
    with locked(node_folder / "preparing"):
        if not file.exists():
            file.write_text(str(next(port for port in random.sample(PORTS, k=100) if _is_free(port))))
        return int(file.read_text())


@pytest.fixture(scope="session")
def node(node_folder: Path, certificates: Certificates, tls_port: int) -> Iterator[Node]:
    """The private node. Tests may use `node.ctl`, but must not stop the node: other tests use it at the same time."""
    if "CREW_TEST_AMQP_URL" in os.environ:
        pytest.skip("this test needs the private node, but CREW_TEST_AMQP_URL names another broker")
    with used_node(node_folder, conf=_tls_listener(tls_port, certificates)) as node:
        yield node


@pytest.fixture(scope="session")
def broker_url(request: pytest.FixtureRequest) -> str:
    """AMQP URL of the broker, the same for all tests of a process: use `unique` or `vhost_url` to separate tests."""
    if url := os.environ.get("CREW_TEST_AMQP_URL"):
        return url
    make: Callable[[], str] = request.getfixturevalue("vhost_url")
    return make()


@pytest.fixture(scope="session")
def close_connections(evaluate: Callable[[str], str], broker_url: str) -> Callable[[], None]:
    """Closes all connections to the virtual host of `broker_url`, as an administrator may."""

    def close() -> None:
        evaluate(_CLOSE % vhost_of(broker_url))

    return close


@pytest.fixture(scope="session")
def evaluate(node: Node, node_folder: Path) -> Callable[[str], str]:
    """Evaluates an Erlang expression in the node, and returns the value as Erlang prints it."""
    return functools.partial(erlang.evaluate, node, NodeFolder(node_folder))


@pytest.fixture(scope="session")
def depths(evaluate: Callable[[str], str]) -> Callable[[str], dict[str, int]]:
    """Counts the messages in each queue of the virtual host of a URL, delivered or not, also in exclusive queues."""

    def count(url: str) -> dict[str, int]:
        lines = json.loads(evaluate(_DEPTHS % vhost_of(url))).splitlines()
        return dict(zip(lines[::2], map(int, lines[1::2]), strict=True))

    return count


@pytest.fixture(scope="session")
def define(evaluate: Callable[[str], str]) -> Callable[..., None]:
    """Adds users, permissions and the like to the node: https://www.rabbitmq.com/docs/definitions."""

    def define(**definitions: list[dict[str, object]]) -> None:
        evaluate(f"ok = rabbit_definitions:import_raw(<<{json.dumps(json.dumps(definitions))}>>).")

    return define


@pytest.fixture(scope="session")
def vhost_url(node: Node, define: Callable[..., None]) -> Callable[[], str]:
    """Creates an empty virtual host and returns its AMQP URL."""

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        define(vhosts=[{"name": name}], permissions=[{"user": "crew", "vhost": name, **EVERYTHING}])
        return node.url + name

    return make


def vhost_of(url: str) -> str:
    """The virtual host of an AMQP URL."""
    return unquote(urlsplit(url).path[1:])


@contextmanager
def unreachable_url() -> Iterator[str]:
    """The URL of a port on which nothing listens; no other program can use the port during the block."""
    with socket.socket() as bound:  # bound, but not listening
        bound.bind(("127.0.0.1", 0))
        yield f"amqp://guest:secret@127.0.0.1:{bound.getsockname()[1]}/%2F"


def _tls_listener(port: int, certificates: Certificates) -> list[str]:
    """Lines of rabbitmq.conf for a TLS listener: https://www.rabbitmq.com/docs/ssl."""
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


@pytest.fixture
def unique() -> str:
    """A prefix for the names that a test declares, so that no other test uses the same names."""
    return f"t{uuid.uuid4().hex[:8]}."
