"""`crew parked`: lists, shows, replays and purges parked messages, and loses none of them."""

import gzip
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest
from click.testing import CliRunner, Result

from crew.cli import main
from crew.cli.connection import ConnectTimeout
from crew.protocol import topology
from tests.support import raw
from tests.support.processes import Processes
from tests.support.waiting import eventually

NOW = 1_800_000_000  # epoch seconds
FULL = "the queue of the task 'full' is full: retry when workers have run some calls"
Crew = Callable[..., Result]


@pytest.fixture(scope="module")
def url(vhost_url: Callable[[], str]) -> str:
    """Virtual host for these tests, with a parked queue and the queues of the tasks `echo` and `full`."""
    url = vhost_url()
    with raw.channel(url) as channel:
        for queue in (topology.parked_queue(), topology.task_queue("echo"), topology.task_queue("full", max_queue=1)):
            channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
    return url


@pytest.fixture(autouse=True)
def empty(url: str) -> None:
    """Empty all queues before each test."""
    with raw.channel(url) as channel:
        for queue in ("crew.parked", "crew.tasks.echo", "crew.tasks.full"):
            channel.queue_purge(queue)


@pytest.fixture
def crew(url: str) -> Crew:
    """Run a `crew` command to its end."""

    def run(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, [*arguments], input=stdin, env={"CREW_AMQP_URL": url}, catch_exceptions=False)

    return run


def park(url: str, *ids: str, task: Any = "echo", body: bytes = b"null", **properties: Any) -> None:
    """Park messages, as workers do."""
    headers = {"crew-task": task, "crew-reason": "3 worker processes died", **properties.pop("headers", {})}
    given = {"content_type": "application/json", "delivery_mode": 2, "timestamp": NOW, **properties}
    with raw.channel(url) as channel:
        channel.confirm_delivery()
        for id in ids:
            sent = pika.BasicProperties(correlation_id=id, headers=headers, **given)
            channel.basic_publish("", "crew.parked", body, sent, mandatory=True)


def waiting(url: str, queue: str) -> list[str]:
    """Ids of the messages in `queue`, which is emptied."""
    found = []
    with raw.channel(url) as channel:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(got[1].correlation_id)
    return found


# --- list and show ---------------------------------------------------------------------------------------------------


def test_each_parked_message_is_a_line_with_time_task_and_reason(url: str, crew: Crew) -> None:
    park(url, "first", headers={"crew-host": "web1", "crew-exit-status": "SIGSEGV"})
    park(url, "second", task="other")

    listed = crew("parked", "list")

    first, second = listed.stdout.splitlines()
    expected = ["first", "echo", "2027-01-15T08:00:00Z", "SIGSEGV", "web1", "3", "worker", "processes", "died"]
    assert first.split() == expected
    assert second.split()[:2] == ["second", "other"]
    assert listed.stderr == "2 messages in crew.parked\n"


def test_listing_and_showing_changes_nothing(url: str, crew: Crew) -> None:
    ids = [f"{number:04}" for number in range(450)]  # more than one prefetch
    park(url, *ids)

    for _ in range(2):
        assert [line.split()[0] for line in crew("parked", "list").stdout.splitlines()] == ids
        assert json.loads(crew("parked", "list", "--json").stdout.splitlines()[-1])["id"] == ids[-1]
        assert crew("parked", "show", ids[7]).exit_code == 0

    assert waiting(url, "crew.parked") == ids


def test_a_message_is_shown_with_its_payload_decoded(url: str, crew: Crew) -> None:
    body = json.dumps({"name": "ü", "many": list(range(20_000))}).encode()
    park(url, "one", body=gzip.compress(body), content_encoding="gzip", headers={"mine": "x"})

    shown = crew("parked", "show", "one").stdout

    assert '"name": "ü"' in shown
    assert "mine: x" in shown
    assert "content_encoding: gzip" in shown
    assert "more characters: --raw" in shown
    assert len(shown) < 10_000
    assert gzip.decompress(crew("parked", "show", "one", "--raw").stdout_bytes) == body


