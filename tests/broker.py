"""The broker of the tests: one private node a session, or the one that CREW_TEST_AMQP_URL names."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest

from crew.cli.node import Node

# Stops the node when its standard input ends, which is when the tests do: also when they are killed or time out.
LEASH = "import sys, pathlib, crew.cli.node as n; sys.stdin.read(); n.Node(pathlib.Path(sys.argv[1])).stop()"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that tests may ask by `rabbitmqctl`; leave it running."""
    if "CREW_TEST_AMQP_URL" in os.environ:
        pytest.skip("this needs a node of our own, and CREW_TEST_AMQP_URL names another broker")
    folder = tmp_path_factory.mktemp("broker")
    node = Node(folder)
    with subprocess.Popen([sys.executable, "-c", LEASH, folder], stdin=subprocess.PIPE, start_new_session=True):
        node.start()
        yield node
    assert node.pid is None


@pytest.fixture(scope="session")
def broker_url(request: pytest.FixtureRequest) -> str:
    """AMQP URL of the broker; it is the same for all tests, so that they keep apart by `unique` or by `vhost_url`."""
    if url := os.environ.get("CREW_TEST_AMQP_URL"):
        return url
    node: Node = request.getfixturevalue("node")
    return node.url


@pytest.fixture(scope="session")
def vhost_url(node: Node) -> Callable[[], str]:
    """Make a virtual host with nothing in it, and return its AMQP URL; it costs a second."""

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        node.ctl("add_vhost", name)
        node.ctl("set_permissions", "--vhost", name, "crew", ".*", ".*", ".*")
        return node.url + name

    return make


@pytest.fixture
def unique() -> str:
    """Begins the names of what a test declares, so that it meets no other test's."""
    return f"t{uuid.uuid4().hex[:8]}."
