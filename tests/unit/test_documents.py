"""What the documents claim can be checked by their reader: figures, commands, and the tests that are named as proof."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECURITY = ROOT / "docs" / "guarantees" / "security.md"
MEASURED = re.compile(r"\d[\d.,]*( to [\d.,]+)? times the (calls|CPU|latency)|\| [\d.,]+ ms|calls a second of")
BACKED = re.compile(r"[Mm]easured on 20\d\d-\d\d-\d\d with `make [a-z-]+` at commit [0-9a-f]{7}")
NAMED = re.compile(r"`(?P<file>[\w/]*\.py)?(?:::(?P<test>\w+))?[^`]*`")


@cache
def functions() -> dict[Path, frozenset[str]]:
    """Every file of tests below the root, and the names of all its functions."""
    return {
        path.relative_to(ROOT): frozenset(
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        for path in (ROOT / "tests").rglob("*.py")
    }


def missing(row: str) -> list[str]:
    """Tests that a row of a table names, and that do not exist; a test without a file is of the file before it."""
    gone: list[str] = []
    tests: frozenset[str] | None = None
    for found in NAMED.finditer(row):
        file, test = found["file"], found["test"]
        if file and "test" in file:
            same = [names for path, names in functions().items() if path == Path(file) or path.name == file]
            gone += [] if same else [file]
            tests = frozenset().union(*same) if same else None
        if test and tests is not None and test.startswith("test_") and test not in tests:
            gone.append(f"{file or 'the same file'}::{test}")
    return gone


def rows(document: Path) -> list[str]:
    """The rows of its tables that name a test."""
    return [line for line in document.read_text().splitlines() if line.startswith("|") and ".py" in line]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_measured_figure_is_without_date_command_and_commit(document: Path) -> None:
    for section in re.split(r"^## ", document.read_text(), flags=re.MULTILINE):
        if found := MEASURED.search(section):
            assert BACKED.search(section.replace("\n", " ")), f"{section.splitlines()[0]}: {found[0]}"


def test_commands_that_documents_name_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text()
        named = set(re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", text, re.MULTILINE))
        assert {one or other for one, other in named} <= targets, document


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    assert [gone for row in rows(document) for gone in missing(row)] == []


def test_the_table_of_attacks_names_a_test_for_each_of_at_least_forty() -> None:
    assert len(rows(SECURITY)) >= 40
