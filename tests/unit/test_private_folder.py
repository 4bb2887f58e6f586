"""Only the owner can read the files of crew in a working directory, and git ignores them."""

import asyncio
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crew import SettingsError, private_folder, settings
from crew.cli.broker.node import Node
from crew.cli.broker.node_folder import NodeFolder
from crew.jobs import JobStore

NOBODY = 65534


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a user with a umask that lets others read new files."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield tmp_path
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


async def _open_store() -> None:
    store = JobStore()
    await store.open()
    await store.delete_result("x")  # so that SQLite creates its additional files
    await store.close()


def test_the_files_of_the_private_broker_are_private(folder: Path) -> None:
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


def test_the_files_of_the_job_store_are_private(folder: Path) -> None:
    asyncio.run(_open_store())

    found = modes(folder / ".crew")
    assert found["jobs.db"] == 0o600
    assert all(mode & 0o077 == 0 for mode in found.values())
    assert (folder / ".crew" / ".gitignore").read_text() == "*\n"


def test_files_of_an_older_version_become_private(folder: Path) -> None:
    (folder / ".crew").mkdir(mode=0o755)
    (folder / ".crew" / "jobs.db").touch(mode=0o644)
    (folder / ".crew" / ".gitignore").write_text("jobs.db\n")

    asyncio.run(_open_store())

    assert all(mode & 0o077 == 0 for mode in modes(folder / ".crew").values())
    assert (folder / ".crew" / ".gitignore").read_text() == "jobs.db\n"


