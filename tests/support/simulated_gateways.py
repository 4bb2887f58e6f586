"""Gateways of one job store, their queue and their events, without I/O: the test decides what happens next.

Each step of the broker, of a gateway and of an event is one action, so that a test can try any order of them.
"""

import asyncio
import collections
from typing import Any, Final

from crew.amqp.channel import QueueDepth
from crew.errors import ConnectionError
from crew.jobs.maintenance.watermark import SETTLED_WITHIN, Watermark

TURNS: Final = 8  # iterations of the event loop until every coroutine waits for the next action
ROUNDS: Final = 60  # of all gateways, until nothing is left to do
STEP: Final = 0.001  # seconds of an action: with less than a gap of the clock in a whole test


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can skip seconds, so that timeouts are over at once."""

    skipped = 0.0

    def time(self) -> float:
        """Seconds of its clock."""
        return super().time() + self.skipped


class BrokerConnection:
    """A connection as the broker sees it, also after its gateway has lost it.

    Attributes:
        unacked: reports that were delivered, in their order.
        sent: deliveries and replies that the gateway has not read yet.
    """

    def __init__(self) -> None:
        self.unacked: list[int] = []
        self.sent: collections.deque[int | asyncio.Future[None]] = collections.deque()


class Gateway:
    """A gateway with the watermark under test."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.connection: BrokerConnection | None = None
        self.held: list[int] = []  # reports that were received and are not committed
        self._released = asyncio.Event()
        self.watermark = Watermark(
            depth=self._depth,
            settle=self._settle,
            publish=self._publish,
            clock=lambda: world.now,
            monotonic=lambda: world.now,
        )

    async def _depth(self) -> QueueDepth:
        """As `Link.depth`: the reply to the second request arrives after the deliveries before it."""
        connection = self.connection
        await self._world.pause()
        if connection is None or connection not in self._world.connections:
            raise ConnectionError("the connection is lost")
        depth = QueueDepth(len(self._world.queue), len(self._world.connections))
        await self._world.pause()
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.sent.append(reply)
        await reply
        return depth

    async def _settle(self) -> None:
        earlier = set(self.held)
        while earlier := earlier & set(self.held):
            await self._released.wait()

    def _publish(self, event: dict[str, Any]) -> None:
        self._world.events += [(other, event) for other in self._world.gateways if other is not self]

    # --- actions ----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Consume over a new connection."""
        if self.connection is None:
            self.connection = BrokerConnection()
            self._world.connections.append(self.connection)
            self.watermark.on_consuming()

    def lose(self) -> None:
        """Notice that the connection is lost. The broker does not know that yet."""
        lost, self.connection = self.connection, None
        if lost is not None:
            self.watermark.on_lost()
            self._release([])
            for one in lost.sent:
                if isinstance(one, asyncio.Future) and not one.done():
                    one.set_exception(ConnectionError("the connection is lost"))

    def read(self) -> None:
        """Read the next delivery or reply."""
        if self.connection is not None and self.connection.sent:
            one = self.connection.sent.popleft()
            if isinstance(one, int):
                self.held.append(one)
            elif not one.done():
                one.set_result(None)

    def commit(self) -> None:
        """Commit the oldest report, and acknowledge it if its connection is not lost."""
        if self.held:
            number = self.held[0]
            self._world.committed.add(number)
            for connection in self._world.connections:
                if connection is self.connection and number in connection.unacked:
                    connection.unacked.remove(number)
            self._release(self.held[1:])

    def _release(self, held: list[int]) -> None:
        self.held = held
        self._released.set()
        self._released = asyncio.Event()


