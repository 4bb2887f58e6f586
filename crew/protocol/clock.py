"""Converts deadlines between hosts whose clocks differ.

A deadline is sent as epoch seconds of the sender's clock. Each host may know the offset between its clock and the
broker's, see `crew.amqp.broker_clock`. A sender with a known offset sends it in the header `crew-clock`. A host without
an offset, or with an unknown offset, sends no header, and neither does an older version of crew. The receiver compares
a deadline with the present time of the sender's clock.

Where the offset is not known exactly, the value that leaves more time is used. A wrong clock must not end a call too
early, and the client ends the call at its deadline in any case.
"""

from typing import Final

import msgspec

_ROUNDING: Final = 1.0  # seconds: the timestamp of a message has whole seconds only


class ClockOffset(msgspec.Struct, frozen=True):
    """Seconds by which the broker's clock is ahead of this host's clock: between `low` and `high`."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The best estimate."""
        return (self.low + self.high) / 2


IN_STEP: Final = ClockOffset(0.0, 0.0)


def skew(*, sender: float | None, published: int | None, own: ClockOffset, now: float) -> float:
    """Return the seconds by which this host's clock is ahead of the sender's clock.

    Args:
        sender: seconds by which the broker's clock is ahead of the sender's; None where the sender did not send it.
        published: time of the sender's clock when it published the message, in whole epoch seconds, or None.
        own: offset of the broker's clock from this host's clock.
        now: time of this host's clock.
    """
    if sender is not None:
        return sender - own.low
    if own is IN_STEP:
        return 0.0
    # The sender's clock may agree with the broker's or, in an older version, with this host's. A message cannot come
    # from the future: its timestamp rules out a clock with an earlier time.
    sent = 0 if published is None else published
    readings = [reading for reading in (now, now + own.low) if reading >= sent - _ROUNDING]
    return now - min(readings, default=sent)
