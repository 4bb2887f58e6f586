"""The database of the job store: SQLite in a file, or PostgreSQL. SQLAlchemy's errors end here."""

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

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"
DRIVERS: Final = {SQLITE: "sqlite+aiosqlite", POSTGRESQL: "postgresql+asyncpg"}
BUSY: Final = 10.0  # seconds that SQLite waits for another process to end its transaction
CONNECT_WITHIN: Final = 10.0  # seconds
ANSWER_WITHIN: Final = 60.0  # seconds that PostgreSQL has for one statement: a server that froze is away, too
_BESIDE: Final = ("-wal", "-shm", "-journal")  # https://www.sqlite.org/tempfiles.html
READERS: Final = 4  # connections for reading beside the one that writes

# PgBouncer in transaction mode gives each transaction to any server connection. A statement that was prepared under a
# name before is not there, or is another one; an unnamed statement is prepared in the transaction that runs it.
UNNAMED_STATEMENTS: Final = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}

T = TypeVar("T")
Step = Callable[[AsyncConnection], Awaitable[T]]

_open_at_fork: Final[set[str]] = set()  # files of SQLite that the parent of this process had open when it forked

_READS: Final = "crew_reads"
_MADE_AT: Final = "crew_made_at"  # time.monotonic() at which a connection was made
_ODD: Final = frozenset("/?#[]")  # where a URL is taken apart; in a user name or password it is quoted


