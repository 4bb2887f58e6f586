"""For tests of bodies that are decoded in pieces."""

import importlib.util
from types import ModuleType

from crew.protocol.encoding.limits import DEFAULT, Budget, Limits


class RecordingBudget(Budget):
    """A budget that records what is counted, and how often other threads may run.

    Attributes:
        taken: elements and bytes of text, for each piece.
        rests: how often other threads may run.
    """

    def __init__(self, limits: Limits = DEFAULT) -> None:
        super().__init__(limits)
        self.taken: list[tuple[int, int]] = []
        self.rests = 0

    @property
    def elements_taken(self) -> int:
        """All elements that were counted."""
        return sum(elements for elements, _ in self.taken)

    @property
    def texts(self) -> list[int]:
        """The bytes of text of each piece that has some."""
        return [text for _, text in self.taken if text]

    def take(self, elements: int, text: int = 0) -> None:
        """Count as usual."""
        self.taken.append((elements, text))
        super().take(elements, text)

    def rest(self) -> None:
        """Count the call, and do not sleep."""
        self.rests += 1


def imported_again(module: ModuleType) -> ModuleType:
    """A new copy of `module`: the tables that it makes at its import are made again."""
    spec = importlib.util.spec_from_file_location(module.__name__, module.__file__ or "")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
