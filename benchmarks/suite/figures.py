"""Measures one system: the figures of a turn, and those that are measured once."""

import statistics
import sys
from typing import Final

import msgspec
from load import Burst, Bursts, Port, Web
from suite.http_load import requests_per_second
from suite.systems import System

MANY: Final = 64  # calls in flight
PARALLEL: Final = 100  # calls
PARALLEL_TIMES: Final = 5  # a turn


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one turn.

    Attributes:
        rate: calls per second, many in flight.
        p50: seconds, one in flight.
        cpu, server_cpu: CPU seconds of client and worker, and of the servers, per call.
        parallel: seconds until the last one of `PARALLEL` calls.
        bare, called, mixed: HTTP requests per second: without a call, with one, and with the system's mixin.
    """

    rate: float
    p50: float
    cpu: float
    server_cpu: float
    parallel: float
    bare: float
    called: float
    mixed: float | None


class Single(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured once.

    Attributes:
        pss: MiB of an idle worker with all its processes.
        burst: None if its calls did not end in time.
    """

    pss: float
    burst: "BurstFigures | None"


class BurstFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the second of two bursts.

    Attributes:
        rate: calls per second.
        latest: the latest reply, in medians of the last tenth.
        growth: MiB by which the client has grown since the end of the first burst.
    """

    rate: float
    latest: float
    growth: float


def turn(system: System, seconds: float) -> Turn:
    """Measure all figures of a turn, in about five times `seconds`."""
    worker, servers = system.worker.cpu(), system.server_cpu()
    many = system.client.order(seconds, MANY)
    cpu = many["cpu"] + system.worker.cpu() - worker
    servers = system.server_cpu() - servers
    one = system.client.order(seconds, 1)
    parallel: Bursts = system.client.request(Burst(burst=PARALLEL, times=PARALLEL_TIMES))
    port: Port = system.client.request(Web(web=True))
    paths = ["/bare", "/call", *["/mixin"] * system.has_mixin]
    bare, called, *mixed = [requests_per_second(port["port"], path, seconds) for path in paths]
    return Turn(
        rate=many["calls"] / many["seconds"],
        p50=one["p50"],
        cpu=cpu / many["calls"],
        server_cpu=servers / many["calls"],
        parallel=statistics.median(parallel["seconds"]),
        bare=bare,
        called=called,
        mixed=mixed[0] if mixed else None,
    )


def single(system: System, calls: int) -> Single:
    """Measure what is measured once; the system must have been idle for some seconds."""
    pss = system.worker.pss()
    try:
        return Single(pss=pss, burst=_burst(system, Burst(burst=calls, times=1)))
    except RuntimeError as error:
        if not system.is_peer:
            raise
        print(f"{system.name}: {calls:,} calls at once failed: {error}", file=sys.stderr, flush=True)
        return Single(pss=pss, burst=None)


def _burst(system: System, order: Burst) -> BurstFigures:
    system.client.request(order)
    before = system.client.pss()
    bursts: Bursts = system.client.request(order)
    growth = system.client.pss() - before
    return BurstFigures(rate=order["burst"] / bursts["seconds"][0], latest=bursts["latest"], growth=growth)
