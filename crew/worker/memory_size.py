"""An amount of memory in text: "200MB", "1GiB"."""

import re
from typing import Final

UNITS: Final = {
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}

_BYTES: Final = {unit.lower(): bytes for unit, bytes in UNITS.items()}


def parse(text: str) -> int:
    """The bytes that `text` means.

    Raises:
        ValueError: it is no positive number with one of the units.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower(), re.ASCII)
    size = round(float(found[1]) * _BYTES.get(found[2], 0)) if found else 0
    if size < 1:
        raise ValueError(f"it must be a number with a unit ({', '.join(UNITS)}), like 200MB, not {text!r}")
    return size
