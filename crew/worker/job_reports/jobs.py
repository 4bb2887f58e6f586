"""Reports of the jobs of one worker process: heartbeat, progress, and the revoked jobs of their stores."""

from collections.abc import Iterable

from crew.amqp import Link
from crew.protocol.deadline import HEARTBEAT_EVERY
from crew.worker.execution.execution import Execution
from crew.worker.job_reports.heartbeat import Heartbeat
from crew.worker.job_reports.progress import Progress
from crew.worker.job_reports.revocation_sync import RevocationSync
from crew.worker.mailbox import Mailbox
from crew.worker.replies.reply_publisher import ReplyPublisher


class JobReports:
    """Facade of heartbeat, progress and revocation sync. All methods run on the I/O thread, except `progress.report`.

    Args:
        worker: id of the worker process.
        tasks: names of the tasks that it serves.
        publishing: its publishing link.
        mailbox: of the I/O thread.
        heartbeat: seconds between two heartbeats of a job. Default 30.
    """

    def __init__(
        self,
        worker: str,
        tasks: Iterable[str],
        *,
        publishing: Link,
        replies: ReplyPublisher,
        mailbox: Mailbox,
        heartbeat: float = HEARTBEAT_EVERY,
    ) -> None:
        self.heartbeat = Heartbeat(replies, every=heartbeat)
        self.progress = Progress(mailbox, replies)
        self.revocation_sync = RevocationSync(worker, tasks, publishing=publishing)
        self._replies = replies

    def __repr__(self) -> str:
        return f"<JobReports: {self.heartbeat!r}, {self.progress!r}, {self.revocation_sync!r}>"

    def announce(self, execution: Execution) -> bool:
        """Report the start of a job and begin its heartbeat; returns False while the broker is away."""
        self.heartbeat.add(execution)
        return self._replies.announce(execution.call, execution.started_run())

    def on_end(self, execution: Execution) -> None:
        """Stop the heartbeat of a job and send its last progress, before its end is reported."""
        self.heartbeat.remove(execution)
        self.progress.flush(execution)

    def stop(self) -> None:
        """Stop all heartbeats and release the jobs that wait; idempotent."""
        self.revocation_sync.stop()
        self.heartbeat.stop()
