"""What crew keeps in a working directory can be read by its owner only, and git ignores it."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew import private_folder
from crew.cli.node_folder import NodeFolder
from crew.jobs import JobStore


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, of somebody whose new files anybody can read."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield tmp_path
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


async def _open_store() -> None:
    store = JobStore()
    await store.open()
    await store.delete_result("x")  # so that SQLite makes its files beside it
    await store.close()


def test_what_the_broker_keeps_is_private(folder: Path) -> None:
    node = NodeFolder(Path(".crew/broker"))
    with node.locked():
        node.prepare()
        node.write_url()
        node.write_pid(1)

    found = modes(folder / ".crew")
    assert {name: mode for name, mode in found.items() if (folder / ".crew" / name).is_dir()} == {
        ".": 0o700,
        "broker": 0o700,
    }
    assert {"broker/url", "broker/password", "broker/pid", "broker/lock", ".gitignore"} <= found.keys()
    assert all(mode & 0o077 == 0 for mode in found.values())
    assert (folder / ".crew" / ".gitignore").read_text() == "*\n"


def test_what_the_job_store_keeps_is_private(folder: Path) -> None:
    asyncio.run(_open_store())

    found = modes(folder / ".crew")
    assert found["jobs.db"] == 0o600
    assert all(mode & 0o077 == 0 for mode in found.values())
    assert (folder / ".crew" / ".gitignore").read_text() == "*\n"


def test_what_an_older_crew_has_made_becomes_private(folder: Path) -> None:
    (folder / ".crew").mkdir(mode=0o755)
    (folder / ".crew" / "jobs.db").touch(mode=0o644)
    (folder / ".crew" / ".gitignore").write_text("jobs.db\n")

    asyncio.run(_open_store())

    assert all(mode & 0o077 == 0 for mode in modes(folder / ".crew").values())
    assert (folder / ".crew" / ".gitignore").read_text() == "jobs.db\n"


def test_a_folder_that_was_chosen_has_the_rights_that_its_owner_gives(folder: Path) -> None:
    private_folder.make_folder(folder / "shared" / "jobs")

    assert stat.S_IMODE((folder / "shared" / "jobs").stat().st_mode) == 0o755
    assert not (folder / "shared" / ".gitignore").exists()