class Database:
    """Connections to it: one writes, some read.

    Args:
        url: like sqlite:///.crew/jobs.db or postgresql://user:password@host/name.

    Raises:
        SettingsError: the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self._dsn = f"{POSTGRESQL}://{url.partition('://')[2]}"
        self._engine: AsyncEngine | None = None
        self.id = ""  # known once it was opened
        self.availability = Availability()
        self._opening: asyncio.Task[None] | None = None
        self._drivers: weakref.WeakSet[Any] = weakref.WeakSet()  # connections of asyncpg
        self._has_hung_up = False
        self._broken_at = -math.inf  # time.monotonic(): connections that were made before are not used any longer
        self._writing = asyncio.Lock()  # SQLite has one writer, and who waits in line here does not poll for it

    def __repr__(self) -> str:
        return f"<Database {self}: {'open' if self._engine else 'closed'}>"

    def __str__(self) -> str:
        return self._url.set(query={}).render_as_string(hide_password=True)  # a query may hold another password

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this host."""
        return self._url.drivername == SQLITE

    @property
    def exists(self) -> bool:
        """Whether its file is there; True for a server, which only opening asks."""
        return not self.is_sqlite or Path(str(self._url.database)).exists()

    async def open(self) -> None:
        """Connect, and bring the tables to the newest version; idempotent.

        Raises:
            ConnectionError: it is away.
            SettingsError: a newer crew has made its tables, the file is no database or cannot be written, or the
                server does not let us in.
        """
        if self._engine is not None:
            return
        # One attempt for all who want it meanwhile: each may take long, and nobody waits for those of others in turn.
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open(), name="job store opening")
            self._opening.add_done_callback(self._on_opened)
        opening = self._opening
        await asyncio.wait([opening])
        if opening.cancelled():
            raise ConnectionError(f"the job store {self} was closed", missing="store")
        with self._noted("open"):
            if (error := opening.exception()) is not None:
                raise copy.copy(error)  # one that all raise would keep the stack of each of them

    def hang_up(self) -> None:
        """Wait for a server no longer: whoever does raises ConnectionError, also from now on. A file is never away."""
        self._has_hung_up = True
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
        """Close the sockets of a server's connections, and do nothing else: this is a forked child of their owner.

        Connections of SQLite stay as they are: a child must not use or close them
        (https://www.sqlite.org/howtocorrupt.html, 2.6). It cannot open the file anew either: SQLite has one table of
        locks for a file and process, in which the child would find the locks of the parent for ever.
        """
        if self.is_sqlite and (self._engine is not None or self._opening is not None):
            _open_at_fork.add(self._file)
        for driver in list(self._drivers):
            transport = getattr(driver, "_transport", None)
            sock = getattr(transport, "_sock", None)
            if sock is not None:
                sock.close()

    async def commit(self, step: Step[T]) -> T:
        """The result of `step`, run in a transaction that is committed after it.

        If the connection breaks before the commit, `step` is run once more, on another connection.

        Raises:
            ConnectionError: the database is away; if the connection broke during the commit, it may be committed.
        """
        with self._noted("write"):
            return await self._tried_twice(self._committed, step)

    async def look(self, step: Step[T]) -> T:
        """The result of `step`, which reads by one statement; if its connection breaks, it is run once more.

        Raises:
            ConnectionError: the database is away.
        """
        with self._noted("read"):
            return await self._tried_twice(self._looked, step)

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end; raises ConnectionError where the database is away."""
        async with self._writing:
            with self._translated():
                async with (await self._opened()).begin() as connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read from, by one statement; raises ConnectionError where the database is away."""
        with self._translated():
            async with (await self._opened()).connect() as connection:
                await connection.execution_options(**{_READS: True})
                yield connection

    async def _tried_twice(self, use: Callable[[Step[T]], Awaitable[T]], step: Step[T]) -> T:
        try:
            return await use(step)
        except errors.Broken:
            pass
        try:
            return await use(step)
        except errors.Broken as error:
            raise error.as_away from None

    async def _committed(self, step: Step[T]) -> T:
        is_committing = False
        try:
            async with self.write() as connection:
                result = await step(connection)
                is_committing = True
            return result
        except errors.Broken as error:
            raise error.as_away if is_committing else error from None

    async def _looked(self, step: Step[T]) -> T:
        async with self.read() as connection:
            return await step(connection)

    async def _open(self) -> None:
        if self.is_sqlite:
            self._refuse_if_open_at_fork()
            _make_files(Path(str(self._url.database)))
            with self._translated(is_opening=True):
                await asyncio.to_thread(_look_into, str(self._url.database))
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
                f"the job store {self} cannot be used in process {os.getpid()}: the process that forked it had the "
                "SQLite file open, and SQLite does not work across a fork; fork before the first use of the store, or "
                "use PostgreSQL"
            )

    def _on_opened(self, opening: "asyncio.Task[None]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # whoever waited for it may have gone meanwhile

    async def _opened(self) -> AsyncEngine:
        if self._has_hung_up:
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
        # The driver itself reads the URL: it knows sslmode, several hosts, sockets and password files as psql does.
        args = {"dsn": self._dsn, "timeout": CONNECT_WITHIN, "command_timeout": ANSWER_WITHIN, **UNNAMED_STATEMENTS}
        engine = create_async_engine(f"{driver}://", connect_args=args, **options)
        event.listen(engine.sync_engine, "connect", self._on_connected)
        event.listen(engine.sync_engine, "checkout", self._refuse_broken)
        return engine

    def _on_connected(self, connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_MADE_AT] = time.monotonic()
        self._drivers.add(connection.driver_connection)

    def _refuse_broken(self, connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        """Have a connection replaced that the server has closed, or that is older than one that was found broken.

        The driver knows without asking the server. What broke one connection has mostly broken all of the pool.
        """
        if connection.driver_connection.is_closed() or record.info[_MADE_AT] <= self._broken_at:
            raise DisconnectionError

    @contextlib.contextmanager
    def _noted(self, use: str) -> Iterator[None]:
        """Note whether the database could be used. Others that write the same records are no outage."""
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
        """No error of SQLAlchemy or of a driver leaves this file."""
        try:
            yield
        except CrewError:  # one that is away is an OSError, too
            raise
        except (SQLAlchemyError, OSError) as error:
            raise self._fault(error, is_opening=is_opening) from None
        except (ValueError, OverflowError) as error:
            if is_opening:  # the driver's own message may hold what was meant to be a password
                raise SettingsError(f"the job store {self} cannot be used: its driver cannot read its URL") from None
            if not isinstance(error, UnicodeError | OverflowError):
                raise
            raise self._fault(error) from None

    def _fault(self, error: Exception, *, is_opening: bool = False) -> CrewError:
        found = errors.of_error(error, str(self), is_opening=is_opening)
        if isinstance(found, errors.Broken):
            self._broken_at = time.monotonic()
        return found


def _parse(url: str) -> URL:
    """What the URL says, with the backend alone as its driver."""
    try:
        url.encode()  # what a shell passes on need not be text
        given = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number, too
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
        raise SettingsError("the job store needs a file, like sqlite:///.crew/jobs.db: memory ends with a process")
    if backend == SQLITE and given.query:
        raise SettingsError("the job store sqlite:// is a path alone, without what stands behind a question mark")
    if backend == POSTGRESQL and _is_torn(given, url):
        raise SettingsError("in the URL of the job store, write what is odd in a name or password as in %40 for @")
    return given.set(drivername=backend)


def _is_torn(given: URL, url: str) -> bool:
    """Whether a user name or password ends elsewhere than it was meant to: then its rest would be shown as a host."""
    login = "" if given.username is None else url.partition("://")[2].partition("@")[0]
    return not _ODD.isdisjoint(login) or "@" in f"{given.host}{given.database}"


def _make_files(path: Path) -> None:
    """Make the file, which holds payloads, for its owner only: SQLite gives those beside it the same rights.

    Raises:
        SettingsError: one of them is in `.crew`, and belongs to another user or is a link.
    """
    with contextlib.suppress(OSError):  # then connecting says what is wrong
        private_folder.make_folder(path.parent)
        private_folder.make_file(path)
        if private_folder.is_private(path):
            _restrict_files(path)


def _restrict_files(path: Path) -> None:
    """Take the rights of others on the file of a job store, and on those beside it, that an older crew has made."""
    with contextlib.suppress(OSError):
        for suffix in ("", *_BESIDE):
            private_folder.restrict(path.with_name(path.name + suffix))


def _look_into(file: str) -> None:
    """Raise what is wrong with a file that cannot be opened, or is no database.

    The driver's own thread would do so, too, and end with a traceback where the loop has ended before it.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=0)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if _is_lasting(error):
            raise OperationalError(None, None, error) from None


def _is_lasting(error: sqlite3.Error) -> bool:
    """Whether it is not only busy, for whatever reason: the code says that in its last byte. Whoever uses it waits."""
    return error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Readers do not wait for the writer, and what is committed has reached the disk."""
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={round(BUSY * 1000)}", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    with contextlib.suppress(sqlite3.OperationalError):  # locked, at once: somebody else is making it so, for everybody
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its turn before it reads: one that reads first may find that it cannot write any more.

    Who reads has one SELECT, which sees one state of the file by itself.
    """
    if not connection.get_execution_options().get(_READS):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