class World:
    """The broker, the gateways, and the reports of workers.

    Attributes:
        now: the clock, which goes on with every action.
        published: when each report was published.
        passed: the number of times that a gateway said that the watermark has passed an instant.
    """

    def __init__(self, gateways: int) -> None:
        self.now = 1_000.0
        self.queue: collections.deque[int] = collections.deque()
        self.connections: list[BrokerConnection] = []
        self.events: list[tuple[Gateway, dict[str, Any]]] = []
        self.published: list[float] = []
        self.committed: set[int] = set()
        self.passed = 0
        self._paused: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.gateways = [Gateway(self) for _ in range(gateways)]

    async def pause(self) -> None:
        """Wait until the test goes on with this coroutine."""
        paused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._paused.append(paused)
        await paused

    async def act(self, name: str, which: int) -> None:
        """Do one action; `which` selects the gateway, or what it is done with."""
        self.now += STEP
        gateway = self.gateways[which % len(self.gateways)]
        match name:
            case "publish":
                self.queue.append(len(self.published))
                self.published.append(self.now)
            case "deliver" if self.queue and self.connections:
                connection = self.connections[which % len(self.connections)]
                connection.unacked.append(self.queue[0])
                connection.sent.append(self.queue.popleft())
            case "close" if self.connections:
                self._close(self.connections[which % len(self.connections)])
            case "go on" if self._paused:
                paused = self._paused.pop(which % len(self._paused))
                if not paused.cancelled():
                    paused.set_result(None)
            case "event" if self.events:
                self._receive(*self.events.pop(which % len(self.events)))
            case "lose event" if self.events:
                self.events.pop(which % len(self.events))
            case "time out":
                loop = asyncio.get_running_loop()
                assert isinstance(loop, SkippingLoop)
                loop.skipped += SETTLED_WITHIN
            case "ask":
                self._tasks.append(asyncio.create_task(self.ask(gateway)))
            case "connect" | "lose" | "read" | "commit":
                getattr(gateway, name)()
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def ask(self, gateway: Gateway) -> bool:
        """Ask whether the watermark has passed this moment; if so, all reports of before must be committed."""
        at = self.now
        has_passed = await gateway.watermark.has_passed(at, observed=0.0)
        if has_passed:
            self.passed += 1
            missing = [n for n, published in enumerate(self.published) if published < at and n not in self.committed]
            assert not missing, f"reports {missing} were published before {at:g} and are not committed"
        return has_passed

    async def answers(self) -> list[bool]:
        """Ask every gateway, and do all that is left to do; returns their answers."""
        asking = [asyncio.create_task(self.ask(gateway)) for gateway in self.gateways]
        await asyncio.sleep(0)
        await self.finish()
        assert all(one.done() for one in asking), "a gateway does not answer"
        return [one.result() for one in asking]

    async def calm_down(self) -> None:
        """Close the lost connections, connect every gateway, and do all that is left to do."""
        for connection in [*self.connections]:
            if all(gateway.connection is not connection for gateway in self.gateways):
                self._close(connection)
        for which in range(len(self.gateways)):
            await self.act("connect", which)
        await self.act("time out", 0)  # for those that wait for an event that was lost
        await self.finish()

    async def finish(self) -> None:
        """Do all that is left to do, without a fault."""
        for number in range(ROUNDS):
            if not self._is_busy:
                return
            for name in ("deliver", "read", "commit", "go on", "event"):
                await self.act(name, number)

    @property
    def _is_busy(self) -> bool:
        is_receiving = any(one.held or (one.connection and one.connection.sent) for one in self.gateways)
        return bool(self.queue or self.events or self._paused or is_receiving)

    async def end(self) -> None:
        """Raise the error of a check; cancel those that wait."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def _close(self, connection: BrokerConnection) -> None:
        """The broker closes a connection that is lost, and puts its reports back to their places."""
        for gateway in self.gateways:
            if gateway.connection is connection:
                gateway.lose()
        self.connections.remove(connection)
        self.queue = collections.deque(sorted({*self.queue, *connection.unacked}))

    def _receive(self, gateway: Gateway, event: dict[str, Any]) -> None:
        match event:
            case {"checkpoint": checkpoint}:
                self._tasks.append(asyncio.create_task(gateway.watermark.answer(checkpoint)))
            case {"settled": checkpoints, "consumer": consumer}:
                gateway.watermark.on_settled(checkpoints, consumer)
