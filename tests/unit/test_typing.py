"""`tests/typing/arguments.py` is right for each type checker, and each line marked wrong there is wrong for it.

A checker that reports a mark on a line that is right proves both. `mistakes.py` checks that it does.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT

MISTAKES = """\
from crew import Client
from arguments import add


def mistakes(client: Client) -> None:
    client.task(add)(1, "2")
    print(client.task(add).name)  # type: ignore[arg-type]
"""
WRONG, NEEDLESS = "mistakes.py:6", "mistakes.py:7"  # a wrong line without a mark, and a right line with one

Check = Callable[[Path], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the two files."""
    shutil.copy(ROOT / "tests/typing/arguments.py", tmp_path / "arguments.py")
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    return tmp_path


def mypy(folder: Path) -> str:
    files = [str(folder / name) for name in ("arguments.py", "mistakes.py")]
    return output(sys.executable, "-m", "mypy", "--strict", "--hide-error-context", *files)


def pyright(folder: Path) -> str:
    """basedpyright is pyright with its own Node.js, so that it needs no download when it runs."""
    config = {
        "include": ["*.py"],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    return output(script("basedpyright"), "--pythonpath", sys.executable, "--project", str(folder))


def pyrefly(folder: Path) -> str:
    config = f'preset = "default"\nsearch-path = ["{ROOT}", "{folder}"]\n'
    (folder / "pyrefly.toml").write_text(config)
    flags = ["--output-format", "min-text", "--config", str(folder / "pyrefly.toml")]
    return output(script("pyrefly"), "check", "--python-interpreter-path", sys.executable, *flags)


def script(name: str) -> str:
    """The program of an installed package; skips the test if it is not installed."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        pytest.skip(f"{name} is not installed")
    return str(path)


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100).stdout


@pytest.mark.parametrize(
    ("check", "expected"),
    [(mypy, [WRONG, NEEDLESS]), (pyright, [WRONG, NEEDLESS]), (pyrefly, [WRONG])],  # pyrefly misses some needless marks
    ids=["mypy", "pyright", "pyrefly"],
)
def test_calls_with_arguments_are_typed_as_a_user_writes_them(folder: Path, check: Check, expected: list[str]) -> None:
    found = check(folder)
    reported = re.findall(r"(\w+\.py:\d+)\S*:?.*(?:error|\[)", found)
    assert sorted(set(reported)) == expected, found
