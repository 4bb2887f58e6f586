"""Messages between a worker process and its supervisor: one byte each, over a socket pair.

The end of the stream means that the other side has ended.
"""

import signal
from typing import Final

READY: Final = b"r"  # to the supervisor: this process is connected and serves its tasks
NEEDS_REPLACEMENT: Final = b"l"  # to the supervisor: this process takes no new deliveries; start its replacement
REPLY_LOST_CALLS: Final = b"b"  # from the supervisor: processes have died; reply to the callers of their lost calls
DRAIN: Final = b"d"  # from the supervisor: take no new deliveries, finish what runs, exit
INTERRUPT: Final = b"h"  # from the supervisor: interrupt what runs, exit

DUMP_STACKS: Final = signal.SIGQUIT  # a process writes the stacks of all threads to stderr, even where Python hangs
