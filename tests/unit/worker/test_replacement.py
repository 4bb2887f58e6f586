"""Replacement of worker processes, and memory sizes."""

import subprocess
import sys

import pytest

from crew.worker import replacement
from crew.worker.options import parse_memory_size
from crew.worker.replacement import Replacement, memory_used, staggered


def test_max_tasks_tasks_may_start_and_the_last_one_causes_the_replacement() -> None:
    reasons: list[str] = []
    limits = Replacement(max_tasks=2, max_memory=None, on_due=reasons.append)
    assert limits.may_start()
    assert reasons == []
    assert limits.may_start()
    assert reasons == ["it has run 2 tasks"]
    assert [limits.may_start() for _ in range(3)] == [False] * 3
    limits.check_memory()
    assert len(reasons) == 1


def test_memory_is_checked_after_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    limits = Replacement(max_tasks=None, max_memory=200_000_000, on_due=reasons.append)
    used = iter([200_000_000, 210_000_000])
    monkeypatch.setattr(replacement, "memory_used", lambda: next(used))
    limits.check_memory()
    assert reasons == []
    limits.check_memory()
    assert reasons == ["it has 210 MB of memory, more than 200 MB"]
    assert limits.may_start()


def test_memory_used_follows_the_memory_of_the_process() -> None:
    """In a new process: this one may have memory left from other tests."""
    script = (
        f"from {memory_used.__module__} import memory_used as used; a = used(); b = b'x' * 50_000_000; print(a, used())"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    before, after = map(int, printed.split())
    assert after - before >= 0.9 * 50_000_000
    assert 1_000_000 < before < 10_000_000_000


def test_the_limits_of_processes_differ_by_up_to_a_tenth() -> None:
    assert [staggered(1000, number, 4) for number in range(8)] == [1000, 975, 950, 925] * 2
    assert [staggered(3, number, 4) for number in range(4)] == [3] * 4
    assert staggered(None, 1, 4) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("200MB", 200_000_000), ("1GiB", 2**30), ("1.5 gib", 3 * 2**29), (" 64kB ", 64_000), ("2TiB", 2**41)],
)
def test_a_memory_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    assert parse_memory_size(text) == size


@pytest.mark.parametrize("text", ["200", "", "MB", "-1MB", "0MB", "200 apples", "200M", "1e3MB", "nanMB", "\u0661MB"])
def test_an_invalid_memory_size_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"it must be a number with a unit .*, like 200MB"):
        parse_memory_size(text)
