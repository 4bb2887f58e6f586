"""Exit status of processes, as text."""

import signal

import pytest

from crew.worker.shared_state.exit_status import describe_exit, exit_status_of


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        (1, "exit 1", "exited with 1"),
        (0, "exit 0", "exited with 0"),
        (-9, "SIGKILL", "was killed by SIGKILL"),
        (-11, "SIGSEGV", "was killed by SIGSEGV"),
        (-(signal.SIGRTMIN + 3), "signal 37", "was killed by signal 37"),
    ],
)
def test_an_exit_code_is_described_in_words(code: int, status: str, text: str) -> None:
    assert exit_status_of(code) == status
    assert describe_exit(status) == text
