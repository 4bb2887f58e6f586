"""Passwords stay out of logs, messages, tracebacks and the process list."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from crew.cli.broker.node import Node
from tests.integration.conftest import TASKS
from tests.support.broker import EVERYTHING
from tests.support.paths import PROGRAM_FOLDER, ROOT
from tests.support.processes import Processes, running
from tests.support.proxy import Proxy

PASSWORD = "5ecre7@/:?#%&+ ,'\"ü-wor1d"
FRAGMENTS = ("5ecre7", "wor1d", base64.b64encode(PASSWORD.encode()).decode()[:8])

LOUD = """
import logging, runpy, sys
logging.getLogger("pika").setLevel(logging.DEBUG)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def user(define: Callable[..., None]) -> str:
    """A user of the node; its password has characters that need quoting."""
    define(
        users=[{"name": "o'dd", "password": PASSWORD, "tags": ""}],
        permissions=[{"user": "o'dd", "vhost": "/", **EVERYTHING}],
    )
    return "o'dd"


@pytest.fixture
def url(node: Node, user: str) -> str:
    """URL of the broker with the quoted user and password."""
    return f"amqp://{quote(user, safe='')}:{quote(PASSWORD, safe='')}@127.0.0.1:{urlsplit(node.url).port}/"


@pytest.fixture
def processes(tmp_path: Path, prefix: str) -> Iterator[Processes]:
    """Processes without a broker's URL in their environment."""
    with running(tmp_path, {"CREW_TEST_PREFIX": prefix, "PYTHONPATH": str(ROOT)}) as processes:
        yield processes


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """Script that runs a worker with pika's log at debug level."""
    (tmp_path / "loud.py").write_text(LOUD)
    return tmp_path / "loud.py"


def has_no_secret(text: str) -> bool:
    """Whether `text` has no part of the password, quoted or not."""
    return not any(fragment in text for fragment in FRAGMENTS)


def listed(processes: Processes) -> str:
    """The command lines of all running processes of the test."""
    return "\n".join(processes.alive().values())


def test_a_client_never_reveals_its_password(processes: Processes, prefix: str, url: str) -> None:
    worker = processes.python(TASKS, environment={"CREW_AMQP_URL": url}).says("serving")

    client = processes.python(PROGRAM_FOLDER / "secretive.py", url, prefix + "echo")

    assert client.ends(60) == 0
    for event in ("succeeded", "came back", "password refused", "connection refused", "cannot be resolved"):
        assert event in client.output
    assert client.output.count("SettingsError") >= 9
    assert "pika" in client.output
    assert has_no_secret(client.output)
    assert has_no_secret(worker.output)


@pytest.mark.parametrize("by", ["flags", "url flag", "url", "password in the environment"])
def test_a_worker_never_reveals_its_password(
    processes: Processes, loud: Path, url: str, user: str, by: str, proxied: Callable[[str], Proxy]
) -> None:
    proxy = proxied(url)
    bare = f"amqp://{quote(user)}@127.0.0.1:{proxy.port}/"
    flags, environment = {
        "flags": (["--host=127.0.0.1", f"--port={proxy.port}", f"--username={user}", f"--password={PASSWORD}"], {}),
        "url flag": ([f"--url={proxy.url}"], {}),
        "url": ([], {"CREW_AMQP_URL": proxy.url}),
        "password in the environment": ([f"--url={bare}"], {"CREW_AMQP_PASSWORD": PASSWORD}),
    }[by]
    worker = processes.python(loud, str(TASKS), "--logging=debug", *flags, environment=environment).says("serving")

    proxy.cut()

    worker.says("serving", times=2).says("the connection broke")
    assert "pika" in worker.output
    assert has_no_secret(worker.output)
    if not flags or by.startswith("password"):
        assert has_no_secret(listed(processes))


def test_a_worker_with_a_refused_password_does_not_reveal_it(processes: Processes, loud: Path, node: Node) -> None:
    port = f"--port={urlsplit(node.url).port}"
    worker = processes.python(
        loud, str(TASKS), "--logging=debug", "--host=127.0.0.1", port, environment={"CREW_AMQP_PASSWORD": PASSWORD}
    )

    assert worker.ends(20) == 78
    assert "password refused" in worker.output
    assert has_no_secret(worker.output)


def test_crew_dev_never_reveals_the_password(processes: Processes, url: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    dev = processes.crew("dev", TASKS, "--gateway", "gateway.py", "--url", url, "--", "--logging=debug")
    dev.says("serving").says("up")

    children = [command for pid, command in processes.alive().items() if pid != dev.pid]

    assert len(children) >= 3
    assert has_no_secret("\n".join(children))
    assert dev.stop() == 0
    assert "o%27dd:***@" in dev.output
    assert has_no_secret(dev.output)
