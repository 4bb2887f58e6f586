"""Deadlines between hosts whose clocks differ."""

import pytest

from crew.protocol import properties
from crew.protocol.clock import IN_STEP, ClockOffset, skew
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Call

NOW = 1_000_000.0  # epoch seconds of the broker's clock
PRECISION = 1.5  # seconds by which a measured difference may be wrong


def measured(offset: float) -> ClockOffset:
    """The measured offset of a host whose clock is `offset` behind the broker's, to a second."""
    return IN_STEP if not offset else ClockOffset(offset - 0.4, offset + 0.6)


@pytest.mark.parametrize("sender", [0.0, 120.0, -120.0])
@pytest.mark.parametrize("receiver", [0.0, 120.0, -120.0])
def test_two_hosts_with_measured_clocks_agree_on_the_time_left(sender: float, receiver: float) -> None:
    """Both clocks are behind the broker's; the call was published a second ago and has 60 s."""
    deadline, own = NOW - sender - 1 + 60, NOW - receiver
    mark = measured(sender).high if sender else None
    ahead = skew(sender=mark, published=int(NOW - sender - 1), own=measured(receiver), now=own)
    left = deadline - (own - ahead)
    assert 59 - 0.01 <= left <= 59 + PRECISION


def test_without_a_clock_difference_the_deadline_is_unchanged() -> None:
    assert skew(sender=None, published=int(NOW), own=IN_STEP, now=NOW) == 0.0


@pytest.mark.parametrize("behind", [120.0, -120.0])
@pytest.mark.parametrize("waited", [0.0, 30.0, 200.0])
def test_a_sender_without_clock_data_never_loses_time(behind: float, waited: float) -> None:
    """An older version; its clock agrees with this host, not with the broker."""
    own = NOW - behind
    ahead = skew(sender=None, published=int(own - waited), own=measured(behind), now=own)
    assert own - ahead <= own


@pytest.mark.parametrize("behind", [120.0, -120.0])
@pytest.mark.parametrize("waited", [0.0, 30.0])
def test_the_deadline_of_a_sender_in_step_with_the_broker_is_exact(behind: float, waited: float) -> None:
    own = NOW - behind
    ahead = skew(sender=None, published=int(NOW - waited), own=measured(behind), now=own)
    assert NOW - PRECISION <= own - ahead <= NOW


def test_the_reading_that_leaves_more_time_is_used_if_the_message_has_no_timestamp() -> None:
    assert skew(sender=None, published=None, own=ClockOffset(120.0, 121.0), now=NOW) == 0.0
    assert skew(sender=None, published=None, own=ClockOffset(-120.0, -119.0), now=NOW) == 120.0


def test_a_timestamp_may_be_up_to_one_second_after_the_present_time() -> None:
    """It has whole seconds."""
    own = ClockOffset(10.0, 11.0)
    assert skew(sender=None, published=int(NOW) + 1, own=own, now=NOW) == 0.0
    assert skew(sender=None, published=int(NOW) + 2, own=own, now=NOW) == -10.0


def test_the_timestamp_is_the_present_time_if_it_is_after_both_readings() -> None:
    assert skew(sender=None, published=int(NOW) + 500, own=ClockOffset(10.0, 11.0), now=NOW) == -500.0


def a_call(**attributes: object) -> Call:
    """A call with a deadline."""
    return Call(id="1", task="t", body=Body(b"", codec.JSON), deadline=NOW + 60, **attributes)  # type: ignore[arg-type]


def test_the_clock_difference_is_sent_only_if_there_is_one() -> None:
    given = properties.of_call(a_call(), now=NOW)
    assert given.headers is not None
    assert properties.CLOCK not in given.headers
    given = properties.of_call(a_call(), now=NOW, clock=ClockOffset(119.0, 120.0))
    read = properties.to_call("t", given, b"", make_id=lambda: "2")
    assert read.clock == 120.0
    assert read.deadline == NOW + 60


def test_a_call_that_is_published_again_keeps_the_clock_of_its_sender() -> None:
    given = properties.of_call(a_call(clock=-7.0), now=NOW, clock=ClockOffset(119.0, 120.0))
    assert given.headers is not None
    assert given.headers[properties.CLOCK] == -7000
