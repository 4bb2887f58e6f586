"""docs/architecture.md and CONTRIBUTING.md describe the source tree as it is."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
NAMED = re.compile(r"`((?:crew|tests|tools|examples|benchmarks|docs)/[\w./-]*)`")
MODULE = re.compile(r"`(crew/[\w/]+\.py)`")


def section(text: str, heading: str) -> str:
    """The part of a document below a heading, up to the next one."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def steps(heading: str) -> list[str]:
    """The numbered steps of a section, each with its continuation lines."""
    return re.findall(r"^\d+\. .*(?:\n {2,}.*)*", section(ARCHITECTURE, heading), re.MULTILINE)


def questions() -> list[tuple[str, str]]:
    """The questions of CONTRIBUTING.md with their answers."""
    return re.findall(r"^\| (.+\?) \| (.+) \|$", section(CONTRIBUTING, "Can you find it?"), re.MULTILINE)


@pytest.mark.parametrize("document", [ARCHITECTURE, CONTRIBUTING], ids=["architecture", "contributing"])
def test_every_path_that_the_page_names_exists(document: str) -> None:
    named = set(NAMED.findall(document))
    assert len(named) >= 10
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize(("heading", "at_least"), [("The steps of a call", 15), ("The steps of a job", 10)])
def test_each_step_names_exactly_one_module(heading: str, at_least: int) -> None:
    found = steps(heading)
    assert len(found) >= at_least
    assert [step for step in found if len(MODULE.findall(step)) != 1] == []


def test_steps_are_numbered_without_a_gap() -> None:
    for heading in ("The steps of a call", "The steps of a job"):
        numbers = [int(step.partition(".")[0]) for step in steps(heading)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_drawn_layers_are_those_of_the_import_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    drawn = re.findall(r"^```layers\n(.*?)^```", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert [one.splitlines() for one in drawn] == [one["layers"] for one in contracts if one["type"] == "layers"]


def test_at_least_ten_questions_are_answered() -> None:
    assert len(questions()) >= 10


@pytest.mark.parametrize(("question", "answer"), questions())
def test_the_architecture_page_alone_answers_the_question(question: str, answer: str) -> None:
    modules = MODULE.findall(answer)
    assert modules, f"the answer to {question!r} names no module"
    assert set(modules) <= set(MODULE.findall(ARCHITECTURE))
