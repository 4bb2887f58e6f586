"""Loggers of crew in an application that configures logging after it has imported crew."""

import importlib
import logging
import logging.config
import pkgutil
import shutil
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import crew
from crew import log
from crew.log import CrewLogger, LineLimit

NAMES = ("crew", "crew.worker.supervisor.supervisor", "crew.client.client", "crew.gateway.serving.server")


@pytest.fixture(autouse=True)
def _logging_of_the_tests() -> Iterator[None]:
    """Restore the logging configuration after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    states = {name: one.disabled for name, one in root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    yield
    root.handlers[:], root.level = handlers, level
    for name, is_disabled in states.items():
        logging.getLogger(name).disabled = is_disabled
    for name in NAMES:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("name", NAMES)
def test_dictconfig_after_the_import_does_not_disable_a_logger(name: str) -> None:
    other = logging.getLogger("an.application")
    logging.config.dictConfig({"version": 1})
    assert other.disabled
    assert not logging.getLogger(name).disabled
    assert logging.getLogger(name).isEnabledFor(logging.ERROR)


def test_an_application_can_configure_and_disable_loggers_of_crew() -> None:
    logger = logging.getLogger("crew.worker.supervisor.supervisor")
    logging.config.dictConfig({"version": 1, "loggers": {"crew": {"level": "CRITICAL"}}})
    assert not logger.isEnabledFor(logging.ERROR)
    logging.config.dictConfig({"version": 1, "loggers": {"crew": {"level": "ERROR"}}})
    assert logger.isEnabledFor(logging.ERROR)
    logger.disabled = True
    assert not logger.isEnabledFor(logging.ERROR)


def test_every_logger_of_crew_is_a_crew_logger() -> None:
    for module in pkgutil.walk_packages(crew.__path__, "crew."):
        if module.name != "crew.__main__":
            logger = getattr(importlib.import_module(module.name), "logger", None)
            assert logger is None or type(logger) is CrewLogger, module.name


def test_a_line_limit_counts_the_suppressed_lines_of_each_topic() -> None:
    now = 100.0
    limit = LineLimit(2, 10.0, lambda: now)
    assert [limit.held_back("a") for _ in range(5)] == [0, 0, None, None, None]
    assert limit.held_back("b") == 0
    now = 110.0
    assert [limit.held_back("a") for _ in range(3)] == [3, 0, None]


@pytest.mark.parametrize("is_zipped", [False, True], ids=["folder", "zip"])
def test_all_modules_of_a_package_have_a_logger_before_they_are_imported(tmp_path: Path, is_zipped: bool) -> None:
    package = f"set_up_{'zip' if is_zipped else 'folder'}"
    for file in ("__init__.py", "one.py", "sub/__init__.py", "sub/two.py"):
        (tmp_path / package / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / package / file).touch()
    if is_zipped:
        archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, package)
        log.set_up(package, Path(archive) / package)
    else:
        (tmp_path / package / f"compiled{EXTENSION_SUFFIXES[0]}").touch()
        log.set_up(package, tmp_path / package)
    found = {name for name, one in logging.Logger.manager.loggerDict.items() if isinstance(one, CrewLogger)}
    expected = {package, f"{package}.one", f"{package}.sub", f"{package}.sub.two"}
    if not is_zipped:
        expected.add(f"{package}.compiled")
    assert {name for name in found if name.startswith(package)} == expected
