"""Kills the leaders of quorum queues repeatedly under load, and traces every call that gets no result.

A node takes some seconds to restart. So several queues are under load at the same time: the kill of a node affects each
queue whose leader it is, at different moments of its calls. As a script it runs for a given time:

    .venv/bin/python -m tests.support.chaos.leader_kills --seconds 3600 --seed 1 --folder /tmp/kills
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from crew import Client
from crew.amqp.channel import Channel
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.errors import CrewError
from tests.support.cluster import Cluster, clustered
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, running
from tests.support.waiting import until

TASKS: Final = TASK_FOLDER / "leader_kill_tasks.py"
PREFIX: Final = "kill."
QUEUES: Final = 12
WORKERS: Final = 2
IN_FLIGHT: Final = 4  # calls per queue
SECONDS: Final = 0.002  # running time of each call
EXPIRATION: Final = 60.0  # seconds: longer than a leader election and a restart
SUSPECT_AFTER: Final = 25.0  # seconds without a result after which the state of the broker is recorded
SERVES_WITHIN: Final = 40.0  # seconds until each affected queue serves a call again
STARTS_WITHIN: Final = 180.0  # seconds, on a busy machine
WHOLE_WITHIN: Final = 120  # seconds until all queues have all of their members again
PAUSE: Final = (0.0, 0.7)  # seconds between a complete cluster and the next kill, drawn with the seed
POLL: Final = 0.1  # seconds
HEARTBEAT: Final = 2  # seconds

# Waits until the queues of the calls have a leader, and running members on all nodes; prints "queue leader" lines.
# A single `rabbitmqctl` does all this, as each one takes seconds of CPU.
WHOLE: Final = """
Whole = fun F(0) -> exit(not_whole); F(N) ->
  Names = [Name || Node <- rabbit_nodes:all_running(), Name <- rpc:call(Node, erlang, registered, [], 2000)],
  Led = [begin
      {Name, _} = Pid = amqqueue:get_pid(Q),
      {resource, _, _, QName} = amqqueue:get_name(Q),
      Leader = case ra:members(Pid, 2000) of {ok, _, {_, Node}} -> Node; _ -> none end,
      {QName, Leader, length([1 || One <- Names, One == Name])}
    end || Q <- rabbit_amqqueue:list_by_type(rabbit_quorum_queue),
           re:run(element(4, amqqueue:get_name(Q)), "^crew\\\\.(tasks\\\\.kill|reply)\\\\.") /= nomatch],
  case lists:all(fun({_, Leader, Members}) -> Leader /= none andalso Members == NODES end, Led) of
    true -> [io:format("~s ~s~n", [QName, Leader]) || {QName, Leader, _} <- Led], ok;
    false -> timer:sleep(300), F(N - 1)
  end
end, Whole(SECONDS * 3).
"""
# Kills the process of each queue leader on the node on which this runs; its supervisor restarts it.
KILL_LEADERS: Final = """
lists:sum([case ra:members(amqqueue:get_pid(Q), 2000) of
   {ok, _, {Name, N}} when N == node() -> timer:sleep(rand:uniform(200)), exit(whereis(Name), kill), 1;
   _ -> 0
 end || Q <- rabbit_amqqueue:list_by_type(rabbit_quorum_queue)]).
"""
# Prints the state of all channels of the node on which this runs, and of each queue whose leader it is.
STATES: Final = """
[io:format("CHANNEL ~p~n~p~n", [P, catch sys:get_state(P, 2000)]) || P <- rabbit_channel:list_local()],
[case ra:members(amqqueue:get_pid(Q), 2000) of
   {ok, _, {Name, N}} when N == node() ->
       io:format("QUEUE ~p~n~p~n", [amqqueue:get_name(Q), catch ra:local_query({Name, N}, fun(S) -> S end)]);
   _ -> ok
 end || Q <- rabbit_amqqueue:list_by_type(rabbit_quorum_queue)], ok.
