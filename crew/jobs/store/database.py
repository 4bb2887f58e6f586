"""The database of the job store: SQLite in a file, or PostgreSQL. Translates the errors of SQLAlchemy."""

import asyncio
import contextlib
import copy
import math
import os
import sqlite3
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from crew import private_folder
from crew.errors import ConnectionError, CrewError, SettingsError
from crew.jobs.store import errors
from crew.jobs.store.availability import Availability
from crew.jobs.store.schema import migrate
from crew.jobs.tuning import DEFAULT

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"
DRIVERS: Final = {SQLITE: "sqlite+aiosqlite", POSTGRESQL: "postgresql+asyncpg"}
BUSY: Final = 10.0  # seconds that SQLite waits for another process to end its transaction
ANSWER_WITHIN: Final = 60.0  # seconds that PostgreSQL has for one statement: a frozen server is unavailable, too
_SUFFIXES: Final = ("-wal", "-shm", "-journal")  # https://www.sqlite.org/tempfiles.html
READERS: Final = 4  # connections for reading beside the one that writes

# PgBouncer in transaction mode runs each transaction on any server connection. There, a named prepared statement may be
# missing, or be another statement. An unnamed statement is prepared in the transaction that runs it.
UNNAMED_STATEMENTS: Final = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}

T = TypeVar("T")
Step = Callable[[AsyncConnection], Awaitable[T]]

_open_at_fork: Final[set[str]] = set()  # SQLite files that the parent of this process had open when it forked

_READS: Final = "crew_reads"
_MADE_AT: Final = "crew_made_at"  # time.monotonic() at which a connection was made
_DELIMITERS: Final = frozenset("/?#[]")  # of a URL; in a user name or password they must be percent-encoded


