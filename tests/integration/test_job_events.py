"""What workers say of jobs, to a gateway that the test plays."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crew.protocol import failure, topology
from crew.protocol.message import Outcome
from tests.support.paths import TASK_FOLDER
from tests.support.played_gateway import PlayedGateway, playing, value_of
from tests.support.processes import Process, Processes, running

JOBBING = TASK_FOLDER / "jobbing.py"
STOPPED = 1.0  # seconds from the cancel to the interrupt: the promise
EXECUTORS = {"main thread": "nap", "event loop": "nap.async"}


@pytest.fixture(scope="module")
def broker_url(vhost_url: Callable[[], str]) -> str:
    """Of this module's own."""
    return vhost_url()


@pytest.fixture
def gateway(broker_url: str) -> Iterator[PlayedGateway]:
    """One that answers what workers ask."""
    with playing(broker_url) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def shared_jobbing(tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str) -> Iterator[Process]:
    """A worker for all tests of the module that leave it alive."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix, "CREW_TEST_HEARTBEAT": "0.5"}
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:
        yield processes.python(JOBBING).says("serving")


def test_every_reply_says_who_runs_the_job_and_since_when(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str
) -> None:
    before = time.time() - 0.001
    id = gateway.submit(shared_prefix + "nap", 0.3)
    end = gateway.end(id)
    started = gateway.of(id, Outcome.STARTED)[0]
    pid = value_of(end)
    assert end.run is not None
    assert started.run is not None
    assert end.run.host == started.run.host == f"{socket.gethostname()}:{pid}"
    assert end.run.started == started.run.started
    assert before <= (end.run.started or 0) <= time.time()
    assert 0.299 <= (end.run.ended or 0) - (end.run.started or 0) < 1
    assert started.run.ended is None
    assert not started.run.is_only_one
    assert end.worker == started.worker is not None
    assert end.persistent or end.outcome is Outcome.RETURNED


def test_a_job_that_runs_is_said_to_run_again_and_again_and_not_after_its_end(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str
) -> None:
    """Every half second here; also where the task has the main thread."""
    ids = [gateway.submit(shared_prefix + task, 1.4) for task in EXECUTORS.values()]
    for id in ids:
        gateway.end(id)
        assert len(gateway.of(id, Outcome.STARTED)) in (3, 4)
    last = gateway.submit(shared_prefix + "nap", 0.7)
    gateway.end(last)
    assert all(gateway.of(id)[-1].outcome is Outcome.RETURNED for id in ids)


@pytest.mark.parametrize("task", EXECUTORS.values(), ids=EXECUTORS)
def test_a_running_job_that_is_canceled_is_interrupted_within_a_second(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str, task: str
) -> None:
    worker = shared_jobbing.from_now()
    id = gateway.submit(shared_prefix + task, 30)
    gateway.wait_for_report(id, Outcome.STARTED)
    gateway.cancel(id, topology.control_key_of_task(shared_prefix + task))
    gateway.wait_until(lambda: f"INTERRUPTED {id} canceled" in worker.output, STOPPED)
    assert gateway.end(id).outcome is Outcome.CANCELED


def test_what_a_task_says_leaves_ten_times_a_second_at_most_and_the_last_before_its_end(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str
) -> None:
    id = gateway.submit(shared_prefix + "count", {"to": 600, "pause": 0.001})
    end = gateway.end(id)
    assert end.run is not None
    said = gateway.of(id, Outcome.PROGRESS)
    took = (end.run.ended or 0) - (end.run.started or 0)
    assert 4 <= len(said) <= took / 0.1 + 2
    assert value_of(said[-1]) == {"at": 599}
    assert gateway.of(id)[-2:] == [said[-1], end]
    in_thread = gateway.submit(shared_prefix + "count.thread", {"to": 3, "pause": 0.0})
    gateway.end(in_thread)
    assert value_of(gateway.of(in_thread, Outcome.PROGRESS)[-1]) == {"at": 2}


def test_what_a_task_says_in_its_clean_up_is_told_though_its_end_was_said(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str
) -> None:
    for task in ("clean", "nap.async"):
        id = gateway.submit(shared_prefix + task, 30)
        gateway.wait_until(lambda id=id: f"STARTED {id}" in shared_jobbing.output)  # type: ignore[misc]
        gateway.cancel(id, topology.control_key_of_task(shared_prefix + task))
        assert "cleaned" in value_of(gateway.wait_for_report(id, Outcome.PROGRESS))
        assert gateway.end(id).outcome is Outcome.CANCELED


def test_progress_that_is_too_large_or_no_json_fails_with_a_sentence(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str
) -> None:
    fits = gateway.end(gateway.submit(shared_prefix + "say", {"size": 60_000}))
    assert value_of(fits) == fits.id
    (said,) = gateway.of(fits.id, Outcome.PROGRESS)
    assert said.body.content_encoding is None, "the record has it as it came"
    large = gateway.end(gateway.submit(shared_prefix + "say", {"size": 70_000}))
    told = failure.decode(large.body.data).message
    assert told.startswith(
        f"the progress of task '{shared_prefix}say' cannot be sent: the encoded payload has 70002 bytes"
    )


def test_a_job_that_nobody_has_started_in_time_expires_and_never_runs(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str
) -> None:
    worker = shared_jobbing.from_now()
    id = gateway.submit(shared_prefix + "nap", 0, start_by=time.time() - 1)
    end = gateway.end(id)
    assert end.outcome is Outcome.EXPIRED
    assert end.run is not None
    assert end.run.started is None
    assert id not in worker.output


@pytest.mark.parametrize("task", ["fail", "fail.bounded"])
def test_a_job_is_tried_again_as_the_job_that_it_is_though_the_time_to_start_it_is_over(
    gateway: PlayedGateway, shared_jobbing: Process, shared_prefix: str, task: str
) -> None:
    id = gateway.submit(shared_prefix + task, 2, start_by=time.time() + 0.25)
    end = gateway.end(id)
    assert (end.outcome, value_of(end)) == (Outcome.RETURNED, 2)
    assert end.run is not None
    assert end.run.attempt == 2
    said = [one.run and one.run.ended for one in gateway.of(id, Outcome.STARTED)]
    assert any(said), "a gateway knows that nobody runs it until its retry"


@pytest.fixture
def jobbing(tmp_path: Path, broker_url: str, prefix: str) -> Iterator[Processes]:
    """Workers that a test may kill."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": prefix, "CREW_TEST_HEARTBEAT": "0.5"}
    with running(tmp_path, environment) as processes:
        yield processes


