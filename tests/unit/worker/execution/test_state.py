"""The states of an execution: the table, its drawing in the documents, and random orders of events."""

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.worker.execution import state as state_module
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import REDELIVERED
from crew.worker.execution.state import (
    CONDITIONS,
    TRANSITIONS,
    UNDECIDED,
    Decision,
    ExecutionEvent,
    ExecutionState,
    ExecutionStateMachine,
)
from tests.support.decoding import imported_again
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs/architecture.md"
SOURCE = Path(state_module.__file__)
PART_OF = {
    event: part for part, table in TRANSITIONS.items() for targets in table.values() for event in targets
}  # the part of the states that an event changes
DECISIONS = {
    ExecutionEvent.DECIDE: Decision(REDELIVERED),
    ExecutionEvent.INTERRUPT: Decision(REDELIVERED, InterruptReason.TIMEOUT, 1.0),
}


def drawn_transitions(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """The transitions in a drawing: part -> state -> event -> next state."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    part = ""
    for line in text.splitlines():
        named = re.match(r"(\w+)  +", line)
        if named:
            part = named[1]
            line = line[named.end() :]
        state, *steps = re.split(r" ──(.+?)──> ", line.strip())
        for event, target in zip(steps[::2], steps[1::2], strict=True):
            found.setdefault(part, {}).setdefault(state, {})[event] = target
            state = target
    return found


def drawn_conditions(text: str) -> dict[str, set[frozenset[str]]]:
    """The conditions in a table of a document: event -> alternatives."""
    rows = re.findall(r"^\| ([\w ]+) \| ([\w ,]+) \|$", text, re.MULTILINE)
    return {event: {frozenset(one.split(" and ")) for one in states.split(", or ")} for event, states in rows}


def the_transitions() -> dict[str, dict[str, dict[str, str]]]:
    """The transitions of the code, as `drawn_transitions` returns them."""
    return {
        part: {
            state.value: {event.value: target.value for event, target in targets.items()}
            for state, targets in table.items()
            if targets
        }
        for part, table in TRANSITIONS.items()
    }


def test_the_drawing_in_the_architecture_shows_each_transition() -> None:
    (drawing,) = re.findall(r"^```states\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert drawn_transitions(drawing) == the_transitions()


def test_the_drawing_in_the_source_shows_each_transition() -> None:
    drawing = [line[4:] for line in SOURCE.read_text().splitlines() if line.startswith("    ") and "──>" in line]
    assert drawn_transitions("\n".join(drawing)) == the_transitions()


def test_the_conditions_in_the_architecture_are_those_of_the_code() -> None:
    section = DOCUMENT.read_text().split("## The states of an execution")[1].split("\n## ")[0]
    _, *rows = section.split("| event | allowed only while it is |")
    expected = {
        event.value: {frozenset(state.value for state in one) for one in alternatives}
        for event, alternatives in CONDITIONS.items()
    }
    assert drawn_conditions(rows[0]) == expected


def test_each_state_and_each_event_belongs_to_one_part() -> None:
    states = [state for table in TRANSITIONS.values() for state in table]
    assert sorted(states) == sorted(ExecutionState)
    for event in ExecutionEvent:
        assert sum(any(event in targets for targets in table.values()) for table in TRANSITIONS.values()) == 1


def test_a_new_execution_is_in_the_first_state_of_each_part() -> None:
    assert list(ExecutionStateMachine().states()) == [next(iter(table)) for table in TRANSITIONS.values()]


def test_an_illegal_transition_raises_with_the_event_and_the_state() -> None:
    machine = ExecutionStateMachine()
    machine.move(ExecutionEvent.END)
    with pytest.raises(RuntimeError, match="execution is ended: event 'start' is not allowed in this state"):
        machine.move(ExecutionEvent.START)


def test_no_reply_is_settled_before_the_result_is_decided() -> None:
    machine = ExecutionStateMachine()
    with pytest.raises(RuntimeError, match="'settle' is not allowed"):
        machine.move(ExecutionEvent.SETTLE)
    machine.decide(DECISIONS[ExecutionEvent.DECIDE])
    machine.move(ExecutionEvent.SETTLE)


def test_a_result_is_decided_once() -> None:
    machine = ExecutionStateMachine()
    assert machine.decide(DECISIONS[ExecutionEvent.INTERRUPT])
    assert not machine.decide(DECISIONS[ExecutionEvent.DECIDE])
    assert machine.result is ExecutionState.INTERRUPTED


def test_the_repr_tells_the_states_that_have_changed() -> None:
    machine = ExecutionStateMachine()
    assert repr(machine) == "<ExecutionStateMachine: waiting>"
    machine.move(ExecutionEvent.START)
    machine.move(ExecutionEvent.ANNOUNCE)
    machine.decide(DECISIONS[ExecutionEvent.INTERRUPT])
    machine.move(ExecutionEvent.SETTLE)
    assert repr(machine) == "<ExecutionStateMachine: announced, settling, interrupted>"


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        (["start"], "running"),
        (["start", "decide"], "running"),
        (["start", "decide", "end"], "ended"),
        (["interrupt"], "interrupted, waiting"),
        (["start", "interrupt"], "interrupted"),
        (["start", "interrupt", "end"], "interrupted, ended"),
        (["lose"], "lost, waiting"),
        (["acknowledge at start", "start"], "acknowledged, running"),
        (["start", "decide", "settle", "confirm", "acknowledge"], "settled, acknowledged, running"),
    ],
)
def test_the_text_of_an_execution_tells_how_far_each_part_is(events: list[str], shown: str) -> None:
    machine = ExecutionStateMachine()
    for event in map(ExecutionEvent, events):
        if event in DECISIONS:
            machine.decide(DECISIONS[event])
        else:
            machine.move(event)
    assert str(machine) == shown


def test_in_each_combination_of_states_exactly_the_events_of_the_tables_are_allowed() -> None:
    copy = imported_again(state_module)  # it joins the tables when it is imported
    for states in itertools.product(*TRANSITIONS.values()):
        now = dict(zip(TRANSITIONS, states, strict=True))
        decisions = [
            one for event, one in DECISIONS.items() if TRANSITIONS["result"][UNDECIDED][event] == now["result"]
        ]
        for event, part in PART_OF.items():
            target = TRANSITIONS[part][now[part]].get(event)
            is_met = any(one.issubset(states) for one in CONDITIONS.get(event, [frozenset()]))
            machine = copy.ExecutionStateMachine(
                task=now["task"],
                start=now["start"],
                settlement=now["settlement"],
                delivery=now["delivery"],
                decisions=decisions,
            )
            assert machine.allows(event) is (target is not None and is_met)
            if machine.allows(event) and event not in DECISIONS:
                machine.move(event)
                assert machine.states() == tuple({**now, part: target}.values())


@given(st.lists(st.sampled_from(list(ExecutionEvent)), max_size=30))
def test_events_in_any_order_follow_the_table_or_change_nothing(events: list[ExecutionEvent]) -> None:
    """The expected states are calculated from the table alone."""
    machine = ExecutionStateMachine()
    expected = {part: next(iter(table)) for part, table in TRANSITIONS.items()}
    applied: list[ExecutionEvent] = []
    for event in events:
        part = PART_OF[event]
        target = TRANSITIONS[part][expected[part]].get(event)
        alternatives = CONDITIONS.get(event, (frozenset(),))
        is_legal = target is not None and any(one <= set(expected.values()) for one in alternatives)
        assert machine.allows(event) is is_legal
        if event in DECISIONS:
            assert machine.decide(DECISIONS[event]) is (is_legal or machine.decisions[0] is DECISIONS[event])
        elif is_legal:
            machine.move(event)
        else:
            with pytest.raises(RuntimeError, match="not allowed in this state"):
                machine.move(event)
        if is_legal:
            assert target is not None
            expected[part] = target
            applied.append(event)
        assert machine.states() == tuple(expected.values())
    _check_promises(applied)


def _check_promises(applied: list[ExecutionEvent]) -> None:
    """What the table promises, whatever the order of events was."""
    for once in (ExecutionEvent.START, ExecutionEvent.END, ExecutionEvent.SETTLE, ExecutionEvent.ANNOUNCE):
        assert applied.count(once) <= 1
    for late, early in (
        (ExecutionEvent.ACKNOWLEDGE, ExecutionEvent.CONFIRM),
        (ExecutionEvent.CONFIRM, ExecutionEvent.SETTLE),
    ):
        assert late not in applied or early in applied[: applied.index(late)]
    for last in (ExecutionEvent.ACKNOWLEDGE, ExecutionEvent.REQUEUE):
        if last in applied:
            rest = applied[applied.index(last) + 1 :]
            assert not {ExecutionEvent.ACKNOWLEDGE, ExecutionEvent.REQUEUE, ExecutionEvent.REDELIVER} & set(rest)
