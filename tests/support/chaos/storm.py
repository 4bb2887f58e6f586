"""Keeps hundreds of calls in flight, whatever strikes, and remembers what became of each."""

import asyncio
import itertools
import random
import time
from collections import Counter
from typing import Final

import msgspec

import crew
from crew import Client

IN_FLIGHT: Final = 500  # calls
NAPPING: Final = 400  # of them: coroutines; the rest are plain functions
NAP: Final = (0.2, 1.4)  # seconds
WORK: Final = (0.02, 0.2)
EXPIRATION: Final = 25.0  # seconds: a restart of the broker takes ten
REFUSED_FOR: Final = 0.1  # seconds until the next try of who was refused

REFUSALS: Final = (crew.UnknownTask, crew.Overloaded, crew.ConnectionError)  # the call was never accepted


class Flight(msgspec.Struct, kw_only=True):
    """One call. Times are time.monotonic().

    Attributes:
        answers: how often its callback was called: once, whatever happens.
        error: with which it has ended, or None.
    """

    id: str
    began: float
    ended: float = 0.0
    answers: int = 0
    error: crew.CrewError | None = None

    @property
    def was_refused(self) -> bool:
        """Whether its caller was told that it will not be run."""
        return isinstance(self.error, REFUSALS)

    def is_in_flight(self, moment: float) -> bool:
        """Whether it was in flight then."""
        return self.began <= moment < (self.ended or float("inf"))


class Storm:
    """Calls `prefix` + nap and `prefix` + work with `client`; all of them persistent.

    Attributes:
        ended: every call that has ended.
        refused: how often each kind of refusal was met at once.
    """

    def __init__(self, client: Client, dice: random.Random, *, prefix: str) -> None:
        self._client = client
        self._dice = dice
        self._prefix = prefix
        self._numbers = itertools.count()
        self._is_over = False
        self.in_flight: dict[str, Flight] = {}
        self.ended: list[Flight] = []
        self.refused: Counter[str] = Counter()

    async def blow(self) -> None:
        """Keep calls in flight until `calm`, and return when all of them have ended."""
        naps = [self._call_again_and_again("nap", NAP) for _ in range(NAPPING)]
        works = [self._call_again_and_again("work", WORK) for _ in range(IN_FLIGHT - NAPPING)]
        await asyncio.gather(*naps, *works)

    def calm(self) -> None:
        """Make no more calls."""
        self._is_over = True

    async def first_value(self) -> float:
        """Seconds until a call that is made now has its value, or a later one where it is refused."""
        began = time.monotonic()
        while True:
            flight = await self._call("work", 0.0, priority=255)
            if flight is not None and flight.error is None:
                return time.monotonic() - began

    async def _call_again_and_again(self, task: str, seconds: tuple[float, float]) -> None:
        while not self._is_over:
            flight = await self._call(task, self._dice.uniform(*seconds))
            if flight is None or flight.was_refused:
                await asyncio.sleep(REFUSED_FOR)

    async def _call(self, task: str, seconds: float, *, priority: int = 0) -> Flight | None:
        """One call until its end; None where it was refused at once."""
        flight = Flight(id=f"{self._prefix}{next(self._numbers)}", began=time.monotonic())

        def count(*_: object) -> None:
            flight.answers += 1

        try:
            call = self._client.call(
                self._prefix + task, seconds, id=flight.id, priority=priority, expiration=EXPIRATION, callback=count
            )
        except crew.CrewError as error:
            self.refused[type(error).__name__] += 1
            return None
        self.in_flight[flight.id] = flight
        try:
            assert await call == flight.id
        except crew.CrewError as error:
            flight.error = error
        flight.ended = time.monotonic()
        del self.in_flight[flight.id]
        self.ended.append(flight)
        return flight
