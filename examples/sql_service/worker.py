"""Runs SQL statements on a PostgreSQL: python worker.py --processes 4

DATABASE_URL in the environment is its address: postgresql://user:password@host/database.
"""

import datetime
import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from crew.worker import Task, context, run

DATABASE: Final = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")
CONNECT_WITHIN: Final = 5  # seconds
# A killed worker cannot cancel its statement: so the server checks once a second whether its client is connected.
OPTIONS: Final = "-c client_connection_check_interval=1s"


class StatementError(Exception):
    """The database refuses the statement; the message is for the caller."""


class DatabaseUnavailableError(Exception):
    """The database cannot be reached."""


@Task("sql")
def sql(query: dict[str, Any]) -> dict[str, Any]:
    """Run one statement with its parameters; returns its rows, or the number of rows that it has changed."""
    with database() as connection, canceled_with_task(connection), errors_translated():
        cursor = connection.execute(query["statement"], bindable(query.get("parameters")))
        columns = [column.name for column in cursor.description or ()]
        rows = [[plain(value) for value in row] for row in cursor] if columns else []
        return {"columns": columns, "rows": rows, "row_count": cursor.rowcount}


@contextmanager
def database() -> Iterator[psycopg.Connection]:
    """A new session for each statement, as a statement may change the settings of its session, or be canceled."""
    try:
        connection = psycopg.connect(DATABASE, autocommit=True, connect_timeout=CONNECT_WITHIN, options=OPTIONS)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(str(error).strip()) from None
    with closing(connection):
        yield connection


@contextmanager
def canceled_with_task(connection: psycopg.Connection) -> Iterator[None]:
    """Cancel the statement if crew interrupts the task before the statement has ended (a cancel, a timeout)."""
    try:
        yield
    except SystemExit:
        with context.shield(), database() as another:
            another.execute("SELECT pg_cancel_backend(%s)", [connection.info.backend_pid])
        raise


@contextmanager
def errors_translated() -> Iterator[None]:
    """Turn errors of the driver into StatementError with the server's message, without the driver's traceback."""
    try:
        yield
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error).strip()
        raise StatementError(f"{error.sqlstate}: {message}" if error.sqlstate else message) from None


def bindable(parameters: Any) -> Any:
    """Parameters for the driver: a JSON object becomes jsonb, a list of objects an array of jsonb."""
    if isinstance(parameters, dict):
        return {name: bound(value) for name, value in parameters.items()}
    return [bound(value) for value in parameters] if parameters else None


def bound(value: Any) -> Any:
    """One parameter."""
    return Jsonb(value) if isinstance(value, dict) else value


def plain(value: Any) -> Any:
    """A database value with the types of JSON: bytes become hexadecimal digits, other types become text."""
    match value:
        case None | bool() | int() | str() | dict():
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            return [plain(item) for item in value]
        case bytes():
            return value.hex()
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return str(value)


if __name__ == "__main__":
    run()
