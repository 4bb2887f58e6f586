"""What the benchmarks read about a process."""

import os
import threading

from process import cpu_of, wake_ups_of


def test_each_wait_of_a_thread_is_a_wake_up() -> None:
    before = wake_ups_of(os.getpid())
    for _ in range(20):
        threading.Event().wait(0.001)
    assert wake_ups_of(os.getpid()) - before >= 20


def test_the_cpu_time_of_a_process_grows_while_it_works() -> None:
    before = cpu_of(os.getpid())
    sum(range(200_000))
    assert cpu_of(os.getpid()) > before
