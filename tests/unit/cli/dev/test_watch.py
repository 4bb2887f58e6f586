"""Finding Python sources that have changed."""

import os
from pathlib import Path

import pytest

from crew.cli.dev.watch import Watch


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    source = tmp_path / "package" / "tasks.py"
    source.write_text("")
    return source


def save(path: Path) -> None:
    """Write the file with a timestamp one second later than before."""
    path.parent.mkdir(exist_ok=True)
    before = path.stat().st_mtime if path.exists() else 0.0
    path.write_text("")
    os.utime(path, (before + 1, before + 1))


def test_no_source_has_changed_at_first(tmp_path: Path, source: Path) -> None:
    assert Watch(tmp_path).changed() == []


def test_a_changed_source_is_reported_once(tmp_path: Path, source: Path) -> None:
    watch = Watch(tmp_path)

    save(source)

    assert watch.changed() == [source]
    assert watch.changed() == []


def test_a_new_source_and_a_deleted_one_are_changes(tmp_path: Path, source: Path) -> None:
    watch = Watch(tmp_path)

    source.unlink()
    save(tmp_path / "new.py")

    assert watch.changed() == [tmp_path / "new.py", source]


@pytest.mark.parametrize("name", ["notes.txt", ".venv/x.py", "node_modules/x.py", "__pycache__/x.py", ".hidden/x.py"])
def test_files_that_are_not_python_sources_of_the_user_are_ignored(tmp_path: Path, source: Path, name: str) -> None:
    watch = Watch(tmp_path)

    save(tmp_path / name)

    assert watch.changed() == []