class Database:
    """Pool of connections: one writes, some read.

    Args:
        url: like sqlite:///.crew/jobs.db or postgresql://user:password@host/name.
        connect_timeout: seconds for a connection to PostgreSQL.

    Raises:
        SettingsError: the URL cannot be used.
    """

    def __init__(self, url: str, *, connect_timeout: float = DEFAULT.connect_timeout) -> None:
        self._url = _parse(url)
        self._connect_timeout = connect_timeout
        self._dsn = f"{POSTGRESQL}://{url.partition('://')[2]}"
        self._engine: AsyncEngine | None = None
        self.id = ""  # of the store; known once the database is open
        self.availability = Availability()
        self._opening: asyncio.Task[None] | None = None
        self._drivers: weakref.WeakSet[Any] = weakref.WeakSet()  # connections of asyncpg
        self._is_terminated = False
        self._broken_at = -math.inf  # time.monotonic(): connections that are older are not used any longer
        self._writing = asyncio.Lock()  # SQLite has one writer, and polls for it; waiting here needs no poll

    def __repr__(self) -> str:
        return f"<Database {self}: {'open' if self._engine else 'closed'}>"

    def __str__(self) -> str:
        return self._url.set(query={}).render_as_string(hide_password=True)  # a query may hold another password

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self._url.drivername == SQLITE

    @property
    def exists(self) -> bool:
        """Whether its file exists; always True for a server."""
        return not self.is_sqlite or Path(str(self._url.database)).exists()

    async def open(self) -> None:
        """Connect, and migrate the tables to the newest version; idempotent.

        Raises:
            ConnectionError: the database is unavailable.
            SettingsError: a newer crew has made its tables, the file is no database or cannot be written, or the
                server refuses the login.
        """
        if self._engine is not None:
            return
        # All concurrent callers share one attempt: an attempt may take long, and callers must not queue up for it.
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open(), name="job store opening")
            self._opening.add_done_callback(self._on_opened)
        opening = self._opening
        await asyncio.wait([opening])
        if opening.cancelled():
            raise ConnectionError(f"the job store {self} was closed", missing="store")
        with self._recorded("open"):
            if (error := opening.exception()) is not None:
                raise copy.copy(error)  # one shared error would keep the stacks of all who raise it

    def terminate(self) -> None:
        """Abort the connections to a server: current and later uses raise ConnectionError. A file is not affected."""
        self._is_terminated = True
        for driver in list(self._drivers):
            driver.terminate()

    async def close(self) -> None:
        """Disconnect; idempotent."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    def drop(self) -> None:
        """In a forked child: close its copies of the server's sockets, and nothing else.

        SQLite connections stay open: a child must not use or close them
        (https://www.sqlite.org/howtocorrupt.html, 2.6). A child cannot open the file again either: SQLite keeps one
        table of locks for each file and process, and the copied table would hold the locks of the parent for ever.
        """
        if self.is_sqlite and (self._engine is not None or self._opening is not None):
            _open_at_fork.add(self._file)
        for driver in list(self._drivers):
            transport = getattr(driver, "_transport", None)
            sock = getattr(transport, "_sock", None)
            if sock is not None:
                sock.close()

    async def commit(self, step: Step[T]) -> T:
        """Run `step` in a transaction, commit, and return its result.

        If the connection breaks before the commit, `step` is run once more, on another connection.

        Raises:
            ConnectionError: the database is unavailable. If the connection broke during the commit, the transaction
                may be committed.
        """
        with self._recorded("write"):
            return await self._try_twice(self._commit, step)

    async def fetch(self, step: Step[T]) -> T:
        """Run `step`, which reads with one statement, and return its result; retried once if the connection breaks.

        Raises:
            ConnectionError: the database is unavailable.
        """
        with self._recorded("read"):
            return await self._try_twice(self._fetch, step)

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end; raises ConnectionError if the database is unavailable."""
        async with self._writing:
            with self._translated():
                async with (await self._opened()).begin() as connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one reading statement; raises ConnectionError if the database is unavailable."""
        with self._translated():
            async with (await self._opened()).connect() as connection:
                await connection.execution_options(**{_READS: True})
                yield connection

    async def _try_twice(self, use: Callable[[Step[T]], Awaitable[T]], step: Step[T]) -> T:
        try:
            return await use(step)
        except errors.Broken:
            pass
        try:
            return await use(step)
        except errors.Broken as error:
            raise error.as_unavailable from None

    async def _commit(self, step: Step[T]) -> T:
        is_committing = False
        try:
            async with self.write() as connection:
                result = await step(connection)
                is_committing = True
            return result
        except errors.Broken as error:
            raise error.as_unavailable if is_committing else error from None

    async def _fetch(self, step: Step[T]) -> T:
        async with self.read() as connection:
            return await step(connection)

    async def _open(self) -> None:
        if self.is_sqlite:
            self._refuse_if_open_at_fork()
            _make_files(Path(str(self._url.database)))
            with self._translated(is_opening=True):
                await asyncio.to_thread(_check_file, str(self._url.database))
        engine = self._make_engine()
        try:
            with self._translated(is_opening=True):
                async with engine.begin() as connection:
                    self.id = await connection.run_sync(migrate)
        except BaseException:
            await engine.dispose()
            raise
        if self.is_sqlite:
            _restrict_files(Path(str(self._url.database)))
        self._engine = engine

    @property
    def _file(self) -> str:
        return os.path.realpath(str(self._url.database))

    def _refuse_if_open_at_fork(self) -> None:
        if self._file in _open_at_fork:
            raise SettingsError(
                f"the job store {self} cannot be used in process {os.getpid()}: its parent process had the SQLite file "
                "open at the fork, and SQLite does not work across a fork; fork before the first use of the store, or "
                "use PostgreSQL"
            )

    def _on_opened(self, opening: "asyncio.Task[None]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # marks it as retrieved: all callers may be canceled by now

    async def _opened(self) -> AsyncEngine:
        if self._is_terminated:
            raise ConnectionError(f"the job store {self} was closed", missing="store")
        if self._engine is None:
            await self.open()
        assert self._engine is not None
        return self._engine

    def _make_engine(self) -> AsyncEngine:
        options: dict[str, Any] = {"pool_size": 1 + READERS, "max_overflow": 0}
        driver = DRIVERS[self._url.drivername]
        if self.is_sqlite:
            engine = create_async_engine(
                self._url.set(drivername=driver), connect_args={"timeout": BUSY, "isolation_level": None}, **options
            )
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_sqlite)
            return engine
        # The driver itself parses the URL: it supports sslmode, many hosts, sockets and password files, as psql does.
        timeouts = {"timeout": self._connect_timeout, "command_timeout": ANSWER_WITHIN}
        args = {"dsn": self._dsn, **timeouts, **UNNAMED_STATEMENTS}
        engine = create_async_engine(f"{driver}://", connect_args=args, **options)
        event.listen(engine.sync_engine, "connect", self._on_connected)
        event.listen(engine.sync_engine, "checkout", self._refuse_broken)
        return engine

    def _on_connected(self, connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_MADE_AT] = time.monotonic()
        self._drivers.add(connection.driver_connection)

    def _refuse_broken(self, connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        """Replace a connection that the server has closed, or that is older than the last broken one.

        The driver knows this without a request. The cause that broke one connection has mostly broken the whole pool.
        """
        if connection.driver_connection.is_closed() or record.info[_MADE_AT] <= self._broken_at:
            raise DisconnectionError

    @contextlib.contextmanager
    def _recorded(self, use: str) -> Iterator[None]:
        """Record whether the database could be used. A conflict with other writers is no outage."""
        try:
            yield
        except errors.Conflict:
            raise
        except ConnectionError as error:
            self.availability.failed(use, error)
            raise
        self.availability.succeeded(use)

    @contextlib.contextmanager
    def _translated(self, *, is_opening: bool = False) -> Iterator[None]:
        """Translate every error of SQLAlchemy and of the drivers."""
        try:
            yield
        except CrewError:  # first: ConnectionError is an OSError, too
            raise
        except (SQLAlchemyError, OSError) as error:
            raise self._translate(error, is_opening=is_opening) from None
        except (ValueError, OverflowError) as error:
            if is_opening:  # the driver's own message may contain the password
                raise SettingsError(
                    f"the job store {self} cannot be used: its driver cannot read its URL; check CREW_DATABASE"
                ) from None
            if not isinstance(error, UnicodeError | OverflowError):
                raise
            raise self._translate(error) from None

    def _translate(self, error: Exception, *, is_opening: bool = False) -> CrewError:
        translated = errors.translate(error, str(self), is_opening=is_opening)
        if isinstance(translated, errors.Broken):
            self._broken_at = time.monotonic()
        return translated


def _parse(url: str) -> URL:
    """Parse and check the URL; its driver name becomes the backend alone."""
    try:
        url.encode()  # an environment variable need not be valid text
        given = make_url(url)
    except (ArgumentError, ValueError):  # also for a port that is no number
        raise SettingsError(
            "the URL of the job store must look like sqlite:///.crew/jobs.db or postgresql://user@host/name"
        ) from None
    backend = given.drivername.partition("+")[0]
    backend = POSTGRESQL if backend == "postgres" else backend
    if backend not in DRIVERS:
        raise SettingsError(f"the job store is a sqlite:// or a postgresql:// database, not {backend}://")
    try:
        given.set(drivername=DRIVERS[backend]).get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError):
        extra = "gateway" if backend == SQLITE else "postgresql"
        raise SettingsError(f'the job store {backend}:// needs a driver: pip install "crew[{extra}]"') from None
    if backend == SQLITE and given.database in (None, "", ":memory:"):
        raise SettingsError("the job store needs a file, like sqlite:///.crew/jobs.db: memory is lost with the process")
    if backend == SQLITE and given.query:
        raise SettingsError("the job store sqlite:// takes a path only: remove the question mark and what follows it")
    if backend == POSTGRESQL and _is_login_torn(given, url):
        raise SettingsError(
            "in the URL of the job store, percent-encode special characters in the user name and password: %40 for @"
        )
    return given.set(drivername=backend)


def _is_login_torn(given: URL, url: str) -> bool:
    """Whether a delimiter splits the user name or password: the rest would be shown as a host."""
    login = "" if given.username is None else url.partition("://")[2].partition("@")[0]
    return not _DELIMITERS.isdisjoint(login) or "@" in f"{given.host}{given.database}"


def _make_files(path: Path) -> None:
    """Create the file readable by its owner only: it holds payloads. SQLite gives its other files the same rights.

    Raises:
        SettingsError: a file in `.crew` belongs to another user, or is a link.
    """
    with contextlib.suppress(OSError):  # connecting will report what is wrong
        private_folder.make_folder(path.parent)
        private_folder.make_file(path)
        if private_folder.is_private(path):
            _restrict_files(path)


def _restrict_files(path: Path) -> None:
    """Remove the rights of other users on the files of a job store that an older crew has made."""
    with contextlib.suppress(OSError):
        for suffix in ("", *_SUFFIXES):
            private_folder.restrict(path.with_name(path.name + suffix))


def _check_file(file: str) -> None:
    """Raise an error if the file cannot be opened, or is no database.

    The driver's own thread would raise it, too. But it ends with a traceback if the event loop ends before it.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=0)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if _is_permanent(error):
            raise OperationalError(None, None, error) from None


def _is_permanent(error: sqlite3.Error) -> bool:
    """Whether the file is not just busy or locked. The last byte of the code tells that, for any extended code."""
    return error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Set SQLite up: readers do not wait for the writer, and a commit has reached the disk."""
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={round(BUSY * 1000)}", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    with contextlib.suppress(sqlite3.OperationalError):  # locked: another process sets the mode, which is persistent
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Let a writer take the lock before it reads: a transaction that reads first may fail to write later.

    A reader runs one SELECT, which needs no transaction to see one state of the file.
    """
    if not connection.get_execution_options().get(_READS):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
