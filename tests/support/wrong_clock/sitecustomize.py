"""Shifts the wall clock of a Python process. With this folder on PYTHONPATH, Python imports this module at its start.

libfaketime would shift it for the whole process, but `time.sleep` of Python 3.11 and later fails with it (EINVAL).
"""

import os
import time

_right = time.time
_wrong_by = float(os.environ["CREW_TEST_CLOCK_WRONG_BY"])  # seconds

time.time = lambda: _right() + _wrong_by
