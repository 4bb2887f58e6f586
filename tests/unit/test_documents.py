"""Documents: measured figures have a date, command and commit; named commands, tests and links exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import crew
from tests.support.pages import HOW_TO, README, blocks

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCUMENTS = [*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
MARKDOWN = [*DOCUMENTS, *sorted((ROOT / "examples").rglob("*.md")), *sorted((ROOT / "benchmarks").rglob("*.md"))]
SECURITY = ROOT / "docs" / "guarantees" / "security.md"
MEASURED = re.compile(r"\d[\d.,]*( to [\d.,]+)? times the (calls|CPU|latency)|\| [\d.,]+ ms|calls a second of")
BACKED = re.compile(r"[Mm]easured on 20\d\d-\d\d-\d\d with `make [a-z-]+` at commit [0-9a-f]{7}")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
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
    """Tests that a row of a table names but that do not exist. A test without a file belongs to the file before it."""
    absent: list[str] = []
    tests: frozenset[str] | None = None
    for found in NAMED.finditer(row):
        file, test = found["file"], found["test"]
        if file and "test" in file:
            same = [names for path, names in functions().items() if path == Path(file) or path.name == file]
            absent += [] if same else [file]
            tests = frozenset().union(*same) if same else None
        if test and tests is not None and test.startswith("test_") and test not in tests:
            absent.append(f"{file or 'the same file'}::{test}")
    return absent


def rows(document: Path) -> list[str]:
    """The table rows of a document that name a test."""
    return [line for line in document.read_text().splitlines() if line.startswith("|") and ".py" in line]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_measured_figure_has_date_command_and_commit(document: Path) -> None:
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


def prose(document: Path) -> str:
    """The text of a document without its blocks of code and its code spans."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(document: Path) -> frozenset[str]:
    """What a link can name within a document: its headings, written as GitHub writes them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    names: list[str] = []
    for heading in headings:
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in names)
        names.append(f"{name}-{count}" if count else name)
    return frozenset(names)


def broken_links(document: Path, root: Path = ROOT) -> list[str]:
    """Links of a document to files that are not below `root`, or to headings that their document does not have."""
    broken = []
    for link in LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        is_there = target.exists() and target.is_relative_to(root)
        if not is_there or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert broken_links(document) == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `page`: here\n[1](#a-page-here) [2](#no) [3](gone.md) [4](page.md#no) [5](https://a/b) [6](/etc)\n"
    )
    assert broken_links(page, tmp_path) == ["#no", "gone.md", "page.md#no", "/etc"]


@pytest.mark.parametrize("page", [README, *sorted(HOW_TO.glob("*.md"))], ids=lambda path: path.name)
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block, page.name)


READING = 200 / 60  # words a second, of technical text
TYPING = 200 / 60  # characters a second: 40 words a minute


def test_a_newcomer_reaches_the_first_answer_of_a_new_task_within_three_minutes() -> None:
    """Of reading and typing: up to the first answer in the README, without what the commands themselves take."""
    way, call, _ = README.read_text().partition("""crew call add '{"a": 1, "b": 2}'\n3\n""")
    assert call
    (task,) = re.findall(r"^```python\n(.*?)^```", way, re.MULTILINE | re.DOTALL)
    typed = [task, *re.findall(r"^\$ (.*?)(?: +#.*)?$", way + call, re.MULTILINE)]
    seconds = len(way.split()) / READING + sum(map(len, typed)) / TYPING
    assert len(typed) == 4
    assert seconds <= 180


def glossary() -> dict[str, Path]:
    """The words of the glossary, each with the page that it links to."""
    page = ROOT / "docs" / "glossary.md"
    rows = re.findall(r"^\| ([^|]+?) \| .+\]\(([^)#]+)[^)]*\) \|$", page.read_text(), re.MULTILINE)
    assert len(rows) >= 40
    return {word: page.parent / target for word, target in rows}


def test_the_glossary_is_sorted() -> None:
    assert list(glossary()) == sorted(glossary(), key=str.lower)


@pytest.mark.parametrize(("words", "page"), glossary().items())
def test_each_word_of_the_glossary_is_used_on_the_page_that_it_links_to(words: str, page: Path) -> None:
    stems = [re.sub("(e|y)$", "", word.lower()) for word in words.split(", ")]
    text = " ".join(page.read_text().lower().split())
    assert any(stem in text for stem in stems)


def test_the_newest_release_in_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(crew.__version__)}\] - \d{{4}}-\d\d-\d\d", headings[1])
