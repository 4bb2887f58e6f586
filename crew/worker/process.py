"""One worker process: its I/O thread talks to the broker, its main thread runs tasks.

The I/O thread never runs a task, so that heartbeats go on whatever a task does.
"""

import asyncio
import contextvars
import faulthandler
import functools
import logging
import os
import selectors
import signal
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final, NoReturn

from crew.amqp import BrokerClock, Consumer, Delivery, Link, Outage, Signer
from crew.amqp.errors import LinkError
from crew.client.events.pubsub import PubSub
from crew.protocol import properties, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.message import Control, Event, Headers, new_id
from crew.protocol.revocation_request import ANSWER, to_revoked
from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.consumer.revoked_calls import RevokedCalls
from crew.worker.consumer.task_group import TaskGroup, task_groups
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
from crew.worker.shared_state.exit_status import (
    EXIT_BROKEN,
    EXIT_DRAINED,
    EXIT_NOT_STARTED,
    EXIT_REFUSED,
    EXIT_REPLACE,
)
from crew.worker.shared_state.messages import DUMP_STACKS, INTERRUPT, NEEDS_REPLACEMENT, READY, REPLY_LOST_CALLS
from crew.worker.shared_state.shared_state import LIVENESS_INTERVAL, SharedState
from crew.worker.shutdown import Shutdown
from crew.worker.task import Registry

logger = logging.getLogger(__name__)

CONTROL_PREFETCH: Final = 500  # control messages that the broker may send before the first is acknowledged
PUBLISH_TIMEOUT: Final = 10.0  # seconds for `context.pubsub.publish`


