"""Payloads of a given size as JSON, by kind: what large bodies mostly are."""

import base64
import json
import random
from collections.abc import Callable
from typing import Any, Final

SEED: Final = 15  # the same payloads in each process and each run


def payload(kind: str, size: int) -> Any:
    """Make the payload of this kind with about `size` bytes as JSON."""
    return KINDS[kind](random.Random(SEED), size)


def _words(chance: random.Random) -> list[str]:
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(3_000)]


def _records(chance: random.Random, size: int) -> Any:
    words, records, made = _words(chance), [], 0
    while made < size:
        record = {
            "id": chance.randrange(10**9),
            "name": " ".join(chance.choices(words, k=3)),
            "price": round(chance.random() * 1000, 2),
            "tags": chance.choices(words, k=4),
            "is_active": chance.random() < 0.5,
            "note": " ".join(chance.choices(words, k=12)),
            "position": {"x": chance.random(), "y": chance.random()},
        }
        records.append(record)
        made += len(json.dumps(record, separators=(",", ":"))) + 1
    return records


def _text(chance: random.Random, size: int) -> Any:
    return " ".join(chance.choices(_words(chance), k=size // 6))[:size]


def _numbers(chance: random.Random, size: int) -> Any:
    return [chance.random() for _ in range(size // 19)]


def _base64(chance: random.Random, size: int) -> Any:
    return base64.b64encode(chance.randbytes(size * 3 // 4)).decode()


KINDS: Final[dict[str, Callable[[random.Random, int], Any]]] = {
    "records": _records,
    "text": _text,
    "numbers": _numbers,
    "base64": _base64,
}
