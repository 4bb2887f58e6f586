"""The in-memory broker as a service for other processes of this user: `crew dev --memory`."""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from crew import private_folder
from crew.client.loop_thread import LoopThread
from crew.settings import PRIVATE_NODE_URL
from crew.testing.broker.broker import Broker
from crew.testing.broker.server import BrokerServer

_SOCKET = "?socket="


class MemoryNode:
    """An in-memory broker on a Unix domain socket that only this user can reach.

    Other commands in the working directory find it as they find the private node of `crew broker start`, unless that
    one has left its URL.

    Args:
        url_file: where other commands look for the URL.
    """

    def __init__(self, url_file: Path = PRIVATE_NODE_URL) -> None:
        self._url_file = url_file
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._thread = LoopThread()
        self._server: BrokerServer | None = None
        self._is_ours = False
        self.url = ""

    def __repr__(self) -> str:
        return f"<MemoryNode: {'running' if self._server else 'stopped'}>"

    def start(self) -> str:
        """Start to serve; returns the URL."""
        self._folder = tempfile.TemporaryDirectory(prefix="crew-")  # only its owner can enter it
        path = str(Path(self._folder.name) / "amqp")
        self._thread.run(self._listen(path))
        self.url = f"amqp://guest:guest@localhost/{_SOCKET}{path}"
        self._is_ours = not self._url_file.exists() or _SOCKET in self._url_file.read_text()
        if self._is_ours:
            private_folder.make_folder(self._url_file.parent)
            private_folder.write_text(self._url_file, self.url + "\n")
        return self.url

    @property
    def how_to_reach(self) -> Sequence[str]:
        """How other commands find it, as sentences."""
        if self._is_ours:
            return ["in another terminal, in this folder, try: crew call TASK"]
        return [f"in another terminal, write first: export CREW_AMQP_URL={shlex.quote(self.url)}"]

    def stop(self) -> None:
        """Cut all connections, and forget all messages; idempotent."""
        if self._is_ours:
            self._url_file.unlink(missing_ok=True)
        if self._server is not None:
            self._thread.close(self._server.close)
            self._server = None
        if self._folder is not None:
            self._folder.cleanup()

    async def _listen(self, path: str) -> None:
        self._server = BrokerServer(Broker())
        await self._server.listen_unix(path)
