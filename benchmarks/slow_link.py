"""A broker behind a network link of limited rate, on one machine: two network namespaces and a pair of interfaces.

This process, and those that it starts, are in one namespace; the broker is in another. A token bucket filter limits
each end of the pair, as the two directions of a full duplex link: tc-tbf(8). Linux and root are needed; no interface of
the machine itself is changed, and the namespaces end with their processes.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crew.cli.broker.node import Node

HERE: Final = "10.213.0.1"
THERE: Final = "10.213.0.2"
PORT: Final = 5672
BURST: Final = "256kb"  # above the 64 KiB that the kernel passes to an interface at once
_INSIDE: Final = "CREW_BENCHMARK_NAMESPACE"
DELAY: Final = "20ms"  # that a packet may wait for the filter: a buffer of 2.5 MB at 1 Gbit/s


def enter() -> None:
    """Run this script again in a network namespace of its own; return where it is in one."""
    if _INSIDE not in os.environ:
        command = ["unshare", "--net", sys.executable, *sys.argv]
        os.execvpe(command[0], command, {**os.environ, _INSIDE: "yes"})
    _run("ip", "link", "set", "lo", "up")


@contextlib.contextmanager
def broker(folder: Path, rate: str) -> Iterator[str]:
    """Start a private node at the other end of a link; yields its URL.

    Args:
        rate: of each direction, as tc(8) reads it, such as "1gbit".
    """
    holder = subprocess.Popen(
        ["unshare", "--net", sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        _run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(holder.pid))
        _shape([], "here", HERE, rate)
        _shape(["nsenter", "--target", str(holder.pid), "--net"], "there", THERE, rate)
        print("start", file=holder.stdin, flush=True)
        url = holder.stdout.readline().strip()
        if not url:
            raise RuntimeError("the broker behind the link did not start")
        yield url
    finally:
        holder.stdin.close()
        holder.wait()


def _shape(inside: list[str], interface: str, address: str, rate: str) -> None:
    _run(*inside, "ip", "address", "add", f"{address}/24", "dev", interface)
    _run(*inside, "ip", "link", "set", interface, "up")
    _run(*inside, "tc", "qdisc", "add", "dev", interface, "root", "tbf", "rate", rate, "burst", BURST, "latency", DELAY)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _serve(folder: Path) -> None:
    """Run the node in the present namespace until stdin ends."""
    _run("ip", "link", "set", "lo", "up")
    print("ready", flush=True)
    sys.stdin.readline()  # the link is up
    node = Node(folder, conf=[f"listeners.tcp.2 = {THERE}:{PORT}"])
    node.start()
    try:
        print(node.url.rpartition("@")[0] + f"@{THERE}:{PORT}/", flush=True)
        sys.stdin.read()
    finally:
        node.stop()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
