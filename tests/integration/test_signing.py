"""With CREW_SIGNING_KEY, messages of programs without the key have no effect, and signed messages work."""

import functools
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pika
import pytest
from click.testing import CliRunner, Result

from crew import Canceled, Client, CrewError, ExpirationError, WorkerLost
from crew.amqp.signed_channel import refused
from crew.cli import main
from crew.client import blocking
from crew.jobs import JobStatus, JobStore
from crew.protocol import properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Control, Event, Outcome, Reply, Run, new_id
from crew.protocol.properties import Properties
from crew.protocol.signing import FRESH_FOR, Signing
from tests.support import raw
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually, until

KEY: Final = "the-key-of-the-tests-which-is-long-enough"
OLD_KEY: Final = "an-older-key-which-that-one-replaced"
SCRIPT: Final = TASK_FOLDER / "signed_tasks.py"
SOON: Final = 10.0  # seconds

Crew = Callable[..., Result]


@pytest.fixture(scope="module")
def url(vhost_url: Callable[[], str]) -> str:
    """Virtual host for these tests: other tests send unsigned messages to all workers."""
    return vhost_url()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, url: str, shared_prefix: str) -> Iterator[Process]:
    """One worker with the key for all tests that do not stop it."""
    environment = {"CREW_AMQP_URL": url, "CREW_TEST_PREFIX": shared_prefix, "CREW_SIGNING_KEY": KEY}
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:
        yield processes.python(SCRIPT, "--threads", "4").says("serving")


@pytest.fixture
def task(request: pytest.FixtureRequest, shared_prefix: str) -> Callable[[str], str]:
    """Function that returns the full name of a task of the shared worker."""
    return lambda name: shared_prefix + name


def send(url: str, exchange: str, key: str, given: Properties, body: bytes) -> None:
    """Publish a message like an attacker that knows the protocol but no key."""
    with raw.channel(url) as channel:
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, body, of_pika(given), mandatory=True)


def of_pika(given: Properties) -> Any:
    return pika.BasicProperties(**{name: getattr(given, name) for name in Properties.__struct_fields__})


@contextmanager
def recording(url: str, exchange: str, key: str) -> Iterator[Callable[[], list[Any]]]:
    """Record the messages published with a routing key, like an attacker that binds its own queue.

    Yields a function that returns the messages so far, and forgets them.
    """
    with raw.channel(url) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, exchange, key)

        def taken() -> list[Any]:
            found = []
            while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
                found.append(got)
            return found

        yield taken


def a_call(task: str, data: Any = None, **fields: Any) -> Call:
    return Call(id=new_id(), task=task, body=codec.encode(data), deadline=time.time() + 60, **fields)


def take_parked(url: str, count: int) -> list[Any]:
    """Wait until `count` messages are parked; removes and returns them."""
    eventually(lambda: raw.depth(url, topology.PARKED) == count)
    return raw.parked(url)


def publish_and_collect(client: blocking.Client, topic: str, events: list[Any]) -> list[Any]:
    """Publish one more event; returns the `events` received so far."""
    client.publish(topic, "there?")
    return events


# --- signed messages -------------------------------------------------------------------------------------------------


def test_calls_retries_nested_calls_and_events_work_with_a_signing_key(
    url: str, worker: Process, task: Callable[[str], str]
) -> None:
    before = refused.total()
    with blocking.Client(url, signing_key=KEY) as client:
        events: list[Any] = []
        client.subscribe(task("topic"), lambda event: events.append(event.payload))
        eventually(functools.partial(publish_and_collect, client, task("topic"), events))

        large = "x" * 100_000
        calls = [client.call(task("nested"), data) for data in (1, large, {"ä": [None, 1.5]})]
        assert [call.result() for call in calls] == [1, large, {"ä": [None, 1.5]}]
        assert client.call(task("again")).result() == 2
        assert client.call(task("echo"), 1, priority=255, timeout=3, headers={"a": 1, "b": True}).result() == 1
        eventually(lambda: large in events)
    assert refused.total() == before
    assert "refused" not in worker.own_output


