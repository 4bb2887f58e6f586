"""The faults of the storm test. A fault is over when its function returns.

A fault that kills something restarts it: after the fault, everything that calls need is reachable.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from crew.cli.broker.node import Node
from tests.support import raw
from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.waiting import until

HEARTBEAT: Final = 2  # seconds, for all connections of the test
SHORTER: Final = 1.0  # seconds: shorter than the heartbeat
LONGER: Final = 3.0 * HEARTBEAT
ALARM: Final = 1.5  # seconds
AWAY: Final = 2.0


class Field(msgspec.Struct, kw_only=True):
    """The components in which faults are injected.

    Attributes:
        near: proxy between the client and the node.
        far: proxy between the workers and the node.
        workers: supervisors, each with several processes.
        start_worker: starts one more worker.
        tasks: task names.
        client: id of the client.
    """

    node: Node
    near: Proxy
    far: Proxy
    workers: list[Process]
    start_worker: Callable[[], Process]
    tasks: Sequence[str]
    client: str


class Fault(msgspec.Struct, frozen=True):
    """One kind of fault.

    Attributes:
        inject: begins the fault, and returns when it is over.
        may_double: running calls may be run a second time, as the broker gets no acknowledgement of them.
        may_drop: the fault deletes messages that wait in the broker.
    """

    inject: Callable[[Field], Awaitable[None]]
    may_double: bool = True
    may_drop: bool = False


# --- the broker ------------------------------------------------------------------------------------------------------


async def kill_broker(field: Field) -> None:
    await asyncio.to_thread(field.node.kill)
    await asyncio.to_thread(field.node.start)


async def restart_broker(field: Field) -> None:
    await asyncio.to_thread(field.node.stop)
    await asyncio.to_thread(field.node.start)


async def freeze_briefly(field: Field) -> None:
    await _frozen([_pid(field.node)], SHORTER)


async def freeze_for_long(field: Field) -> None:
    await _frozen([_pid(field.node)], LONGER)


async def close_connections(field: Field) -> None:
    await asyncio.to_thread(field.node.ctl, "close_all_connections", "a fault of the test")


async def alarm_memory(field: Field) -> None:
    await _alarm(field.node, ("set_vm_memory_high_watermark", "absolute", "1"), ("set_vm_memory_high_watermark", "0.4"))


async def alarm_disk(field: Field) -> None:
    await _alarm(field.node, ("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB"))


async def delete_task_queue(field: Field) -> None:
    await asyncio.to_thread(_delete, field.node.url, f"crew.tasks.{field.tasks[0]}")


async def delete_reply_queue(field: Field) -> None:
    await asyncio.to_thread(_delete, field.node.url, f"crew.reply.{field.client}")


async def delete_exchanges(field: Field) -> None:
    await asyncio.to_thread(_delete_exchanges, field.node.url)


# --- the network -----------------------------------------------------------------------------------------------------


async def cut_client(field: Field) -> None:
    await _away(field.near)


async def cut_workers(field: Field) -> None:
    await _away(field.far)


async def half_open_client(field: Field) -> None:
    await _half_open(field.near)


async def half_open_workers(field: Field) -> None:
    await _half_open(field.far)


# --- workers ---------------------------------------------------------------------------------------------------------


async def kill_process(field: Field) -> None:
    _signal_one(field, signal.SIGKILL)


async def crash_process(field: Field) -> None:
    _signal_one(field, signal.SIGSEGV)


async def freeze_process(field: Field) -> None:
    await _frozen(_children(field.workers[0])[:1], SHORTER)


async def reload_worker(field: Field) -> None:
    worker = field.workers[0]
    before = worker.output.count("serving")
    os.kill(worker.pid, signal.SIGHUP)
    await until(lambda: worker.output.count("serving") > before, timeout=15)


async def replace_worker(field: Field) -> None:
    new = await asyncio.to_thread(field.start_worker)
    old = field.workers.pop(0)
    field.workers.append(new)
    assert await asyncio.to_thread(old.stop, signal.SIGTERM, 20) == 0


FAULTS: Final = {
    "broker killed": Fault(kill_broker),
    "broker restarted": Fault(restart_broker),
    "broker frozen briefly": Fault(freeze_briefly, may_double=False),
    "broker frozen for long": Fault(freeze_for_long),
    "connections closed": Fault(close_connections),
    "memory alarm": Fault(alarm_memory, may_double=False),
    "disk alarm": Fault(alarm_disk, may_double=False),
    "task queue deleted": Fault(delete_task_queue, may_drop=True),
    "reply queue deleted": Fault(delete_reply_queue, may_drop=True),
    "exchanges deleted": Fault(delete_exchanges),
    "client cut off": Fault(cut_client),
    "workers cut off": Fault(cut_workers),
    "client half-open": Fault(half_open_client),
    "workers half-open": Fault(half_open_workers),
    "process killed": Fault(kill_process),
    "process crashed": Fault(crash_process),
    "process frozen": Fault(freeze_process, may_double=False),
    "worker reloaded": Fault(reload_worker, may_double=False),
    "worker replaced": Fault(replace_worker, may_double=False),
}


# --- helpers ---------------------------------------------------------------------------------------------------------


async def _frozen(pids: Sequence[int], seconds: float) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)  # how long it lasts is the fault itself
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def _alarm(node: Node, begin: Sequence[str], end: Sequence[str]) -> None:
    await asyncio.to_thread(node.ctl, *begin)
    try:
        await asyncio.sleep(ALARM)
    finally:
        await asyncio.to_thread(node.ctl, *end)


async def _away(proxy: Proxy) -> None:
    proxy.cut(refuse=True)
    try:
        await asyncio.sleep(AWAY)
    finally:
        proxy.heal()


async def _half_open(proxy: Proxy) -> None:
    """Half-open connections, until the missing heartbeats must have been detected."""
    proxy.half_open()
    await asyncio.sleep(2 * HEARTBEAT)


def _pid(node: Node) -> int:
    assert node.pid is not None
    return node.pid


def _signal_one(field: Field, number: int) -> None:
    os.kill(_children(field.workers[-1])[0], number)


def _children(worker: Process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]


def _delete(url: str, queue: str) -> None:
    with raw.channel(url) as channel:
        channel.queue_delete(queue)


def _delete_exchanges(url: str) -> None:
    with raw.channel(url) as channel:
        for name in ("crew.DLX", "crew.control", "crew.retry", "crew.PUBSUB"):
            channel.exchange_delete(name)
