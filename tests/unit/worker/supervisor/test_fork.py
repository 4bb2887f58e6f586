"""A forked worker process."""

import gc
import os

from crew.worker.supervisor.fork import fork


def test_a_garbage_collection_in_a_process_leaves_the_objects_alone_that_it_shares_with_the_supervisor() -> None:
    frozen_here = gc.get_freeze_count()
    objects = len(gc.get_objects())
    child = fork(0, lambda number, supervisor: int(gc.get_freeze_count() < objects), closing=(), signals=())
    child.socket.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 0
    assert gc.get_freeze_count() == frozen_here, "the supervisor itself collects as before"
