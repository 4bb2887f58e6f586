"""The two links of a client: one publishes, one consumes, as an alarm of the broker blocks all of what publishes."""

import asyncio
from collections.abc import Callable

from crew import errors
from crew.amqp import BrokerClock, Link, Outage, Signer
from crew.protocol import topology
from crew.settings import Settings


class Links:
    """Both of them, which open and close together.

    Args:
        name: shown in the broker's lists.
        on_ready: called whenever one of them has become ready.
        on_refused: called with the fault when the broker refuses us.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        *,
        on_ready: Callable[[], None],
        on_refused: Callable[[errors.ConnectionError], None],
    ) -> None:
        self.outage = Outage()  # for other links of the client, too
        clock = BrokerClock()
        self.signer = signer = Signer.of(settings.signing_keys, clock)
        told = {
            "topology": topology.EXCHANGES,
            "outage": self.outage,
            "signer": signer,
            "on_ready": on_ready,
            "on_refused": on_refused,
        }
        self.publishing = Link(settings, name=f"{name} publish", clock=clock, **told)  # type: ignore[arg-type]
        if signer is not None:  # events are compared with the broker's clock
            told["before_consuming"] = clock.compared
        self.consuming = Link(settings, name=f"{name} consume", **told)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<Links: publishing {self.publishing.state.value}, consuming {self.consuming.state.value}>"

    def open(self) -> None:
        """Begin to connect, where that has not begun."""
        self.publishing.open()
        self.consuming.open()

    async def ready(self, timeout: float | None) -> None:
        """Wait for both; raises ConnectionError where they were refused or closed, or `timeout` seconds are over."""
        try:
            async with asyncio.timeout(timeout):
                await self.consuming.ready()
                await self.publishing.ready()
        except TimeoutError:
            why = f": {fault}{fault.advice}" if (fault := self.consuming.fault or self.publishing.fault) else ""
            raise errors.ConnectionError(f"the broker was not reached within {timeout:g} s{why}") from None

    async def close(self) -> None:
        """Close both; idempotent."""
        await asyncio.gather(self.publishing.close(), self.consuming.close())

    def drop(self) -> None:
        """Close the sockets of both, and nothing else: their event loop has ended."""
        self.publishing.drop()
        self.consuming.drop()


def has_running_loop() -> bool:
    """Whether this is called from within an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
