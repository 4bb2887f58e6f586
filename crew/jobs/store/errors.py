"""Faults of the database of a job store: one sentence each, and a type that says what a caller can do.

`ConnectionError`: try again later. `Conflict`: try again now. `Broken`: try again now, on another connection.
`Rejected`: never try these values again. Any other CrewError: unknown, so that nothing may be decided by it for good.
"""

from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, InternalError, OperationalError, TimeoutError

from crew.errors import ConnectionError, CrewError, SettingsError

# What SQLite says of a file that no second attempt opens, and PostgreSQL of a login or a database that there is not.
_UNUSABLE_FILE: Final = ("not a database", "malformed", "readonly", "unsupported file format", "unable to open")
_UNOPENED: Final = {
    "unable to open database file": "it has to be a file in a folder that exists, both of them writable"
}
_UNUSABLE_STATES: Final = ("28", "3D", "42501", "42704", "0A")
# Connection, resources, shutdown or start, a server that only reads: https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY_STATES: Final = ("08", "25006", "53", "57", "58")
_CONFLICT_STATES: Final = ("40", "55P03")
# The server ended the connection, or a prepared statement is gone, since a pooler has changed the server under it.
_BROKEN_STATES: Final = ("08", "57P01", "57P02", "57P05", "26000", "42P05")
_REJECTED_STATES: Final = ("22", "54000")  # a value is too large, or cannot be stored


class Conflict(ConnectionError):
    """Others were writing the same records: nothing was written, and the next attempt may succeed."""


class Broken(ConnectionError):
    """The connection cannot be used any longer; another one may do."""

    @property
    def as_away(self) -> ConnectionError:
        """For a caller that cannot try again: the store is away."""
        return ConnectionError(str(self), missing="store")


class Rejected(CrewError):
    """The database will never take these values."""


def of_error(error: Exception, store: str, *, is_opening: bool) -> CrewError:
    """What is raised for `error`, of SQLAlchemy, a driver or the system, while `store` was used.

    Args:
        store: its URL without the password.
        is_opening: whether it is used for the first time: what a setting is to blame for is a SettingsError then. Later
            on somebody may be about to mend it, so that it is as if the store were away.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    told = str(cause).strip().partition("\n")[0] or type(cause).__name__
    kind = _kind(error, getattr(cause, "sqlstate", None) or "", told)
    told = _UNOPENED.get(told, told)
    if (kind is SettingsError and not is_opening) or (kind is Broken and is_opening):
        kind = ConnectionError
    verb = "cannot be used" if issubclass(kind, ConnectionError | SettingsError) else "refuses this"
    sentence = f"the job store {store} {verb}: {told}"
    return kind(sentence, missing="store") if issubclass(kind, ConnectionError) else kind(sentence)


def _kind(error: Exception, state: str, told: str) -> type[CrewError]:
    """What is known of `error`; CrewError if nothing is."""
    if _is_rejected(error, state):
        return Rejected
    if state.startswith(_CONFLICT_STATES):
        return Conflict
    if state.startswith(_UNUSABLE_STATES) or any(words in told for words in _UNUSABLE_FILE):
        return SettingsError
    if _is_broken(error, state):
        return Broken
    if isinstance(error, OSError | TimeoutError | OperationalError) or state.startswith(_AWAY_STATES):
        return ConnectionError
    return CrewError


def _is_rejected(error: Exception, state: str) -> bool:
    if not isinstance(error, DBAPIError):
        return isinstance(error, UnicodeError | OverflowError)  # of a driver that cannot encode a value
    is_unsendable = error.orig is not None and isinstance(error.orig.__cause__, ValueError)  # as above, by asyncpg
    return isinstance(error, DataError) or is_unsendable or state.startswith(_REJECTED_STATES)


def _is_broken(error: Exception, state: str) -> bool:
    """Without a state, it is the driver that has lost its connection, or its way in the protocol."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, ConnectionResetError | BrokenPipeError)
    is_drivers = not state and isinstance(error, InterfaceError | InternalError)
    return is_drivers or error.connection_invalidated or state.startswith(_BROKEN_STATES)
