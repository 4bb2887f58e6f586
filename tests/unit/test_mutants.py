"""The lists of `make mutants`: the modules whose tests it checks, and the explained mutants."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES: dict[str, list[str]] = tomllib.loads((ROOT / "tools/mutants/modules.toml").read_text())
EXPLAINED = tomllib.loads((ROOT / "tools/mutants/explained.toml").read_text())["mutant"]


@pytest.mark.parametrize("module", MODULES)
def test_each_module_and_its_test_files_exist(module: str) -> None:
    path = Path(module)
    tests = MODULES[module] or [str(Path("tests/unit", *path.parts[1:-1], f"test_{path.name}"))]
    named = [one for one in (module, *tests) if one.endswith(".py")]
    assert [one for one in named if not (ROOT / one).is_file()] == []


def test_the_whole_protocol_is_tested() -> None:
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "crew/protocol").rglob("*.py")}
    assert {path for path in found if not path.endswith("__init__.py")} <= set(MODULES)


@pytest.mark.parametrize("mutant", EXPLAINED, ids=lambda mutant: mutant["before"][:40])
def test_each_explained_mutant_is_about_a_line_of_a_listed_module(mutant: dict[str, str]) -> None:
    assert mutant["module"] in MODULES
    assert mutant["before"].splitlines()[0] in (ROOT / mutant["module"]).read_text()
    assert mutant["reason"]
