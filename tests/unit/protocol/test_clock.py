"""Deadlines between hosts whose clocks differ."""

import pytest

from crew.protocol import properties
from crew.protocol.clock import IN_STEP, ClockOffset, skew
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Call

NOW = 1_000_000.0  # what the broker's clock shows
RIGHT = 1.5  # seconds to which a difference is known


def known(offset: float) -> ClockOffset:
    """A host's clock that is behind the broker's by `offset`, as it is measured: to a second."""
    return IN_STEP if not offset else ClockOffset(offset - 0.4, offset + 0.6)


@pytest.mark.parametrize("sender", [0.0, 120.0, -120.0])
@pytest.mark.parametrize("receiver", [0.0, 120.0, -120.0])
def test_two_hosts_that_know_their_clocks_agree_on_what_is_left(sender: float, receiver: float) -> None:
    """Both are behind the broker by so much; the call was published a second ago and has 60 s."""
    deadline, own = NOW - sender - 1 + 60, NOW - receiver
    mark = known(sender).high if sender else None
    ahead = skew(sender=mark, published=int(NOW - sender - 1), own=known(receiver), now=own)
    left = deadline - (own - ahead)
    assert 59 - 0.01 <= left <= 59 + RIGHT


def test_clocks_that_are_in_step_change_nothing() -> None:
    assert skew(sender=None, published=int(NOW), own=IN_STEP, now=NOW) == 0.0


@pytest.mark.parametrize("behind", [120.0, -120.0])
@pytest.mark.parametrize("waited", [0.0, 30.0, 200.0])
def test_an_older_sender_beside_us_is_never_given_less_time_than_it_has(behind: float, waited: float) -> None:
    """It is in step with this host, not with the broker, and does not say anything about its clock."""
    own = NOW - behind
    ahead = skew(sender=None, published=int(own - waited), own=known(behind), now=own)
    assert own - ahead <= own


@pytest.mark.parametrize("behind", [120.0, -120.0])
@pytest.mark.parametrize("waited", [0.0, 30.0])
def test_a_sender_in_step_with_the_broker_is_read_exactly(behind: float, waited: float) -> None:
    own = NOW - behind
    ahead = skew(sender=None, published=int(NOW - waited), own=known(behind), now=own)
    assert NOW - RIGHT <= own - ahead <= NOW


def a_call(**attributes: object) -> Call:
    """One with a deadline."""
    return Call(id="1", task="t", body=Body(b"", codec.JSON), deadline=NOW + 60, **attributes)  # type: ignore[arg-type]


def test_the_difference_travels_only_where_there_is_one() -> None:
    given = properties.of_call(a_call(), now=NOW)
    assert given.headers is not None
    assert properties.CLOCK not in given.headers
    given = properties.of_call(a_call(), now=NOW, clock=ClockOffset(119.0, 120.0))
    read = properties.to_call("t", given, b"", make_id=lambda: "2")
    assert read.clock == 120.0
    assert read.deadline == NOW + 60


def test_a_call_that_is_sent_on_keeps_what_its_sender_said() -> None:
    given = properties.of_call(a_call(clock=-7.0), now=NOW, clock=ClockOffset(119.0, 120.0))
    assert given.headers is not None
    assert given.headers[properties.CLOCK] == -7000
