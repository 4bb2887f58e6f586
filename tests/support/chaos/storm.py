"""Keeps hundreds of calls in flight during faults, and records the result of each."""

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
REFUSED_FOR: Final = 0.1  # seconds until the next attempt after a refusal

REFUSALS: Final = (crew.UnknownTask, crew.Overloaded, crew.ConnectionError)  # the call was never accepted


class Flight(msgspec.Struct, kw_only=True):
    """One call. Times are time.monotonic().

    Attributes:
        answers: number of calls of its callback: must be 1.
        error: the error of the call, or None.
    """

    id: str
    began: float
    ended: float = 0.0
    answers: int = 0
    error: crew.CrewError | None = None

    @property
    def was_refused(self) -> bool:
        """Whether the call was refused: its caller got an error, and it is never run."""
        return isinstance(self.error, REFUSALS)

    def is_in_flight(self, moment: float) -> bool:
        """Whether the call was in flight at this moment."""
        return self.began <= moment < (self.ended or float("inf"))


class Storm:
    """Calls the tasks `prefix` + nap and `prefix` + work with `client`; all calls are persistent.

    Attributes:
        ended: all calls that have ended.
        refused: number of immediate refusals of each kind.
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
        """Keep calls in flight until `calm`; returns when all of them have ended."""
        naps = [self._call_again_and_again("nap", NAP) for _ in range(NAPPING)]
        works = [self._call_again_and_again("work", WORK) for _ in range(IN_FLIGHT - NAPPING)]
        await asyncio.gather(*naps, *works)

    def calm(self) -> None:
        """Make no more calls."""
        self._is_over = True

    async def first_value(self) -> float:
        """Seconds until a call made now has its value; after a refusal, until a later call has."""
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
        """Make one call and wait for its end; returns None if it was refused at once."""
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
