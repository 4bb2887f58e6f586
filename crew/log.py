"""Loggers of crew: they remain enabled when an application configures logging later, and escape foreign text.

By default, `logging.config.dictConfig` and `fileConfig` disable each existing logger that the configuration does not
name. Then a refused password or the death of a process would not be logged. Levels, filters, handlers and
`logger.disabled = True` in an application's own code work as for any logger.

Ids, names, exceptions and similar text may come from any sender of messages. Every record of crew's own loggers escapes
them (`crew.escape`) for all handlers and formatters of an application: an argument is one line, and each line of an
exception or of an argument of type `Lines` has a mark. `Formatter` does the same for the records of all loggers, also
of Tornado and of tasks: crew's own processes use it.
"""

import logging
import math
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any, Final, TextIO

from crew.clock import monotonic_time
from crew.escape import CONTINUED, continued, escaped

CONFIG: Final = "logging.config"  # the module that disables loggers; not imported, as most programs do not need it
_EXCEPTIONS: Final = logging.Formatter()
_SUFFIXES: Final = tuple(all_suffixes())  # of files that are modules


class Lines(str):
    """An argument of a log record with several lines, like a traceback: each line is escaped and marked."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"\n{CONTINUED}{continued(self.rstrip())}" if self else ""


class Formatter(logging.Formatter):
    """Formatter that escapes unprintable characters, and marks all lines of a record after the first with "  | "."""

    def format(self, record: logging.LogRecord) -> str:
        """`record` as text."""
        return continued(super().format(record))


def to_stderr(level: int | str, layout: str, *, stream: TextIO | None = None) -> None:
    """Write all records to stderr with a `Formatter`, unless the root logger has a handler already.

    Args:
        level: of the root logger.
        layout: format of a line, as for `logging.Formatter`.
        stream: used instead of `sys.stderr`.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter(layout))
    logging.basicConfig(level=level, handlers=[handler])


class CrewLogger(logging.Logger):
    """A logger that `logging.config` does not disable."""

    _is_disabled = False

    @property
    def disabled(self) -> bool:
        """Whether the logger logs nothing."""
        return self._is_disabled

    @disabled.setter
    def disabled(self, value: bool) -> None:
        is_configured = sys._getframe(1).f_globals.get("__name__") == CONFIG
        if not (value and is_configured):
            self._is_disabled = bool(value)


class LineLimit:
    """Rate limit for log lines: a number of lines per topic and interval is logged, the others are counted.

    Args:
        lines: of one topic per interval; an interval begins with its first line.
        every: seconds of an interval.
        clock: seconds. Default: time.monotonic.
    """

    def __init__(self, lines: int, every: float, clock: Callable[[], float] = monotonic_time) -> None:
        self._lines = lines
        self._every = every
        self._clock = clock
        self._topics: dict[str, _Lines] = {}

    def held_back(self, topic: str = "") -> int | None:
        """The number of lines of `topic` that were suppressed since the last one; None: suppress this one, too."""
        of_topic = self._topics.setdefault(topic, _Lines())
        now = self._clock()
        if now >= of_topic.ends_at:
            of_topic.ends_at, of_topic.passed = now + self._every, 0
        if of_topic.passed == self._lines:
            of_topic.held_back += 1
            return None
        of_topic.passed += 1
        held_back, of_topic.held_back = of_topic.held_back, 0
        return held_back


class _Lines:
    """Counters for the lines of one topic."""

    def __init__(self) -> None:
        self.ends_at = -math.inf  # end of the current interval
        self.passed = 0  # lines logged in it
        self.held_back = 0


class _EscapedText(str):
    """Text that is escaped by `%s`; `%r` escapes any text."""

    __slots__ = ()

    def __str__(self) -> str:
        return escaped(super().__str__())


class _EscapedObject:
    """Any other value, escaped by `%s` and `%r`."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escaped(str(self._value))

    def __repr__(self) -> str:
        return escaped(repr(self._value))


_SAFE: Final = (int, float, type(None), Lines)


def _escape(record: logging.LogRecord) -> bool:
    """A filter that passes every record and escapes its foreign text."""
    if isinstance(record.args, Mapping):
        record.args = {name: _escaped_argument(one) for name, one in record.args.items()}
    elif record.args:
        record.args = tuple(map(_escaped_argument, record.args))
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:  # formatters use it unchanged
        record.exc_text = CONTINUED + continued(_EXCEPTIONS.formatException(record.exc_info))
    return True


def _escaped_argument(value: Any) -> Any:
    if type(value) is str:
        return value if value.isprintable() else _EscapedText(value)
    return value if isinstance(value, _SAFE) else _EscapedObject(value)


def set_up(package: str, folder: Path) -> None:
    """Turn the loggers of all modules of `package` into `CrewLogger`s, before the modules get them by name."""
    for name in (package, *_modules(package, folder)):
        logger = logging.getLogger(name)
        logger.addFilter(_escape)
        if type(logger) is logging.Logger:  # else the application uses its own class
            was_disabled = vars(logger).pop("disabled")
            logger.__class__ = CrewLogger
            logger.disabled = was_disabled


def _modules(package: str, folder: Path) -> Iterator[str]:
    """The dotted names of all modules of `package`, without importing them.

    Every program that imports crew runs this, and pkgutil takes ten times as long.
    """
    if not folder.is_dir():  # crew is in a zip file
        yield from _modules_in_zip(package, folder)
        return
    for entry in os.scandir(folder):
        name = entry.name.partition(".")[0]
        if entry.name.endswith(_SUFFIXES) and name != "__init__":
            yield f"{package}.{name}"
        elif "." not in entry.name and name != "__pycache__" and entry.is_dir():
            yield f"{package}.{name}"
            yield from _modules(f"{package}.{name}", folder / name)


def _modules_in_zip(package: str, folder: Path) -> Iterator[str]:
    for module in pkgutil.iter_modules([str(folder)], f"{package}."):
        yield module.name
        if module.ispkg:
            yield from _modules_in_zip(module.name, folder / module.name.rpartition(".")[2])
