"""Everything that one test uses: clock, broker, workers, clients, gateways, job stores. The fixtures are made of it."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from crew import settings
from crew.amqp.admin.session import open_session
from crew.broker_url import LONGEST_HEARTBEAT
from crew.client.loop_thread import LoopThread
from crew.settings import Tuning
from crew.testing.broker.broker import Broker
from crew.testing.broker.server import BrokerServer
from crew.testing.client import ClockedBlockingClient, ClockedClient
from crew.testing.clock import Clock, RealClock, VirtualClock
from crew.testing.worker import THREADS, InProcessWorker, find
from crew.worker.options import Options

if TYPE_CHECKING:
    from crew.jobs import JobStore
    from crew.testing.gateway import Response, Source, TestedGateway

T = TypeVar("T")

# In an hour of waiting, connections would do their periodic checks thousands of times.
TUNING: Final = Tuning(renewal_interval=600.0, confirm_timeout=600.0, clock_watch_interval=600.0)


class Kit:
    """What one test uses. `with Kit() as kit:` installs its clock, and ends everything at the end of the block.

    Args:
        url: of a RabbitMQ; None: an in-memory broker.
        clock: default: a `VirtualClock`, or with a RabbitMQ a `RealClock`.
        broker: the rules of the in-memory broker; default: those of RabbitMQ 3.10.
    """

    def __init__(
        self, url: str | None = None, *, clock: Clock | None = None, broker: Callable[..., Broker] = Broker
    ) -> None:
        self.clock: Clock = clock or (VirtualClock() if url is None else RealClock())
        self._folder = tempfile.TemporaryDirectory(prefix="crew-")
        self.folder = Path(self._folder.name)
        self._thread = LoopThread()
        self._workers: list[InProcessWorker] = []
        self._clients: list[ClockedClient | ClockedBlockingClient] = []
        self._gateways: list[TestedGateway] = []
        self._broker_class = broker
        self._server: BrokerServer | None = None
        self._given_url = url
        self.url = url or ""
        self.tuning = TUNING if url is None else Tuning()

    def __repr__(self) -> str:
        return f"<Kit {settings.redacted((self.url,))}: {self.clock!r}>"

    def __enter__(self) -> "Kit":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- start and end ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Install the clock, and start the in-memory broker."""
        self.clock.install()
        try:
            with self.clock.busy():
                self.run(self._start())
        except BaseException:
            self.clock.uninstall()
            raise

    async def _start(self) -> None:
        self.clock.adopt(asyncio.get_running_loop())
        if self._given_url is not None:
            return
        path = self.folder / "amqp"
        self._server = BrokerServer(self._broker_class(clock=self.clock.monotonic, wall=self.clock.time))
        await self._server.listen_unix(str(path))
        self.url = f"amqp://guest:guest@localhost/?socket={path}&heartbeat={LONGEST_HEARTBEAT}"

    def close(self) -> None:
        """End everything, and restore the clock of the process."""
        with contextlib.ExitStack() as stack:  # each step is done even if one before has failed
            stack.callback(self._folder.cleanup)
            stack.callback(self.clock.uninstall)
            stack.callback(self._thread.close, self._close)
            for worker in self._workers:
                stack.callback(worker.stop)
            for gateway in self._gateways:
                stack.callback(self.run_sync, gateway.close)
            for client in self._clients:
                stack.callback(client.close if isinstance(client, ClockedBlockingClient) else client.end)

    async def close_clients(self) -> None:
        """Close the clients that were used on the event loop of the test, which is about to end."""
        for client in self._clients:
            if isinstance(client, ClockedClient):
                await client.close()

    async def _close(self) -> None:
        if self._server is not None:
            await self._server.close()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` on the event loop of broker and gateways, and wait for it."""
        return self._thread.run(step)

    def run_sync(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """As `run`, for a function that makes the coroutine."""
        return self.run(step())

    async def run_here(self, step: Coroutine[Any, Any, T]) -> T:
        """As `run`, awaited on the event loop of the test."""
        self.clock.adopt(asyncio.get_running_loop())
        return await asyncio.wrap_future(self._thread.submit(step))

    @property
    def is_real(self) -> bool:
        """Whether the broker is a RabbitMQ."""
        return self._given_url is not None

    # --- parts ------------------------------------------------------------------------------------------------------

    @property
    def broker(self) -> "BrokerControl":
        """What can happen to the in-memory broker; raise RuntimeError with a RabbitMQ."""
        if self._server is None:
            raise RuntimeError("crew_broker is the in-memory broker, but this test runs with --crew-broker")
        return BrokerControl(self, self._server)

    def worker(self, *tasks: Any, threads: int = THREADS, **context_settings: Any) -> InProcessWorker:
        """Serve `tasks`: functions below @Task, names of tasks, or modules with tasks; returns when calls are served.

        Args:
            threads: plain functions that run at a time.
            context_settings: attributes of `context.settings`, as for `run()`.

        Raises:
            ValueError: an argument is no task, or there is none.
            SettingsError: a task cannot be served.
        """
        if not tasks:
            raise ValueError("crew_worker needs tasks: crew_worker(resize), or a module: crew_worker(tasks)")
        options = Options(broker=settings.load(self.url, tuning=self.tuning), threads=max(2, threads), drain=1.0)
        served = find(tasks, scale=self.clock.scaled(1.0))
        if self.is_real:
            self.run(self._delete_queues([queue.name for task in served for queue in task.queues]))
        made = InProcessWorker(served, options, clock=self.clock, settings=context_settings)
        self._workers.append(made)
        made.start()
        return made

    async def _delete_queues(self, names: Iterable[str]) -> None:
        """Delete what an earlier test has left in a RabbitMQ."""
        async with open_session(settings.load(self.url), name="crew.testing") as session:
            for name in names:
                await session.delete(name, if_idle=False)

    def client(self, *, store: "JobStore | None" = None, **options: Any) -> ClockedClient:
        """A `crew.Client` for the event loop of the test."""
        made = ClockedClient(self.url, store=store, tuning=self.tuning, **options)
        made.clock = self.clock
        self._clients.append(made)
        return made

    def blocking_client(self, *, store: "JobStore | None" = None, **options: Any) -> ClockedBlockingClient:
        """A `crew.client.blocking.Client`."""
        made = ClockedBlockingClient(self.url, clock=self.clock, store=store, tuning=self.tuning, **options)
        self._clients.append(made)
        return made

    def store(self) -> "JobStore":
        """A job store; all stores of a kit have the same records."""
        from crew.testing.store import make_store

        return make_store(f"sqlite:///{self.folder / 'jobs.db'}", self.clock)

    def gateway(self, source: "Source" = None, *, store: bool | None = None) -> "TestedGateway":
        """Serve a Tornado application, see `TestedGateway`.

        Args:
            store: whether its client has the job store. Default: only without `source`, for the HTTP API of crew.
        """
        from crew.testing.gateway import TestedGateway

        has_store = source is None if store is None else store

        async def make() -> TestedGateway:
            client = ClockedClient(self.url, tuning=self.tuning)
            client.clock = self.clock
            made = TestedGateway(source, client, self.store() if has_store else None, folder=self.folder)
            await client.connect()
            return made

        made = self.run(make())
        self._gateways.append(made)
        return made

    def fetch(self, gateway: "TestedGateway", path: str, **options: Any) -> "Response":
        """Make a request to `gateway`, in a test that is a plain function."""
        return self.run(gateway.fetch(path, **options))


class BrokerControl:
    """What can happen to the in-memory broker of a test."""

    def __init__(self, kit: Kit, server: BrokerServer) -> None:
        self._kit = kit
        self._server = server

    def __repr__(self) -> str:
        return f"<BrokerControl of {self._server!r}>"

    def cut_connections(self) -> None:
        """Lose all connections now; clients and workers reconnect."""
        self._do(self._server.cut_connections)

    def stop(self) -> None:
        """Lose all connections, and accept none until `start`."""
        self._do(lambda: self._server.refuse_connections(True))
        self.cut_connections()

    def start(self) -> None:
        """Accept connections again."""
        self._do(lambda: self._server.refuse_connections(False))

    def block(self) -> None:
        """Block publishing, as a broker that is short of memory does."""
        self._do(self._server.block)

    def unblock(self) -> None:
        """Allow publishing again."""
        self._do(self._server.unblock)

    def depth(self, queue: str) -> int:
        """Messages that are ready in `queue`; 0 where it does not exist."""
        found = self._server.broker.queues.get(queue)
        return 0 if found is None else len(found)

    def queues(self) -> Iterable[str]:
        """Names of the queues."""
        return sorted(self._server.broker.queues)

    def _do(self, step: Callable[[], object]) -> None:
        async def run() -> None:
            step()

        self._kit.run(run())