@pytest.mark.gen_test(timeout=30)
async def test_jobs_and_cancellations_work_with_a_signing_key(
    url: str, worker: Process, task: Callable[[str], str], tmp_path: Path
) -> None:
    async with Client(url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db"), signing_key=KEY) as client:
        recent = worker.from_now()
        assert await (await client.submit(task("again"), 1)).result(timeout=SOON) == 2
        job = await client.submit(task("sleep"), 30)
        await until(lambda: "RUNS" in recent.output)
        await job.cancel()
        await until(lambda: "INTERRUPTED" in recent.output)
        assert await job.status() is JobStatus.CANCELED

        call = client.call(task("sleep"), 30)
        await until(lambda: recent.output.count("RUNS") == 2)
        call.cancel()
        await until(lambda: recent.output.count("INTERRUPTED") == 2)
        with pytest.raises(Canceled):
            await call


@pytest.mark.gen_test(timeout=30)
async def test_a_signed_dead_letter_is_accepted_although_the_broker_added_headers(url: str) -> None:
    name = f"unserved-{new_id()}"
    raw.declare(url, topology.task_queue(name))
    before = refused.total()
    async with Client(url, signing_key=KEY) as client:
        call = client.call(name, 1, expiration=20)
        with raw.channel(url) as channel:
            await until(lambda: raw.depth(url, topology.task_queue_name(name)) == 1)
            method, _, _ = channel.basic_get(topology.task_queue_name(name))
            channel.basic_reject(method.delivery_tag, requeue=False)
            with pytest.raises(CrewError, match="rejected"):
                await call
    assert refused.total() == before


def test_the_reply_for_a_lost_call_is_signed(url: str, worker: Process, task: Callable[[str], str]) -> None:
    with blocking.Client(url, signing_key=KEY) as client, pytest.raises(WorkerLost):
        client.call(task("die"), persistent=False).result()


# --- forged messages -------------------------------------------------------------------------------------------------


def test_a_forged_call_is_parked_and_logged_and_neither_runs_nor_gets_a_reply(
    url: str, worker: Process, task: Callable[[str], str]
) -> None:
    raw.parked(url)
    recent = worker.from_now()
    with raw.channel(url) as channel:
        reply_to = channel.queue_declare("", exclusive=True).method.queue
        for number in range(50):
            call = a_call(task("echo"), f"forged {number}", reply_to=reply_to)
            given = of_pika(properties.of_call(call, now=time.time()))
            channel.basic_publish("", topology.task_queue_name(call.task), call.body.data, given)
        found = take_parked(url, 50)
        assert channel.basic_get(reply_to, auto_ack=True)[0] is None
    assert "forged" not in recent.output
    assert "call refused: it has no signature" in recent.output
    assert recent.output.count("\n") <= 2
    assert found[0][0]["crew-reason"].startswith("it has no signature: it was not run")


def test_a_changed_copy_of_a_signed_call_is_not_run(url: str, worker: Process, task: Callable[[str], str]) -> None:
    raw.parked(url)
    call = a_call(task("echo"), "as it was signed")
    queue = topology.task_queue_name(call.task)
    given = properties.of_call(call, now=time.time())
    Signing([KEY], time.time).sign(queue, given, call.body.data)
    headers = given.headers or {}
    recent = worker.from_now()

    send(url, "", queue, given, codec.encode("changed").data)
    given.headers = {**headers, "crew-deadline": headers["crew-deadline"] + 1}
    send(url, "", queue, given, call.body.data)
    given.headers = headers
    send(url, "", topology.task_queue_name(task("die")), given, call.body.data)
    take_parked(url, 3)
    assert "RAN" not in recent.output

    send(url, "", queue, given, call.body.data)
    eventually(lambda: "RAN 'as it was signed'" in recent.output)


@pytest.mark.gen_test(timeout=30)
async def test_forged_replies_are_refused_and_the_signed_one_settles_the_call(
    url: str, worker: Process, task: Callable[[str], str]
) -> None:
    async with Client(url, signing_key=KEY) as client:
        before, recent = refused["reply"], worker.from_now()
        call = client.call(task("sleep"), 0.5)
        await until(lambda: "RUNS" in recent.output)
        queue = topology.reply_queue(client.id)[0].name
        for outcome in (Outcome.RETURNED, Outcome.RAISED, Outcome.STARTED):
            reply = Reply(id=call.id, outcome=outcome, body=codec.encode("forged"))
            send(url, "", queue, properties.of_reply(reply), reply.body.data)
        died = properties.of_call(call.message, now=time.time())
        died.headers = {**(died.headers or {}), "x-first-death-reason": "expired"}
        send(url, "", queue, died, b"")
        assert await call == "slept"
        assert refused["reply"] - before == 4


@pytest.mark.gen_test(timeout=30)
async def test_a_forged_job_report_changes_no_job_and_is_removed_from_the_queue(
    url: str, worker: Process, task: Callable[[str], str], tmp_path: Path
) -> None:
    async with Client(url, store=(store := JobStore(f"sqlite:///{tmp_path}/jobs.db")), signing_key=KEY) as client:
        before, recent = refused["report"], worker.from_now()
        job = await client.submit(task("sleep"), 1)
        await until(lambda: "RUNS" in recent.output)
        for outcome in (Outcome.RETURNED, Outcome.RAISED, Outcome.CANCELED, Outcome.PROGRESS):
            run = Run(host="evil:1", started=time.time(), ended=time.time())
            reply = Reply(id=job.id, outcome=outcome, body=codec.encode("forged"), worker="evil", run=run)
            send(url, "", store.queue, properties.of_reply(reply), reply.body.data)
        await until(lambda: refused["report"] - before == 4)
        assert await job.status() in (JobStatus.QUEUED, JobStatus.STARTED)
        assert await job.result(timeout=SOON) == "slept"
        assert (await client.jobs.get(job.id)).progress is None
        await until(lambda: raw.depth(url, store.queue) == 0)


@pytest.mark.gen_test(timeout=30)
async def test_a_forged_or_expired_cancel_message_does_not_interrupt_a_task(
    url: str, worker: Process, task: Callable[[str], str]
) -> None:
    async with Client(url, signing_key=KEY) as client:
        recent, key = worker.from_now(), topology.control_key_of_task(task("sleep"))
        call = client.call(task("sleep"), 1)
        await until(lambda: "RUNS" in recent.output)
        control = properties.of_control(Control(id=call.id, reason="canceled", deadline=call.message.deadline))
        send(url, topology.CONTROL, key, control, b"")
        Signing([KEY], lambda: time.time() - FRESH_FOR - 5).sign(key, control, b"")
        send(url, topology.CONTROL, key, control, b"")
        assert await call == "slept"
    assert "INTERRUPTED" not in recent.output
    eventually(lambda: "control refused: it has no signature" in recent.output)
    eventually(lambda: re.search(r"control refused: its signature has expired: 30\d s old", recent.output))


def test_a_replayed_cancel_message_does_not_interrupt_a_later_call_with_the_same_id(
    url: str, worker: Process, task: Callable[[str], str]
) -> None:
    key = topology.control_key_of_task(task("sleep"))
    with recording(url, topology.CONTROL, "#") as taken, blocking.Client(url, signing_key=KEY) as client:
        recent = worker.from_now()
        call = client.call(task("sleep"), 30, id=(id := new_id()))
        eventually(lambda: "RUNS" in recent.output)
        call.cancel()
        eventually(lambda: "INTERRUPTED" in recent.output)
        (_, given, _), recent = eventually(taken)[0], worker.from_now()
        call = client.call(task("sleep"), 0.7, id=id)
        eventually(lambda: "RUNS" in recent.output)
        with raw.channel(url) as channel:
            channel.basic_publish(topology.CONTROL, key, b"", given)
            channel.basic_publish("", topology.reply_queue(client.id)[0].name, b"", given)
        assert call.result() == "slept"


@pytest.mark.gen_test(timeout=30)
async def test_forged_changed_and_expired_events_reach_no_subscriber(url: str) -> None:
    topic = f"t.{new_id()}"
    events: list[Any] = []
    async with Client(url, signing_key=KEY) as client:
        before = refused["event"]
        await client.subscribe(topic, lambda event: events.append((event.payload, event.headers))).ready()
        event = Event(topic=topic, body=codec.encode("forged"))
        given = properties.of_event(event, now=time.time())
        send(url, topology.PUBSUB, topic, given, event.body.data)
        Signing([KEY], time.time).sign("another.topic", given, event.body.data)
        send(url, topology.PUBSUB, topic, given, event.body.data)
        Signing([KEY], lambda: time.time() - FRESH_FOR - 5).sign(topic, given, event.body.data)
        send(url, topology.PUBSUB, topic, given, event.body.data)
        await client.publish(topic, "true", headers={"mine": 1})
        await until(lambda: events)
        assert events == [("true", {"mine": 1})]
        assert refused["event"] - before == 3


# --- keys ------------------------------------------------------------------------------------------------------------


def test_calls_succeed_while_keys_are_rotated(url: str, processes: Processes, prefix: str) -> None:
    environment = {"CREW_AMQP_URL": url, "CREW_SIGNING_KEY": f"{KEY},{OLD_KEY}"}
    processes.python(SCRIPT, environment=environment).says("serving")
    for keys in (f"{OLD_KEY},{KEY}", f"{KEY},{OLD_KEY}", KEY):
        with blocking.Client(url, signing_key=keys) as client:
            assert client.call(prefix + "echo", 1).result() == 1


def test_a_key_appears_in_no_log_and_in_no_process_list(url: str, worker: Process, task: Callable[[str], str]) -> None:
    with blocking.Client(url, signing_key=KEY) as client:
        client.call(task("echo"), 1).result()
        assert KEY not in repr((client, client._client.settings, client._client.links, vars(client._client)))
    assert KEY not in worker.output
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            assert KEY not in (folder / "cmdline").read_text(errors="replace")


def test_worker_and_gateway_read_their_keys_from_a_file(
    url: str, processes: Processes, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{OLD_KEY}\n")
    environment = {"CREW_AMQP_URL": url}
    processes.python(SCRIPT, "--signing-key-file", str(file), environment=environment).says("serving")
    flags = ["--url", url, "--signing-key-file", file, "--database", f"sqlite:///{tmp_path}/jobs.db", "--port", "0"]
    gateway = processes.crew("gateway", *map(str, flags)).says("listening on http://")
    address = re.search(r"http://[\d.:]+", gateway.output)
    assert address
    request = urllib.request.Request(
        f"{address[0]}/call/{prefix}echo", b'"by the gateway"', {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        assert json.loads(response.read()) == "by the gateway"
    with blocking.Client(url, signing_key=OLD_KEY) as client, pytest.raises(ExpirationError, match="wrong"):
        client.call(prefix + "echo", 1, expiration=1).result()  # they sign with the first key


def test_a_worker_whose_key_is_too_short_exits_with_an_error(url: str, processes: Processes) -> None:
    worker = processes.python(SCRIPT, environment={"CREW_AMQP_URL": url, "CREW_SIGNING_KEY": "too-short"})

    assert worker.ends(SOON) == 78
    assert worker.output.startswith("crew: CREW_SIGNING_KEY: the signing key has 9 characters, but needs 32 or more")
    assert "too-short" not in worker.output


@pytest.mark.gen_test(timeout=30)
async def test_a_client_with_a_key_gives_the_reason_for_refusing_an_unsigned_reply(
    url: str, processes: Processes, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    processes.python(SCRIPT, environment={"CREW_AMQP_URL": url}).says("serving")
    async with Client(url, signing_key=KEY) as client:
        with pytest.raises(ExpirationError, match=r"a reply was refused: it has no signature"):
            await client.call(prefix + "echo", 1, expiration=1)
    assert "reply refused: it has no signature" in caplog.text
    assert "set the same CREW_SIGNING_KEY for all clients, workers and gateways" in caplog.text


def test_an_unsigned_call_is_parked_and_replayed_only_with_the_unsigned_flag(
    url: str, worker: Process, task: Callable[[str], str]
) -> None:
    raw.parked(url)
    recent = worker.from_now()
    with blocking.Client(url) as client, pytest.raises(ExpirationError):
        client.call(task("echo"), "unsigned", id="mixed", expiration=1).result()
    eventually(lambda: raw.depth(url, topology.PARKED) == 1)

    done = crew(url, "parked", "replay", "mixed")
    assert done.exit_code == 7
    assert "mixed stays parked: the message is not signed with CREW_SIGNING_KEY" in done.stderr
    assert "unsigned" not in recent.output

    assert crew(url, "parked", "replay", "mixed", "--unsigned").stdout == "1 message sent to their tasks again\n"
    eventually(lambda: "RAN 'unsigned'" in recent.output)


# --- commands --------------------------------------------------------------------------------------------------------


def crew(url: str, *arguments: str, key: str = KEY) -> Result:
    """Run a `crew` command to its end."""
    environment = {"CREW_AMQP_URL": url, "CREW_SIGNING_KEY": key}
    return CliRunner().invoke(main, list(arguments), env=environment, catch_exceptions=False)


def test_a_planted_parked_message_is_not_replayed(url: str, worker: Process, task: Callable[[str], str]) -> None:
    raw.parked(url)
    call, recent = a_call(task("echo"), "planted"), worker.from_now()
    given = properties.of_call(call, now=time.time())
    given.headers = {**(given.headers or {}), "crew-reason": "3 worker processes died"}
    send(url, "", topology.PARKED, given, call.body.data)
    Signing([KEY], time.time).sign(topology.task_queue_name(call.task), given, call.body.data)  # as for a call
    send(url, "", topology.PARKED, given, call.body.data)

    done = crew(url, "parked", "replay", "--all", "--yes")

    assert done.stdout == "0 messages sent to their tasks again\n"
    assert done.stderr.count("stays parked: the message is not signed") == 2
    assert raw.depth(url, topology.PARKED) == 2
    assert "planted" not in recent.output


def test_a_message_that_a_worker_parked_is_replayed(url: str, worker: Process, task: Callable[[str], str]) -> None:
    raw.parked(url)
    call, recent = a_call(task("echo"), "malformed once"), worker.from_now()
    queue = topology.task_queue_name(call.task)
    given = properties.of_call(call, now=time.time())
    given.headers = {**(given.headers or {}), "crew-timeout": "long"}
    Signing([KEY], time.time).sign(queue, given, call.body.data)
    send(url, "", queue, given, call.body.data)
    eventually(lambda: raw.depth(url, topology.PARKED) == 1)

    assert crew(url, "parked", "replay", call.id).stdout == "1 message sent to their tasks again\n"
    eventually(lambda: "RAN 'malformed once'" in recent.output)


def test_signed_calls_survive_a_queue_migration_and_forged_ones_are_refused(
    url: str, processes: Processes, prefix: str
) -> None:
    raw.parked(url)
    name = prefix + "echo"
    queue = topology.task_queue(name, max_queue=100)
    raw.declare(url, queue)
    call = a_call(name, "forged")
    send(url, "", queue.name, properties.of_call(call, now=time.time()), call.body.data)
    with blocking.Client(url, signing_key=KEY) as client:
        waiting = client.call(name, "signed")
        eventually(lambda: raw.depth(url, queue.name) == 2)

        assert crew(url, "queues", "migrate", name).exit_code == 0

        environment = {"CREW_AMQP_URL": url, "CREW_SIGNING_KEY": KEY}
        worker = processes.python(SCRIPT, environment=environment).says("serving")
        assert waiting.result() == "signed"
    eventually(lambda: raw.depth(url, topology.PARKED) == 1)
    assert "forged" not in worker.output


def test_shell_commands_sign_and_check_signatures(url: str, worker: Process, task: Callable[[str], str]) -> None:
    assert json.loads(crew(url, "call", task("echo"), "[1]").stdout) == [1]
    assert crew(url, "call", task("echo"), "1", "--expiration", "1", key=OLD_KEY).exit_code == 4
    topic = f"t.{new_id()}"
    events: list[Any] = []
    with blocking.Client(url, signing_key=KEY) as client:
        client.subscribe(topic, lambda event: events.append(event.payload))
        eventually(lambda: crew(url, "publish", topic, '"hello"').exit_code == 0 and events)
        assert events[0] == "hello"
    raw.parked(url)
