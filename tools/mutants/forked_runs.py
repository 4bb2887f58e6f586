"""pytest plugin: collect the tests once, then run them for each mutant in a process of its own.

A start of pytest takes longer than the tests of a module. So one process imports the tests and the mutated module. It
runs all tests with the original functions, and forks for each mutant. A child runs the tests that reach the mutant's
function, fast ones first, and ends when one fails. What a test module does at its import is never done with a mutant.
"""

import contextlib
import gc
import json
import math
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from mutmut.mutation import trampoline
from mutmut.utils.format_utils import mangled_name_from_mutant_name

NO_MUTANT = ""
RECORDED = "stats"  # mutmut's word: run the originals, and record their calls
SURVIVED, KILLED = 0, 1  # exit statuses of a child
AT_ONCE = os.cpu_count() or 1  # children: a mutant that waits for something should not keep the others waiting
CPU_LIMIT = 1.0  # seconds of CPU time for a mutant that loops, plus five times that of its test
WAIT_LIMIT = 20.0  # seconds for a mutant that waits, plus a hundred times that CPU time: the machine may be busy

Tests = dict[pytest.Item, float]  # tests that reach a function, with their CPU time in seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options with the names of the files that say what to run, and take the results."""
    parser.addoption("--mutants", required=True, help="JSON file with the names of the mutants")
    parser.addoption("--statuses", required=True, help="JSON file to write: exit status of each mutant")


def pytest_configure(config: pytest.Config) -> None:
    """Run the tests in the way of this module."""
    config.pluginmanager.register(ForkedRuns(config))


class ForkedRuns:
    """Runs the tests for each mutant."""

    def __init__(self, config: pytest.Config) -> None:
        self._names: list[str] = json.loads(Path(config.getoption("--mutants")).read_text())
        self._results = Path(config.getoption("--statuses"))
        self._is_child = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests of each mutant; nothing, if a test fails without a mutant."""
        tests = tests_by_function(session.items)
        if not session.testsfailed:
            forget_cached_results()
            gc.freeze()
            self._results.write_text(json.dumps(self._statuses(tests)))
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """End a child when a test fails: no report about it is needed."""
        if self._is_child and call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            os._exit(KILLED)

    def _statuses(self, tests: defaultdict[str, Tests]) -> dict[str, int]:
        """Run the tests of each mutant, some at the same time; returns the exit statuses, below 0 for a signal."""
        statuses = dict.fromkeys(self._names, SURVIVED)
        running: dict[int, str] = {}
        waiting = [name for name in self._names if tests[mangled_name_from_mutant_name(name)]]
        while running or waiting:
            if waiting and len(running) < AT_ONCE:
                name = waiting.pop()
                running[self._started(name, tests[mangled_name_from_mutant_name(name)])] = name
                continue
            child, status = os.wait()
            if child in running:  # it is not a process that a test has started
                statuses[running.pop(child)] = os.waitstatus_to_exitcode(status)
        return statuses

    def _started(self, mutant: str, tests: Tests) -> int:
        """Start a child that runs the tests of one mutant; returns its process id."""
        child = os.fork()
        if child:
            return child
        try:
            self._is_child = True
            hide_output()
            trampoline.set_mutant_under_test(mutant)
            for _ in in_turn(sorted(tests, key=lambda test: tests[test]), lambda test: limit(tests[test])):
                pass
            os._exit(SURVIVED)
        finally:
            os._exit(KILLED)


def tests_by_function(items: list[pytest.Item]) -> defaultdict[str, Tests]:
    """Run all tests without a mutant; returns those that reach each function with mutants, by its name."""
    tests: defaultdict[str, Tests] = defaultdict(dict)
    called: set[str] = set()
    vars(trampoline)["record_trampoline_hit"] = lambda name, caller: called.add(name)  # else it goes to a global
    trampoline.set_mutant_under_test(RECORDED)
    for item, seconds in in_turn(items):
        for name in called:
            tests[name][item] = seconds
        called.clear()
    trampoline.set_mutant_under_test(NO_MUTANT)
    return tests


def in_turn(
    items: Sequence[pytest.Item], prepare: Callable[[pytest.Item], None] = lambda item: None
) -> Iterator[tuple[pytest.Item, float]]:
    """Run tests, each after `prepare`; yields each with its CPU time in seconds."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        prepare(item)
        before = time.process_time()
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        yield item, time.process_time() - before


def forget_cached_results() -> None:
    """Clear the caches of crew's functions: a cached result of the original would hide a mutant."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "crew":
            for value in vars(module).values():
                with contextlib.suppress(AttributeError):
                    value.cache_clear()


def limit(seconds: float) -> None:
    """End this process with a signal if a test takes much longer than with the original: `seconds` of CPU time."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, WAIT_LIMIT + 100 * seconds)
    cpu = math.ceil(time.process_time() + CPU_LIMIT + 5 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def hide_output() -> None:
    """Write the output of this process nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
