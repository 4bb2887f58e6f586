"""Loggers of crew: they stay enabled where an application configures logging later, and escape foreign text.

`logging.config.dictConfig` and `fileConfig` disable each logger that exists and is not named in the configuration,
unless they are told otherwise. A refused password or the death of a process would not be logged then. Levels, filters,
handlers and `logger.disabled = True` in an application's own code work as they do for any logger.

Ids, names, exceptions and the like may come from anybody who can send a message. Every record of crew's own loggers
escapes them (`crew.escape`) whatever handlers and formatters an application has: an argument is one line, and an
exception or an argument of type `Lines` has a mark before each of its lines. `Formatter` does the same for the records
of all loggers, as those of Tornado and of tasks: crew's own processes use it.
"""

import logging
import math
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from crew.escape import CONTINUED, continued, escaped

CONFIG: Final = "logging.config"  # the module that disables loggers; not imported, as most programs do without it
_EXCEPTIONS: Final = logging.Formatter()


class Lines(str):
    """An argument of a log record with several lines, like a traceback: each is escaped, marked, and a line."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"\n{CONTINUED}{continued(self.rstrip())}" if self else ""


class Formatter(logging.Formatter):
    """A formatter that escapes unprintable characters, and marks every line of a record but the first with "  | "."""

    def format(self, record: logging.LogRecord) -> str:
        """`record` as text."""
        return continued(super().format(record))


def to_stderr(level: int | str, layout: str, *, stream: TextIO | None = None) -> None:
    """Have all records written to stderr by a `Formatter`, unless the root logger has a handler already.

    Args:
        level: of the root logger.
        layout: of a line, as `logging.Formatter` has it.
        stream: in place of `sys.stderr`.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter(layout))
    logging.basicConfig(level=level, handlers=[handler])


class CrewLogger(logging.Logger):
    """A logger that `logging.config` does not disable only because it exists."""

    _is_disabled = False

    @property
    def disabled(self) -> bool:
        """Whether it logs nothing."""
        return self._is_disabled

    @disabled.setter
    def disabled(self, value: bool) -> None:
        is_configured = sys._getframe(1).f_globals.get("__name__") == CONFIG
        if not (value and is_configured):
            self._is_disabled = bool(value)


class LineLimit:
    """Lets some log lines of each topic pass in an interval, and counts the others.

    Args:
        lines: of one topic, in an interval that begins with the first of them.
        every: seconds of an interval.
        clock: seconds that pass; default: time.monotonic.
    """

    def __init__(self, lines: int, every: float, clock: Callable[[], float] | None = None) -> None:
        self._lines = lines
        self._every = every
        self._clock = clock
        self._topics: dict[str, _Lines] = {}

    def held_back(self, topic: str = "") -> int | None:
        """How many lines of `topic` were held back since the last one passed; None: this one is held back, too."""
        of_topic = self._topics.setdefault(topic, _Lines())
        now = time.monotonic() if self._clock is None else self._clock()
        if now >= of_topic.ends_at:
            of_topic.ends_at, of_topic.passed = now + self._every, 0
        if of_topic.passed == self._lines:
            of_topic.held_back += 1
            return None
        of_topic.passed += 1
        held_back, of_topic.held_back = of_topic.held_back, 0
        return held_back


class _Lines:
    """The lines of one topic."""

    def __init__(self) -> None:
        self.ends_at = -math.inf  # of the present interval
        self.passed = 0  # in it
        self.held_back = 0


class _EscapedText(str):
    """Text that `%s` escapes; `%r` does so anyway."""

    __slots__ = ()

    def __str__(self) -> str:
        return escaped(super().__str__())


class _EscapedObject:
    """Any other value, escaped by both."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escaped(str(self._value))

    def __repr__(self) -> str:
        return escaped(repr(self._value))


_SAFE: Final = (int, float, type(None), Lines)


def _escape(record: logging.LogRecord) -> bool:
    """A filter that lets every record pass, with its foreign text escaped."""
    if isinstance(record.args, Mapping):
        record.args = {name: _escaped_argument(one) for name, one in record.args.items()}
    elif record.args:
        record.args = tuple(map(_escaped_argument, record.args))
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:  # formatters take it as it is
        record.exc_text = CONTINUED + continued(_EXCEPTIONS.formatException(record.exc_info))
    return True


def _escaped_argument(value: Any) -> Any:
    if type(value) is str:
        return value if value.isprintable() else _EscapedText(value)
    return value if isinstance(value, _SAFE) else _EscapedObject(value)


def set_up(package: str, folder: Path) -> None:
    """Make the loggers of all modules of `package` such loggers, before the modules ask for them by name."""
    for name in (package, *_modules(package, folder)):
        logger = logging.getLogger(name)
        logger.addFilter(_escape)
        if type(logger) is logging.Logger:  # else the application has chosen a class of its own
            was_disabled = vars(logger).pop("disabled")
            logger.__class__ = CrewLogger
            logger.disabled = was_disabled


def _modules(package: str, folder: Path) -> Iterator[str]:
    """Their dotted names; nothing is imported."""
    for module in pkgutil.iter_modules([str(folder)], f"{package}."):
        yield module.name
        if module.ispkg:
            yield from _modules(module.name, folder / module.name.rpartition(".")[2])
