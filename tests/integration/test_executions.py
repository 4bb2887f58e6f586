"""Each execution logs one line, and leaves nothing else behind."""

import re

import pytest

import crew
from crew import Client
from tests.integration.conftest import StartWorker
from tests.support.waiting import until

SCRIPT = "logged.py"
LOGGER = r"crew\.worker\.execution\.execution_log"
ENDED = rf"INFO +\d+ {LOGGER}: execution ended: task={{}} id={{}} seconds={{}} result={{}}\n"
FAILED = rf"WARNING +\d+ {LOGGER}: execution failed: task={{}} id={{}} seconds={{}} result={{}} attempt={{}}{{}}\n"
SECONDS = r"\d+\.\d{3}"


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("flags", [(), ("--threads", "2")], ids=["main thread", "threads"])
async def test_each_execution_logs_one_line_and_a_failure_its_traceback(
    broker_url: str, prefix: str, start_worker: StartWorker, flags: tuple[str, ...]
) -> None:
    worker = start_worker(*flags, script=SCRIPT)
    hang = "hang.async" if flags else "hang"
    async with Client(broker_url) as client:
        ok = client.call(prefix + "ok", "5ecret", headers={"token": "5ecret"})
        assert await ok == "5ecret"
        failing = client.call(prefix + "fail", "5ecret")
        with pytest.raises(crew.TaskFailed):
            await failing
        late = client.call(prefix + hang, "5ecret", timeout=0.2)
        with pytest.raises(crew.TimeoutError):
            await late
        canceled = client.call(prefix + hang, "5ecret")
        await until(lambda: canceled.has_started)
        canceled.cancel()
        await until(lambda: "result=canceled" in worker.output)
    assert worker.stop() == 0
    log = worker.output

    assert re.search(ENDED.format(prefix + "ok", ok.id, SECONDS, "returned"), log)
    first = FAILED.format(prefix + "fail", failing.id, SECONDS, "raised", 1, r" retry_in=0\.01")
    last = FAILED.format(prefix + "fail", failing.id, SECONDS, "raised", 2, "")
    traceback = (
        r"  \| Traceback \(most recent call last\):\n"
        r'  \|   File ".*logged\.py", line \d+, in fail\n.*\n(?: .*\n)?'
        r'  \|   File ".*logged\.py", line \d+, in helper\n.*\n(?: .*\n)?'
        r"  \| ValueError: no route\n"
    )
    assert re.search(first + traceback, log)
    assert re.search(last + traceback, log)
    assert re.search(
        FAILED.format(prefix + hang, late.id, r"0\.[2-9]\d\d", "timed_out", 1, "") + r"  \| Traceback", log
    )
    assert re.search(ENDED.format(prefix + hang, canceled.id, SECONDS, "canceled"), log)
    assert log.count("crew.worker.execution.execution_log") == 5
    assert "5ecret" not in log
    assert "/crew/worker/" not in log


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("flags", [(), ("--threads", "2")], ids=["main thread", "threads"])
async def test_a_context_variable_that_a_task_sets_ends_with_the_task(
    broker_url: str, prefix: str, start_worker: StartWorker, flags: tuple[str, ...]
) -> None:
    start_worker(*flags, script=SCRIPT)
    async with Client(broker_url) as client:
        for task in ("tenant", "tenant.async"):
            seen = [await client.call(prefix + task, name) for name in ("a", "b", "c")]
            assert seen == ["nobody"] * 3, task
        assert await client.call(prefix + "tenant.nested", "d") == ["nobody", "nobody", "nobody", "d"]
        assert await client.call(prefix + "tenant.async", "e") == "nobody"
