"""Evaluates Erlang expressions in a node within milliseconds; `rabbitmqctl` needs more than a second of CPU time."""

import shutil
import subprocess

from crew.cli.broker import rabbitmq
from crew.cli.broker.node import Node
from crew.cli.broker.node_folder import NodeFolder
from tests.support.shared_node import locked

TIMEOUT = 60.0  # seconds


def evaluate(node: Node, folder: NodeFolder, expression: str) -> str:
    """Evaluate `expression` in `node`, which runs in `folder`; return its value as Erlang prints it, or fail.

    `erl_call` belongs to Erlang, but not to each of its packages: without it, `rabbitmqctl eval` does the same.
    """
    program = shutil.which("erl_call", path=rabbitmq.search_path())
    if program is None:
        return node.ctl("eval", expression)
    with locked(folder.path / "erl_call"):  # each has the same name, and a node has one connection to a name
        done = subprocess.run(
            [program, "-n", folder.node_name, "-c", folder.read(".erlang.cookie"), "-e"],
            input=f"{expression}\n",
            env=folder.environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
    assert done.stdout.startswith("{ok, "), f"{expression}: {done.stdout}{done.stderr}"
    return done.stdout.strip().removeprefix("{ok, ").removesuffix("}")
