"""The quickstart example, over HTTP and from a terminal."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pika
import pytest

from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually
from tests.support.web import PendingRequest, Web

pytestmark = pytest.mark.own_interpreters

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
TASKS = 6

StartWorker: TypeAlias = Callable[..., Process]


def serving(worker: Process, processes: int = 1) -> Process:
    """Wait until `processes` worker processes consume."""
    return worker.says(f"serving {TASKS} tasks", times=processes)


def worker_script(processes: Processes, *flags: str) -> Process:
    return processes.python(QUICKSTART / "worker.py", *flags)


def crew_worker(processes: Processes, *flags: str) -> Process:
    return processes.crew("worker", QUICKSTART / "worker.py", *flags)


def gateway_of(processes: Processes) -> Web:
    return Web.of(processes.python(QUICKSTART / "master.py", "--port=0"))


@pytest.fixture(scope="module", params=[worker_script, crew_worker], ids=["python worker.py", "crew worker worker.py"])
def quickstart(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, vhost_url: Callable[[], str]
) -> Iterator[Web]:
    """A gateway and one worker process."""
    with running(tmp_path_factory.mktemp("quickstart"), {"CREW_AMQP_URL": vhost_url()}) as processes:
        serving(request.param(processes, "--processes=1"))
        yield gateway_of(processes)


def test_a_payload_of_a_million_characters_reaches_the_task(quickstart: Web) -> None:
    response = quickstart.get("/")

    assert response.status == 200
    assert response.json["characters"] == 1_000_000


@pytest.mark.parametrize("path", ["/stat", "/stat2"], ids=["a gen.coroutine", "a callback"])
def test_handlers_of_every_style_get_the_value(quickstart: Web, path: str) -> None:
    first, second = quickstart.get(path), quickstart.get(path)

    stats = [response.json.get("stat", response.json) for response in (first, second)]
    assert first.status == second.status == 200
    assert stats[0]["worker"] == stats[1]["worker"]
    assert stats[1]["served"] == stats[0]["served"] + 1


def test_a_callback_also_gets_the_reply_headers(quickstart: Web) -> None:
    response = quickstart.get("/stat2").json

    assert response["headers"]["worker"] == response["stat"]["worker"]


@pytest.mark.parametrize("quickstart", [worker_script], ids=["python worker.py"], indirect=True, scope="module")
def test_an_endless_task_times_out_and_its_worker_serves_the_next_call_at_once(quickstart: Web) -> None:
    before = quickstart.get("/stat").json

    fast = quickstart.get("/fast")
    after = quickstart.get("/stat")

    assert (fast.status, fast.text) == (200, "Timeout")
    assert 2.9 < fast.seconds < 3.5
    assert after.seconds < 2
    assert (after.json["pid"], after.json["worker"]) == (before["pid"], before["worker"])
    assert after.json["interrupted"] == before["interrupted"] + 1  # the task's `finally` ran


def test_one_failed_call_of_several_does_not_affect_the_values_of_the_others(quickstart: Web) -> None:
    response = quickstart.get("/parallel")

    assert response.status == 200
    assert response.json == {"1/2": 0.5, "1/0": "ZeroDivisionError: division by zero"}


@pytest.mark.parametrize(
    ("path", "text"), [("/publish", "published by a worker"), ("/publish2", "published by the gateway")]
)
def test_every_waiting_browser_receives_an_event(quickstart: Web, path: str, text: str) -> None:
    polls = [quickstart.begin("/subscribe") for _ in range(2)]

    publish_until_answered(quickstart, f"{path}?text=news+of+today", text, polls)

    responses = [poll.response(timeout=1) for poll in polls]
    assert [(response.status, response.text) for response in responses] == [(200, "news of today")] * 2


def publish_until_answered(web: Web, path: str, text: str, polls: list[PendingRequest]) -> None:
    """Publish until all polls are answered: the first events may precede the subscription at the broker."""

    def published() -> bool:
        response = web.get(path)
        assert (response.status, response.text) == (200, text)
        return all(poll.has_response() for poll in polls)

    eventually(published)


def test_a_disconnecting_browser_is_unsubscribed(processes: Processes, broker_url: str) -> None:
    gateway = gateway_of(processes)
    assert gateway.get("/publish2").status == 200
    assert not has_subscriber(broker_url, "news")
    poll = gateway.begin("/subscribe")
    eventually(lambda: has_subscriber(broker_url, "news"))

    poll.disconnect()

    eventually(lambda: not has_subscriber(broker_url, "news"))


def has_subscriber(broker_url: str, topic: str) -> bool:
    """Whether the broker has a queue for events of `topic`. A subscriber discards the message that tests this."""
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        unreadable = pika.BasicProperties(content_type="application/x-nothing")
        channel.basic_publish("crew.PUBSUB", topic, b"", unreadable, mandatory=True)
    except pika.exceptions.UnroutableError:
        return False
    finally:
        connection.close()
    return True


def test_a_call_fails_at_once_if_no_worker_has_ever_served_the_task(processes: Processes) -> None:
    response = gateway_of(processes).get("/fast")

    assert (response.status, response.text) == (200, "All workers are gone")
    assert response.seconds < 3.5


def test_a_call_expires_in_time_if_all_workers_have_stopped(processes: Processes) -> None:
    worker = serving(worker_script(processes, "--processes=1"))
    assert worker.stop() == 0

    response = gateway_of(processes).get("/fast")

    assert (response.status, response.text) == (200, "All workers are gone")
    assert 2.9 < response.seconds < 3.5


def test_a_failed_call_is_reported_in_one_sentence(processes: Processes) -> None:
    response = gateway_of(processes).get("/stat")

    assert response.status == 503
    assert response.text.startswith("UnknownTask: ")


def test_sleeps_overlap_on_every_thread_of_every_worker_process(processes: Processes) -> None:
    serving(crew_worker(processes, "--processes=2", "--threads=4"), processes=2)

    emit = processes.python(QUICKSTART / "emit_task.py", "--count=16", "--seconds=0.5")

    assert emit.ends(timeout=20) == 0, emit
    assert "2 worker processes, 8 sleeps at once" in emit.output
    duration = re.search(r"16 sleeps of 0.5 s took (\d+\.\d) s", emit.output)
    assert duration, emit
    assert 1.0 <= float(duration[1]) < 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_worker_and_gateway_stop_on_a_signal(processes: Processes, number: signal.Signals) -> None:
    worker = serving(worker_script(processes, "--processes=2"), processes=2)
    gateway = processes.python(QUICKSTART / "master.py", "--port=0")
    web = Web.of(gateway)
    assert web.get("/stat").status == 200
    poll = web.begin("/subscribe")  # a request still waits

    begun = time.monotonic()
    assert gateway.stop(number) == 0, gateway
    assert worker.stop(number) == 0, worker

    assert time.monotonic() - begun < 5
    poll.disconnect()
    assert "Traceback" not in gateway.output + worker.output
    assert not processes.alive()
