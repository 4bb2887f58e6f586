"""A watermark that the test moves."""


class FakeWatermark:
    """A watermark for the services that end jobs.

    Attributes:
        at: the watermark, epoch seconds.
        observed: seconds that the gateway has observed without a gap.
        asked: the instants that it was asked for.
    """

    def __init__(self, at: float = float("inf"), observed: float = float("inf")) -> None:
        self.at, self.observed = at, observed
        self.asked: list[float] = []

    async def has_passed(self, at: float, *, observed: float) -> bool:
        """Whether it has passed `at`."""
        self.asked.append(at)
        return at <= self.at and observed <= self.observed
