"""What the documents claim can be checked by their reader."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
DOCUMENTS = [HERE / "README.md", *sorted((HERE / "docs").rglob("*.md"))]
MEASURED = re.compile(r"\d[\d.,]*( to [\d.,]+)? times the (calls|CPU|latency)|\| [\d.,]+ ms|calls a second of")
BACKED = re.compile(r"[Mm]easured on 20\d\d-\d\d-\d\d with `make [a-z-]+` at commit [0-9a-f]{7}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_measured_figure_is_without_date_command_and_commit(document: Path) -> None:
    for section in re.split(r"^## ", document.read_text(), flags=re.MULTILINE):
        if found := MEASURED.search(section):
            assert BACKED.search(section.replace("\n", " ")), f"{section.splitlines()[0]}: {found[0]}"


def test_commands_that_documents_name_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (HERE / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text()
        named = set(re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", text, re.MULTILINE))
        assert {one or other for one, other in named} <= targets, document
