"""What jobs have that other calls have not: a heartbeat, a word on how far they are, a briefing before they start."""

from collections.abc import Iterable

from crew.amqp import Link
from crew.worker.execution.execution import Execution
from crew.worker.job_reports.heartbeat import Heartbeat
from crew.worker.job_reports.progress import Progress
from crew.worker.job_reports.revocation_sync import RevocationSync
from crew.worker.mailbox import Mailbox
from crew.worker.replies.reply_publisher import ReplyPublisher


class JobReports:
    """The jobs of one worker process. All of it on the I/O thread, but for `progress.say`.

    Args:
        worker: id of the worker process.
        tasks: names of those that it serves.
        publishing: its link.
        mailbox: of the I/O thread.
    """

    def __init__(
        self, worker: str, tasks: Iterable[str], *, publishing: Link, replies: ReplyPublisher, mailbox: Mailbox
    ) -> None:
        self.heartbeat = Heartbeat(replies)
        self.progress = Progress(mailbox, replies)
        self.revocation_sync = RevocationSync(worker, tasks, publishing=publishing)
        self._replies = replies

    def __repr__(self) -> str:
        return f"<JobReports: {self.heartbeat!r}, {self.progress!r}, {self.revocation_sync!r}>"

    def announce(self, execution: Execution) -> bool:
        """Say that it runs, now and later on; False where the broker is away: try again."""
        self.heartbeat.begin(execution)
        return self._replies.announce(execution.call, execution.started_run())

    def on_end(self, execution: Execution) -> None:
        """Its end is about to be said."""
        self.heartbeat.end(execution)
        self.progress.flush(execution)

    def stop(self) -> None:
        """Say and hold nothing more; idempotent."""
        self.revocation_sync.stop()
        self.heartbeat.stop()
