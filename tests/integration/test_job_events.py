"""Reports of workers about jobs, received by a fake gateway of the test."""

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
INTERRUPTED_WITHIN = 1.0  # seconds from the cancel to the interrupt, as guaranteed
EXECUTORS = {"main thread": "nap", "event loop": "nap.async"}


@pytest.fixture(scope="module")
def broker_url(vhost_url: Callable[[], str]) -> str:
    """URL of a virtual host for this module only."""
    return vhost_url()


@pytest.fixture
def gateway(broker_url: str) -> Iterator[PlayedGateway]:
    """A fake gateway that answers the requests of workers."""
    with playing(broker_url) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def shared_job_worker(
    tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str
) -> Iterator[Process]:
    """A worker for all tests of the module that leave it alive."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix, "CREW_TEST_HEARTBEAT": "0.5"}
    with running(tmp_path_factory.mktemp("worker"), environment, preloaded=True) as processes:
        yield processes.python(JOBBING).says("serving")


def test_each_report_names_the_process_that_runs_the_job_and_its_start_time(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str
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


def test_a_running_job_is_reported_periodically_until_it_ends(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str
) -> None:
    """Every 0.5 s in this test, also while the task blocks the main thread."""
    ids = [gateway.submit(shared_prefix + task, 1.4) for task in EXECUTORS.values()]
    for id in ids:
        gateway.end(id)
        assert len(gateway.of(id, Outcome.STARTED)) in (3, 4)
    last = gateway.submit(shared_prefix + "nap", 0.7)
    gateway.end(last)
    assert all(gateway.of(id)[-1].outcome is Outcome.RETURNED for id in ids)


@pytest.mark.parametrize("task", EXECUTORS.values(), ids=EXECUTORS)
def test_a_running_job_that_is_canceled_is_interrupted_within_a_second(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str, task: str
) -> None:
    worker = shared_job_worker.from_now()
    id = gateway.submit(shared_prefix + task, 30)
    gateway.wait_for_report(id, Outcome.STARTED)
    gateway.cancel(id, topology.control_key_of_task(shared_prefix + task))
    gateway.wait_until(lambda: f"INTERRUPTED {id} canceled" in worker.output, INTERRUPTED_WITHIN)
    assert gateway.end(id).outcome is Outcome.CANCELED


def test_progress_is_sent_at_most_ten_times_a_second_and_the_last_before_the_end(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str
) -> None:
    id = gateway.submit(shared_prefix + "count", {"to": 600, "pause": 0.001})
    end = gateway.end(id)
    assert end.run is not None
    progress = gateway.of(id, Outcome.PROGRESS)
    took = (end.run.ended or 0) - (end.run.started or 0)
    assert 4 <= len(progress) <= took / 0.1 + 2
    assert value_of(progress[-1]) == {"at": 599}
    assert gateway.of(id)[-2:] == [progress[-1], end]
    in_thread = gateway.submit(shared_prefix + "count.thread", {"to": 3, "pause": 0.0})
    gateway.end(in_thread)
    assert value_of(gateway.of(in_thread, Outcome.PROGRESS)[-1]) == {"at": 2}


def test_progress_that_a_canceled_task_reports_during_clean_up_is_sent(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str
) -> None:
    for task in ("clean", "nap.async"):
        id = gateway.submit(shared_prefix + task, 30)
        gateway.wait_until(lambda id=id: f"STARTED {id}" in shared_job_worker.output)  # type: ignore[misc]
        gateway.cancel(id, topology.control_key_of_task(shared_prefix + task))
        assert "cleaned" in value_of(gateway.wait_for_report(id, Outcome.PROGRESS))
        assert gateway.end(id).outcome is Outcome.CANCELED


def test_progress_that_is_too_large_fails_its_job_and_the_error_names_the_size(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str
) -> None:
    fits = gateway.end(gateway.submit(shared_prefix + "say", {"size": 60_000}))
    assert value_of(fits) == fits.id
    (progress,) = gateway.of(fits.id, Outcome.PROGRESS)
    assert progress.body.content_encoding is None, "the record stores progress as received"
    large = gateway.end(gateway.submit(shared_prefix + "say", {"size": 70_000}))
    message = failure.decode(large.body.data).message
    assert message.startswith(
        f"the progress of task '{shared_prefix}say' cannot be sent: the encoded payload has 70002 bytes"
    )


def test_a_job_that_no_worker_started_in_time_expires_and_never_runs(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str
) -> None:
    worker = shared_job_worker.from_now()
    id = gateway.submit(shared_prefix + "nap", 0, start_by=time.time() - 1)
    end = gateway.end(id)
    assert end.outcome is Outcome.EXPIRED
    assert end.run is not None
    assert end.run.started is None
    assert id not in worker.output


@pytest.mark.parametrize("task", ["fail", "fail.bounded"])
def test_a_failed_job_is_retried_under_its_id_even_after_its_expiration(
    gateway: PlayedGateway, shared_job_worker: Process, shared_prefix: str, task: str
) -> None:
    id = gateway.submit(shared_prefix + task, 2, start_by=time.time() + 0.25)
    end = gateway.end(id)
    assert (end.outcome, value_of(end)) == (Outcome.RETURNED, 2)
    assert end.run is not None
    assert end.run.attempt == 2
    ends = [one.run and one.run.ended for one in gateway.of(id, Outcome.STARTED)]
    assert any(ends), "a report says that the job does not run until its retry"


@pytest.fixture
def job_workers(tmp_path: Path, broker_url: str, prefix: str) -> Iterator[Processes]:
    """Workers for this test only, which it may kill."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": prefix, "CREW_TEST_HEARTBEAT": "0.5"}
    with running(tmp_path, environment, preloaded=True) as processes:
        yield processes


