"""Compares this tree with an older commit: has a call become slower?

    PYTHONPATH=benchmarks python -m guard [--base COMMIT] [--seconds S] [--rounds N]

The commit is checked out in a temporary worktree. Each tree has a worker and two clients, of transient and of
persistent calls, in a virtual host of one private broker; all run the scripts of this folder. The trees take short
turns, and after some rounds `verdict.py` decides about each figure. A figure is measured until it is decided or the
rounds are used up. The exit status is 0 if nothing is worse, 1 if a figure is more than 5 % worse, and 2 if one is
undecided.
"""

import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

import click
from guard.figures import Series, report
from guard.trees import Tree, checked_out, default_base
from guard.verdict import LOOKS, Verdict

from crew.cli.broker.node import Node

ROOT: Final = Path(__file__).parents[2]
STATUS: Final = {Verdict.NOT_WORSE: 0, Verdict.WORSE: 1, Verdict.UNDECIDED: 2}
IN_FLIGHT: Final = 64
WARM_UP: Final = 1.0  # seconds


@click.command(help="Fail if CPU time per call or p50 is more than 5 % worse than at an older commit.")
@click.option("--base", help="The commit. Default: the merge-base with main, on main HEAD or its parent.")
@click.option("--seconds", default=0.3, show_default=True, help="Length of one turn; a round has up to eight.")
@click.option("--rounds", default=LOOKS[-1], show_default=True, help="The most rounds.")
def main(base: str | None, seconds: float, rounds: int) -> None:
    """Compare the trees."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is removed
    base = base or default_base(ROOT)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        older = stack.enter_context(checked_out(ROOT, base, folder / "base"))
        node = Node(folder / "broker")
        stack.callback(node.stop)
        node.start()
        trees = [Tree(path, node, vhost, stack) for vhost, path in (("base", older), ("tree", ROOT))]
        for tree in trees:
            tree.warm_up(WARM_UP, IN_FLIGHT)
        found = measure(trees, seconds, rounds)
    print(f"this tree is {found.value}, compared with {base}")
    sys.exit(STATUS[found])


def measure(trees: list[Tree], seconds: float, rounds: int) -> Verdict:
    """Let the trees take turns until each figure is decided or one is worse; print the table."""
    series = Series()
    for turn in range(1, rounds + 1):
        series.add(*trees, seconds=seconds, in_flight=IN_FLIGHT, is_reversed=turn % 2 == 0)
        if turn in LOOKS or turn == rounds:
            found = series.look()
            print(f"after {turn} rounds: {found.value}; open: {', '.join(series.open) or '-'}", file=sys.stderr)
            if found is not Verdict.UNDECIDED:
                break
    print(report(series))
    return found


if __name__ == "__main__":
    main()