"""


class LostCall(msgspec.Struct, frozen=True):
    """A call that ended without its value.

    Attributes:
        began, ended: by time.monotonic().
        steps: each with its time.monotonic(), as seen by the client, then by the workers.
    """

    id: str
    task: str
    error: str
    began: float
    ended: float
    steps: list[str]


class Tally(msgspec.Struct):
    """Counters of kills and results."""

    node_kills: int = 0
    leader_kills: int = 0  # queues whose leader was on a node that was killed
    process_kills: int = 0  # leaders whose process was killed, and not their node
    answered: int = 0
    slow: int = 0  # successful after more than SUSPECT_AFTER seconds
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    lost: list[LostCall] = msgspec.field(default_factory=list)


class Trace:
    """The steps of the calls in flight of this process, by the id of the call."""

    def __init__(self) -> None:
        self.steps: dict[str, list[str]] = {}
        self.statuses: Counter[str] = Counter()

    def add(self, id: str | None, step: str) -> None:
        """Add a step to the call `id`."""
        if id is not None and id in self.steps:
            self.steps[id].append(f"{time.monotonic():.3f} {step}")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Trace all channels of this process during the block."""
        publish, settle, on_return, on_message = (
            Channel.publish,
            Confirm.settle,
            Channel._on_return,
            Channel._on_message,
        )

        def traced_publish(channel: Channel, exchange: str, key: str, properties: Any, *rest: Any, **named: Any) -> Any:
            self.add(properties.correlation_id, f"client PUBLISHED to {key!r} over {id(channel):x}")
            return publish(channel, exchange, key, properties, *rest, **named)

        def traced_settle(confirm: Confirm, status: ConfirmStatus) -> None:
            self.statuses[status.value] += 1
            self.add(confirm.key, f"client SETTLED {status.value}")
            settle(confirm, status)

        def traced_return(channel: Channel, sender: object, method: object, properties: Any, body: bytes) -> None:
            self.add(properties.correlation_id, f"client RETURNED {method!r}")
            on_return(channel, sender, method, properties, body)

        def traced_message(channel: Channel, *rest: Any) -> None:
            self.add(rest[-2].correlation_id, f"client DELIVERED {rest[-2].type} redelivered {rest[-3].redelivered}")
            on_message(channel, *rest)

        Channel.publish, Channel._on_return = traced_publish, traced_return  # type: ignore[method-assign,assignment]
        Confirm.settle, Channel._on_message = traced_settle, traced_message  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            Channel.publish, Channel._on_return = publish, on_return  # type: ignore[method-assign]
            Confirm.settle, Channel._on_message = settle, on_message  # type: ignore[method-assign]


class Kills:
    """Keeps calls in flight on `QUEUES` queues, and kills the leaders of the queues.

    Args:
        dice: draws the node and the moment of each kill.
        folder: for the records of late calls.
    """

    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        workers: list[Process],
        trace: Trace,
        *,
        dice: random.Random,
        folder: Path,
    ) -> None:
        self.tally = Tally(statuses=trace.statuses)
        self._cluster = cluster
        self._client = client
        self._workers = workers
        self._trace = trace
        self._dice = dice
        self._folder = folder
        self._last_success: dict[str, float] = {}  # by task: when its last successful call began
        self._began: dict[str, float] = {}  # by id, of the calls in flight
        self._killed_at = time.monotonic()
        self._is_over = False
        self._recorded_at = -EXPIRATION
        self._callers = [
            asyncio.ensure_future(self._call_on(f"{PREFIX}{number}"))
            for number, _ in itertools.product(range(QUEUES), range(IN_FLIGHT))
        ]
        self._watch = asyncio.ensure_future(self._watch_for_late_calls())

    async def end(self) -> None:
        """Make no more calls, and wait for the open ones."""
        self._is_over = True
        await asyncio.gather(*self._callers)
        self._watch.cancel()

    async def wait_for_all_queues(self) -> None:
        """Wait until each queue has served a call that began from now on."""
        now = time.monotonic()
        tasks = [f"{PREFIX}{number}" for number in range(QUEUES)]
        with contextlib.suppress(AssertionError):  # a stuck call counts as lost
            await until(lambda: all(self._last_success.get(task, 0.0) > now for task in tasks), timeout=SERVES_WITHIN)

    async def kill_node(self) -> None:
        """Kill a node that leads a queue, wait until all queues serve, restart it, and wait for all members."""
        for node in self._cluster.nodes:  # a node may have been too slow to start after the last kill
            await in_thread(node.start, STARTS_WITHIN)
        leaders = Counter((await in_thread(whole, self._cluster)).values())
        name = self._dice.choice(sorted(leaders))
        node = self._cluster.node(name)
        await asyncio.sleep(self._dice.uniform(*PAUSE))
        self._killed_at = time.monotonic()
        node.kill()
        self.tally.node_kills += 1
        self.tally.leader_kills += leaders[name]
        await self.wait_for_all_queues()
        await in_thread(node.start, STARTS_WITHIN)

    async def kill_leader_processes(self) -> None:
        """Kill the process of each leader, node by node, at different moments."""
        for node in self._cluster.nodes:
            self._killed_at = time.monotonic()
            self.tally.process_kills += int(await in_thread(node.ctl, "eval", KILL_LEADERS))
        await self.wait_for_all_queues()

    # --- the calls --------------------------------------------------------------------------------------------------

    async def _call_on(self, task: str) -> None:
        while not self._is_over:
            id, began = f"{task}-{self._next_id():x}", time.monotonic()
            self._trace.steps[id] = []
            self._began[id] = began
            error: Exception | None = None
            try:
                if await self._client.call(task, SECONDS, id=id, expiration=EXPIRATION) != id:
                    error = AssertionError("its value is that of another call")
            except Exception as raised:
                error = raised
                await asyncio.sleep(POLL)
            del self._began[id]
            steps = self._trace.steps.pop(id)
            if error is None:
                self.tally.answered += 1
                self.tally.slow += time.monotonic() - began > SUSPECT_AFTER
                self._last_success[task] = max(self._last_success.get(task, 0.0), began)
            else:
                self._lose(id, task, error, began, steps)

    _ids = itertools.count()

    def _next_id(self) -> int:
        return next(self._ids)

    def _lose(self, id: str, task: str, error: Exception, began: float, steps: list[str]) -> None:
        steps = [
            *steps,
            *(line for worker in self._workers for line in worker.output.splitlines() if f" {id} " in f"{line} "),
        ]
        lost = LostCall(id, task, f"{type(error).__name__}: {error}", began, time.monotonic(), steps)
        self.tally.lost.append(lost)
        print(f"LOST after the kill at {self._killed_at:.3f}: {msgspec.json.encode(lost).decode()}", flush=True)

    async def _watch_for_late_calls(self) -> None:
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            late = [id for id, began in self._began.items() if now - began > SUSPECT_AFTER]
            if late and now - self._recorded_at > EXPIRATION:
                self._recorded_at = now
                await in_thread(self._record, late, now)

    def _record(self, late: list[str], now: float) -> None:
        """Write the state of the broker while calls are late, to help to find the cause."""
        path = self._folder / f"late-{now:.0f}.txt"
        with path.open("w") as file:
            print(f"killed at {self._killed_at:.3f}, now {now:.3f}, late: {late}", file=file)
            for id in late:
                print(id, *self._trace.steps.get(id, []), sep="\n    ", file=file)
            for node in self._cluster.nodes:
                with contextlib.suppress(CrewError):
                    for what in (
                        ("list_queues", "name", "leader", "messages_ready", "messages_unacknowledged", "consumers"),
                        ("list_channels", "pid", "connection", "messages_unacknowledged", "messages_unconfirmed"),
                    ):
                        if node is self._cluster.nodes[0]:
                            print(node, what, node.ctl(*what), sep="\n", file=file)
                    print(node, node.ctl("eval", STATES), sep="\n", file=file)
        print(f"LATE: {len(late)} calls, recorded in {path}", flush=True)