def test_a_job_that_was_canceled_while_no_worker_ran_never_starts(
    gateway: PlayedGateway, job_workers: Processes, prefix: str
) -> None:
    first = job_workers.python(JOBBING).says("serving")
    first.stop()
    ids = [gateway.submit(prefix + "nap", 0) for _ in range(3)]
    gateway.canceled = ids[:2]
    gateway.receive()
    gateway.requests.clear()
    second = job_workers.python(JOBBING).says("serving")
    for id, outcome in zip(ids, (Outcome.CANCELED, Outcome.CANCELED, Outcome.RETURNED), strict=True):
        assert gateway.end(id).outcome is outcome
    assert [id in second.output for id in ids] == [False, False, True]
    (request,) = gateway.requests
    assert prefix + "nap" in request.tasks


@pytest.mark.chaos
def test_a_worker_that_finds_no_gateway_starts_jobs_after_two_seconds(
    gateway: PlayedGateway, job_workers: Processes, prefix: str
) -> None:
    first = job_workers.python(JOBBING).says("serving")
    first.stop()
    gateway.answers = False
    id = gateway.submit(prefix + "nap", 0)
    job_workers.python(JOBBING).says("serving")
    served = time.time()
    end = gateway.end(id)
    assert end.run is not None
    assert 1.5 < (end.run.started or 0) - served < 3


def test_a_job_with_a_timeout_runs_again_after_its_process_died(
    gateway: PlayedGateway, job_workers: Processes, prefix: str
) -> None:
    job_workers.python(JOBBING).says("serving")
    id = gateway.submit(prefix + "die", 1, start_by=time.time() + 0.5)
    end = gateway.end(id)
    assert (end.outcome, value_of(end)) == (Outcome.RETURNED, 2)
    assert end.run is not None
    assert end.run.attempt == 2


@pytest.mark.chaos
def test_a_job_that_kills_three_processes_is_parked_and_ends_as_worker_lost(
    gateway: PlayedGateway, job_workers: Processes, prefix: str
) -> None:
    job_workers.python(JOBBING).says("serving")
    id = gateway.submit(prefix + "die", 9)
    end = gateway.end(id)
    assert end.outcome is Outcome.WORKER_LOST
    assert end.run is not None
    assert end.run.attempt == 3


def test_a_job_without_a_timeout_runs_once_and_its_end_names_the_lost_process(
    gateway: PlayedGateway, job_workers: Processes, prefix: str
) -> None:
    worker = job_workers.python(JOBBING).says("serving")
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
def test_a_job_interrupted_by_a_drain_runs_elsewhere_even_after_its_expiration(
    gateway: PlayedGateway, job_workers: Processes, prefix: str, task: str
) -> None:
    worker = job_workers.python(JOBBING, "--drain", "0").says("serving")
    id = gateway.submit(prefix + task, 1.2, start_by=time.time() + 0.5)
    gateway.wait_for_report(id, Outcome.STARTED)
    worker.stop()
    assert f"INTERRUPTED {id} drain" in worker.output
    other = job_workers.python(JOBBING).says("serving")
    assert gateway.end(id).outcome is Outcome.RETURNED
    assert f"DONE {id}" in other.output
