"""Bytes from the broker that are not a whole frame or message yet."""


class Incoming:
    """Keeps what has arrived, in pieces, until enough is there: joining them at each read would copy it repeatedly."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._enough = 0

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<Incoming: {self._size} of at least {self._enough} bytes>"

    def add(self, data: bytes) -> bytes:
        """Return what was kept and `data`; b"" until as many bytes have arrived as `keep` waits for."""
        if not self._size:
            return data
        self._pieces.append(data)
        self._size += len(data)
        return b"".join(self._pieces) if self._size >= self._enough else b""

    def keep(self, rest: bytes, missing: int) -> None:
        """Keep `rest`, in place of all earlier bytes, until `missing` bytes or more have arrived."""
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._enough = self._size + missing
