"""The compared trees: a worktree of an older commit, and the processes that import crew from a tree."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from process import Process

from crew.cli.broker.node import Node

KINDS: Final = ("transient", "persistent")  # calls
MAIN: Final = "main"


class Tree:
    """A tree with its running processes, in a virtual host of its own.

    Args:
        path: of the tree.
        node: the broker.
        vhost: made here.
        stack: stops the processes at its end.
    """

    def __init__(self, path: Path, node: Node, vhost: str, stack: contextlib.ExitStack) -> None:
        check_import(path)
        node.ctl("add_vhost", vhost)
        node.ctl("set_permissions", "-p", vhost, str(urlsplit(node.url).username), ".*", ".*", ".*")
        url = node.url + vhost
        self.worker = Process("echo_worker.py", "--processes", "1", "--logging", "warning", url=url, tree=path)
        stack.callback(self.worker.stop)
        self.clients = {
            kind: Process("echo_client.py", *["--persistent"] * (kind == "persistent"), url=url, tree=path)
            for kind in KINDS
        }
        for client in self.clients.values():
            stack.callback(client.stop)
        for client in self.clients.values():
            client.wait_ready()

    def warm_up(self, seconds: float, in_flight: int) -> None:
        """Run both kinds of calls without measuring them."""
        for client in self.clients.values():
            client.order(seconds, in_flight)


def check_import(tree: Path) -> None:
    """Raise RuntimeError if PYTHONPATH does not make a process import crew from this tree."""
    program = "import crew; print(crew.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd="/", stdout=subprocess.PIPE, text=True, check=True
    )
    if not Path(done.stdout.strip()).is_relative_to(tree):
        raise RuntimeError(f"with PYTHONPATH={tree} a process imports crew from {done.stdout.strip()}")


@contextlib.contextmanager
def checked_out(root: Path, commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of `commit` of the repository at `root`, in `folder`; removed at the end."""
    git(root, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        git(root, "worktree", "remove", "--force", str(folder))


def default_base(root: Path) -> str:
    """The commit at which this work started: the merge-base with main; on main, HEAD or else its parent."""
    head = git(root, "rev-parse", "HEAD")
    base = git(root, "merge-base", MAIN, "HEAD")
    if base != head or git(root, "status", "--porcelain", "crew"):
        return base
    return git(root, "rev-parse", "HEAD~1")


def git(root: Path, *arguments: str) -> str:
    """The output of a git command."""
    done = subprocess.run(["git", *arguments], cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()
