"""Request bodies that take long to decode must not delay other clients: a real gateway, real workers."""

import http.client
import threading
import time

import msgspec
import pytest

from tests.support.hostile import HOSTILE
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.web import Web

SIZE = 16_000_000  # bytes: within CREW_MAX_MESSAGE
AT_ONCE = 4
P99 = 0.2  # seconds
REFUSED = "empty arrays", "small strings", "empty arrays in JSON", "nested arrays in JSON"
ACCEPTED = "spaces", "escapes", "huge numbers", "slow floats"


@pytest.fixture
def gateway(processes: Processes) -> Process:
    """A gateway and a worker with six processes: two are free while four decode a hostile body."""
    processes.python(TASK_FOLDER / "call_worker.py", "--processes", "6").says("serving")
    return processes.crew("gateway", "--port", "0").says("http://127")


def post(port: int, content_type: str, body: bytes) -> int:
    """Call the task `echo`; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/call/echo?expiration=60", body, {"Content-Type": content_type})
    with connection.getresponse() as response:
        response.read()
    connection.close()
    return response.status


def call_until(port: int, is_over: threading.Event) -> list[float]:
    """Make small calls, one after the other; return the seconds that each took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    taken: list[float] = []
    while not is_over.is_set() or len(taken) < 200:
        began = time.monotonic()
        connection.request("POST", "/call/echo", b"1", {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            assert (response.status, response.read()) == (200, b"1")
        taken.append(time.monotonic() - began)
        time.sleep(0.01)
    connection.close()
    return taken


@pytest.mark.chaos
@pytest.mark.parametrize("names", [REFUSED, ACCEPTED], ids=["refused", "accepted"])
def test_other_calls_are_answered_while_the_gateway_decodes_four_hostile_bodies(
    gateway: Process, names: tuple[str, ...]
) -> None:
    port, is_over, statuses = Web.of(gateway).port, threading.Event(), dict.fromkeys(names, 0)
    bodies = {name: (HOSTILE[name][0], HOSTILE[name][1](SIZE)) for name in names}

    def send(name: str) -> None:
        statuses[name] = post(port, *bodies[name])

    def attack() -> None:
        senders = [threading.Thread(target=send, args=(name,)) for name in names]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        is_over.set()

    attacker = threading.Thread(target=attack)
    attacker.start()
    taken = sorted(call_until(port, is_over))
    attacker.join()
    assert set(statuses.values()) == ({400} if names is REFUSED else {200}), statuses
    assert taken[int(len(taken) * 0.99)] <= P99, taken[-10:]


def test_invalid_and_deeply_nested_bodies_are_refused_without_a_traceback(gateway: Process) -> None:
    port = Web.of(gateway).port
    body = msgspec.msgpack.encode([msgspec.msgpack.Ext(5, b"x")])
    assert post(port, "application/msgpack", body) == 400
    assert post(port, "application/json", b"[" * 100_000) == 400
    assert post(port, "application/json", b'{"a":' * 30_000) == 400
    assert post(port, "application/msgpack", b"\xdd\xff\xff\xff\xff") == 400
    assert post(port, "application/json", b'["alive"]') == 200
    assert "Traceback" not in gateway.output
