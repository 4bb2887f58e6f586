"""What is wrong with the database of a job store: one sentence, and what it means for who wanted to use it."""

from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

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


class Conflict(ConnectionError):
    """Others were writing the same records: nothing was written, and the next attempt may succeed."""


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
    if kind is SettingsError and not is_opening:
        kind = ConnectionError
    verb = "cannot be used" if issubclass(kind, ConnectionError | SettingsError) else "refuses this"
    sentence = f"the job store {store} {verb}: {told}"
    return kind(sentence, missing="store") if issubclass(kind, ConnectionError) else kind(sentence)


def _kind(error: Exception, state: str, told: str) -> type[CrewError]:
    """A store that is away may come back; what it refuses, it refuses again."""
    if state.startswith(_CONFLICT_STATES):
        return Conflict
    if state.startswith(_UNUSABLE_STATES) or any(words in told for words in _UNUSABLE_FILE):
        return SettingsError
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if is_lost or isinstance(error, OSError | InterfaceError | TimeoutError) or state.startswith(_AWAY_STATES):
        return ConnectionError
    return ConnectionError if isinstance(error, OperationalError) else CrewError
