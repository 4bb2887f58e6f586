"""The worker of `typed.py`: the same echo without types, and with a dataclass."""

import dataclasses
from typing import Any

from crew.worker import Task, run


@dataclasses.dataclass
class Image:
    """As large as the payload of the other benchmarks."""

    id: int
    name: str
    sizes: list[int]


@Task("benchmark.untyped")
def untyped(payload: Any) -> Any:
    """Return the payload."""
    return payload


@Task("benchmark.typed")
def typed(image: Image) -> Image:
    """Return the dataclass."""
    return image


if __name__ == "__main__":
    run()