def whole(cluster: Cluster) -> dict[str, str]:
    """Wait until every queue has a leader and members on all nodes; returns the leader's node name by queue.

    Raises:
        CrewError: some queue has none after `WHOLE_WITHIN` seconds.
    """
    program = WHOLE.replace("NODES", str(len(cluster.nodes))).replace("SECONDS", str(WHOLE_WITHIN))
    lines = [line.split() for line in cluster.ask("eval", program, timeout=2 * WHOLE_WITHIN).splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


async def in_thread(step: Callable[..., Any], *arguments: object) -> Any:
    """Run a blocking step in a thread, while the calls continue."""
    return await asyncio.get_running_loop().run_in_executor(None, step, *arguments)


@asynccontextmanager
async def killing(cluster: Cluster, folder: Path, *, seed: int) -> AsyncIterator[Kills]:
    """Run workers and calls during the block; at its end all calls have ended."""
    environment = {
        "CREW_AMQP_URL": cluster.url,
        "CREW_TEST_PREFIX": PREFIX,
        "CREW_TEST_QUEUES": str(QUEUES),
        "CREW_QUEUE_TYPE": "quorum",
        "CREW_HEARTBEAT": str(HEARTBEAT),
    }
    trace = Trace()
    with running(folder, environment) as processes, trace.installed():
        workers = [processes.python(TASKS) for _ in range(WORKERS)]
        for worker in workers:
            await in_thread(worker.says, "serving")
        async with Client(cluster.url, queue_type="quorum") as client:
            kills = Kills(cluster, client, workers, trace, dice=random.Random(seed), folder=folder)
            try:
                await kills.wait_for_all_queues()
                yield kills
            finally:
                await kills.end()


# --- as a script -----------------------------------------------------------------------------------------------------


async def main(seconds: float, seed: int, folder: Path, *, processes: bool) -> None:
    """Kill for `seconds`, and print the tally after each kill."""
    end = time.monotonic() + seconds
    with clustered(folder) as cluster:
        async with killing(cluster, folder, seed=seed) as kills:
            while time.monotonic() < end:
                try:
                    await (kills.kill_leader_processes() if processes else kills.kill_node())
                except CrewError as error:
                    print(f"FAILED: {error}", flush=True)
                tally = msgspec.structs.asdict(kills.tally) | {"lost": len(kills.tally.lost)}
                print(f"{time.monotonic():.0f} {json.dumps(tally)}", flush=True)
        print(f"END {len(kills.tally.lost)} lost of {kills.tally.answered}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--processes", action="store_true", help="kill the leaders' processes instead of nodes")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(message)s")
    os.environ["CREW_HEARTBEAT"] = str(HEARTBEAT)
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(given.seconds, given.seed, given.folder, processes=given.processes))
