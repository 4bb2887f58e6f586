"""The node that several processes of the tests use ends with the last of them."""

from fcntl import LOCK_SH
from pathlib import Path

import pytest

from crew.cli.broker.node import Node
from tests.support.shared_node import locked, stop_unused


def test_only_a_node_that_no_process_uses_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[float] = []
    monkeypatch.setattr(Node, "stop", lambda node, timeout: stopped.append(timeout))
    with locked(tmp_path / "users", LOCK_SH):
        with locked(tmp_path / "users", LOCK_SH):
            stop_unused(tmp_path)
        stop_unused(tmp_path)
        assert stopped == []
    stop_unused(tmp_path)
    assert stopped == [0]
