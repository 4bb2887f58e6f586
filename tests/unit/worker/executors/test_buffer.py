"""The buffer of executions that have not started."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.state import ExecutionEvent
from crew.worker.executors.buffer import Buffer
from tests.support.deliveries import an_execution


def taken(buffer: Buffer) -> list[Execution | None]:
    """Take all executions; returns them in their order."""
    return [buffer.take_nowait() for _ in range(len(buffer))]


@given(st.lists(st.integers(0, 9), max_size=20))
@settings(deadline=None, max_examples=50)
def test_the_highest_priority_is_first_and_then_the_order_of_arrival(levels: list[int]) -> None:
    buffer = Buffer()
    executions = [an_execution(level=level) for level in levels]
    for execution in executions:
        buffer.put(execution)
    urgent_first = sorted(executions, key=lambda one: -(one.delivery.properties.priority or 0))
    assert taken(buffer) == urgent_first
    assert buffer.take_nowait() is None


def test_an_urgent_execution_overtakes_waiting_ones() -> None:
    buffer = Buffer()
    ordinary, urgent = an_execution(level=0), an_execution(level=9)
    buffer.put(ordinary)
    buffer.put(urgent)
    assert [buffer.take(), buffer.take()] == [urgent, ordinary]


def test_a_message_without_a_priority_has_priority_0() -> None:
    buffer = Buffer()
    execution, low = an_execution(), an_execution(level=1)
    execution.delivery.properties.priority = None
    buffer.put(execution)
    buffer.put(low)
    assert taken(buffer) == [low, execution]


def test_take_waits_for_an_execution() -> None:
    buffer, execution = Buffer(), an_execution()
    threading.Timer(0.02, buffer.put, [execution]).start()
    assert buffer.take() is execution


def test_closing_ends_the_wait_once_the_buffer_is_empty() -> None:
    buffer, execution = Buffer(), an_execution()
    buffer.close()
    buffer.put(execution)
    assert [buffer.take(), buffer.take()] == [execution, None]


def test_withdrawn_executions_are_removed() -> None:
    buffer = Buffer()
    executions = [an_execution() for _ in range(3)]
    for execution in executions:
        buffer.put(execution)
    assert buffer.withdraw() == executions
    assert len(buffer) == 0
    assert buffer.withdraw() == []


def test_every_execution_is_taken_by_exactly_one_of_many() -> None:
    buffer = Buffer()
    executions = [an_execution() for _ in range(1_000)]
    got: list[list[Execution]] = [[] for _ in range(4)]

    def take_all(mine: list[Execution]) -> None:
        while (execution := buffer.take()) is not None:
            mine.append(execution)

    threads = [threading.Thread(target=take_all, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for execution in executions:
        buffer.put(execution)
    for _ in threads:
        buffer.close()
    for thread in threads:
        thread.join(5)
    everything = [execution for mine in got for execution in mine]
    assert len(everything) == len(executions)
    assert set(everything) == set(executions)


def test_an_execution_that_may_not_start_is_withdrawn_unless_only_this_process_can_run_it() -> None:
    may_start = [True, False, False, False]
    buffer = Buffer(lambda: may_start.pop(0))
    first, second, acked, decided = (an_execution() for _ in range(4))
    acked.state.move(ExecutionEvent.ACKNOWLEDGE_AT_START)
    decided.interrupt(InterruptReason.CANCELED)
    for execution in (first, second, acked, decided):
        buffer.put(execution)
    buffer.close()
    assert [buffer.take() for _ in range(4)] == [first, acked, decided, None]
    assert len(buffer) == 1
    assert buffer.withdraw() == [second]
    assert len(buffer) == 0
