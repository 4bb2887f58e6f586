"""One worker process: the I/O thread talks to the broker, the main thread belongs to the tasks.

The I/O thread never runs a task, so heartbeats go on whatever a task does. Supervisor and process talk over a socket
pair: one byte a message, and its end means that the other is gone.
"""

import asyncio
import contextvars
import faulthandler
import logging
import os
import selectors
import signal
import socket
import threading
import uuid
from typing import Any, Final, NoReturn

from crew.amqp import BrokerClock, Consumer, Delivery, Link, Outage, Signer
from crew.amqp.errors import LinkError
from crew.client.events.pubsub import PubSub
from crew.protocol import properties, topology, user_headers
from crew.protocol.briefing import BRIEFED, to_given_up
from crew.protocol.encoding import codec
from crew.protocol.message import Control, Event, Headers, new_id
from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.consumer.revoked_calls import RevokedCalls
from crew.worker.consumer.task_group import task_groups
from crew.worker.context import context
from crew.worker.executors.signals import ALARM
from crew.worker.hooks import hooks
from crew.worker.job_reports.jobs import JobReports
from crew.worker.mailbox import Mailbox
from crew.worker.nested_calls.caller import NestedCalls
from crew.worker.options import Options
from crew.worker.posix import forked_child, process_end, signal_handlers, stdio
from crew.worker.replacement import Replacement, staggered
from crew.worker.replies.lost_call_replies import LostCallReplies
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.shutdown import Shutdown
from crew.worker.supervisor.stall_detector import BEAT_EVERY, DUMP_STACKS
from crew.worker.task import Registry

logger = logging.getLogger(__name__)

READY: Final = b"r"  # to the supervisor: the broker was reached, and tasks are served
NEEDS_REPLACEMENT: Final = b"l"  # to the supervisor: this process takes nothing new, and another one may take its place
REPLY_LOST_CALLS: Final = (
    b"b"  # from the supervisor: calls have died with their process, and their callers are to be told
)
DRAIN: Final = b"d"  # from the supervisor: take nothing new, finish, exit
INTERRUPT: Final = b"h"  # from the supervisor: interrupt what runs, exit

EXIT_DRAINED: Final = 0
EXIT_NOT_STARTED: Final = 69  # EX_UNAVAILABLE: a start hook has failed, and may succeed the next time
EXIT_REFUSED: Final = 78  # EX_CONFIG of sysexits.h: no restart would help
EXIT_REPLACE: Final = 75  # EX_TEMPFAIL: another process takes its place, as a task cannot be stopped, or by --max-tasks
EXIT_BROKEN: Final = 70  # EX_SOFTWARE

CONTROL_PREFETCH: Final = 500  # cancels that the broker need not hold back
PUBLISH_TIMEOUT: Final = 10.0  # seconds for `context.pubsub.publish`


