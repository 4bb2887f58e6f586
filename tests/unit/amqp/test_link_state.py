"""The states of a link."""

import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.amqp.link_state import TRANSITIONS, LinkEvent, LinkState, LinkStateMachine

LEGAL = [(state, event, target) for state, moves in TRANSITIONS.items() for event, target in moves.items()]
ILLEGAL = [
    (state, event) for state, event in itertools.product(LinkState, LinkEvent) if event not in TRANSITIONS[state]
]


def machine_in(state: LinkState) -> LinkStateMachine:
    """A machine that is in `state`."""
    machine = LinkStateMachine("test")
    machine.state = state
    return machine


@pytest.mark.parametrize(("state", "event", "target"), LEGAL)
def test_every_transition_of_the_table_is_made(state: LinkState, event: LinkEvent, target: LinkState) -> None:
    machine = machine_in(state)
    assert machine.move(event) is target
    assert machine.state is target


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_every_other_transition_raises_and_changes_nothing(state: LinkState, event: LinkEvent) -> None:
    machine = machine_in(state)
    with pytest.raises(RuntimeError, match=f"link test is {state.value}: event '{event.value}' is not allowed"):
        machine.move(event)
    assert machine.state is state


def test_every_state_has_a_row_with_a_transition() -> None:
    assert set(TRANSITIONS) == set(LinkState)
    assert all(TRANSITIONS.values())


@pytest.mark.parametrize("state", LinkState)
def test_a_link_can_be_closed_in_every_state(state: LinkState) -> None:
    if state is not LinkState.CLOSING:
        assert TRANSITIONS[state][LinkEvent.CLOSE] is LinkState.CLOSING
    assert TRANSITIONS[LinkState.CLOSING] == {LinkEvent.CLOSED: LinkState.CLOSED}


def test_every_state_can_be_reached() -> None:
    reached, new = {LinkState.CLOSED}, {LinkState.CLOSED}
    while new:
        new = {target for state in new for target in TRANSITIONS[state].values()} - reached
        reached |= new
    assert reached == set(LinkState)


@given(st.lists(st.sampled_from(LinkEvent)))
def test_a_link_is_ready_only_after_everything_was_declared(events: list[LinkEvent]) -> None:
    machine, before = LinkStateMachine("test"), LinkState.CLOSED
    for event in events:
        if event in TRANSITIONS[before]:
            after = machine.move(event)
            assert (after is LinkState.READY) == (before is LinkState.DECLARING and event is LinkEvent.DECLARED)
            before = after


def test_every_transition_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "crew.amqp.link_state")
    machine = LinkStateMachine("gateway publish")
    machine.move(LinkEvent.OPEN)
    assert caplog.messages == ["link state changed: closed -> connecting link='gateway publish'"]
    assert repr(machine) == "<LinkStateMachine gateway publish: connecting>"
