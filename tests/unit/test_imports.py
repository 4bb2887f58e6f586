"""The import graph of crew: no cycle, not even through imports for types, and few levels in each package."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

MOST_LEVELS = {"worker": 11, "amqp": 10, "client": 9, "jobs": 9, "gateway": 8, "protocol": 6, "cli": 5}


def _modules() -> dict[str, Path]:
    files = (ROOT / "crew").rglob("*.py")
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def _imported(file: Path) -> Iterator[str]:
    """The names that a file imports, also in functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                yield node.module


@functools.cache
def _graph() -> dict[str, set[str]]:
    """Each module with the modules that it imports; `from package import module` counts as the module alone."""
    modules = _modules()
    graph = {}
    for name, file in modules.items():
        found = {one for one in _imported(file) if one in modules and one != name}
        packages = {one.rpartition(".")[0] for one in found}
        graph[name] = {one for one in found if one not in packages}
    return graph


def test_no_module_imports_itself_through_others() -> None:
    graphlib.TopologicalSorter(_graph()).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("package", MOST_LEVELS)
def test_a_package_has_few_import_levels(package: str) -> None:
    levels: dict[str, int] = {}
    prefix = f"crew.{package}."
    graph = {name: {one for one in found if one.startswith(prefix)} for name, found in _graph().items()}
    for name in graphlib.TopologicalSorter(graph).static_order():
        if name.startswith(prefix):
            levels[name] = 1 + max((levels[one] for one in graph[name]), default=0)
    assert max(levels.values()) <= MOST_LEVELS[package], {n: k for n, k in levels.items() if k == max(levels.values())}
