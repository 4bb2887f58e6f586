"""Errors of the job store's database: one sentence each, and a type that says what the caller can do.

`ConnectionError`: retry later. `Conflict`: retry now. `Broken`: retry now, on another connection. `Rejected`: do not
retry these values. Any other CrewError: the cause is unknown, so base no final decision on it.
"""

from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, InternalError, OperationalError, TimeoutError

from crew.errors import ConnectionError, CrewError, SettingsError

# Messages of SQLite for a file that no retry opens, and states of PostgreSQL for an unknown login or database.
_UNUSABLE_FILE: Final = ("not a database", "malformed", "readonly", "unsupported file format", "unable to open")
_UNOPENED: Final = {
    "unable to open database file": "it must be a file in an existing folder, and both must be writable"
}
_UNUSABLE_STATES: Final = ("28", "3D", "42501", "42704", "0A")
# Connection, resources, shutdown or start, read-only server: https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE_STATES: Final = ("08", "25006", "53", "57", "58")
_CONFLICT_STATES: Final = ("40", "55P03")
# The server ended the connection, or a prepared statement is gone because a pooler has changed the server.
_BROKEN_STATES: Final = ("08", "57P01", "57P02", "57P05", "26000", "42P05")
_REJECTED_STATES: Final = ("22", "54000")  # a value is too large, or cannot be stored


class Conflict(ConnectionError):
    """Another transaction wrote the same records: nothing was written, and a retry may succeed."""


class Broken(ConnectionError):
    """The connection is broken; a retry on another connection may succeed."""

    @property
    def as_unavailable(self) -> ConnectionError:
        """The same error for a caller that cannot retry: the store is unavailable."""
        return ConnectionError(str(self), missing="store")


class Rejected(CrewError):
    """The database will never accept these values."""


def translate(error: Exception, store: str, *, is_opening: bool) -> CrewError:
    """Translate an error of SQLAlchemy, a driver or the system that a use of `store` raised.

    Args:
        store: its URL without the password.
        is_opening: whether this is the first use. A wrong setting is a SettingsError then; later it is a
            ConnectionError, since an operator may be about to repair it.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    message = str(cause).strip().partition("\n")[0] or type(cause).__name__
    kind = _kind(error, getattr(cause, "sqlstate", None) or "", message)
    message = _UNOPENED.get(message, message)
    if (kind is SettingsError and not is_opening) or (kind is Broken and is_opening):
        kind = ConnectionError
    verb = "cannot be used" if issubclass(kind, ConnectionError | SettingsError) else "refuses this"
    sentence = f"the job store {store} {verb}: {message}"
    return kind(sentence, missing="store") if issubclass(kind, ConnectionError) else kind(sentence)


def _kind(error: Exception, state: str, message: str) -> type[CrewError]:
    """The type of the translated error; CrewError if the cause is unknown."""
    if _is_rejected(error, state):
        return Rejected
    if state.startswith(_CONFLICT_STATES):
        return Conflict
    if state.startswith(_UNUSABLE_STATES) or any(text in message for text in _UNUSABLE_FILE):
        return SettingsError
    if _is_broken(error, state):
        return Broken
    if isinstance(error, OSError | TimeoutError | OperationalError) or state.startswith(_UNAVAILABLE_STATES):
        return ConnectionError
    return CrewError


def _is_rejected(error: Exception, state: str) -> bool:
    if not isinstance(error, DBAPIError):
        return isinstance(error, UnicodeError | OverflowError)  # the driver cannot encode a value
    cannot_encode = error.orig is not None and isinstance(error.orig.__cause__, ValueError)  # the same, of asyncpg
    return isinstance(error, DataError) or cannot_encode or state.startswith(_REJECTED_STATES)


def _is_broken(error: Exception, state: str) -> bool:
    """Whether the connection is lost. An error of the driver without a state means so, too."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, ConnectionResetError | BrokenPipeError)
    is_of_driver = not state and isinstance(error, InterfaceError | InternalError)
    return is_of_driver or error.connection_invalidated or state.startswith(_BROKEN_STATES)
