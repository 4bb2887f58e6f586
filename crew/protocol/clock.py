"""Instants that travel between hosts whose clocks differ.

A deadline travels as epoch seconds of the sender's clock. Each host may know how far its clock is from the broker's,
see `crew.amqp.broker_clock`. A sender whose clock differs says by how much in the header `crew-clock`; a host that is
in step, or does not know, adds nothing, and neither does an older version of crew. Whoever reads a deadline compares it
with what the sender's clock shows now.

Where the difference is not known exactly, the reading that leaves more time is used: a clock must not end a call that
is in time, and the client ends it at its deadline in any case.
"""

from typing import Final

import msgspec

_ROUNDING: Final = 1.0  # seconds: the timestamp of a message has no fraction


class ClockOffset(msgspec.Struct, frozen=True):
    """Seconds by which the broker's clock is ahead of this host's: between `low` and `high`."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The best guess."""
        return (self.low + self.high) / 2


IN_STEP: Final = ClockOffset(0.0, 0.0)


def skew(*, sender: float | None, published: int | None, own: ClockOffset, now: float) -> float:
    """Seconds by which this host's clock is ahead of the sender's.

    Args:
        sender: by how much the broker's clock is ahead of the sender's; None where the sender does not say.
        published: the sender's clock when it sent the message, in whole epoch seconds, or None.
        own: how far the broker's clock is from this host's.
        now: this host's clock.
    """
    if sender is not None:
        return sender - own.low
    if own is IN_STEP:
        return 0.0
    # The sender may be in step with the broker or, as an older version, with this host. A message has not been sent in
    # the future, so its timestamp rules out a clock that shows less.
    sent = 0 if published is None else published
    readings = [reading for reading in (now, now + own.low) if reading >= sent - _ROUNDING]
    return now - min(readings, default=sent)
