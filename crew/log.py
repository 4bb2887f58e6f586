"""Loggers of crew, which stay enabled where an application configures its logging after it has imported crew.

`logging.config.dictConfig` and `fileConfig` disable each logger that exists and is not named in the configuration,
unless they are told otherwise. A refused password or the death of a process would not be logged then. Levels, filters,
handlers and `logger.disabled = True` in an application's own code work as they do for any logger.
"""

import logging
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CONFIG: Final = "logging.config"  # the module that disables loggers; not imported, as most programs do without it


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


def keep_enabled(package: str, folder: Path) -> None:
    """Make the loggers of all modules of `package` such loggers, before the modules ask for them by name."""
    for name in (package, *_modules(package, folder)):
        logger = logging.getLogger(name)
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