def test_hostile_text_in_a_message_cannot_break_the_listing(url: str, crew: Crew) -> None:
    hostile = "\x1b[2J\n\r\u202e\u0085 ü"
    deep: Any = "end"
    for _ in range(60):
        deep = {"t": [deep, None, b"\xff\x00", 7]}
    for headers in ({hostile: hostile}, {"deep": deep}, {"crew-reason": 7, "crew-task": [1], "crew-host": b"\xff"}):
        park(url, hostile, body=hostile.encode(), content_type=hostile, headers=headers)
        park(url, b"\xff\x1b", task=hostile, body=b"{" * 99_999, headers=headers)  # type: ignore[arg-type]
    with raw.channel(url) as channel:
        channel.basic_publish("", "crew.parked", b"\x1b", pika.BasicProperties())

    listed = crew("parked", "list").stdout
    lines = listed.splitlines()
    assert len(lines) == 7
    assert all(line.isprintable() for line in lines)
    as_json = [json.loads(line) for line in crew("parked", "list", "--json").stdout.splitlines()]
    assert len(as_json) == 7
    for message in as_json:
        shown = crew("parked", "show", message["id"])
        assert shown.exit_code == 0
        assert all(line.isprintable() for line in shown.stdout.splitlines())


def test_an_empty_parked_queue_is_no_error(vhost_url: Callable[[], str]) -> None:
    listed = CliRunner().invoke(main, ["parked", "list", "--url", vhost_url()])
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "0 messages in crew.parked\n")


def test_the_memory_of_a_listing_does_not_grow_with_the_messages(url: str, processes: Processes) -> None:
    park(url, *map(str, range(300)), body=os.urandom(200_000))  # 60 MB

    script = (  # peak of this program; that of getrusage includes the process that started it
        "from pathlib import Path; from crew.cli import main\n"
        "try: main(['parked', 'list'])\n"
        "finally: print([line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line])"
    )
    listing = processes.start(sys.executable, "-c", script, environment={"CREW_AMQP_URL": url})
    listing.ends(timeout=20)

    assert "300 messages" in listing.output
    (kib,) = re.findall(r"VmHWM:\D+(\d+) kB", listing.output)
    assert int(kib) < 64 * 1024


# --- replay ----------------------------------------------------------------------------------------------------------


def test_a_replay_publishes_the_same_call_again(url: str, crew: Crew) -> None:
    headers = {"mine": "x", "crew-attempt": 3, "crew-deadline": 5, "crew-timeout": 1500, "crew-client": "ended"}
    park(url, "one", body=b'"payload"', headers=headers, reply_to="crew.reply.ended", priority=7)

    done = crew("parked", "replay", "one", "--expiration", "60")

    assert (done.exit_code, done.stdout) == (0, "1 message sent to their tasks again\n")
    with raw.channel(url) as channel:
        _, properties, body = channel.basic_get("crew.tasks.echo", auto_ack=True)
    deadline = properties.headers.pop("crew-deadline")
    assert deadline / 1000 == pytest.approx(time.time() + 60, abs=10)
    assert properties.headers == {"crew-task": "echo", "mine": "x", "crew-timeout": 1500}
    assert (body, properties.correlation_id, properties.content_type) == (b'"payload"', "one", "application/json")
    assert (properties.reply_to, properties.delivery_mode, properties.priority) == (None, 2, 7)
    assert raw.depth(url, "crew.parked") == 0


def test_a_replay_does_not_touch_other_messages(url: str, crew: Crew) -> None:
    park(url, *(f"{number:03}" for number in range(300)), task="other")
    park(url, "a", "b", "c")

    assert crew("parked", "replay", "--task", "echo").exit_code == 0

    assert waiting(url, "crew.tasks.echo") == ["a", "b", "c"]
    assert waiting(url, "crew.parked") == [f"{number:03}" for number in range(300)]


@pytest.mark.parametrize(
    ("task", "reason"),
    [("unserved", "no worker has ever served the task 'unserved': start one"), ("full", FULL)],
)
def test_a_message_whose_task_queue_is_missing_or_full_stays_parked(
    url: str, crew: Crew, task: str, reason: str
) -> None:
    raw.send(url, "crew.tasks.full", b"1")
    park(url, "refused", task=task)
    park(url, "accepted")

    done = crew("parked", "replay", "--all", "--yes")

    assert done.exit_code == 7
    assert done.stderr == f"crew: message refused stays parked: {reason}\n"
    assert (waiting(url, "crew.tasks.echo"), waiting(url, "crew.parked")) == (["accepted"], ["refused"])


