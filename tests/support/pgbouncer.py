"""The PgBouncer of the tests: in transaction mode, before the PostgreSQL of the tests, on loopback."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crew.cli.broker.node_folder import PORTS
from tests.support.postgresql import PASSWORD, USER, Server, unprivileged_account
from tests.support.waiting import eventually

READY_WITHIN = 30.0  # seconds, on a busy machine
ENDS_WITHIN = 10.0  # seconds

# Each transaction has another of two server connections than the one before, whoever begins it.
CONF = """\
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
server_round_robin = 1
logfile =
pidfile =
"""

# Ends it when the standard input ends, which is when the tests do: also when they are killed.
LEASH = """\
import json, subprocess, sys
pooler = subprocess.Popen(sys.argv[2:], **json.loads(sys.argv[1]))
sys.stdin.read()
pooler.kill()
pooler.wait()
"""


@contextmanager
def pooling(server: Server) -> Iterator[int]:
    """Port of a PgBouncer before `server`, which ends with the block."""
    account = unprivileged_account()
    folder = Path(tempfile.mkdtemp(prefix="crew-pgbouncer-"))
    try:
        port = random.choice(PORTS)
        (folder / "conf").write_text(CONF.format(server=server.port, port=port, folder=folder))
        (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        identity: dict[str, Any] = {}
        if account:  # it refuses to run as root
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, account.pw_uid)
        with (folder / "output").open("wb") as output:
            leash = subprocess.Popen(
                [sys.executable, "-c", LEASH, json.dumps(identity), _program(), str(folder / "conf")],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        try:
            eventually(lambda: _answers(port) or leash.poll() is not None, READY_WITHIN)
            assert _answers(port), (folder / "output").read_text(errors="replace")
            yield port
        finally:
            leash.communicate(timeout=ENDS_WITHIN)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pgbouncer_url(postgresql: Server, postgresql_url: str) -> Iterator[str]:
    """Of a database of the test's own, with nothing in it, behind a PgBouncer in transaction mode."""
    if not _program():
        assert "CI" not in os.environ, "CI must have PgBouncer: apt-get install pgbouncer"
        pytest.skip("no PgBouncer here: apt-get install pgbouncer")
    with pooling(postgresql) as port:
        yield postgresql_url.replace(f":{postgresql.port}/", f":{port}/")


def _program() -> str:
    """Its path; empty where it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/opt/homebrew/bin") or ""


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