class WorkerProcess:
    """Runs in the forked child.

    Args:
        number: of this process in the supervisor's ledger.
        supervisor: our end of the socket pair.
    """

    def __init__(
        self,
        registry: Registry,
        options: Options,
        *,
        number: int,
        shared_state: SharedState,
        supervisor: socket.socket,
    ) -> None:
        self.id = new_id()
        self._registry = registry
        self._options = options
        self._supervisor = supervisor
        self._number, self._shared_state = number, shared_state
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._mailbox = Mailbox(self._loop)
        self._task_groups = task_groups(
            registry,
            options,
            number=number,
            shared_state=shared_state,
            mailbox=self._mailbox,
            replacement=self._replacement(),
        )
        self._revoked = RevokedCalls()
        self._exit_code: int | None = None
        self._told = asyncio.Event()  # of a drain, or of an end
        self._leaving: asyncio.Task[None] | None = None

    def run(self) -> int:
        """Serve until told to end; returns the exit code."""
        signal_handlers.install(signal.SIGTERM, self._on_signal)
        stacks = stdio.descriptor_for_stacks()
        faulthandler.enable(stacks)
        faulthandler.register(DUMP_STACKS, stacks, all_threads=True)
        forked_child.separate(self._selector, _be_forked)
        context.settings.uuid = self.id
        context.settings.node_uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{uuid.getnode():x}"))
        context.settings.options = self._options
        loop = next((station.loop for station in self._task_groups if station.loop), None)
        if not hooks.run_start(loop):
            return EXIT_NOT_STARTED
        context.pubsub.bind(self._publish)
        io = threading.Thread(target=self._run_io, name="crew I/O", daemon=True)
        io.start()
        first, *others = self._task_groups
        for station in others:
            station.serve_in_background()
        first.serve()
        io.join()
        self._shared_state.rest(self._number)
        context.pubsub.bind(None)
        if all(station.join() for station in others):  # else a coroutine blocks the event loop
            hooks.run_stop(loop)
        return EXIT_BROKEN if self._exit_code is None else self._exit_code

    # --- the I/O thread ---------------------------------------------------------------------------------------------

    def _run_io(self) -> None:
        asyncio.set_event_loop(self._loop)
        if self._task_groups[0].needs_alarm:
            # It is for the main thread, and the kernel gives it to any that does not block it. Where this thread starts
            # those of tasks it blocks nothing: they, and the programs that tasks start, would block it, too.
            signal.pthread_sigmask(signal.SIG_BLOCK, {ALARM})
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            logger.exception("the worker process is broken")
        finally:
            for station in self._task_groups:
                station.stop()

    async def _serve(self) -> None:
        self._open()
        self._beat()
        await self._told.wait()
        if self._exit_code == EXIT_REPLACE:
            await self._shutdown.run()
            await self._leave(EXIT_REPLACE)  # something runs on that nothing else ends
        if self._exit_code is None:
            is_replaced = self._leaving is not None and self._leaving.done()
            if not is_replaced:
                logger.info("draining: nothing new is taken, what runs has %g s", self._options.drain)
            if not await self._shutdown.run():
                await self._leave(EXIT_REPLACE)
            self._exit_code = EXIT_REPLACE if is_replaced else EXIT_DRAINED
        await self._close()
        if any(consumer.is_stuck for consumer in self._consumers):
            await self._leave(EXIT_DRAINED)  # the main thread does not come back to return

    async def _leave(self, code: int) -> NoReturn:
        """End the process although the main thread does not come back; heartbeats go on until then."""
        threading.Thread(target=process_end.end_process, args=(code,), name="crew exit", daemon=True).start()
        while True:
            await asyncio.sleep(process_end.EXIT_TIMEOUT)

    def _open(self) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}"
        names = [task.name for task in self._registry]
        control = topology.control_queue(self.id)
        outage, clock = Outage(), BrokerClock()
        signer = Signer.of(self._options.broker.signing_keys, clock)
        self._publishing = Link(
            self._options.broker,
            name=f"{name} worker publish",
            topology=(*topology.EXCHANGES, topology.parked_queue()),
            outage=outage,
            clock=clock,
            signer=signer,
            on_ready=self._send_waiting,
            on_refused=self._on_refused,
        )
        self._consuming = Link(
            self._options.broker,
            name=f"{name} worker consume",
            topology=(
                *topology.EXCHANGES,
                *(queue for task in self._registry for queue in task.queues),
                control,
                *topology.control_bindings(self.id, names),
            ),
            outage=outage,
            signer=signer,
            before_consuming=clock.compared,  # a backlog arrives at once, and its deadlines are looked at
            on_ready=self._on_ready,
            on_lost=self._on_lost,
            on_refused=self._on_refused,
        )
        self._consuming.remember(Consumer(control.name, self._on_control, CONTROL_PREFETCH, is_only=True))
        self._replies = ReplyPublisher(
            self._publishing, self.id, knows_store=lambda queue: self._jobs.revocation_sync.knows_store(queue)
        )
        self._retries = RetryPublisher(self._publishing, self._replies)
        self._lost_call_replies = LostCallReplies(self._shared_state, self._replies)
        self._jobs = JobReports(
            self.id, names, publishing=self._publishing, replies=self._replies, mailbox=self._mailbox
        )
        self._pubsub = PubSub(self.id, publishing=self._publishing, consuming=self._consuming)
        decode = codec.decoder_of(self._options.broker)
        self._nested = NestedCalls(
            self.id,
            self._mailbox,
            publishing=self._publishing,
            consuming=self._consuming,
            decode=decode,
            max_message=self._options.broker.max_message,
            on_call=self._on_nested_call,
        )
        context.bind(self._nested.call, self._jobs.progress.say)
        for station in self._task_groups:
            station.open(
                link=self._consuming,
                broker_clock=clock,
                replies=self._replies,
                retries=self._retries,
                jobs=self._jobs,
                revoked=self._revoked,
                on_worn_out=self._on_worn_out,
                decode=decode,
                max_message=self._options.broker.max_message,
            )
        outgoing = self._jobs.progress, self._replies, self._retries
        self._shutdown = Shutdown(self._consumers, outgoing, drain=self._options.drain, grace=self._options.grace)
        self._loop.add_reader(self._supervisor, self._on_supervisor)
        self._publishing.open()
        self._consuming.open()

    @property
    def _consumers(self) -> list[TaskConsumer]:
        return [one.consumer for one in self._task_groups]

    def _beat(self) -> None:
        """Show the supervisor that this thread runs."""
        self._shared_state.beat(self._number)
        self._loop.call_later(BEAT_EVERY, self._beat)

    async def _close(self) -> None:
        stops = (self._jobs.stop, self._retries.stop, self._replies.stop)
        for stop in (*(consumer.stop for consumer in self._consumers), *stops):
            stop()
        self._loop.remove_reader(self._supervisor)
        if self._leaving is not None:
            self._leaving.cancel()
        await self._nested.close()
        if self._consuming.is_ready:
            await self._consuming.delete_queue(topology.control_queue(self.id))
        await asyncio.gather(self._publishing.close(), self._consuming.close())

    # --- what happens -----------------------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        count, names = len(self._registry), ", ".join(task.name for task in self._registry)
        logger.info("serving %d %s: %s", count, "task" if count == 1 else "tasks", names)
        if lacks := topology.shortcoming(self._options.broker.queue_type, self._consuming.broker_version):
            logger.info("%s", lacks)
        self._jobs.revocation_sync.on_ready()
        self._nested.send_waiting()
        self._tell(READY)

    def _on_refused(self, fault: LinkError) -> None:
        self._exit_code = EXIT_REFUSED
        self._told.set()

    def _send_waiting(self) -> None:
        self._replies.send_waiting()
        self._jobs.revocation_sync.ask()
        self._nested.send_waiting()

    def _on_nested_call(self) -> None:
        for consumer in self._consumers:
            consumer.on_nested_call()

    def _on_lost(self, fault: LinkError) -> None:
        self._jobs.revocation_sync.on_lost()
        for consumer in self._consumers:
            consumer.on_lost(fault.ack_timeout)

    def _on_control(self, delivery: Delivery) -> None:
        """Nobody wants the answer to a call any longer; or all such calls were told."""
        try:
            control = properties.to_control(delivery.properties)
            if control.reason == BRIEFED:
                self._on_briefed(control.id, delivery.body)
            else:
                self._cancel(control)
        except properties.MalformedMessage as error:
            logger.warning("a control message is dropped: %s", error)
        finally:
            delivery.ack()

    def _on_briefed(self, id: str, body: bytes) -> None:
        """A store has answered: what it has given up is not started, and what runs of it ends."""
        if (answer := self._jobs.revocation_sync.to_answer(id)) is None:
            return
        self._revoked.brief(answer.queue, answer.question, to_given_up(body))
        for consumer in self._consumers:
            consumer.cancel_revoked_jobs()
        self._jobs.revocation_sync.on_answer(id)

    def _cancel(self, control: Control) -> None:
        self._revoked.add(control)
        for consumer in self._consumers:
            consumer.cancel(control)

    def _on_worn_out(self) -> None:
        """Something runs on that nothing ends: the process finishes the rest, and is replaced."""
        if not self._told.is_set():
            logger.error("what could not be interrupted goes with its process: this one is replaced")
            self._exit_code = EXIT_REPLACE
            self._told.set()

    def _replacement(self) -> Replacement | None:
        options = self._options
        if options.max_tasks is None and options.max_memory is None:
            return None
        return Replacement(
            max_tasks=staggered(options.max_tasks, self._number, options.processes),
            max_memory=options.max_memory,
            on_due=lambda reason: self._mailbox.post(self._on_replaced, reason),
        )

    def _on_replaced(self, reason: str) -> None:
        """Take nothing new, and end when what runs has ended; another process takes the place at once."""
        if self._leaving is None and not self._told.is_set():
            logger.info("replacing this process: %s", reason)
            self._tell(NEEDS_REPLACEMENT)
            self._leaving = self._loop.create_task(self._shutdown.wait())
            self._leaving.add_done_callback(lambda _: self._told.set())

    def _on_supervisor(self) -> None:
        try:
            told = self._supervisor.recv(16)
        except OSError:
            told = b""
        if not told:
            logger.error("the supervisor is gone: draining")
            self._loop.remove_reader(self._supervisor)
        if REPLY_LOST_CALLS in told:
            self._lost_call_replies.look()
        if INTERRUPT in told:
            self._shutdown.interrupt_now()
        if told.strip(REPLY_LOST_CALLS) or not told:
            self._told.set()

    def _on_signal(self, *_: object) -> None:
        """SIGTERM straight to this process means the same as from the supervisor."""
        self._mailbox.post(self._told.set)

    def _tell(self, word: bytes) -> None:
        try:
            self._supervisor.send(word)
        except OSError as error:
            logger.debug("the supervisor cannot be told: %s", error)

    # --- calls from tasks and executors -------------------------------------------------------------------------------

    def _publish(self, topic: str, message: Any, *, serializer: str | None, headers: Headers | None) -> None:
        """`context.pubsub.publish`, in the thread of a task."""
        event = Event(
            topic=topology.check_topic(topic),
            body=codec.encode(message, serializer, max_size=self._options.broker.max_message),
            headers=user_headers.check(headers),
        )
        publishing = self._pubsub.publish(event, PUBLISH_TIMEOUT)
        # Not in the context of the task: what the link begins for it may outlive the task.
        contextvars.Context().run(asyncio.run_coroutine_threadsafe, publishing, self._loop).result()


def _be_forked() -> None:
    """In a process that a task has forked: nothing here talks to the broker, and what would wait for it fails."""
    faulthandler.unregister(DUMP_STACKS)
    context.bind(_refuse, _refuse)
    context.pubsub.bind(_refuse)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(
        "a process that a task has forked cannot use the connection of its worker: call, publish and tell of progress "
        "in the task itself, or make a client in the new process"
    )