def test_a_new_folder_elsewhere_is_private_and_an_existing_one_keeps_its_permissions(folder: Path) -> None:
    (folder / "theirs").mkdir(mode=0o755)
    private_folder.make_folder(folder / "theirs" / "deep" / "jobs")

    assert modes(folder / "theirs") == {".": 0o755, "deep": 0o700, "deep/jobs": 0o700}


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_the_files_of_a_job_store_are_private_wherever_they_are_and_whatever_the_umask(
    folder: Path, umask: int
) -> None:
    async def look() -> dict[str, int]:
        store = JobStore(f"sqlite:///{folder}/data/jobs.db")
        await store.open()
        await store.delete_result("x")
        found = modes(folder / "data")
        await store.close()
        return found

    os.umask(umask)
    found = asyncio.run(look())

    assert found == {".": 0o700, "jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}


def test_a_job_store_elsewhere_loses_permissions_for_others_but_not_for_a_group(folder: Path) -> None:
    for name, before, after in (("old.db", 0o644, 0o600), ("shared.db", 0o660, 0o660)):
        url = f"sqlite:///{folder}/{name}"
        asyncio.run(_open(url))
        (folder / name).chmod(before)
        asyncio.run(_open(url))
        assert modes(folder)[name] == after, name


def test_a_file_that_is_no_job_store_keeps_its_permissions(folder: Path) -> None:
    (folder / "letter").write_text("Dear reader\n" * 500)
    with pytest.raises(SettingsError, match="file is not a database"):
        asyncio.run(_open(f"sqlite:///{folder}/letter"))
    assert modes(folder)["letter"] == 0o644


async def _open(url: str | None = None) -> None:
    store = JobStore(url)
    try:
        await store.open()
    finally:
        await store.close()


# --- planted files and folders --------------------------------------------------------------------------------------

FILES = ["url", "password", ".erlang.cookie", "ports.json", "lock", "pid", "rabbitmq.conf", "advanced.config", "output"]
STRANGER = 65_534  # nobody
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")

Prepare = Callable[[Path], None]


def _as_link(path: Path) -> None:
    """Move `path` elsewhere and replace it by a link."""
    elsewhere = path.absolute().parents[3] / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    target = elsewhere / path.name
    path.rename(target) if path.exists() else target.write_text("theirs")
    path.symlink_to(target)


def _as_strangers(path: Path) -> None:
    """Give `path` to another user."""
    if not path.exists():
        path.write_text("theirs")
    os.chown(path, STRANGER, STRANGER)


prepared = pytest.mark.parametrize(
    ("prepare", "why"),
    [
        pytest.param(_as_link, "is a symbolic link: it is not followed", id="link"),
        pytest.param(_as_strangers, "belongs to user nobody, but this process runs as", id="strangers", marks=as_root),
    ],
)


@pytest.fixture
def nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a neighbouring folder for moved files."""
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    return place


def _start_node() -> None:
    node = NodeFolder(Path(".crew/broker"))
    with node.locked():
        node.prepare()
        node.write_pid(1)
        node.write_url()


def _everything(folder: Path) -> dict[str, tuple[float, bytes]]:
    """Content and modification time of all files in a folder and below."""
    return {str(one): (one.stat().st_mtime, one.read_bytes()) for one in folder.rglob("*") if one.is_file()}


@prepared
@pytest.mark.parametrize("name", FILES)
def test_no_file_that_another_user_has_planted_is_used_by_a_private_node(
    nested: Path, prepare: Prepare, why: str, name: str
) -> None:
    _start_node()
    prepare(nested / ".crew" / "broker" / name)
    before = _everything(nested.parents[1])

    with pytest.raises(SettingsError, match=f"{name} {why}") as refused:
        _start_node()

    assert "\n" not in str(refused.value)
    assert _everything(nested.parents[1]) == before, "nothing was written, read or truncated"


@prepared
@pytest.mark.parametrize("name", [".crew", ".crew/broker"])
def test_no_folder_that_another_user_has_planted_is_used(nested: Path, prepare: Prepare, why: str, name: str) -> None:
    _start_node()
    password = (nested / ".crew" / "broker" / "password").read_text()
    if prepare is _as_link:
        (nested / name).rename(nested / "theirs")
        (nested / name).symlink_to(nested / "theirs")
    else:
        prepare(nested / name)

    for use in (_start_node, lambda: settings.load(environ={}), lambda: Node().status):
        with pytest.raises(SettingsError, match=f"{name} {why}") as refused:
            use()
        assert password not in str(refused.value)


@prepared
def test_no_broker_url_that_another_user_has_planted_is_used(nested: Path, prepare: Prepare, why: str) -> None:
    _start_node()
    prepare(nested / ".crew" / "broker" / "url")

    with pytest.raises(SettingsError, match=f"url {why}.*; or set CREW_AMQP_URL to the URL of your broker"):
        settings.load(environ={})
    assert settings.load(environ={"CREW_AMQP_URL": "amqp://u:p@h/"}).urls == ("amqp://u:p@h:5672/%2F",)


@prepared
@pytest.mark.parametrize("name", ["jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db-journal"])
def test_no_job_store_that_another_user_has_planted_is_used(
    nested: Path, prepare: Prepare, why: str, name: str
) -> None:
    if name == "jobs.db":
        asyncio.run(_open())
    (nested / ".crew" / "broker").mkdir(parents=True, exist_ok=True)  # so that links point outside
    prepare(nested / ".crew" / name)
    before = _everything(nested.parents[1])

    with pytest.raises(SettingsError, match=f"{name} {why}"):
        asyncio.run(_open())

    assert {name: one for name, one in _everything(nested.parents[1]).items() if name in before} == before


def test_a_pipe_in_place_of_a_file_does_not_block(nested: Path) -> None:
    _start_node()
    (nested / ".crew" / "broker" / "url").unlink()
    os.mkfifo(nested / ".crew" / "broker" / "url")

    with pytest.raises(SettingsError, match="url is not a regular file: it is not used"):
        settings.load(environ={})


def test_the_folder_of_another_user_is_refused_without_root_too(nested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _start_node()
    asyncio.run(_open())
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 17)

    for use in (_start_node, lambda: settings.load(environ={}), lambda: asyncio.run(_open())):
        with pytest.raises(
            SettingsError, match=rf"{nested}/\.crew belongs to .*: it is not used.*; run crew as that user"
        ):
            use()


def test_a_new_file_replaces_a_planted_link(nested: Path) -> None:
    _start_node()
    victim = nested / "victim"
    victim.write_text("mine")
    (nested / ".crew" / "broker" / "url.new").symlink_to(victim)

    private_folder.write_text(nested / ".crew" / "broker" / "url", "amqp://new/")

    assert victim.read_text() == "mine"
    assert (nested / ".crew" / "broker" / "url").read_text() == "amqp://new/"


def test_an_error_of_the_system_names_the_whole_path(nested: Path) -> None:
    _start_node()
    (nested / ".crew" / "broker" / "lock").unlink()
    (nested / ".crew" / "broker" / "lock").mkdir()

    with pytest.raises(IsADirectoryError) as caught:
        _start_node()

    assert caught.value.filename == f"{nested}/.crew/broker/lock"


def test_without_a_private_node_nothing_is_refused(nested: Path) -> None:
    assert settings.load(environ={}) == settings.load(settings.DEFAULT_URL, environ={})
    (nested / ".crew").symlink_to(nested / "nowhere")
    assert settings.load(environ={}) == settings.load(settings.DEFAULT_URL, environ={})


def test_restricting_a_file_releases_no_lock_of_this_process(tmp_path: Path) -> None:
    """Closing the file would release them: SQLite has such locks."""
    file = tmp_path / ".crew" / "jobs.db"
    file.parent.mkdir(mode=0o700)
    file.touch()
    file.chmod(0o644)
    try_lock = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with file.open("r+") as locked:
        fcntl.lockf(locked, fcntl.LOCK_EX)
        private_folder.restrict(file)
        tried = subprocess.run([sys.executable, "-c", try_lock, file], capture_output=True, check=False, text=True)
    assert "BlockingIOError" in tried.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_in_a_folder_without_write_permission_is_denied_and_not_missing(tmp_path: Path) -> None:
    folder = tmp_path / ".crew"
    folder.mkdir(mode=0o500)
    if os.getuid() == 0:  # root has write permission everywhere
        os.chown(folder, NOBODY, NOBODY)
        for parent in (tmp_path, *tmp_path.parents):
            if parent.is_relative_to(temporary := Path(tempfile.gettempdir())) and parent != temporary:
                parent.chmod(0o755)
    script = (
        "import os, sys, pathlib\n"
        "from crew import private_folder\n"
        f"os.getuid() or os.setuid({NOBODY})\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with private_folder.opened(folder) as opened:\n"
        "    private_folder.open_file(folder / 'lock', opened, os.O_RDWR | os.O_CREAT)\n"
    )
    tried = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, check=False, text=True)
    assert f"PermissionError: [Errno 13] Permission denied: '{folder / 'lock'}'" in tried.stderr
