"""The PgBouncer of the tests: in transaction mode, in front of their PostgreSQL, on loopback."""

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

# Consecutive transactions use different server connections, of two.
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

# A process that kills PgBouncer when its standard input ends. That is the end of the tests, also by a kill.
STOPPER = """\
import json, subprocess, sys
pooler = subprocess.Popen(sys.argv[2:], **json.loads(sys.argv[1]))
sys.stdin.read()
pooler.kill()
pooler.wait()
"""


@contextmanager
def pooling(server: Server) -> Iterator[int]:
    """The port of a PgBouncer in front of `server`, stopped at the end of the block."""
    account = unprivileged_account()
    folder = Path(tempfile.mkdtemp(prefix="crew-pgbouncer-"))
    try:
        port = random.choice(PORTS)
        (folder / "conf").write_text(CONF.format(server=server.port, port=port, folder=folder))
        (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        identity: dict[str, Any] = {}
        if account:  # PgBouncer refuses to run as root
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, account.pw_uid)
        with (folder / "output").open("wb") as output:
            stopper = subprocess.Popen(
                [sys.executable, "-c", STOPPER, json.dumps(identity), _program(), str(folder / "conf")],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        try:
            eventually(lambda: _is_listening(port) or stopper.poll() is not None, READY_WITHIN)
            assert _is_listening(port), (folder / "output").read_text(errors="replace")
            yield port
        finally:
            stopper.communicate(timeout=ENDS_WITHIN)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pgbouncer_url(postgresql: Server, postgresql_url: str) -> Iterator[str]:
    """URL of an empty database for one test, behind a PgBouncer in transaction mode."""
    if not _program():
        assert "CI" not in os.environ, "CI must have PgBouncer: apt-get install pgbouncer"
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with pooling(postgresql) as port:
        yield postgresql_url.replace(f":{postgresql.port}/", f":{port}/")


def _program() -> str:
    """The path of PgBouncer; "" if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/opt/homebrew/bin") or ""


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
