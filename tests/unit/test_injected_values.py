"""Tests pass durations, sizes and clocks as arguments; they replace neither constants nor the clock of a module.

A test that replaces a constant depends on the module that looks it up, and passes without its effect after a rename or
a move of the code that uses it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
CLOCKS = {"time", "monotonic", "perf_counter", "sleep"}


def replaced(source: str) -> Iterator[str]:
    """The constants and clocks that `source` replaces in a module, as "name, line"."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Constant(value=str(dotted)), *_]):
                name = dotted.rpartition(".")[2]
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[_, ast.Constant(value=str(name)), *_]):
                pass
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(), attr=name)]) if CONSTANT.fullmatch(name):
                pass
            case _:
                continue
        if CONSTANT.fullmatch(name) or name in CLOCKS:
            yield f"{name}, line {node.lineno}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("patch.setattr(inbox, 'PREFETCH', 10)", ["PREFETCH, line 1"]),
        ("monkeypatch.setattr('crew.jobs.store.CLOSE_WITHIN', 0.3)", ["CLOSE_WITHIN, line 1"]),
        ("monkeypatch.setattr(log, 'time', clock)", ["time, line 1"]),
        ("monkeypatch.setattr('time.monotonic', clock)", ["monotonic, line 1"]),
        ("loop.INTERVAL = 0.1", ["INTERVAL, line 1"]),
        ("monkeypatch.setattr(os, 'fork', failing_fork)", []),
        ("monkeypatch.setenv('CREW_MAX_PAYLOAD', '1')", []),
        ("INTERVAL = 0.1\nself.interval = INTERVAL", []),
    ],
)
def test_a_replaced_constant_or_clock_is_found(source: str, found: list[str]) -> None:
    assert list(replaced(source)) == found


def test_no_test_replaces_a_constant_or_a_clock() -> None:
    files = {str(path.relative_to(TESTS)): path.read_text() for path in TESTS.rglob("*.py")}
    found = {name: names for name, source in files.items() if (names := list(replaced(source)))}
    assert found == {}
