"""What a queue holds, as the broker tells it."""

import msgspec


class Depth(msgspec.Struct, frozen=True):
    """What a queue holds.

    Attributes:
        ready: messages that wait in it; those that were delivered and are not acknowledged do not count.
        consumers: who takes them.
    """

    ready: int
    consumers: int
