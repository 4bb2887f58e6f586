"""The PostgreSQL of the tests: one private server per session, started when the first test needs it."""

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
from crew.cli.process import command_line, ended_within, has_ended
from tests.support.paths import ROOT

USER = "crew"
PASSWORD = "p:a/ss%20@wörd"  # with characters that must be quoted in a URL
UNPRIVILEGED = ("postgres", "nobody")  # postgres refuses to run as root
FOLDERS = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin")
READY_WITHIN = 30.0  # seconds, on a busy machine
ENDS_WITHIN = 10.0  # seconds
POLL = 0.02  # seconds

# The data need not survive a crash of the machine, but a crash of the server: commits are written, without fsync.
CONF = (
    "fsync=off",
    "full_page_writes=off",
    "max_wal_size=4GB",
    "max_connections=200",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "lock_timeout=10s",  # a test with a deadlock fails
    "timezone=UTC",
)
INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")

# A process that stops the server when its standard input ends. That is the end of the tests, also by a kill or timeout.
STOPPER = (
    "import pathlib, sys, tests.support.postgresql as p; sys.stdin.read(); p.Server(pathlib.Path(sys.argv[1])).end()"
)


class Server:
    """A PostgreSQL server with its own `folder`.

    Attributes:
        port: on 127.0.0.1; the same after a restart.
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
        """Process id of the server, or None if it is not running."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return None
        return pid if str(self._data) in command_line(pid) and not has_ended(pid) else None

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        """URL of one of its databases, including the password."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Create the data folder; call it once."""
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if self._account:
            shutil.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
            shutil.chown(secret, self._account.pw_uid)
        command = [*_command("initdb"), "-D", str(self._data), "-U", USER, f"--pwfile={secret}", *INITDB]
        subprocess.run(command, stdout=subprocess.DEVNULL, cwd="/", check=True, **self._identity)

    def start(self) -> None:
        """Start the server and wait until it accepts connections; also after `kill`."""
        deadline = time.monotonic() + READY_WITHIN
        while not self._is_started(deadline):
            # After a kill its child processes need a moment to end; until then no other server can start.
            assert "is still in use" in self._output, self._output
            time.sleep(POLL)

    def kill(self) -> None:
        """Kill the server, as a crash would; all connections break."""
        assert self._process
        self._process.send_signal(SIGKILL)
        self._process.wait(ENDS_WITHIN)

    def end(self) -> None:
        """Stop the server and delete its folder."""
        if pid := self.pid:
            os.kill(pid, SIGQUIT)  # immediately: its data is not needed
            assert ended_within(pid, ENDS_WITHIN), f"PostgreSQL still runs: pid {pid}"
        if self._process:
            self._process.wait(ENDS_WITHIN)
        shutil.rmtree(self._folder, ignore_errors=True)

    def make_database(self) -> str:
        """Create an empty database; returns its URL."""
        if self._free:
            return self._free.pop()
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def take_back(self, url: str) -> None:
        """Empty a database without connections, for reuse: this takes a tenth of the time of creating another one."""
        ask(url, "DROP SCHEMA public CASCADE")
        ask(url, "CREATE SCHEMA public")
        self._free.append(url)

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement as superuser; returns its rows, if any."""
        return ask(self.url(), statement, *parameters)

    @property
    def _output(self) -> str:
        return (self._folder / "output").read_text(errors="replace")

    def _is_started(self, deadline: float) -> bool:
        """Start the process; returns whether it accepts connections by the deadline, False if it exits."""
        settings = [word for line in (*CONF, f"port={self.port}") for word in ("-c", line)]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*_command("postgres"), "-D", str(self._data), *settings],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,  # Ctrl-C in this terminal must not reach it
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
        """Arguments for `subprocess`: the user of the server."""
        account = self._account
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def ask(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement at a URL; returns its rows, if any."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def running_server() -> Iterator[Server]:
    """A running server. It ends with the block or with the tests."""
    folder = Path(tempfile.mkdtemp(prefix="crew-postgresql-"))  # the server's user cannot read pytest's folders
    server = Server(folder)
    stopper = [sys.executable, "-c", STOPPER, str(folder)]
    root = ROOT
    with subprocess.Popen(stopper, stdin=subprocess.PIPE, cwd=root, start_new_session=True):
        try:
            server.make()
            server.start()
            yield server
        finally:
            server.end()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """The server that all tests share; they must not stop it."""
    skip_without_programs()
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[Server]:
    """A server for one module, whose tests may kill it."""
    skip_without_programs()
    with running_server() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
    """URL of an empty database for one test."""
    url = postgresql.make_database()
    yield url
    postgresql.take_back(url)


@pytest.fixture(scope="module")
def make_postgresql_url(postgresql: Server) -> Callable[[], str]:
    """Creates empty databases that the tests of a module share; returns their URLs."""
    return postgresql.make_database


def skip_without_programs() -> None:
    """Skip the test if PostgreSQL is not installed; fail in CI."""
    if not _command("postgres"):
        assert "CI" not in os.environ, "CI must have PostgreSQL: apt-get install postgresql"
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


def _command(program: str) -> list[str]:
    """The path of the program as the start of a command line; empty if it is not installed."""
    if found := shutil.which(program):
        return [found]
    installed = [str(folder / program) for pattern in FOLDERS for folder in Path("/").glob(pattern[1:])]
    return sorted(installed)[-1:]


def unprivileged_account() -> pwd.struct_passwd | None:
    """The user for the server if the tests run as root, which the server refuses; else None."""
    if os.getuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError(f"root cannot run PostgreSQL, and there is no user {' or '.join(UNPRIVILEGED)}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