def test_all_messages_of_one_id_stay_parked_if_their_task_has_no_queue(url: str, crew: Crew) -> None:
    ids = [*["many"] * 45, "once"]  # so many that the broker confirms several of them in one frame
    park(url, *ids, task="unserved")

    replayed = crew("parked", "replay", "--task", "unserved")

    assert replayed.exit_code != 0
    assert replayed.stderr.count("no worker has ever served the task 'unserved'") == len(ids)
    assert waiting(url, "crew.parked") == ids


def test_a_replay_of_all_messages_asks_for_confirmation(url: str, crew: Crew) -> None:
    park(url, "one", "two")

    declined, unattended, confirmed = (crew("parked", "replay", "--all", stdin=stdin) for stdin in ("n\n", "", "y\n"))

    assert (declined.exit_code, declined.stderr) == (1, "crew: aborted\n")
    assert (unattended.exit_code, unattended.stdout) == (2, "")
    question = "Send 2 messages to their tasks again?"
    assert unattended.stderr == f"crew: cannot ask {question!r}: standard input is no terminal; add --yes\n"
    assert question in confirmed.stdout
    assert waiting(url, "crew.tasks.echo") == ["one", "two"]


def test_a_message_without_an_id_or_a_task_is_reported_and_stays_parked(url: str, crew: Crew) -> None:
    with raw.channel(url) as channel:
        channel.basic_publish("", "crew.parked", b"?", pika.BasicProperties())

    done = crew("parked", "replay", "--all", "--yes")

    assert done.exit_code == 7
    assert "its task must be a string" in done.stderr
    assert raw.depth(url, "crew.parked") == 1


@pytest.mark.chaos
@pytest.mark.parametrize("command", ["replay", "purge"])
def test_a_killed_command_loses_no_message(url: str, processes: Processes, command: str) -> None:
    ids = [f"{number:05}" for number in range(1_500)]
    park(url, *ids)
    flags = ["--all", "--yes"]

    killed = processes.start(
        sys.executable, "-m", "crew", "parked", command, *flags, environment={"CREW_AMQP_URL": url}
    )
    eventually(lambda: raw.depth(url, "crew.parked") < 1_400)
    os.kill(killed.pid, signal.SIGKILL)
    killed.ends(5)

    eventually(lambda: raw.consumers(url, "crew.parked") == 0)
    kept, sent = waiting(url, "crew.parked"), waiting(url, "crew.tasks.echo")
    assert kept == ids[-len(kept) :] if kept else True
    if command == "replay":
        assert sorted({*kept, *sent}) == ids
        assert len(kept) + len(sent) - len(ids) <= 50  # those that were in flight


# --- purge -----------------------------------------------------------------------------------------------------------


def test_a_purge_asks_for_confirmation_and_deletes_the_selected_messages(url: str, crew: Crew) -> None:
    park(url, "old", timestamp=1_600_000_000)
    park(url, "new", timestamp=int(time.time()))
    park(url, "undated", timestamp=None)

    assert crew("parked", "purge", "--older-than", "7d", stdin="n\n").exit_code == 1
    confirmed = crew("parked", "purge", "--older-than", "7d", stdin="y\n")

    assert "Delete 1 message permanently?" in confirmed.stdout
    assert confirmed.stdout.endswith("1 message deleted\n")
    assert waiting(url, "crew.parked") == ["new", "undated"]


def test_an_unknown_id_is_one_line_on_stderr(url: str, crew: Crew) -> None:
    for command in ("show", "replay", "purge"):
        done = crew("parked", command, "unknown", *(["--yes"] if command == "purge" else []))
        assert (done.exit_code, done.stderr) == (7, "crew: no parked message has this id: unknown\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["purge"],
        ["replay", "--all", "id"],
        ["purge", "--all", "--task", "x"],
        ["purge", "--older-than", "x"],
    ],
)
def test_a_command_without_a_selection_is_wrong_usage(crew: Crew, arguments: list[str]) -> None:
    assert crew("parked", *arguments).exit_code == 2


def test_an_unavailable_broker_is_one_line_on_stderr() -> None:
    arguments = ["parked", "list", "--url", "amqp://127.0.0.1:1/"]
    done = CliRunner().invoke(main, arguments, obj=ConnectTimeout(0.5), catch_exceptions=False)
    assert done.exit_code == 6
    assert done.stderr.startswith("crew: connection timeout: the broker was not reached")
    assert len(done.stderr.splitlines()) == 1
