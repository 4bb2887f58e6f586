"""Calls many sleep tasks at the same time from a script, and measures them: emit_task.py --count 30 --seconds 3"""

import argparse
import time

from crew.client.blocking import Client

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--count", type=int, default=30, help="number of sleeps [30]")
parser.add_argument("--seconds", type=float, default=3.0, help="duration of each sleep [3]")
options = parser.parse_args()

with Client() as client:
    begun = time.monotonic()
    calls = [
        client.call("sleep", options.seconds, expiration=options.count * options.seconds + 30)
        for _ in range(options.count)
    ]
    sleeps = [call.result() for call in calls]
    elapsed = time.monotonic() - begun

workers = {sleep["worker"] for sleep in sleeps}
at_once = max(sum(one["started"] <= at["started"] < one["ended"] for one in sleeps) for at in sleeps)
print(
    f"{options.count} sleeps of {options.seconds:g} s took {elapsed:.1f} s: "
    f"{len(workers)} worker processes, {at_once} sleeps at once"
)
