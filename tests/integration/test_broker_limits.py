"""Limits and defaults of a virtual host: the log has the broker's reason, and work starts when the limit is raised."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from crew.protocol import topology
from tests.integration.conftest import TASKS
from tests.support import raw
from tests.support.broker import EVERYTHING, vhost_of
from tests.support.processes import Processes
from tests.support.waiting import until

PASSWORD = "limited"


@pytest.fixture
def vhost(vhost_url: Callable[[], str]) -> tuple[str, str]:
    """Name and URL of a virtual host that only this test uses."""
    url = vhost_url()
    return vhost_of(url), url


@pytest.fixture
def limit(evaluate: Callable[[str], str], vhost: tuple[str, str]) -> Callable[..., None]:
    """Sets limits of the virtual host; without arguments, clears them all."""

    def limit(**limits: int) -> None:
        pairs = ",".join(f'{{<<"{name.replace("_", "-")}">>, {value}}}' for name, value in limits.items())
        if limits:
            evaluate(f'ok = rabbit_vhost_limit:set(<<"{vhost[0]}">>, [{pairs}], <<"test">>).')
        else:
            evaluate(f'ok = rabbit_vhost_limit:clear(<<"{vhost[0]}">>, <<"test">>).')

    return limit


@pytest.fixture
def limited(define: Callable[..., None], vhost: tuple[str, str], unique: str) -> Callable[[int], str]:
    """Creates a user that may have so many channels, and returns the URL of the virtual host for that user."""

    def make(channels: int) -> str:
        user, url = f"{unique}user", urlsplit(vhost[1])
        define(
            users=[{"name": user, "password": PASSWORD, "tags": "", "limits": {"max-channels": channels}}],
            permissions=[{"vhost": vhost[0], "user": user, **EVERYTHING}],
        )
        return f"amqp://{user}:{PASSWORD}@{url.hostname}:{url.port}/{vhost[0]}"

    return make


@pytest.fixture
def quorum_by_default(
    node: Node, evaluate: Callable[[str], str], define: Callable[..., None], unique: str
) -> Iterator[str]:
    """URL of a virtual host with `quorum` as its default queue type."""
    name = f"{unique}quorum"
    evaluate(f'rabbit_vhost:add(<<"{name}">>, #{{default_queue_type => <<"quorum">>}}, <<"test">>).')
    define(permissions=[{"user": "crew", "vhost": name, **EVERYTHING}])
    yield node.url + name
    evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"test">>).')


@pytest.mark.gen_test(timeout=60)
async def test_classic_queues_work_on_a_virtual_host_with_another_default_type(
    quorum_by_default: str, prefix: str, processes: Processes
) -> None:
    worker = processes.python(TASKS, "--url", quorum_by_default).says("serving")
    async with Client(quorum_by_default) as client:
        events: list[object] = []
        await client.subscribe(prefix + "topic", lambda event: events.append(event.payload)).ready()
        assert await client.call(prefix + "echo", 17, priority=200) == 17
        await client.publish(prefix + "topic", "event")
        await until(lambda: events == ["event"])
    assert "other arguments" not in worker.output
    assert "cannot be declared" not in worker.output


def test_a_queue_that_an_older_version_declared_without_a_type_is_compatible(
    broker_url: str, unique: str, processes: Processes
) -> None:
    """In both orders, because workers of both versions may run at the same time."""
    old = topology.task_queue(unique + "t")
    new = topology.of_type(old, "classic")
    assert isinstance(new, topology.Queue)
    with raw.channel(broker_url) as channel:
        for first, second in ((old, new), (new, old)):
            channel.queue_declare(first.name, durable=True, arguments=first.arguments)
            # Raises if the arguments differ.
            channel.queue_declare(second.name, durable=True, arguments=second.arguments)
            channel.queue_delete(old.name)


@pytest.mark.gen_test(timeout=90)
async def test_a_worker_waits_while_the_queue_limit_of_its_virtual_host_is_reached(
    limit: Callable[..., None], vhost: tuple[str, str], prefix: str, processes: Processes
) -> None:
    name, url = vhost
    limit(max_queues=0)
    worker = processes.python(TASKS, "--url", url)
    worker.says(f"cannot declare queue 'crew.parked': queue limit in vhost '{name}' (0) is reached")
    assert "NOT_FOUND" not in worker.output
    assert "other arguments" not in worker.output
    limit()
    worker.says("serving")
    async with Client(url) as client:
        assert await client.call(prefix + "echo", 17) == 17


@pytest.mark.gen_test(timeout=90)
async def test_a_worker_and_a_client_wait_while_the_connection_limit_is_reached(
    limit: Callable[..., None], vhost: tuple[str, str], prefix: str, processes: Processes
) -> None:
    _, url = vhost
    limit(max_connections=0)
    worker = processes.python(TASKS, "--url", url)
    worker.says("a limit of the broker is reached: ").says(
        "connection limit (0) is reached; raise the limit, or close what is not needed"
    )
    client = Client(url)
    with pytest.raises(crew.ConnectionError, match=r"not reached within 1 s: .*connection limit \(0\) is reached"):
        await client.connect(timeout=1)
    assert worker.is_running
    assert "virtual host does not exist" not in worker.output
    limit()
    await client.connect(timeout=30)
    worker.says("serving")
    assert await client.call(prefix + "echo", 17) == 17
    await client.close()


def test_a_worker_waits_while_the_channel_limit_of_its_user_is_reached(
    limited: Callable[[int], str], evaluate: Callable[[str], str], processes: Processes
) -> None:
    url = limited(0)
    worker = processes.python(TASKS, "--url", url)
    worker.says("has reached the maximum allowed user limit of ").says("raise the limit, or close")
    assert worker.is_running
    user = urlsplit(url).username
    evaluate(f'ok = rabbit_auth_backend_internal:clear_user_limits(<<"{user}">>, <<"all">>, <<"test">>).')
    worker.says("serving")


def test_a_worker_with_many_tasks_starts_where_its_user_may_have_few_channels(
    limited: Callable[[int], str], processes: Processes
) -> None:
    processes.python(TASKS.with_name("many.py"), "--url", limited(6)).says("serving 50 tasks")
