"""A broker that has fallen silent: frozen, or behind a network that swallows everything.

RabbitMQ sends something every heartbeat at the latest, as it looks every half of one whether it has, see
https://www.rabbitmq.com/docs/heartbeats. Time is counted in turns of our own loop: a process that was itself stopped,
or whose loop was blocked, reads what has come meanwhile before it blames the broker.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from crew.amqp.errors import LinkFault

LOOKS: Final = 4  # in a heartbeat
PATIENCE: Final = 6  # looks that may find nothing new: one and a half heartbeats, where one is as it should be


class Silence:
    """Looks whether the broker still speaks, until it does not, or `stop`.

    Args:
        heard: bytes that have ever come.
        heartbeat: seconds; 0: the broker sends none, and may be silent.
        on_silent: told once, when nothing has come for too long.
    """

    def __init__(self, heard: Callable[[], int], *, heartbeat: float, on_silent: Callable[[LinkFault], None]) -> None:
        self._heard = heard
        self._every = heartbeat / LOOKS
        self._on_silent = on_silent
        self._before = heard()
        self._in_vain = 0
        self._timer: asyncio.TimerHandle | None = None
        if heartbeat:
            self._look_later()

    def __repr__(self) -> str:
        return f"<Silence for {self._in_vain * self._every:g} s>"

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._look)

    def _look(self) -> None:
        now, before, self._before = self._heard(), self._before, self._heard()
        self._in_vain = self._in_vain + 1 if now == before else 0
        if self._in_vain < PATIENCE:
            self._look_later()
        else:
            self._on_silent(LinkFault(f"the broker has been silent for {PATIENCE * self._every:g} s"))
