"""Tasks that cannot be interrupted: their slot is freed, or their process is replaced."""

import msgspec
import pytest

from crew.client import Scope
from crew.protocol.message import Outcome
from tests.support.deliveries import an_execution
from tests.support.waiting import until
from tests.unit.worker.consumer.test_consumer import Worker


@pytest.mark.gen_test
async def test_a_task_that_runs_on_after_its_grace_frees_its_slot(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(grace=0.05)
    worker.executor.text = "in stubborn_function"
    stubborn = worker.starts("stubborn", timeout=0.02)
    worker.receives(id="next")
    await until(lambda: worker.executor.was_abandoned)
    assert worker.executor.was_abandoned == [stubborn]
    assert [one.call.id for one in worker.executor.executions] == ["next"]
    assert worker.outcomes() == [("stubborn", Outcome.TIMED_OUT)]
    assert worker.shared_state.limits(0) == [], "the supervisor does not kill the process for it"
    assert not worker.worn_out
    assert "in stubborn_function" in caplog.text
    worker.finish(stubborn)
    assert worker.outcomes() == [("stubborn", Outcome.TIMED_OUT)]
    assert [one.call.id for one in worker.executor.executions] == ["next"]
    worker.consumer.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("zombies", [0, 2])
async def test_a_process_with_more_zombies_than_allowed_is_replaced(zombies: int) -> None:
    worker = Worker(grace=0.01, zombies=zombies)
    for number in range(zombies + 1):
        assert not worker.worn_out
        worker.starts(f"{number}", timeout=0.01)
        await until(lambda number=number: len(worker.executor.was_abandoned) > number)  # type: ignore[misc]
    assert worker.worn_out == 1
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_process_whose_executor_is_stuck_is_replaced_and_still_exits() -> None:
    worker = Worker(grace=0.01, zombies=10)
    worker.executor.frees_slot = False
    worker.starts(timeout=0.01)
    assert worker.consumer.has_work()
    await until(lambda: worker.worn_out)
    assert not worker.consumer.has_work(), "a shutdown does not wait for it"
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_call_whose_process_was_killed_for_it_times_out_and_is_not_retried() -> None:
    worker = Worker()
    execution = an_execution()
    execution.call = msgspec.structs.replace(execution.call, id="17")
    execution.times.limit = 100.0
    worker.shared_state.begin(0, execution)
    innocent = an_execution()
    innocent.call = msgspec.structs.replace(innocent.call, id="18")
    worker.shared_state.begin(0, innocent)
    worker.shared_state.record_kill(0, worker.shared_state.overdue(0, 150.0), -9)
    delivery = worker.receives(redelivered=True)
    worker.receives(id="18", redelivered=True)
    assert worker.outcomes() == [("17", Outcome.TIMED_OUT)]
    assert [(one.call.id, one.attempt) for one in worker.executor.executions] == [("18", 1)]
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]
    assert worker.sent_to("crew.parked") == []
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_nested_call_made_inside_a_shield_ends_with_its_task() -> None:
    worker = Worker(grace=0.01)
    stubborn = worker.starts(timeout=0.02)
    stubborn.interruption.shields = 1
    scope = stubborn.scope = Scope()
    await until(lambda: worker.executor.was_abandoned)
    abandoned = [scope.is_abandoned]
    stubborn.interruption.shields = 0
    worker.finish(stubborn)
    abandoned.append(scope.is_abandoned)
    assert abandoned == [False, True]
    worker.consumer.stop()
