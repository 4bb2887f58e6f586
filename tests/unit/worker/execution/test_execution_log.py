"""The log lines of executions."""

import logging
from typing import Any

import pytest

from crew.worker.execution.execution import Execution
from crew.worker.execution.execution_log import LINES, ExecutionLog
from crew.worker.execution.interrupt import InterruptReason
from tests.support.deliveries import an_execution, run
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crew.worker.execution.execution_log")


def ended(execution: Execution) -> Execution:
    """Run it."""
    execution.begin()
    run(execution)
    return execution


def raises(_: Any) -> None:
    raise ValueError("no route")


def test_an_execution_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    log, execution = ExecutionLog(), ended(an_execution())
    execution.times.run_time = 0.0123
    log.end(execution)
    log.end(execution)
    assert caplog.messages == [f"execution ended: task=t id={execution.call.id} seconds=0.012 result=returned"]
    assert caplog.records[0].levelno == logging.INFO


def test_a_failure_is_a_warning_with_the_traceback_of_the_task(caplog: pytest.LogCaptureFixture) -> None:
    execution = ended(an_execution(raises, "5ecret"))
    ExecutionLog().end(execution)
    (record,) = caplog.records
    first, *traceback = record.getMessage().splitlines()
    assert record.levelno == logging.WARNING
    assert first.startswith(f"execution failed: task=t id={execution.call.id} seconds=0.0")
    assert first.endswith("result=raised attempt=1")
    assert traceback[0] == "  | Traceback (most recent call last):"
    assert "in raises" in traceback[1]
    assert traceback[-1] == "  | ValueError: no route"
    assert "5ecret" not in caplog.text


def test_a_traceback_ends_in_the_task_not_in_crews_interrupt(caplog: pytest.LogCaptureFixture) -> None:
    def hangs(_: Any) -> None:
        execution.interrupt(InterruptReason.TIMEOUT)
        execution.raise_interrupt(0.0)

    execution = an_execution(hangs)
    ExecutionLog().end(ended(execution))
    assert "result=timed_out" in caplog.text
    assert "in hangs" in caplog.text
    assert "execution.py" not in caplog.text
    assert "Interrupt: interrupted: timeout" in caplog.text


def test_an_execution_that_has_not_started_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    execution = an_execution()
    execution.interrupt(InterruptReason.CANCELED)
    ExecutionLog().end(execution)
    assert caplog.messages == []


def test_a_canceled_execution_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    execution = an_execution(lambda _: execution.interrupt(InterruptReason.CANCELED))
    ExecutionLog().end(ended(execution))
    assert [(one.levelno, "result=canceled" in one.getMessage()) for one in caplog.records] == [(logging.INFO, True)]


@pytest.mark.gen_test
async def test_many_executions_within_a_second_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    log = ExecutionLog()
    for _ in range(LINES + 30):
        log.end(ended(an_execution()))
    log.end(ended(an_execution(raises)))
    await until(lambda: "executions ended" in caplog.text)
    own = [one for one in caplog.messages if one.startswith("execution ended")]
    shared = sum(int(one.split("count=")[1].split()[0]) for one in caplog.messages if "count=" in one)
    assert len(own) + shared == LINES + 30
    assert shared >= 1
    assert sum("result=raised" in one for one in caplog.messages) == 1


@pytest.mark.gen_test
async def test_with_debug_each_execution_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "crew.worker.execution.execution_log")
    log = ExecutionLog()
    for _ in range(LINES + 30):
        log.end(ended(an_execution()))
    assert len(caplog.messages) == LINES + 30
