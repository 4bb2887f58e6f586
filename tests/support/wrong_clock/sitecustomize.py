"""Makes the wall clock of a process wrong: on PYTHONPATH, Python imports this before anything else.

libfaketime would do it for the whole process, but `time.sleep` of Python 3.11 and later fails under it (EINVAL).
"""

import os
import time

_right = time.time
_wrong_by = float(os.environ["CREW_TEST_CLOCK_WRONG_BY"])  # seconds

time.time = lambda: _right() + _wrong_by
