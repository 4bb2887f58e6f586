"""Broker users with too few permissions: each error names the missing ones, and those that it suggests suffice."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import crew
from crew import Client
from crew.amqp.errors import PERMISSIONS
from crew.cli.broker.node import Node
from crew.jobs import JobStore
from crew.jobs.tuning import JobTuning
from tests.integration.conftest import TASKS
from tests.support.processes import Processes
from tests.support.proxy import Proxy
from tests.support.waiting import until

PASSWORD = "theirs"
USERS = {
    "enough": (PERMISSIONS, PERMISSIONS, PERMISSIONS),
    "nothing": ("^$", "^$", "^$"),
    "no_tasks": (r"^crew\.(?!tasks)", ".*", ".*"),
    "no_write": (".*", "^$", ".*"),
    "no_read": (".*", ".*", "^$"),
    "no_jobs": (".*", ".*", r"^(?!crew\.jobs)"),
}


@pytest.fixture(scope="module")
def host(node: Node, define: Callable[..., None]) -> str:
    """Host and port of a broker with these users."""
    users = [{"name": name, "password": PASSWORD, "tags": ""} for name in [*USERS, "stranger"]]
    permissions = [
        {"user": user, "vhost": "/", "configure": configure, "write": write, "read": read}
        for user, (configure, write, read) in USERS.items()
    ]
    define(users=users, permissions=permissions)
    return f"127.0.0.1:{urlsplit(node.url).port}"


def url_of(user: str, host: str) -> str:
    """The broker's URL for `user`."""
    return f"amqp://{user}:{PASSWORD}@{host}/"


@pytest.mark.gen_test(timeout=60)
async def test_the_permissions_that_the_error_message_suggests_suffice(
    host: str, prefix: str, processes: Processes
) -> None:
    processes.python(TASKS, "--url", url_of("enough", host)).says("serving")
    async with Client(url_of("enough", host)) as client:
        events: list[object] = []
        await client.subscribe(prefix + "topic", lambda event: events.append(event.payload)).ready()
        assert await client.call(prefix + "echo", 17) == 17
        await client.call(prefix + "publish", {"topic": prefix + "topic", "message": "hello"})
        await until(lambda: events == ["hello"])
        with pytest.raises(crew.UnknownTask):
            await client.call(prefix + "unserved")
        sleeping = client.call(prefix + "sleep", 30)
        await until(lambda: sleeping.has_started)
        assert sleeping.cancel()
        assert await client.call(prefix + "echo", 18, expiration=5) == 18


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("nothing", "may not use exchange 'crew."),
        ("no_tasks", "may not use queue 'crew.tasks."),
        ("no_write", "may not use exchange 'crew.DLX'"),
        ("no_read", "may not use queue 'crew.tasks."),
        ("stranger", "the virtual host does not exist, or this user may not use it"),
    ],
)
def test_a_worker_without_a_permission_exits_and_names_it(
    host: str, processes: Processes, user: str, reason: str
) -> None:
    worker = processes.python(TASKS, "--url", url_of(user, host))
    assert worker.ends(20) == 78
    assert reason in worker.output
    assert "Traceback" not in worker.output
    if user != "stranger":
        assert f"user '{user}' may not use" in worker.output
        assert f"give this user configure, write and read permission for {PERMISSIONS}" in worker.output


@pytest.mark.gen_test
@pytest.mark.parametrize("user", ["nothing", "no_write", "no_read"])
async def test_a_client_without_a_permission_fails_at_once_and_keeps_no_connection(
    host: str, proxied: Callable[[str], Proxy], user: str
) -> None:
    proxy = proxied(url_of(user, host))
    client = Client(proxy.url)
    with pytest.raises(crew.ConnectionError, match=f"user '{user}' may not use .* in virtual host '/'; give this user"):
        await client.connect(timeout=5)
    with pytest.raises(crew.ConnectionError, match="may not use"):
        await client.call("anything", expiration=10)
    await until(lambda: proxy.connections <= 1)  # one link may stay connected if its permissions suffice
    await client.close()
    await until(lambda: proxy.connections == 0)


@pytest.mark.gen_test
async def test_a_gateway_that_may_not_consume_job_reports_is_not_ready(host: str, tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db", tuning=JobTuning(stalled_after=0.2))
    async with Client(url_of("no_jobs", host), store=store) as client:
        await client.connect(timeout=5)
        assert client.obstacle is None

        async def obstacle() -> str:
            return await client.jobs.obstacle() or ""

        async with asyncio.timeout(15):
            while "may not use queue 'crew.jobs." not in await obstacle():
                await asyncio.sleep(0.05)
        assert (await obstacle()).startswith("job reports have not been consumed for ")


def test_the_shell_reports_a_missing_permission_in_one_line(host: str, processes: Processes) -> None:
    call = processes.crew("call", "anything", "--url", url_of("nothing", host))
    assert call.ends(20) == 6
    (line,) = call.output.splitlines()
    assert line.startswith(f"crew: amqp://nothing:***@{host}/%2F: access refused: user 'nothing' may not use")
