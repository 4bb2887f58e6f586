"""`/readyz` and other responses while the job store, or also the broker, is unavailable."""

from tests.acceptance.test_jobs_api import UNKNOWN_ID, Program
from tests.support.postgresql import Server
from tests.support.processes import Processes
from tests.support.waiting import eventually
from tests.support.web import Web

ROUNDS = 8  # of requests that need the store


def test_a_gateway_without_its_job_store_is_not_ready_and_logs_it_once(
    processes: Processes, own_postgresql: Server
) -> None:
    gateway = processes.crew("gateway", "--port", "0", "--database", own_postgresql.make_database())
    program = Program(Web.of(gateway).port)
    eventually(lambda: program.get("/readyz").status == 200)

    own_postgresql.kill()
    eventually(lambda: program.get("/readyz").status == 503)
    unready = program.get("/readyz")
    assert unready.problem == (503, "not-ready")
    assert unready.json["detail"] == "the job store cannot be used"  # its address is shown in debug mode only
    assert unready.headers["Retry-After"] == "2"
    for _ in range(ROUNDS):
        assert program.get(f"/jobs/{UNKNOWN_ID}/").problem == (503, "store-away")
        assert program.request("POST", "/jobs/", {"task": "t", "wait_for_worker": True}).problem == (503, "store-away")
        assert program.get("/readyz").status == 503
    assert program.get("/healthz").status == 200

    own_postgresql.start()
    eventually(lambda: program.get("/readyz").status == 200)
    eventually(lambda: "job store available again" in gateway.output)
    assert gateway.output.count("job store unavailable") == 1
    assert gateway.output.count("job store available again") == 1
    assert gateway.output.count(" WARNING crew.") == 2
    assert "Traceback" not in gateway.output


def test_a_gateway_that_starts_without_job_store_and_broker_names_both(processes: Processes) -> None:
    nowhere = "127.0.0.1:9"
    gateway = processes.crew(
        "gateway", "--port", "0", "--url", f"amqp://{nowhere}/", "--database", f"postgresql://me@{nowhere}/jobs"
    )
    program = Program(Web.of(gateway).port)
    eventually(lambda: "the broker is unavailable" in program.get("/readyz").json["detail"])
    detail = program.get("/readyz").json["detail"]
    assert detail == "the broker is unavailable: connection refused; the job store cannot be used"
    assert program.get(f"/jobs/{UNKNOWN_ID}/").problem == (503, "store-away")
    assert gateway.output.count("job store unavailable") == 1
