"""The PostgreSQL of the tests: one private server a session, started when a test first wants it."""

import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGQUIT
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from crew.cli.broker.node_folder import PORTS
from crew.cli.dev.process import command_line, ended_within, has_ended
from tests.support.paths import ROOT

USER = "crew"
PASSWORD = "p:a/ss%20@wörd"  # whoever takes a URL apart or writes one must quote what has to be
UNPRIVILEGED = ("postgres", "nobody")  # postgres refuses to run as root
FOLDERS = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin")
READY_WITHIN = 30.0  # seconds, on a busy machine
ENDS_WITHIN = 10.0  # seconds
POLL = 0.02  # seconds

# What a crash of the machine would take is no matter here; what one of the server would take is: commits are written.
CONF = (
    "fsync=off",
    "full_page_writes=off",
    "max_wal_size=4GB",
    "max_connections=200",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "lock_timeout=10s",  # a test that waits for what nobody will do fails
    "timezone=UTC",
)
INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")

# Ends the server when its standard input does, which is when the tests do: also when they are killed or time out.
LEASH = (
    "import pathlib, sys, tests.support.postgresql as p; sys.stdin.read(); p.Server(pathlib.Path(sys.argv[1])).end()"
)


class Server:
    """A PostgreSQL in `folder`, which belongs to it alone.

    Attributes:
        port: on 127.0.0.1, also after a restart.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._account = unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None
        self._free: list[str] = []
        self.port = port or next(port for port in random.sample(PORTS, k=100) if _is_free(port))

    @property
    def pid(self) -> int | None:
        """Of the server, or None where it is not alive."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return None
        return pid if str(self._data) in command_line(pid) and not has_ended(pid) else None

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        """Of one of its databases, with the password."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Fill the folder; once."""
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if self._account:
            shutil.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
            shutil.chown(secret, self._account.pw_uid)
        command = [*_command("initdb"), "-D", str(self._data), "-U", USER, f"--pwfile={secret}", *INITDB]
        subprocess.run(command, stdout=subprocess.DEVNULL, cwd="/", check=True, **self._identity)

    def start(self) -> None:
        """Start it, and wait until it answers; also again after `kill`."""
        deadline = time.monotonic() + READY_WITHIN
        while not self._is_started(deadline):
            # After a kill: what it has started notices soon that it is gone, and until then nobody may take its place.
            assert "is still in use" in self._output, self._output
            time.sleep(POLL)

    def kill(self) -> None:
        """End it as a crash would; all connections break."""
        assert self._process
        self._process.send_signal(SIGKILL)
        self._process.wait(ENDS_WITHIN)

    def end(self) -> None:
        """End it for good, and delete the folder."""
        if pid := self.pid:
            os.kill(pid, SIGQUIT)  # at once: what it holds is of no use to anybody
            assert ended_within(pid, ENDS_WITHIN), f"PostgreSQL is still there: {pid}"
        if self._process:
            self._process.wait(ENDS_WITHIN)
        shutil.rmtree(self._folder, ignore_errors=True)

    def make_database(self) -> str:
        """A database with nothing in it; its URL."""
        if self._free:
            return self._free.pop()
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def take_back(self, url: str) -> None:
        """A database that nobody is connected to any longer: to empty it takes a tenth of the time to make another."""
        ask(url, "DROP SCHEMA public CASCADE")
        ask(url, "CREATE SCHEMA public")
        self._free.append(url)

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement, as who may do everything; what it returns, if it returns something."""
        return ask(self.url(), statement, *parameters)

    @property
    def _output(self) -> str:
        return (self._folder / "output").read_text(errors="replace")

    def _is_started(self, deadline: float) -> bool:
        """Whether it answers, by the deadline; False where it could not start."""
        settings = [word for line in (*CONF, f"port={self.port}") for word in ("-c", line)]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*_command("postgres"), "-D", str(self._data), *settings],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,  # the Ctrl-C of this terminal is not meant for it
                **self._identity,
            )
        while self._process.poll() is None:
            with suppress(psycopg.OperationalError):
                self.ask("SELECT 1")
                return True
            assert time.monotonic() < deadline, self._output
            time.sleep(POLL)
        return False

    @property
    def _identity(self) -> dict[str, Any]:
        """For `subprocess`: as whom it runs."""
        account = self._account
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def ask(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement at a URL; what it returns, if it returns something."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def leashed() -> Iterator[Server]:
    """A server that runs; it ends with the block, and with the tests."""
    folder = Path(tempfile.mkdtemp(prefix="crew-postgresql-"))  # pytest's folders are closed to the server's user
    server = Server(folder)
    leash = [sys.executable, "-c", LEASH, str(folder)]
    root = ROOT
    with subprocess.Popen(leash, stdin=subprocess.PIPE, cwd=root, start_new_session=True):
        try:
            server.make()
            server.start()
            yield server
        finally:
            server.end()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A server that all tests share; leave it running."""
    skip_without_programs()
    with leashed() as server:
        yield server


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[Server]:
    """A server of the module, for tests that kill it."""
    skip_without_programs()
    with leashed() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
    """Of a database of the test's own, with nothing in it."""
    url = postgresql.make_database()
    yield url
    postgresql.take_back(url)


@pytest.fixture(scope="module")
def make_postgresql_url(postgresql: Server) -> Callable[[], str]:
    """Makes databases with nothing in them, for what a module shares; returns their URLs."""
    return postgresql.make_database


def skip_without_programs() -> None:
    """Without PostgreSQL there is nothing to test; CI must have it."""
    if not _command("postgres"):
        assert "CI" not in os.environ, "CI must have PostgreSQL: apt-get install postgresql"
        pytest.skip("no PostgreSQL here: apt-get install postgresql")


def _command(program: str) -> list[str]:
    """Begins its command line; empty where it is not installed."""
    if found := shutil.which(program):
        return [found]
    installed = [str(folder / program) for pattern in FOLDERS for folder in Path("/").glob(pattern[1:])]
    return sorted(installed)[-1:]


def unprivileged_account() -> pwd.struct_passwd | None:
    """As whom the server runs, where it must not be as whom the tests do."""
    if os.getuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError(f"root cannot run PostgreSQL, and there is no user {' or '.join(UNPRIVILEGED)}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
