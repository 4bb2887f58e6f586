"""`crew submit`, and `--json` of `crew jobs`."""

import functools
import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crew.cli import main
from crew.cli.connection import ConnectTimeout
from crew.client.similar_tasks import similar_tasks
from tests.support.broker import unreachable_url
from tests.support.processes import Process, Processes

Crew = Callable[..., Result]

SOON = "10"  # seconds, for actions that take milliseconds
FAILS = '"raise"'  # payload with which the task `bad` raises KeyError


@pytest.fixture
def crew(broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Runs `crew` with arguments, and with a job store for this test only."""
    monkeypatch.setenv("CREW_AMQP_URL", broker_url)
    monkeypatch.setenv("CREW_DATABASE", f"sqlite:///{tmp_path}/jobs.db")
    return lambda *arguments, **more: CliRunner().invoke(main, arguments, **more)


def line_of(result: Result) -> dict[str, object]:
    """The only line that a command with `--json` has printed."""
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    decoded: dict[str, object] = json.loads(line)
    return decoded


def test_submit_prints_the_id_of_a_job_and_creates_the_job_store(
    shared_worker: Process, crew: Crew, prefix: str
) -> None:
    submitted = crew("submit", prefix + "echo", '{"width": 640}')

    assert (submitted.exit_code, submitted.stderr) == (0, "")
    id = submitted.stdout.strip()
    assert str(uuid.UUID(id)) == id
    assert crew("jobs", "wait", id, "--timeout", SOON).stdout == '{"width":640}\n'


def test_submit_waits_for_the_result_and_has_the_exit_status_of_a_call(
    shared_worker: Process, crew: Crew, prefix: str
) -> None:
    waited = crew("submit", prefix + "echo", "-", "--wait", input="[1, 2]")
    assert (waited.exit_code, waited.stdout) == (0, "[1,2]\n")
    failed = crew("submit", prefix + "bad", FAILS, "--wait")
    assert (failed.exit_code, failed.stdout) == (1, "")
    late = crew("submit", prefix + "sleep", "30", "--wait-timeout", "50ms")
    id = late.stderr.split()[1]
    assert (late.exit_code, late.stderr) == (5, f"job {id}\ncrew: job {id} has not ended in time; it goes on\n")
    assert line_of(crew("jobs", "cancel", id, "--json")) == {"id": id, "status": "canceled"}


def test_the_record_of_a_job_that_failed_is_printed_as_json_before_the_error(
    shared_worker: Process, crew: Crew, prefix: str
) -> None:
    failed = crew("submit", prefix + "bad", FAILS, "--wait", "--json")
    record = json.loads(failed.stdout)
    assert (failed.exit_code, record["status"]) == (1, "error")
    assert record["error"]["type"] in failed.stderr
    waited = crew("jobs", "wait", record["id"], "--json")
    assert (waited.exit_code, json.loads(waited.stdout)["id"]) == (1, record["id"])


def test_a_crontab_line_submits_nothing_while_its_last_job_runs_or_for_a_key_that_was_used(
    shared_worker: Process, crew: Crew, prefix: str
) -> None:
    running = ("submit", prefix + "sleep", "30", "--unique", "skip", "--unique-key", "nightly")
    first, second = crew(*running).stdout, crew(*running).stdout
    assert first == second
    assert crew("jobs", "cancel", first.strip()).exit_code == 0
    third = crew(*running).stdout
    assert third != first
    assert crew("jobs", "cancel", third.strip()).exit_code == 0

    daily = ("submit", prefix + "echo", "1", "--idempotency-key", "report-2026-11-30", "--json")
    id = line_of(crew(*daily))["id"]
    assert crew("jobs", "wait", str(id), "--timeout", SOON).exit_code == 0
    assert line_of(crew(*daily)) == {"id": id, "is_new": False}
    other = crew("submit", prefix + "echo", "2", "--idempotency-key", "report-2026-11-30")
    assert (other.exit_code, other.stdout) == (7, "")


def test_options_of_submit_reach_the_record(shared_worker: Process, crew: Crew, prefix: str) -> None:
    id = str(uuid.uuid4())
    terms = ("--priority", "9", "--timeout", "2m", "--result-ttl", "1h", "--failure-ttl", "2h", "--id", id)
    assert crew("submit", prefix + "echo", *terms).stdout == f"{id}\n"
    record = line_of(crew("jobs", "show", id, "--json"))
    shown = [record[name] for name in ("priority", "timeout", "result_ttl", "failure_ttl")]
    assert shown == [9, 120.0, 3600.0, 7200.0]


def test_retry_and_purge_print_json(shared_worker: Process, crew: Crew, prefix: str) -> None:
    id = line_of(crew("submit", prefix + "echo", "1", "--wait", "--json"))["id"]
    again = line_of(crew("jobs", "retry", str(id), "--json"))
    assert (again["is_new"], again["retry_of"]) == (True, id)
    assert crew("jobs", "wait", str(again["id"]), "--timeout", SOON).exit_code == 0
    assert line_of(crew("jobs", "purge", "--all", "--yes", "--json")) == {"deleted": 2}


def test_an_error_of_submit_is_one_line_with_the_exit_status_of_a_call(
    shared_worker: Process, crew: Crew, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = functools.partial(similar_tasks, within=60.0)  # seconds: a busy machine may need more than one
    monkeypatch.setattr("crew.cli.suggestions.similar_tasks", patient)
    unknown = crew("submit", prefix + "ecco")
    assert (unknown.exit_code, unknown.stdout) == (3, "")
    assert f"Did you mean '{prefix}echo'?" in unknown.stderr
    assert len(unknown.stderr.splitlines()) == 1
    waits = crew("submit", prefix + "ecco", "--wait-for-worker")
    assert waits.exit_code == 0
    for arguments, message in (
        (("--id", "seven"), "the id of a job must be a uuid, not 'seven'"),
        (("--unique-key", "k"), "unique_key needs unique=skip or replace"),
        (("--unique", "never"), "'never' is not one of"),
        (("--database", "mysql://u:secret@host/x"), "a sqlite:// or a postgresql:// database"),
    ):
        wrong = crew("submit", prefix + "echo", *arguments)
        assert (wrong.exit_code, wrong.stdout) == (2, "")
        assert message in wrong.stderr
        assert "secret" not in wrong.stderr
    with unreachable_url() as url:
        away = crew("submit", prefix + "echo", "--url", url, obj=ConnectTimeout(0.3))
    assert (away.exit_code, away.stdout) == (6, "")
    assert len(away.stderr.splitlines()) == 1


def test_a_stopped_wait_ends_without_a_traceback_and_the_job_goes_on(
    shared_worker: Process, processes: Processes, crew: Crew, prefix: str, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path}/jobs.db"
    waiting = processes.crew("submit", prefix + "sleep", "0.5", "--wait", "--database", database).says("job ")

    assert waiting.stop(signal.SIGTERM) == 130

    id = waiting.output.split()[1]
    assert waiting.output == f"job {id}\n"
    assert crew("jobs", "wait", id, "--timeout", SOON).stdout == "0.5\n"
