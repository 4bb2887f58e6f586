"""Random calls and cancels on workers that crash at random: every guarantee holds for each call.

Replay a seed with `CREW_CHAOS_SEED=7 pytest --chaos tests/integration/test_chaos.py`; `make soak` runs more of them.
"""

import functools
import logging
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from tests.support import raw
from tests.support.broker import vhost_of
from tests.support.chaos.plan import EXECUTORS, plan
from tests.support.chaos.record import Record
from tests.support.chaos.run import Chaos, Ended
from tests.support.chaos.verdict import GRACE, Breach, breaches
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.starvation import Starvation, waited_for_cpu
from tests.support.waiting import until

WORKER = TASK_FOLDER / "chaotic.py"
SEEDS = 3
CALLS = 2_000
# As if on four hosts: two with the main thread executor, two with coroutines (in the main thread, and beside threads).
WORKERS = (
    ("main", "--processes", "3"),
    ("main", "--processes", "2"),
    ("thread,async", "--processes", "2", "--threads", "8"),
    ("async", "--processes", "2"),
)
SETTLED_WITHIN = 8.0  # seconds until no task runs, and all queues are empty
AT_ONCE = 5.0  # seconds, on a busy machine; long before the deadline of the call
CLIENT_GROWS = 6.0  # MiB, over a thousand calls and the records of this test
SUPERVISOR_GROWS = 2.0  # MiB
EXPECTED = re.compile(
    r"worker process died: it was killed by SIGKILL|worker process stalled|runs on [\d.]+ s after its interrupt"
    r"|it runs a task that cannot be interrupted|message parked in|was killed by SIGKILL; the call is not retried"
    r"|execution failed: "
    r"|could not be interrupted; its worker process was killed"  # at random, between its deadline and its end
)
# Types of results that each seed must produce.
SEEN = {str, crew.TimeoutError, crew.ExpirationError, crew.Canceled, crew.TaskFailed}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed: those of CREW_CHAOS_SEED, else the first `SEEDS`, or ten times as many for a soak."""
    count = SEEDS * (10 if metafunc.config.getoption("--soak") else 1)
    seeds = [int(seed) for seed in os.environ.get("CREW_CHAOS_SEED", "").split(",") if seed]
    metafunc.parametrize("seed", seeds or range(1, count + 1), ids=lambda seed: f"seed {seed}")


@pytest.mark.chaos
@pytest.mark.alone
@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.gen_test(timeout=290)
async def test_random_calls_cancels_and_crashes_break_no_guarantee(
    request: pytest.FixtureRequest,
    broker_url: str,
    prefix: str,
    tmp_path: Path,
    processes: Processes,
    caplog: pytest.LogCaptureFixture,
    seed: int,
) -> None:
    caplog.set_level(logging.WARNING, logger="crew")
    record = Record(tmp_path / "record", _starvation_of_the_broker(request))
    workers = _start(processes, record.path, prefix)
    calls = plan(seed, CALLS, prefix=prefix)
    async with Client(broker_url) as client:
        chaos = Chaos(client, record, random.Random(seed), prefix=prefix)
        ended = await chaos.run(calls[: CALLS // 2])
        before = _memory(workers)
        ended += await chaos.run(calls[CALLS // 2 :])
        after = _memory(workers)
        print(f"seed {seed}: {_summary(ended, record)}")
        await until(lambda: not _unended(record), timeout=SETTLED_WITHIN)
        found = breaches(ended, record)
        assert not found, _listed(found)
        assert len(client._calls) == 0
        await _next_calls_are_served_at_once(client, prefix)
    await _queues_are_empty(request, broker_url, prefix)
    _memory_does_not_grow(before, after)
    _logs_are_as_expected(workers)
    assert {type(one.answer) for one in ended} >= SEEN
    assert any(life.was_killed for life in record.lives.values())
    for worker in workers:
        worker.stop()
    assert not caplog.records


# --- steps -----------------------------------------------------------------------------------------------------------


def _start(processes: Processes, record: Path, prefix: str) -> list[Process]:
    workers = []
    for executors, *flags in WORKERS:
        environment = f"CREW_CHAOS_EXECUTORS={executors}", f"CREW_CHAOS_RECORD={record}", f"CREW_TEST_PREFIX={prefix}"
        workers.append(processes.start("env", *environment, sys.executable, WORKER, "--grace", str(GRACE), *flags))
    for worker, (_, _, count, *_) in zip(workers, WORKERS, strict=True):
        worker.says("serving", times=int(count))
    return workers


def _starvation_of_the_broker(request: pytest.FixtureRequest) -> Starvation | None:
    """None if the tests have not started the broker."""
    if "CREW_TEST_AMQP_URL" in os.environ:
        return None
    node: Node = request.getfixturevalue("node")
    assert node.pid
    return Starvation(functools.partial(waited_for_cpu, node.pid))


def _unended(record: Record) -> list[object]:
    record.look()
    return [run for run in record.runs.values() if record.end_of(run) is None]


async def _next_calls_are_served_at_once(client: Client, prefix: str) -> None:
    for executor in EXECUTORS:
        began = time.monotonic()
        await client.call(prefix + executor, {"kind": "quick", "seconds": 0})
        assert time.monotonic() - began < AT_ONCE


async def _queues_are_empty(request: pytest.FixtureRequest, url: str, prefix: str) -> None:
    """Wait until no message is ready and, on a broker that the tests started, none is unacknowledged."""
    raw.parked(url)
    queues = [f"crew.tasks.{prefix}{executor}" for executor in EXECUTORS]
    await until(lambda: not any(raw.depth(url, queue) for queue in queues), timeout=SETTLED_WITHIN)
    if "CREW_TEST_AMQP_URL" not in os.environ:
        node = request.getfixturevalue("node")
        empty = {f"{queue}\t0" for queue in queues}
        await until(
            lambda: empty <= {*node.ctl("list_queues", "-p", vhost_of(url), "name", "messages").splitlines()},
            SETTLED_WITHIN,
        )


def _memory_does_not_grow(before: Sequence[float], after: Sequence[float]) -> None:
    client, *supervisors = [now - then for now, then in zip(after, before, strict=True)]
    assert client < CLIENT_GROWS
    assert max(supervisors) < SUPERVISOR_GROWS


def _logs_are_as_expected(workers: Sequence[Process]) -> None:
    for worker in workers:
        lines = worker.output.splitlines()
        assert not [line for line in lines if re.search(" (WARNING|ERROR) ", line) and not EXPECTED.search(line)]


# --- pieces ----------------------------------------------------------------------------------------------------------


def _memory(workers: Sequence[Process]) -> list[float]:
    """MiB of this process, and of each supervisor."""
    return [_rss(os.getpid()), *(_rss(worker.pid) for worker in workers)]


def _rss(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _listed(found: Sequence[Breach]) -> str:
    return "\n".join((f"{len(found)} breaches:", *(one.text for one in found)))


def _summary(ended: Sequence[Ended], record: Record) -> str:
    """Results, runs and kills of a seed, for its log."""
    results = Counter(type(one.answer).__name__ for one in ended)
    killed = sum(life.was_killed for life in record.lives.values())
    return f"{dict(results)}, {len(record.runs)} runs, {killed} of {len(record.lives)} processes killed"
