"""Running the file or module on a command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from crew import SettingsError
from crew.cli.source import Source, find


def run(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the source in a new process as its main program, as `crew worker` does."""
    script = (
        "import sys; from crew.cli.source import find\n"
        "try: code = find(sys.argv[1]); code.run(sys.argv[2:])\n"
        "except Exception as error: sys.exit(code.traceback_of(error))"
    )
    command = [sys.executable, "-c", script, name, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_file_runs_as_the_main_program_with_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys; print(__name__, sys.argv)")

    assert run(tmp_path, "script.py", "-v", "x").stdout == "__main__ ['script.py', '-v', 'x']\n"


def test_a_file_imports_modules_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "sibling.py").write_text("name = 'sibling'")
    (tmp_path / "sub" / "script.py").write_text("import sibling; print(sibling.name)")

    assert run(tmp_path, "sub/script.py").stdout == "sibling\n"


def test_a_module_below_the_working_directory_runs_as_the_main_program(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "tasks.py").write_text("from . import other; print(__name__, other.__name__)")
    (tmp_path / "package" / "other.py").write_text("")

    assert run(tmp_path, "package.tasks").stdout == "__main__ package.other\n"


def test_a_package_without_a_main_module_is_imported(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("print(__name__)")

    assert run(tmp_path, "package").stdout == "package\n"


def test_a_traceback_begins_at_the_users_first_line(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sibling")
    (tmp_path / "sibling.py").write_text("1 / 0")

    lines = run(tmp_path, "script.py").stderr.splitlines()

    assert lines[0] == "Traceback (most recent call last):"
    assert "script.py" in lines[1]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "runpy" not in "".join(lines)


def test_a_syntax_error_shows_the_line_and_nothing_of_crew(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('first')\ndef (")

    stderr = run(tmp_path, "script.py").stderr

    assert "line 2" in stderr
    assert "SyntaxError" in stderr
    assert "runpy" not in stderr
    assert "crew" not in stderr.replace(str(tmp_path), "")


def test_a_package_that_imports_a_missing_module_raises_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import does_not_exist")

    assert "No module named 'does_not_exist'" in run(tmp_path, "package.tasks").stderr


@pytest.mark.parametrize("name", ["missing.py", "sub/missing", "./missing.py"])
def test_a_missing_file_is_one_line_on_stderr(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError, match=f"file {name} does not exist"):
        find(name)


@pytest.mark.parametrize("name", ["missing", "missing.tasks"])
def test_a_missing_module_is_one_line_on_stderr(tmp_path: Path, name: str) -> None:
    assert f"no file and no module is named {name}" in run(tmp_path, name).stderr


def test_the_folder_of_a_source_is_the_one_for_its_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert Source("sub/a.py", Path("sub/a.py")).folder == tmp_path / "sub"
    assert Source("sub.a", None).folder == tmp_path