def test_a_job_that_was_canceled_while_its_worker_was_away_never_starts(
    gateway: PlayedGateway, jobbing: Processes, prefix: str
) -> None:
    first = jobbing.python(JOBBING).says("serving")
    first.stop()
    ids = [gateway.submit(prefix + "nap", 0) for _ in range(3)]
    gateway.canceled = ids[:2]
    gateway.receive()
    gateway.requests.clear()
    second = jobbing.python(JOBBING).says("serving")
    for id, outcome in zip(ids, (Outcome.CANCELED, Outcome.CANCELED, Outcome.RETURNED), strict=True):
        assert gateway.end(id).outcome is outcome
    assert [id in second.output for id in ids] == [False, False, True]
    (asked,) = gateway.requests
    assert prefix + "nap" in asked.tasks


@pytest.mark.chaos
def test_jobs_wait_two_seconds_for_a_gateway_that_is_none(
    gateway: PlayedGateway, jobbing: Processes, prefix: str
) -> None:
    first = jobbing.python(JOBBING).says("serving")
    first.stop()
    gateway.answers = False
    id = gateway.submit(prefix + "nap", 0)
    jobbing.python(JOBBING).says("serving")
    served = time.time()
    end = gateway.end(id)
    assert end.run is not None
    assert 1.5 < (end.run.started or 0) - served < 3


def test_a_job_with_a_timeout_is_run_again_when_its_process_has_died(
    gateway: PlayedGateway, jobbing: Processes, prefix: str
) -> None:
    jobbing.python(JOBBING).says("serving")
    id = gateway.submit(prefix + "die", 1, start_by=time.time() + 0.5)
    end = gateway.end(id)
    assert (end.outcome, value_of(end)) == (Outcome.RETURNED, 2)
    assert end.run is not None
    assert end.run.attempt == 2


@pytest.mark.chaos
def test_a_job_that_kills_three_processes_is_parked_and_ends_as_worker_lost(
    gateway: PlayedGateway, jobbing: Processes, prefix: str
) -> None:
    jobbing.python(JOBBING).says("serving")
    id = gateway.submit(prefix + "die", 9)
    end = gateway.end(id)
    assert end.outcome is Outcome.WORKER_LOST
    assert end.run is not None
    assert end.run.attempt == 3


def test_a_job_without_a_timeout_is_not_run_twice_and_its_end_says_where_it_died(
    gateway: PlayedGateway, jobbing: Processes, prefix: str
) -> None:
    worker = jobbing.python(JOBBING).says("serving")
    id = gateway.submit(prefix + "endless", 30)
    started = gateway.wait_for_report(id, Outcome.STARTED)
    assert started.run is not None
    assert started.run.is_only_one
    os.kill(int(started.run.host.rpartition(":")[2]), signal.SIGKILL)
    end = gateway.end(id)
    assert end.outcome is Outcome.WORKER_LOST
    assert end.run is not None
    assert (end.run.host, end.run.started) == (started.run.host, started.run.started)
    assert worker.output.count(f"STARTED {id}") == 1


@pytest.mark.chaos
@pytest.mark.parametrize("task", ["nap", "endless"])
def test_a_job_that_a_drain_interrupts_runs_elsewhere_though_the_time_to_start_it_is_over(
    gateway: PlayedGateway, jobbing: Processes, prefix: str, task: str
) -> None:
    worker = jobbing.python(JOBBING, "--drain", "0").says("serving")
    id = gateway.submit(prefix + task, 1.2, start_by=time.time() + 0.5)
    gateway.wait_for_report(id, Outcome.STARTED)
    worker.stop()
    assert f"INTERRUPTED {id} drain" in worker.output
    other = jobbing.python(JOBBING).says("serving")
    assert gateway.end(id).outcome is Outcome.RETURNED
    assert f"DONE {id}" in other.output
