"""Runs SQL statements on a PostgreSQL: python worker.py --processes 4

DATABASE_URL in the environment says where it is: postgresql://user:password@host/database.
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
# A worker that is killed can cancel nothing: the server itself looks once a second whether its client is still there.
OPTIONS: Final = "-c client_connection_check_interval=1s"


class StatementError(Exception):
    """The database does not do what it was asked to do; the message is for who has asked."""


class DatabaseAwayError(Exception):
    """The database cannot be asked."""


@Task("sql")
def sql(query: dict[str, Any]) -> dict[str, Any]:
    """Run one statement with its parameters; what it returns, or how many rows it has changed."""
    with database() as connection, cancelled_with_task(connection), translated():
        cursor = connection.execute(query["statement"], bindable(query.get("parameters")))
        columns = [column.name for column in cursor.description or ()]
        rows = [[plain(value) for value in row] for row in cursor] if columns else []
        return {"columns": columns, "rows": rows, "row_count": cursor.rowcount}


@contextmanager
def database() -> Iterator[psycopg.Connection]:
    """A session that nobody else has used or will: a statement may change its settings, or be cancelled."""
    try:
        connection = psycopg.connect(DATABASE, autocommit=True, connect_timeout=CONNECT_WITHIN, options=OPTIONS)
    except psycopg.OperationalError as error:
        raise DatabaseAwayError(str(error).strip()) from None
    with closing(connection):
        yield connection


@contextmanager
def cancelled_with_task(connection: psycopg.Connection) -> Iterator[None]:
    """Whatever ends this task before its statement has ended (a cancel, its timeout) ends the statement, too."""
    try:
        yield
    except SystemExit:
        with context.shield(), database() as another:
            another.execute("SELECT pg_cancel_backend(%s)", [connection.info.backend_pid])
        raise


@contextmanager
def translated() -> Iterator[None]:
    """The server's word for what is wrong, without the traceback of the driver."""
    try:
        yield
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error).strip()
        raise StatementError(f"{error.sqlstate}: {message}" if error.sqlstate else message) from None


def bindable(parameters: Any) -> Any:
    """Parameters as the driver binds them: objects of JSON are jsonb, and a list of them an array."""
    if isinstance(parameters, dict):
        return {name: bound(value) for name, value in parameters.items()}
    return [bound(value) for value in parameters] if parameters else None


def bound(value: Any) -> Any:
    """One parameter."""
    return Jsonb(value) if isinstance(value, dict) else value


def plain(value: Any) -> Any:
    """A value of the database as JSON has it: what JSON has no word for is text, and bytes are hexadecimal digits."""
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