class WorkerProcess:
    """A worker process: connections, task groups, hooks and messages of the supervisor.

    Args:
        number: of this process in the shared state.
        supervisor: this process's end of the socket pair.
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
        self._stopping = asyncio.Event()  # the process drains and exits
        self._replaced: asyncio.Task[None] | None = None  # drains without a limit, while a replacement is started

    def run(self) -> int:
        """Serve until the supervisor or a signal stops the process; returns the exit code."""
        signal_handlers.install(signal.SIGTERM, self._on_signal)
        stacks = stdio.descriptor_for_stacks()
        faulthandler.enable(stacks)
        faulthandler.register(DUMP_STACKS, stacks, all_threads=True)
        forked_child.separate(self._selector, _on_forked)
        context.settings.uuid = self.id
        context.settings.node_uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{uuid.getnode():x}"))
        context.settings.options = self._options
        loop = next((group.loop for group in self._task_groups if group.loop), None)
        if not hooks.run_start(loop):
            return EXIT_NOT_STARTED
        context.pubsub.bind(self._publish)
        io = threading.Thread(target=self._run_io, name="crew I/O", daemon=True)
        io.start()
        first, *others = self._task_groups
        for group in others:
            group.serve_in_background()
        first.serve()
        io.join()
        self._shared_state.mark_stopped(self._number)
        context.pubsub.bind(None)
        if all(group.join() for group in others):  # else a coroutine blocks the event loop
            hooks.run_stop(loop)
        return EXIT_BROKEN if self._exit_code is None else self._exit_code

    # --- the I/O thread ---------------------------------------------------------------------------------------------

    def _run_io(self) -> None:
        asyncio.set_event_loop(self._loop)
        if self._task_groups[0].needs_alarm:
            # The signal is for the main thread, but the kernel delivers it to any thread that does not block it. With
            # a thread pool this thread starts the threads of tasks. It blocks nothing then, as these threads, and the
            # programs that tasks start, would inherit the blocked signal.
            signal.pthread_sigmask(signal.SIG_BLOCK, {ALARM})
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            logger.exception("worker process failed: its I/O thread raised an exception")
        finally:
            for group in self._task_groups:
                group.stop()

    async def _serve(self) -> None:
        self._open()
        self._mark_alive()
        await self._stopping.wait()
        if self._exit_code == EXIT_REPLACE:
            await self._shutdown.run()
            await self._force_exit(EXIT_REPLACE)  # a task runs on that cannot be interrupted
        if self._exit_code is None:
            is_replaced = self._replaced is not None and self._replaced.done()
            if not is_replaced:
                logger.info("draining: taking no new calls; running tasks have %g s", self._options.drain)
            if not await self._shutdown.run():
                await self._force_exit(EXIT_REPLACE)
            self._exit_code = EXIT_REPLACE if is_replaced else EXIT_DRAINED
        await self._close()
        if any(consumer.is_stuck for consumer in self._consumers):
            await self._force_exit(EXIT_DRAINED)  # the main thread hangs in a task

    async def _force_exit(self, code: int) -> NoReturn:
        """Exit although the main thread hangs; heartbeats go on until then."""
        threading.Thread(target=process_end.end_process, args=(code,), name="crew exit", daemon=True).start()
        while True:
            await asyncio.sleep(process_end.EXIT_TIMEOUT)

    def _open(self) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}"
        names = [task.name for task in self._registry]
        control = topology.control_queue(self.id)
        outage = Outage()
        clock = BrokerClock(watch_interval=self._options.broker.tuning.clock_watch_interval)
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
            before_consuming=clock.compared,  # a backlog arrives at once, and its deadlines depend on the clock
            on_ready=self._on_ready,
            on_lost=self._on_lost,
            on_refused=self._on_refused,
        )
        self._consuming.remember(Consumer(control.name, self._on_control, CONTROL_PREFETCH, is_only=True))
        self._replies = ReplyPublisher(
            self._publishing, self.id, knows_store=lambda queue: self._job_reports.revocation_sync.knows_store(queue)
        )
        self._retries = RetryPublisher(self._publishing, self._replies)
        self._lost_call_replies = LostCallReplies(self._shared_state, self._replies)
        self._job_reports = JobReports(
            self.id,
            names,
            publishing=self._publishing,
            replies=self._replies,
            mailbox=self._mailbox,
            heartbeat=self._options.job_heartbeat,
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
            compresses=self._options.broker.compresses,
            on_call=self._on_nested_call,
        )
        context.bind(self._nested.call, self._job_reports.progress.report)
        for group in self._task_groups:
            group.open(
                self._consumer_class(group),
                link=self._consuming,
                broker_clock=clock,
                replies=self._replies,
                retries=self._retries,
                job_reports=self._job_reports,
                revoked=self._revoked,
                on_replacement_needed=self._on_replacement_needed,
                decode=decode,
                max_message=self._options.broker.max_message,
                compresses=self._options.broker.compresses,
            )
        outgoing = self._job_reports.progress, self._replies, self._retries
        self._shutdown = Shutdown(self._consumers, outgoing, drain=self._options.drain, grace=self._options.grace)
        self._loop.add_reader(self._supervisor, self._on_supervisor)
        self._publishing.open()
        self._consuming.open()

    @property
    def _consumers(self) -> list[TaskConsumer]:
        return [one.consumer for one in self._task_groups]

    def _consumer_class(self, group: TaskGroup) -> Callable[..., TaskConsumer]:
        limit = self._options.requests_per_host
        if limit is not None and any(task.name == topology.HTTP_TASK for task in group.tasks):
            from crew.worker.url_jobs.consumer import HttpConsumer

            return functools.partial(HttpConsumer, limit=limit)
        return TaskConsumer

    def _mark_alive(self) -> None:
        """Show the supervisor, once per interval, that this thread runs."""
        self._shared_state.mark_alive(self._number)
        self._loop.call_later(LIVENESS_INTERVAL, self._mark_alive)

    async def _close(self) -> None:
        stops = (self._job_reports.stop, self._retries.stop, self._replies.stop)
        for stop in (*(consumer.stop for consumer in self._consumers), *stops):
            stop()
        self._loop.remove_reader(self._supervisor)
        if self._replaced is not None:
            self._replaced.cancel()
        await self._nested.close()
        if self._consuming.is_ready:
            await self._consuming.delete_queue(topology.control_queue(self.id))
        await asyncio.gather(self._publishing.close(), self._consuming.close())

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        count, names = len(self._registry), ", ".join(task.name for task in self._registry)
        logger.info("serving %d %s: %s", count, "task" if count == 1 else "tasks", names)
        if lacks := topology.shortcoming(self._options.broker.queue_type, self._consuming.broker_version):
            logger.info("%s", lacks)
        self._job_reports.revocation_sync.on_ready()
        self._nested.send_waiting()
        self._send(READY)

    def _on_refused(self, fault: LinkError) -> None:
        self._exit_code = EXIT_REFUSED
        self._stopping.set()

    def _send_waiting(self) -> None:
        self._replies.send_waiting()
        self._job_reports.revocation_sync.send_question()
        self._nested.send_waiting()

    def _on_nested_call(self) -> None:
        for consumer in self._consumers:
            consumer.on_nested_call()

    def _on_lost(self, fault: LinkError) -> None:
        self._job_reports.revocation_sync.on_lost()
        for consumer in self._consumers:
            consumer.on_lost(fault.ack_timeout)

    def _on_control(self, delivery: Delivery) -> None:
        """Handle a control message: the cancel of a call, or a store's list of revoked jobs."""
        try:
            control = properties.to_control(delivery.properties)
            if control.reason == ANSWER:
                self._on_revoked_jobs(control.id, delivery.body)
            else:
                self._cancel(control)
        except properties.MalformedMessage as error:
            logger.warning("control message discarded: %s", error)
        finally:
            delivery.ack()

    def _on_revoked_jobs(self, id: str, body: bytes) -> None:
        """Handle the answer of a job store: do not start its revoked jobs, and interrupt those that run."""
        if (answer := self._job_reports.revocation_sync.parse_answer(id)) is None:
            return
        self._revoked.set_revoked_jobs(answer.queue, answer.question, to_revoked(body))
        for consumer in self._consumers:
            consumer.cancel_revoked_jobs()
        self._job_reports.revocation_sync.on_answer(id)

    def _cancel(self, control: Control) -> None:
        self._revoked.add(control)
        for consumer in self._consumers:
            consumer.cancel(control)

    def _on_replacement_needed(self) -> None:
        """A task cannot be interrupted: finish the others, then exit and be replaced."""
        if not self._stopping.is_set():
            logger.error("replacing worker process: it runs a task that cannot be interrupted pid=%d", os.getpid())
            self._exit_code = EXIT_REPLACE
            self._stopping.set()

    def _replacement(self) -> Replacement | None:
        options = self._options
        if options.max_tasks is None and options.max_memory is None:
            return None
        return Replacement(
            max_tasks=staggered(options.max_tasks, self._number, options.processes),
            max_memory=options.max_memory,
            on_due=lambda reason: self._mailbox.post(self._replace, reason),
        )

    def _replace(self, reason: str) -> None:
        """Take no new calls and exit when the running tasks have ended; the supervisor starts a replacement at once."""
        if self._replaced is None and not self._stopping.is_set():
            logger.info("replacing worker process: %s pid=%d", reason, os.getpid())
            self._send(NEEDS_REPLACEMENT)
            self._replaced = self._loop.create_task(self._shutdown.wait())
            self._replaced.add_done_callback(lambda _: self._stopping.set())

    def _on_supervisor(self) -> None:
        try:
            messages = self._supervisor.recv(16)
        except OSError:
            messages = b""
        if not messages:
            logger.error("supervisor has ended: draining this worker process pid=%d", os.getpid())
            self._loop.remove_reader(self._supervisor)
        if REPLY_LOST_CALLS in messages:
            self._lost_call_replies.send()
        if INTERRUPT in messages:
            self._shutdown.interrupt_now()
        if messages.strip(REPLY_LOST_CALLS) or not messages:
            self._stopping.set()

    def _on_signal(self, *_: object) -> None:
        """SIGTERM sent to this process drains it, as a message of the supervisor does."""
        self._mailbox.post(self._stopping.set)

    def _send(self, message: bytes) -> None:
        try:
            self._supervisor.send(message)
        except OSError as error:
            logger.debug("message to supervisor not sent: %s message=%r", error, message)

    # --- requests of tasks ------------------------------------------------------------------------------------------

    def _publish(self, topic: str, message: Any, *, serializer: str | None, headers: Headers | None) -> None:
        """Publish an event for `context.pubsub.publish`, in the thread of a task."""
        event = Event(
            topic=topology.check_topic(topic),
            body=codec.encode_for_settings(
                message,
                serializer,
                max_size=self._options.broker.max_message,
                compresses=self._options.broker.compresses,
            ),
            headers=user_headers.check(headers),
        )
        publishing = self._pubsub.publish(event, PUBLISH_TIMEOUT)
        # Not in the context of the task: what the link starts for it may outlive the task.
        contextvars.Context().run(asyncio.run_coroutine_threadsafe, publishing, self._loop).result()


def _on_forked() -> None:
    """Run in a process that a task has forked: make everything fail that needs the worker's connections."""
    faulthandler.unregister(DUMP_STACKS)
    context.bind(_refuse, _refuse)
    context.pubsub.bind(_refuse)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(
        "a process that a task has forked cannot use the connection of its worker: call, publish and report progress "
        "in the task itself, or create a client in the new process"
    )
