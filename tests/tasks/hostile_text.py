"""Tasks whose failures, values and events try to forge log lines and to control the terminal."""

import os
import sys

from crew.worker import Task, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")  # a test imports the texts below
FORGED = "2026-01-01 00:00:00,000 INFO    1 crew.worker: all is well"
HOSTILE = f"x\x1b[2J\x9b3J\u202e\r\n{FORGED}\ncrew: forged"

if "configured" in sys.argv:
    import logging.config

    sys.argv.remove("configured")
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {"all": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["all"], "level": "INFO"},
        }
    )


@Task(PREFIX + "fail")
def fail(data):
    raise ValueError(HOSTILE)


@Task(PREFIX + "named")
def named(data):
    raise type(HOSTILE, (Exception,), {})("no")


@Task(PREFIX + "value")
def value(data):
    return HOSTILE


@Task(PREFIX + "bytes")
def raw(data):
    return HOSTILE.encode()


if __name__ == "__main__":
    run()
