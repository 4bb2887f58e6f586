"""Errors of the database: whether to retry, when, and on which connection."""

import sqlite3

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi as Adapted
from sqlalchemy.exc import DBAPIError

from crew.errors import ConnectionError, CrewError
from crew.jobs.store import errors
from crew.jobs.store.errors import Broken, Conflict, Rejected


def of_server(state: str) -> Exception:
    """An error of PostgreSQL as SQLAlchemy raises it."""
    given = asyncpg.exceptions.PostgresError.new({"C": state, "M": f"error {state}", "S": "ERROR"})
    for kind in type(given).__mro__:
        if adapted := _translated().get(kind):
            return _wrapped(adapted(str(given), given), given)
    raise AssertionError(state)


def of_driver(given: Exception, adapted: type[Exception]) -> Exception:
    """An error of asyncpg as SQLAlchemy raises it."""
    return _wrapped(adapted(str(given), given), given)


def of_sqlite(kind: type[sqlite3.Error], message: str) -> Exception:
    return _wrapped(kind(message), None, sqlite3)


def _translated() -> dict[type, type[Exception]]:
    import asyncpg as driver

    return dict(Adapted(driver)._asyncpg_error_translate)  # type: ignore[no-untyped-call]


def _wrapped(adapted: Exception, cause: Exception | None, dbapi: object = None) -> Exception:
    adapted.__cause__ = cause
    base = sqlite3.Error if dbapi is sqlite3 else Adapted.Error
    return DBAPIError.instance("SELECT", {}, adapted, base, dialect=None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_server("40001"), Conflict),
        (of_server("40P01"), Conflict),
        (of_server("57P01"), Broken),
        (of_server("08006"), Broken),
        (of_server("26000"), Broken),
        (of_server("42P05"), Broken),
        (of_driver(asyncpg.InternalClientError("cannot switch to state 15"), Adapted.InternalClientError), Broken),
        (of_driver(asyncpg.InterfaceError("connection is closed"), Adapted.InterfaceError), Broken),
        (ConnectionResetError(), Broken),
        (of_server("53300"), ConnectionError),
        (of_server("53100"), ConnectionError),
        (of_server("57P03"), ConnectionError),
        (of_server("57014"), ConnectionError),
        (ConnectionRefusedError(), ConnectionError),
        (TimeoutError(), ConnectionError),
        (of_sqlite(sqlite3.OperationalError, "database is locked"), ConnectionError),
        (of_sqlite(sqlite3.OperationalError, "database or disk is full"), ConnectionError),
        (of_server("22001"), Rejected),
        (of_server("22021"), Rejected),
        (of_server("54000"), Rejected),
        (of_sqlite(sqlite3.DataError, "string or blob too big"), Rejected),
        (OverflowError("Python int too large to convert to SQLite INTEGER"), Rejected),
        (of_server("XX000"), CrewError),
        (of_server("42703"), CrewError),
        (of_server("23505"), CrewError),
        (of_server("P0001"), CrewError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value).partition("\n")[0],
)
def test_an_error_has_the_type_of_its_cause(error: Exception, kind: type[CrewError]) -> None:
    found = errors.translate(error, "postgresql://host/name", is_opening=False)
    assert type(found) is kind
    assert str(found).startswith("the job store postgresql://host/name ")
    assert "\n" not in str(found)


def test_a_value_that_asyncpg_cannot_send_is_rejected() -> None:
    given = asyncpg.exceptions._base.DataError("invalid input for query argument $1: an integer is required")
    found = errors.translate(of_driver(given, Adapted.InterfaceError), "x", is_opening=False)
    assert type(found) is Rejected
